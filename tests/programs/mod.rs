//! The C programs of the tests, and the environments that they run in: each test that says
//! something of the library says it of every pair of libc and library file in the table below.

#![allow(dead_code, reason = "each test file uses its part")]

use std::env::consts::ARCH;
use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A libc, and the file of the library that is preloaded there.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Its name in messages, and that of the directory for its programs.
    pub name: &'static str,
    /// The C compiler whose programs run there, with its first arguments.
    compiler: Vec<String>,
    /// The library.
    pub library: PathBuf,
    /// The root directory that its programs run in; none is this machine's own.
    root: Option<PathBuf>,
    /// The version of its glibc; none where the libc is musl.
    glibc: Option<(u32, u32)>,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Environment {
    /// This machine's glibc with the library of `cargo build --release`.
    pub fn here() -> Self {
        Self {
            name: "glibc",
            compiler: vec!["cc".to_owned()],
            library: made("target/release/libegress_shim.so"),
            root: None,
            glibc: Some(glibc_here()),
        }
    }

    /// This machine's glibc with the library of `scripts/build-portable`.
    pub fn shipped() -> Self {
        let library = made(&format!("dist/{ARCH}/libegress_shim.so"));
        Self { name: "glibc-shipped", library, ..Self::here() }
    }

    /// Every environment: the last three have the shipped library.
    pub fn all() -> Vec<Self> {
        let (here, shipped) = (Self::here(), Self::shipped());
        let musl_gcc = vec!["musl-gcc".to_owned()];
        let musl = Self { name: "musl", compiler: musl_gcc, glibc: None, ..shipped.clone() };
        // Zig's C compiler has the interfaces of every glibc. It would trap undefined behaviour, at
        // the price of a runtime library.
        let target = format!("{ARCH}-linux-gnu.2.17");
        let zig = made("target/zig/zig").display().to_string();
        let debian11 = Self {
            name: "debian11",
            compiler: [&zig, "cc", "-target", &target, "-fno-sanitize=undefined"]
                .map(str::to_owned)
                .to_vec(),
            root: Some(made("target/roots/debian11")),
            glibc: Some((2, 31)),
            ..shipped.clone()
        };
        vec![here, shipped, musl, debian11]
    }

    /// The version of its glibc; none where the libc is musl.
    pub fn glibc(&self) -> Option<(u32, u32)> {
        self.glibc
    }

    /// The program made of `tests/programs/NAME.c` for this environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.compile(&format!("{name}.c"), name, &[])
    }

    /// The program made of `tests/programs/NAME.c`, which needs a shared library (`DT_NEEDED`).
    pub fn program_with(&self, name: &str, library: &Path) -> PathBuf {
        let file = format!("{name}-with-{}", library.file_stem().unwrap().display());
        let library = library.to_str().expect("its path is UTF-8");
        self.compile(&format!("{name}.c"), &file, &["-Wl,--no-as-needed", library])
    }

    /// A shared library made of `tests/programs/NAME.c`.
    pub fn shared_library(&self, name: &str) -> PathBuf {
        self.compile(&format!("{name}.c"), &format!("{name}.so"), &["-shared", "-fPIC"])
    }

    /// A shared library made of `tests/programs/NAME.cc`; none where there is no C++ compiler.
    pub fn cxx_library(&self, name: &str) -> Option<PathBuf> {
        let flags = ["-shared", "-fPIC"];
        (self.compiler == ["cc"])
            .then(|| self.compile(&format!("{name}.cc"), &format!("{name}.so"), &flags))
    }

    fn compile(&self, source: &str, file: &str, flags: &[&str]) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (compiler, standard) = match source.rsplit_once('.') {
            Some((_, "cc")) => (&["c++".to_owned()][..], "-std=gnu++17"),
            _ => (&self.compiler[..], "-std=gnu11"),
        };
        let (compiler, first) = compiler.split_first().expect("it has a name");
        let sources = Path::new(ROOT).join("tests/programs");
        let source = sources.join(source);
        let directory = Path::new(ROOT).join("target/test-programs").join(self.name);
        let made = directory.join(file);
        let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        let header = sources.join("guest.h");
        if let (Ok(of_source), Ok(of_header), Ok(of_made)) =
            (changed(&source), changed(&header), changed(&made))
            && of_source.max(of_header) < of_made
        {
            return made;
        }
        fs::create_dir_all(&directory).expect("target can be written to");
        // Tests run in threads: each compiles for itself and then puts the whole file in place.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = directory.join(format!("{file}.{}.{number}", std::process::id()));
        let cache = Path::new(ROOT).join("target/portable/zig-cache");
        let output = Command::new(compiler)
            .envs(["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"].map(|name| (name, &cache)))
            .args(first)
            .args([standard, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
            .args(flags)
            .arg(&source)
            .arg("-o")
            .arg(&own)
            .arg("-ldl")
            .output()
            .unwrap_or_else(|error| panic!("{compiler} starts: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&own, &made).expect("the program can be put in place");
        made
    }

    /// A command without the library: nothing of the surroundings' settings or preloads is left in
    /// its environment.
    pub fn bare(&self, program: impl AsRef<Path>) -> Command {
        let mut command = match &self.root {
            None => Command::new(program.as_ref()),
            Some(root) => {
                let mut command =
                    Command::new(Self::here().compile("enter.c", "enter", &["-static"]));
                command.arg(root).arg(ROOT).arg(program.as_ref());
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            let name_bytes = name.as_encoded_bytes();
            if name_bytes.starts_with(b"EGRESS_SHIM") || name_bytes.starts_with(b"LD_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// A command with the library and these settings: (`KEEPALIVE`, value) sets
    /// `EGRESS_SHIM_KEEPALIVE`; an empty name sets `EGRESS_SHIM`.
    pub fn shimmed(&self, program: impl AsRef<Path>, settings: &[(&str, &str)]) -> Command {
        let mut command = self.bare(program);
        command.env("LD_PRELOAD", &self.library);
        for (name, value) in settings {
            let separator = if name.is_empty() { "" } else { "_" };
            command.env(format!("EGRESS_SHIM{separator}{name}"), value);
        }
        command
    }
}

/// A path in the checkout where something must have been made.
fn made(path: &str) -> PathBuf {
    let path = Path::new(ROOT).join(path);
    assert!(path.exists(), "{} is missing: run scripts/test", path.display());
    path
}

/// The version of the glibc that this program runs on.
fn glibc_here() -> (u32, u32) {
    // SAFETY: gnu_get_libc_version(3) gives a C string that lasts.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    let mut parts = version.to_str().unwrap_or_default().split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("{version:?} is a version of glibc"),
    }
}

/// The standard output of a command that must succeed and write nothing to standard error.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    assert_eq!(errors, "", "{command:?} is silent on standard error");
    stdout(&output)
}

/// What a command wrote to standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// What it gave; none when it had to be ended.
    pub output: Option<Output>,
    /// How long it ran.
    pub time: Duration,
}

/// Runs a command for at most so long, then kills it.
pub fn run_for(command: &mut Command, most: Duration) -> Ended {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    // Read in threads of their own: a full pipe must not be what it waits for.
    let mut pipes = (child.stdout.take(), child.stderr.take());
    let (output, time) = thread::scope(|scope| {
        let stdout = scope.spawn(|| read(&mut pipes.0));
        let stderr = scope.spawn(|| read(&mut pipes.1));
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                break Some(status);
            }
            if start.elapsed() > most {
                child.kill().expect("the child can be killed");
                child.wait().expect("the child can be waited for");
                break None;
            }
            thread::sleep(Duration::from_millis(5));
        };
        let time = start.elapsed();
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        (status.map(|status| Output { status, stdout, stderr }), time)
    });
    Ended { output, time }
}

fn read(pipe: &mut Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.read_to_end(&mut bytes).expect("the pipe can be read");
    }
    bytes
}
