//! The command `egress-shim`, the static file that is shipped. Its tests run as root, as `scripts/test` says:
//! they make set-user-ID copies, chroots and mounts.

mod check;
mod completions;
mod inspect;
mod mistakes;
mod rescue;
mod run;
mod stuck;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::run::end_with_this_thread;
use crate::harness::scratch::write_executable;
use crate::harness::{ROOT, run as programs};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOBODY: u32 = 65534;

/// The command, and the library beside it.
pub static COMMAND: LazyLock<String> = LazyLock::new(|| shipped("egress-shim"));
static LIBRARY: LazyLock<String> = LazyLock::new(|| shipped("libegress_shim.so"));

fn shipped(name: &str) -> String {
    let path = format!("{ROOT}/dist/{}/{name}", std::env::consts::ARCH);
    assert!(Path::new(&path).exists(), "{path} is missing: run scripts/build-portable");
    path
}

/// A command with an environment of its own, which holds PATH and nothing else.
fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).current_dir("/").stdin(Stdio::null());
    command
}

fn shim(arguments: &[&str]) -> Command {
    shim_at(&*COMMAND, arguments)
}

fn shim_at(command: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = bare(command);
    command.args(arguments);
    command
}

/// What a command wrote and how it ended.
#[derive(Debug)]
struct Ran {
    status: ExitStatus,
    out: String,
    err: String,
}

#[track_caller]
fn run(command: &mut Command) -> Ran {
    let output = programs::run(command);
    Ran { status: output.status, out: programs::stdout(&output), err: programs::stderr(&output) }
}

/// The output of a command that must succeed in silence.
#[track_caller]
fn output(command: &mut Command) -> String {
    programs::output(command)
}

/// A command that must fail with this status and message.
#[track_caller]
fn fails(command: &mut Command, status: i32, words: &[&str]) {
    let ran = run(command);
    assert_eq!(ran.status.code(), Some(status), "exit status of {command:?}: {ran:?}");
    assert_eq!(ran.out, "", "standard output of {command:?}");
    assert!(ran.err.starts_with("egress-shim: "), "{command:?} has a message of ours: {ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{command:?} says {word:?}: {}", ran.err);
    }
}

/// A command that must succeed after one line on standard error, a warning with these words.
#[track_caller]
fn warns(command: &mut Command, words: &str) {
    let ran = run(command);
    let warnings = ran.err.lines().filter(|line| line.starts_with("egress-shim: warning: "));
    let warnings = warnings.collect::<Vec<_>>();
    assert!(ran.status.success(), "{command:?} runs on: {ran:?}");
    assert_eq!(warnings.len(), 1, "{command:?} warns once: {ran:?}");
    assert!(warnings[0].contains(words), "{command:?} warns {words:?}: {ran:?}");
}

/// A directory that all may enter and that goes with the test.
struct Public(PathBuf);

impl Public {
    /// A root in which musl, this program made of tests/programs/show.c, the command and the library are all
    /// that there is.
    fn with_musl(program: &str) -> Self {
        let root = Self::new();
        let source = format!("{ROOT}/tests/programs/show.c");
        let file = root.path(program);
        output(bare("musl-gcc").args(["-std=gnu11", "-O1", &source, "-o"]).arg(&file));
        let loader = format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH);
        root.copy(&loader, &loader[1..]);
        root.copy(&*COMMAND, "egress-shim");
        root.copy(&*LIBRARY, "libegress_shim.so");
        root
    }

    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("egress-shim-command.{}.{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the temporary directory can be written to");
        mode(&path, 0o755);
        Self(path)
    }

    /// With the command in `bin` and the library in `lib`, so that any user can reach both.
    fn installed() -> (Self, PathBuf) {
        let public = Self::new();
        let command = public.copy(&*COMMAND, "bin/egress-shim");
        public.copy(&*LIBRARY, "lib/libegress_shim.so");
        (public, command)
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in here")).expect("it can be made");
        path
    }

    fn copy(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        let bytes = fs::read(from).expect("the file can be read");
        self.write(name, bytes)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        write_executable(&path, bytes.as_ref());
        path
    }

    /// A copy of a file with some of its bytes changed.
    fn patched(&self, from: &str, name: &str, patch: impl Fn(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = fs::read(from).expect("the file can be read");
        patch(&mut bytes);
        self.write(name, &bytes)
    }

    /// A program that ends with status 0.
    fn compile(&self, name: &str, flags: &[&str]) -> PathBuf {
        self.compile_text(name, "int main(void) { return 0; }\n", flags)
    }

    fn compile_text(&self, name: &str, text: &str, flags: &[&str]) -> PathBuf {
        let source = self.write("main.c", text);
        let path = self.path(name);
        output(bare("cc").args(flags).arg(source).arg("-o").arg(&path));
        path
    }

    /// Copies a program to its own place in here, with the libraries that it needs.
    fn with_program(&self, program: &str) {
        self.copy(program, program.trim_start_matches('/'));
        for word in output(bare("ldd").arg(program)).split_whitespace() {
            if let Some(name) = word.strip_prefix('/') {
                self.copy(word, name);
            }
        }
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod works");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are UTF-8")
}

/// Has a command run as a user without privileges.
fn as_nobody(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.uid(NOBODY).gid(NOBODY)
}

/// A process that goes with the test.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Self {
        end_with_this_thread(command);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("it starts"))
    }

    fn id(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last line of a report.
#[track_caller]
fn last(ran: &Ran) -> &str {
    ran.out.lines().last().unwrap_or_default()
}
