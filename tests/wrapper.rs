//! The wrapper `scripts/egress-shim`: what it promises, under each shell that may run it. The
//! tests run as root, as `scripts/test` says: they make set-user-ID copies, chroots and mounts.

mod lab;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use lab::{Host, Lab};

const WRAPPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/egress-shim");
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/release/libegress_shim.so");
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOBODY: u32 = 65534;

type Shell = &'static [&'static str];
const SHELLS: [Shell; 4] =
    [&["/bin/dash"], &["/bin/bash"], &["/bin/bash", "--posix"], &["/bin/busybox", "ash"]];

/// Runs a test under each shell; the shell is named where the test fails.
fn under_each_shell(test: impl Fn(Shell)) {
    assert!(Path::new(LIBRARY).exists(), "{LIBRARY} is not built: run scripts/test");
    for shell in SHELLS {
        let _named = Named(shell);
        test(shell);
    }
}

struct Named(Shell);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was under {}", self.0.join(" "));
        }
    }
}

/// A command with an environment of its own, which holds PATH and nothing else.
fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).current_dir("/").stdin(Stdio::null());
    command
}

fn wrapper(shell: Shell, arguments: &[&str]) -> Command {
    wrapper_at(shell, WRAPPER, arguments)
}

fn wrapper_at(shell: Shell, wrapper: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = bare(shell[0]);
    command.args(&shell[1..]).arg(wrapper).args(arguments);
    command
}

/// What a command wrote and how it ended.
#[derive(Debug)]
struct Ran {
    status: ExitStatus,
    out: String,
    err: String,
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} starts: {error}"));
    Ran {
        status: output.status,
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The output of a command that must succeed in silence.
fn output(command: &mut Command) -> String {
    let ran = run(command);
    assert!(ran.status.success() && ran.err.is_empty(), "{command:?} succeeds in silence: {ran:?}");
    ran.out
}

/// A command that must fail with this status and message.
fn fails(command: &mut Command, status: i32, words: &[&str]) {
    let ran = run(command);
    assert_eq!(ran.status.code(), Some(status), "exit status of {command:?}: {ran:?}");
    assert_eq!(ran.out, "", "standard output of {command:?}");
    let ours = ran.err.lines().any(|line| line.starts_with("egress-shim: "));
    assert!(ours, "{command:?} has a message of the wrapper: {ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{command:?} says {word:?}: {}", ran.err);
    }
}

/// A command that must succeed after one line on standard error, a warning with these words.
fn warns(command: &mut Command, words: &str) {
    let ran = run(command);
    let warnings = ran.err.lines().filter(|line| line.starts_with("egress-shim: warning: "));
    let warnings = warnings.collect::<Vec<_>>();
    assert!(ran.status.success(), "{command:?} runs on: {ran:?}");
    assert_eq!(warnings.len(), 1, "{command:?} warns once: {ran:?}");
    assert!(warnings[0].contains(words), "{command:?} warns {words:?}: {ran:?}");
}

/// A directory that all may enter and that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("egress-shim-wrapper.{}.{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the temporary directory can be written to");
        mode(&path, 0o755);
        Self(path)
    }

    /// With the wrapper in `bin` and the library in `lib`, so that any user can reach both.
    fn installed() -> (Self, PathBuf) {
        let scratch = Self::new();
        let wrapper = scratch.copy(WRAPPER, "bin/egress-shim");
        scratch.copy(LIBRARY, "lib/libegress_shim.so");
        (scratch, wrapper)
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is in here")).expect("it can be made");
        path
    }

    fn copy(&self, from: impl AsRef<Path>, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::copy(from, &path).expect("a file can be copied");
        path
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        self.write(name, text.as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file can be written");
        mode(&path, 0o755);
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
        let source = self.write("main.c", b"int main(void) { return 0; }\n");
        let path = self.path(name);
        let mut command = bare("cc");
        output(command.args(flags).arg(source).arg("-o").arg(&path));
        path
    }
}

impl Drop for Scratch {
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

fn variables(of: &str) -> BTreeMap<&str, &str> {
    of.split_terminator('\0')
        .map(|variable| variable.split_once('=').expect("NAME=VALUE"))
        .collect()
}

// ------------------------------------------------------------------- same process

#[test]
fn the_program_has_the_process_of_the_wrapper() {
    under_each_shell(|shell| {
        let mut command = wrapper(shell, &["sh", "-c", "echo $$"]);
        let child = command.stdout(Stdio::piped()).spawn().expect("the shell starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("it can be waited for");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{pid}\n"));
    });
}

#[test]
fn as_the_first_process_of_a_container_the_program_is_pid_1() {
    under_each_shell(|shell| {
        let mut command = bare("unshare");
        command.args(["--fork", "--pid", "--mount-proc"]).args(shell);
        assert_eq!(output(command.args([WRAPPER, "sh", "-c", "echo $$"])), "1\n");
    });
}

#[test]
fn a_signal_reaches_the_program_and_its_status_is_that_signal() {
    under_each_shell(|shell| {
        let mut command = wrapper(shell, &["sh", "-c", "echo ready; exec sleep 60"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the shell starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).expect("it writes");
        assert_eq!(line, "ready\n");
        let pid = i32::try_from(child.id()).expect("a process number");
        // SAFETY: kill(2) of a child that has not been waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let status = child.wait().expect("it can be waited for");
        assert_eq!(status.signal(), Some(libc::SIGTERM), "{status}");
    });
}

#[test]
fn ignored_and_blocked_signals_are_as_they_were() {
    let signals = |command: &mut Command| {
        let set = || {
            // SAFETY: system calls alone after the fork; the set is initialised by sigemptyset.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                libc::sigaddset(&raw mut set, libc::SIGUSR1);
                libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
                libc::signal(libc::SIGINT, libc::SIG_IGN);
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            }
            Ok(())
        };
        // SAFETY: see there.
        let status = output(unsafe { command.pre_exec(set) });
        let sets = status.lines().filter(|line| line.starts_with("Sig") && !line.contains("SigQ"));
        sets.map(str::to_owned).collect::<Vec<_>>()
    };
    let wanted = signals(bare("cat").arg("/proc/self/status"));
    under_each_shell(|shell| {
        assert_eq!(signals(&mut wrapper(shell, &["cat", "/proc/self/status"])), wanted);
    });
}

#[test]
fn the_exit_status_is_the_programs() {
    under_each_shell(|shell| {
        for status in [0, 1, 2, 77, 125, 126, 127, 255] {
            let ran = run(&mut wrapper(shell, &["sh", "-c", &format!("exit {status}")]));
            assert_eq!((ran.status.code(), ran.err.as_str()), (Some(status), ""));
        }
    });
}

#[test]
fn descriptors_are_the_programs_alone() {
    // 10 and above, and 255, are where shells put their own.
    const OPEN: [i32; 7] = [3, 9, 10, 11, 12, 63, 255];
    let null = fs::File::open("/dev/null").expect("/dev/null");
    let null = null.as_raw_fd();
    let listed = |command: &mut Command, closed: &'static [i32]| {
        let descriptors = move || {
            for descriptor in OPEN {
                // SAFETY: dup2(2) on numbers, after the fork.
                unsafe { libc::dup2(null, descriptor) };
            }
            for descriptor in closed {
                // SAFETY: close(2) on a number, after the fork.
                unsafe { libc::close(*descriptor) };
            }
            Ok(())
        };
        // SAFETY: two kinds of system calls after the fork.
        let ran = run(unsafe { command.pre_exec(descriptors) });
        assert!(ran.status.success(), "{ran:?}");
        ran.err
    };
    let list = "for fd in /proc/self/fd/*; do readlink $fd >&2; echo $fd >&2; done";
    for closed in [&[][..], &[0], &[1], &[0, 1]] {
        let wanted = listed(bare("bash").args(["-c", list]), closed);
        assert!(wanted.contains("/proc/self/fd/255\n"), "{wanted}");
        under_each_shell(|shell| {
            let seen = listed(&mut wrapper(shell, &["bash", "-c", list]), closed);
            let without_numbers = |text: &str| {
                let kept = text.lines().filter(|line| !line.starts_with("pipe:"));
                kept.map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(without_numbers(&seen), without_numbers(&wanted), "{closed:?} closed");
        });
    }
}

#[test]
fn standard_input_is_left_for_the_program() {
    under_each_shell(|shell| {
        let mut command = wrapper(shell, &["cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the shell starts");
        child.stdin.take().unwrap().write_all(b"one\n\0two").expect("it reads");
        let output = child.wait_with_output().expect("it can be waited for");
        assert_eq!(output.stdout, b"one\n\0two");
    });
}

// ---------------------------------------------------------------------- arguments

#[test]
fn arguments_arrive_exactly_and_so_does_the_programs_name() {
    let arguments = "| a  b\t|*|/*|?|[a-z]|line\nline\n|\\|\\n|$HOME|`id`|\"'|-x|--|--lenient|--help|\
        a=b|é|!|~|#|";
    let list = "tr '\\0' '|' <\"/proc/$$/cmdline\"";
    under_each_shell(|shell| {
        let seen = output(wrapper(shell, &["sh", "-c", list]).args(arguments.split('|')));
        assert_eq!(seen, format!("sh|-c|{list}|{arguments}|"));
        let raw = OsStr::from_bytes(b"\xff\x81\x88");
        let seen = run(wrapper(shell, &["printf", "%s"]).arg(raw));
        assert_eq!(seen.out, raw.to_string_lossy(), "bytes that are not UTF-8");
    });
}

#[test]
fn options_end_at_the_first_other_word() {
    under_each_shell(|shell| {
        let words = |arguments: &[&str]| output(&mut wrapper(shell, arguments));
        assert_eq!(
            words(&["--lenient", "echo", "--lenient", "--no-such"]),
            "--lenient --no-such\n"
        );
        assert_eq!(words(&["--", "echo", "--", "a"]), "-- a\n");
        assert_eq!(words(&["--log=off", "--", "echo", "a"]), "a\n");
    });
}

#[test]
fn after_two_dashes_a_command_may_begin_with_a_dash() {
    let scratch = Scratch::new();
    scratch.script("-c", "#!/bin/sh\necho program $#\n");
    scratch.script("-text", "echo text $#\n");
    scratch.script("-d/x", "echo nested $#\n");
    let path = format!("{}:{PATH}", text(&scratch.0));
    under_each_shell(|shell| {
        let seen = |arguments: &[&str], path: &str| {
            let mut command = wrapper(shell, arguments);
            output(command.current_dir(&scratch.0).env("PATH", path))
        };
        for path in [path.as_str(), &format!(":{PATH}")] {
            assert_eq!(seen(&["--", "-c", "a b"], path), "program 1\n");
            assert_eq!(seen(&["--", "-text", "a b"], path), "text 1\n");
            assert_eq!(seen(&["--", "-d/x", "a b"], path), "nested 1\n");
        }
    });
}

#[test]
fn each_option_sets_its_variable_in_both_forms() {
    let scratch = Scratch::new();
    let hosts = scratch.write("hosts", b"a.example\n");
    let options = [
        ("--ipv4-only", "EGRESS_SHIM_IPV4_ONLY", "a.example, *.b.example !c.b.example"),
        ("--ipv4-only-file", "EGRESS_SHIM_IPV4_ONLY_FILE", text(&hosts)),
        ("--keepalive", "EGRESS_SHIM_KEEPALIVE", "idle=9,count=2"),
        ("--log", "EGRESS_SHIM_LOG", "error"),
        ("--log-file", "EGRESS_SHIM_LOG_FILE", "/dev/null"),
    ];
    under_each_shell(|shell| {
        for (option, variable, value) in options {
            for arguments in [&[option, value][..], &[&format!("{option}={value}")]] {
                let mut command = wrapper(shell, arguments);
                assert_eq!(output(command.args(["printenv", variable])).trim_end(), value);
                if option != "--ipv4-only" {
                    let seen = output(command.env(variable, "/replaced"));
                    assert_eq!(seen.trim_end(), value, "an option wins over {variable}");
                }
            }
        }
    });
}

#[test]
fn a_listed_host_adds_to_the_environment_and_to_those_before_it() {
    under_each_shell(|shell| {
        let command = ["--ipv4-only", "a.example", "--ipv4-only=b.example", "printenv"];
        let mut command = wrapper(shell, &command);
        command.arg("EGRESS_SHIM_IPV4_ONLY");
        assert_eq!(output(&mut command), "a.example,b.example\n");
        command.env("EGRESS_SHIM_IPV4_ONLY", "c.example");
        assert_eq!(output(&mut command), "c.example,a.example,b.example\n");
    });
}

#[test]
fn a_relative_file_is_for_programs_in_every_directory() {
    let scratch = Scratch::new();
    let hosts = scratch.write("hosts", b"a.example\n");
    under_each_shell(|shell| {
        for (option, variable) in [
            ("--ipv4-only-file", "EGRESS_SHIM_IPV4_ONLY_FILE"),
            ("--log-file", "EGRESS_SHIM_LOG_FILE"),
        ] {
            let mut command = wrapper(shell, &[option, "hosts", "printenv", variable]);
            assert_eq!(output(command.current_dir(&scratch.0)).trim_end(), text(&hosts));
        }
    });
}

#[test]
fn a_wrong_setting_is_fatal_unless_lenient() {
    under_each_shell(|shell| {
        let mut strict = wrapper(shell, &["--keepalive", "idle=nonsense", "echo", "ran"]);
        fails(&mut strict, 78, &["EGRESS_SHIM_KEEPALIVE", "nonsense"]);

        let child =
            ["--keepalive", "idle=45", "sh", "-c", "EGRESS_SHIM_KEEPALIVE=nonsense; /bin/echo ran"];
        assert_eq!(run(&mut wrapper(shell, &child)).out, "ran\n", "what it starts is not ended");

        let arguments = ["--lenient", "--keepalive", "idle=nonsense", "echo", "ran"];
        let lenient = run(wrapper(shell, &arguments).env("EGRESS_SHIM_STRICT", "1"));
        assert_eq!(
            (lenient.status.code(), lenient.out.as_str()),
            (Some(0), "ran\n"),
            "{lenient:?}"
        );
        assert!(lenient.err.contains("EGRESS_SHIM_KEEPALIVE"), "{lenient:?}");
    });
}

#[test]
fn wrong_usage_is_125_and_says_what_is_right() {
    // What the message says; then the words, each ended by `|`, since some are empty.
    let cases = "
        no COMMAND to run:
        no COMMAND to run: --|
        no COMMAND to run: --lenient|
        unknown option --no-such: --no-such|true|
        unknown option --no-such: --no-such=1|true|
        unknown option -h: -h|
        a COMMAND that begins with '-' goes after '--': -h|
        --ipv4-only needs a PATTERN, as in: --ipv4-only api.openai.com: --ipv4-only|
        --ipv4-only needs a PATTERN: --ipv4-only||true|
        --ipv4-only needs a PATTERN: --ipv4-only=|true|
        --ipv4-only needs a PATTERN: --ipv4-only|--log|error|true|
        --keepalive needs a SPEC, as in: --keepalive idle=60,interval=60: --keepalive|--|true|
        --log needs a FILTER: --log|
        --lenient takes no value: --lenient=1|true|
        --ipv4-only-file needs a FILE: --ipv4-only-file|
        --ipv4-only-file is given twice: --ipv4-only-file=a|--ipv4-only-file|b|true|
        --log-file is given twice: --log-file=a|--log-file|b|true|
        --library needs a PATH: --library|
        --check needs a HOST: --check|
        --check runs no COMMAND, so 'true' has no place here: --check|localhost|true|";
    under_each_shell(|shell| {
        for case in cases.trim().lines() {
            let (message, words) = case.trim().rsplit_once(':').expect("a case has a colon");
            let words = words.trim().split_terminator('|').collect::<Vec<_>>();
            fails(&mut wrapper(shell, &words), 125, &[message, "; see egress-shim --help"]);
        }
    });
}

// -------------------------------------------------------------------- the library

#[test]
fn the_library_comes_first_and_a_preload_that_was_there_stays() {
    let other = "/lib/x86_64-linux-gnu/libm.so.6";
    let third = "/lib/x86_64-linux-gnu/libdl.so.2";
    let cases = [
        (String::new(), LIBRARY.to_owned()),
        (other.to_owned(), format!("{LIBRARY}:{other}")),
        (format!("{other}:{third}"), format!("{LIBRARY}:{other}:{third}")),
        (format!(" {other}  {third} "), format!("{LIBRARY}:{other}:{third}")),
        (format!("{other}:{LIBRARY} {third}"), format!("{LIBRARY}:{other}:{third}")),
        (format!("{LIBRARY}:{LIBRARY}"), LIBRARY.to_owned()),
        (format!("/elsewhere/libegress_shim.so:{other}"), format!("{LIBRARY}:{other}")),
    ];
    under_each_shell(|shell| {
        for (before, after) in &cases {
            let mut command = wrapper(shell, &["printenv", "LD_PRELOAD"]);
            let ran = run(command.env("LD_PRELOAD", before));
            assert_eq!(ran.out.trim_end(), after, "after {before:?}");
        }
        let maps = output(&mut wrapper(shell, &["cat", "/proc/self/maps"]));
        assert!(maps.contains(LIBRARY), "the library is loaded: {maps}");
    });
}

#[test]
fn nested_wrappers_add_the_library_once() {
    let (scratch, _) = Scratch::installed();
    let inner = scratch.path("bin/egress-shim");
    under_each_shell(|shell| {
        let mut command = wrapper(shell, shell);
        command.args([WRAPPER, WRAPPER, "printenv", "LD_PRELOAD"]);
        assert_eq!(output(&mut command).trim_end(), LIBRARY);

        let mut command = wrapper(shell, shell);
        command.arg(&inner).args(["printenv", "LD_PRELOAD"]);
        let wanted = scratch.path("lib/libegress_shim.so");
        assert_eq!(output(&mut command).trim_end(), text(&wanted), "the inner one's own");
    });
}

#[test]
fn the_library_is_found_from_the_wrappers_own_place() {
    let places = ["lib/egress-shim", "target/release", "lib", "bin"]; // last first
    under_each_shell(|shell| {
        let scratch = Scratch::new();
        let path = scratch.copy(WRAPPER, "bin/egress-shim");
        let preload = |wrapper: &OsStr, directory: &Path, path: &str| {
            let mut command = wrapper_at(shell, wrapper, &["printenv", "LD_PRELOAD"]);
            output(command.current_dir(directory).env("PATH", path)).trim_end().to_owned()
        };
        scratch.copy(LIBRARY, "target/release/libegress_shim.so");
        for place in places {
            let library = scratch.copy(LIBRARY, &format!("{place}/libegress_shim.so"));
            if place == "target/release" {
                continue; // after ../lib/egress-shim, which is there
            }
            assert_eq!(preload(path.as_os_str(), Path::new("/"), PATH), text(&library));
        }
        for place in ["bin", "lib", "lib/egress-shim"] {
            fs::remove_file(scratch.path(&format!("{place}/libegress_shim.so"))).unwrap();
        }
        let library = scratch.path("target/release/libegress_shim.so");

        // Every way to name the wrapper leads to the same clean path.
        symlink("../bin", scratch.path("links/bin")).unwrap();
        symlink("../bin/egress-shim", scratch.path("links/one")).unwrap();
        symlink("one", scratch.path("links/two")).unwrap();
        let bin = scratch.path("bin");
        let ways = [
            ("bin/egress-shim", &scratch.0),
            ("./bin/egress-shim", &scratch.0),
            ("bin/../bin//egress-shim", &scratch.0),
            ("links/bin/egress-shim", &scratch.0),
            ("links/two", &scratch.0),
            ("./egress-shim", &bin),
            ("../bin/egress-shim", &bin),
            ("egress-shim", &bin),
        ];
        let other = scratch.copy(WRAPPER, "other/bin/egress-shim");
        let other = format!("{}:{PATH}", text(other.parent().unwrap()));
        for (way, directory) in ways {
            assert_eq!(preload(OsStr::new(way), directory, &other), text(&library), "by {way}");
        }
        for way in [bin, scratch.path("links/bin")] {
            let mut command = bare("/usr/bin/env");
            command.args(["egress-shim", "printenv", "LD_PRELOAD"]);
            command.env("PATH", format!("{}:{PATH}", text(&way)));
            assert_eq!(output(&mut command).trim_end(), text(&library), "through PATH");
            if shell[0] == "/bin/bash" {
                // It looks for a script in PATH too.
                let path = format!("{}:{PATH}", text(&way));
                let seen = preload(OsStr::new("egress-shim"), Path::new("/"), &path);
                assert_eq!(seen, text(&library), "through bash and PATH");
            }
        }
    });
}

#[test]
fn without_the_library_it_says_where_it_looked() {
    under_each_shell(|shell| {
        let scratch = Scratch::new();
        let path = scratch.copy(WRAPPER, "bin/egress-shim");
        let root = text(&scratch.0);
        let own = ["bin", "lib", "lib/egress-shim", "target/release"]
            .map(|place| format!("{root}/{place}/libegress_shim.so"));
        let mut words = own.iter().map(String::as_str).collect::<Vec<_>>();
        words.extend([
            "cannot find libegress_shim.so",
            "\n  /usr/local/lib/libegress_shim.so\n",
            "\n  /usr/lib/libegress_shim.so\n",
            "\n  /usr/lib/x86_64-linux-gnu/libegress_shim.so\n",
            "--library PATH",
        ]);
        fails(&mut wrapper_at(shell, path, &["true"]), 125, &words);
        fails(&mut wrapper(shell, &["--library=/no/such", "true"]), 125, &["\n  /no/such\n"]);
    });
}

#[test]
fn a_library_that_cannot_be_preloaded_is_refused() {
    let (scratch, wrapper_copy) = Scratch::installed();
    let blank = scratch.copy(LIBRARY, "white space/libegress_shim.so");
    let colon = scratch.copy(LIBRARY, "co:lon/libegress_shim.so");
    let script = scratch.write("script.so", b"#!/bin/sh\n");
    let secret = scratch.copy(LIBRARY, "secret.so");
    mode(&secret, 0o600);
    under_each_shell(|shell| {
        let refused = |library: &Path, words: &[&str]| {
            let arguments = ["--library", text(library), "true"];
            let mut command = wrapper_at(shell, &wrapper_copy, &arguments);
            fails(command.uid(NOBODY).gid(NOBODY), 125, words);
        };
        refused(&blank, &["white space", "colon"]);
        refused(&colon, &["white space", "colon"]);
        refused(&script, &["script.so is not a shared library"]);
        refused(&secret, &["secret.so cannot be read"]);
        refused(&scratch.0, &["is not a file"]);
        // One that lies in such a place is refused too, and no other is taken in silence.
        let beside = scratch.copy(WRAPPER, "white space/egress-shim");
        fails(&mut wrapper_at(shell, beside, &["true"]), 125, &["white space/libegress_shim.so"]);
    });
}

#[test]
fn a_relative_library_is_made_absolute() {
    let (scratch, _) = Scratch::installed();
    under_each_shell(|shell| {
        let arguments = ["--library", "lib/libegress_shim.so", "printenv", "LD_PRELOAD"];
        let seen = output(wrapper(shell, &arguments).current_dir(&scratch.0));
        assert_eq!(seen.trim_end(), text(&scratch.path("lib/libegress_shim.so")));
    });
}

// -------------------------------------------------------------------- the command

#[test]
fn a_command_that_is_not_there_is_127() {
    under_each_shell(|shell| {
        let path = format!("no-such: not found in PATH ({PATH})");
        fails(&mut wrapper(shell, &["no-such"]), 127, &[&path]);
        fails(&mut wrapper(shell, &["/no/such"]), 127, &["/no/such: no such file"]);
        fails(&mut wrapper(shell, &["./no-such", "a"]), 127, &["./no-such: no such file"]);
        fails(&mut wrapper(shell, &[""]), 127, &["empty"]);
    });
}

#[test]
fn a_command_that_cannot_be_run_is_126() {
    let scratch = Scratch::new();
    let plain = scratch.write("plain", b"text");
    mode(&plain, 0o644);
    let directory = scratch.path("directory/x");
    let directory = directory.parent().unwrap();
    let script = scratch.script("script", "#!/no/such -x\n");
    let env_script = scratch.script("env-script", "#! /no/env python3\n");
    let dos = scratch.script("dos", "#!/bin/sh\r\necho\r\n");
    let folder = scratch.script("folder", "#!/bin\n");
    let pattern = scratch.script("pattern", "#!/bin/[s]h\n");
    let loader = scratch.patched("/bin/true", "loader", |bytes| {
        let name = b"/lib64/ld-linux";
        let at = bytes.windows(name.len()).position(|window| window == name);
        bytes[at.expect("true is for this glibc") + 1] = b'L';
    });
    let pipe = scratch.path("pipe"); // to read it is to wait
    output(bare("mkfifo").arg("--mode=755").arg(&pipe));
    let path = format!("{}:{PATH}", text(&scratch.0));
    under_each_shell(|shell| {
        let refused = |command: &str, words: &[&str]| {
            fails(wrapper(shell, &[command]).env("PATH", &path), 126, words);
        };
        refused(text(&plain), &["plain is not executable"]);
        refused("plain", &["plain is not executable"]);
        refused(text(&pipe), &["pipe is not executable"]);
        refused(text(directory), &["is a directory"]);
        refused("directory", &["is a directory"]);
        refused(text(&script), &["script cannot be run", "interpreter /no/such "]);
        refused(text(&env_script), &["interpreter /no/env "]);
        refused(text(&dos), &["interpreter /bin/sh ", "carriage return"]);
        refused(text(&folder), &["interpreter /bin "]);
        refused(text(&pattern), &["interpreter /bin/[s]h "]);
        refused(text(&loader), &["loader cannot be run", "ELF interpreter"]);
    });
}

#[test]
fn a_text_file_without_an_interpreter_line_is_for_sh() {
    let scratch = Scratch::new();
    // An odd number of bytes, so that a reader of words pads it; an even one; and none.
    let loaded = "grep -q libegress_shim.so /proc/$$/maps && echo loaded \"$@\"; exit";
    let odd = scratch.script("odd", &format!("{loaded} 5"));
    let even = scratch.script("even", &format!("{loaded}  5"));
    let empty = scratch.script("empty", "");
    let path = format!("{}:{PATH}", text(&scratch.0));
    under_each_shell(|shell| {
        for command in [text(&odd), "odd", text(&even), "even"] {
            let ran = run(wrapper(shell, &[command, "a  b"]).env("PATH", &path));
            assert_eq!(ran.out, "loaded a  b\n", "{ran:?}");
            assert_eq!((ran.status.code(), ran.err.as_str()), (Some(5), ""));
        }
        assert_eq!(output(&mut wrapper(shell, &[text(&empty)])), "");
    });
}

#[test]
fn the_name_of_a_builtin_or_a_function_means_the_program() {
    let scratch = Scratch::new();
    let names = ["echo", "test", "[", "time", "exec", "if", "cd", "set", "warn", "help", "mine"];
    for name in names {
        scratch.script(name, "#!/bin/sh\necho program\n");
    }
    let path = format!("{}:{PATH}", text(&scratch.0));
    under_each_shell(|shell| {
        for name in names {
            let mut command = wrapper(shell, &[name, "x"]);
            command.env("PATH", &path).env("BASH_FUNC_mine%%", "() {  echo function\n}");
            assert_eq!(output(&mut command), "program\n", "{name}");
        }
    });
}

#[test]
fn an_empty_element_of_path_is_the_current_directory() {
    let scratch = Scratch::new();
    scratch.script("mine", "#!/bin/sh\necho mine\n");
    under_each_shell(|shell| {
        for path in [format!(":{PATH}"), format!("{PATH}:"), format!("/no/such::{PATH}")] {
            let mut command = wrapper(shell, &["mine"]);
            command.current_dir(&scratch.0).env("PATH", &path);
            assert_eq!(output(&mut command), "mine\n", "PATH={path}");
        }
    });
}

// ----------------------------------------------------------------------- warnings

#[test]
fn a_statically_linked_program_is_warned_of_and_runs() {
    let scratch = Scratch::new();
    let plain = scratch.compile("static", &["-static"]);
    let pie = scratch.compile("static-pie", &["-static-pie"]);
    under_each_shell(|shell| {
        for program in [&plain, &pie] {
            let words = format!("{} is statically linked", text(program));
            warns(&mut wrapper(shell, &[text(program)]), &words);
        }
    });
}

#[test]
fn a_script_is_judged_by_the_program_that_runs_it() {
    let scratch = Scratch::new();
    let interpreter = scratch.compile("interpreter", &["-static"]);
    let interpreter = text(&interpreter);
    let direct = scratch.script("direct", &format!("#! {interpreter} -x\n"));
    let nested = scratch.script("nested", &format!("#!{}", text(&direct)));
    let env = scratch.script("env", "#!/usr/bin/env interpreter\n");
    let split = scratch.script("split", "#!/usr/bin/env -S A=b interpreter -x\n");
    let path = format!("{}:{PATH}", text(&scratch.0));
    let words = format!("{interpreter} is statically linked");
    under_each_shell(|shell| {
        for script in [&direct, &nested, &env, &split] {
            warns(wrapper(shell, &[text(script)]).env("PATH", &path), &words);
        }
    });
}

#[test]
fn a_program_that_the_loader_protects_is_warned_of_and_runs() {
    let (scratch, wrapper_copy) = Scratch::installed();
    let copy = |name: &str, uid, gid, bits| {
        let path = scratch.copy("/bin/true", name);
        chown(&path, Some(uid), Some(gid)).expect("chown works");
        mode(&path, bits);
        path
    };
    let of_root = copy("of-root", 0, 0, 0o4755);
    let of_nobody = copy("of-nobody", NOBODY, 0, 0o4755);
    let group_root = copy("group-root", 0, 0, 0o2755);
    let group_nobody = copy("group-nobody", 0, NOBODY, 0o2755);
    let locking = copy("locking", 0, NOBODY, 0o2745);
    let capable = copy("capable", 0, 0, 0o755);
    output(bare("setcap").arg("cap_net_raw=ep").arg(&capable));
    let permitted = copy("permitted", 0, 0, 0o755);
    output(bare("setcap").arg("cap_net_raw=p").arg(&permitted));
    let inheritable = copy("inheritable", 0, 0, 0o755);
    output(bare("setcap").arg("cap_net_raw=i").arg(&inheritable));
    let script = scratch.script("script", &format!("#!{}\n", text(&of_nobody)));

    under_each_shell(|shell| {
        let by = |user: u32, program: &Path| {
            let mut command = wrapper_at(shell, &wrapper_copy, &[text(program)]);
            command.uid(user).gid(user);
            command
        };
        warns(&mut by(0, &of_nobody), "of-nobody is set-user-ID to user 65534");
        warns(&mut by(0, &script), "of-nobody is set-user-ID to user 65534");
        warns(&mut by(NOBODY, &of_root), "of-root is set-user-ID to user 0");
        warns(&mut by(0, &group_nobody), "group-nobody is set-group-ID to group 65534");
        warns(&mut by(NOBODY, &group_root), "group-root is set-group-ID to group 0");
        warns(&mut by(NOBODY, &capable), "capable is given capabilities (cap_net_raw=ep)");
        warns(&mut by(NOBODY, &permitted), "permitted is given capabilities (cap_net_raw=p)");

        // Where the kernel grants nothing, the library is loaded and nothing is said.
        for program in [&of_root, &group_root, &locking, &capable, &inheritable] {
            output(&mut by(0, program));
        }
        for program in [&of_nobody, &group_nobody, &inheritable] {
            output(&mut by(NOBODY, program));
        }
        let mut command = bare("setpriv");
        command.arg("--no-new-privs").args(shell).arg(&wrapper_copy).arg(&of_nobody);
        output(&mut command);
        let root = text(&scratch.0);
        // A mount of its own, and the one that it lies in, which is the root as a rule.
        let remount = "mount -o remount,bind,nosuid";
        for nosuid in [
            format!("mount --bind {root} {root}; {remount} {root}; exec \"$@\""),
            format!("{remount} $(stat -c %m {root}); exec \"$@\""),
        ] {
            let mut command = bare("unshare");
            command.args(["--mount", "sh", "-ec", &nosuid, "sh"]).args(shell);
            output(command.arg(&wrapper_copy).arg(&of_nobody));
        }
    });
}

#[test]
fn a_library_of_another_architecture_is_warned_of() {
    let scratch = Scratch::new();
    let arm = scratch.patched(LIBRARY, "arm.so", |bytes| bytes[18] = 183);
    let narrow = scratch.patched(LIBRARY, "narrow.so", |bytes| {
        bytes[4] = 1;
        bytes[18] = 3;
    });
    under_each_shell(|shell| {
        let with = |library: &Path| wrapper(shell, &["--library", text(library), "true"]);
        warns(&mut with(&arm), "true is 64-bit x86-64, but");
        warns(&mut with(&arm), "arm.so is 64-bit AArch64");
        warns(&mut with(&narrow), "narrow.so is 32-bit x86;");
    });
}

#[test]
fn where_all_is_well_it_is_silent() {
    let scratch = Scratch::new();
    let script = scratch.script("script", "#!/bin/sh\ncat </dev/null\n");
    let env = scratch.script("env", "#!/usr/bin/env -S A=b sh -e\ntest $A = b\n");
    let secret = scratch.copy("/bin/true", "secret"); // can be run, not read
    mode(&secret, 0o711);
    let fixed = scratch.compile("fixed", &["-no-pie"]);
    let (installed, wrapper_copy) = Scratch::installed();
    let link = installed.path("true");
    symlink("/bin/true", &link).unwrap();
    under_each_shell(|shell| {
        for program in [&script, &env, &secret, &fixed, &link, Path::new("true")] {
            let mut command = wrapper_at(shell, &wrapper_copy, &[text(program)]);
            output(command.uid(NOBODY).gid(NOBODY));
        }
        // The dynamic loader has no interpreter of its own, yet it does preload.
        output(&mut wrapper(shell, &["/lib64/ld-linux-x86-64.so.2", "/bin/true"]));
    });
}

#[test]
fn a_standard_error_that_nobody_reads_does_no_harm() {
    let scratch = Scratch::new();
    let program = scratch.compile("static", &["-static"]);
    under_each_shell(|shell| {
        let mut command = wrapper(shell, &[text(&program)]);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = command.stderr(writer).status().expect("the shell starts");
        assert!(status.success(), "{status}");
    });
}

// -------------------------------------------------------------------- environment

#[test]
fn the_environment_is_otherwise_untouched() {
    let given = [
        ("VERSION", "1"),
        ("library", "mine"),
        ("status", "x"),
        ("line", "two\nlines\n"),
        ("EMPTY", ""),
        ("IFS", " \t\n"),
        ("CDPATH", "/usr:/tmp"),
        ("ENV", "/no/such"),
        ("LC_ALL", "C.UTF-8"),
        ("discovery.type", "single node"),
        ("xpack.security-enabled", "$(id) `id` 'quoted' \"\\"),
        ("1st", "a\nb\n\n"),
        ("BASH_FUNC_f%%", "() {  echo one;\n echo two\n}"),
    ];
    under_each_shell(|shell| {
        // As PID 1 of a namespace whose /proc is still the other one's, too.
        let mut inside = bare("unshare");
        inside.args(["--fork", "--pid"]).args(shell).args([WRAPPER, "env", "-0"]);
        for mut command in [wrapper(shell, &["env", "-0"]), inside] {
            let seen = output(command.envs(given));
            let mut seen = variables(&seen);
            for ours in ["LD_PRELOAD", "EGRESS_SHIM_STRICT"] {
                assert!(seen.remove(ours).is_some(), "{ours} is set");
            }
            for shells in ["PWD", "OLDPWD", "SHLVL", "_"] {
                seen.remove(shells);
            }
            let mut wanted = BTreeMap::from(given);
            wanted.insert("PATH", PATH);
            let function = (seen.remove("BASH_FUNC_f%%"), wanted.remove("BASH_FUNC_f%%"));
            assert!(function.0.is_some_and(|seen| seen.contains("echo two")), "{function:?}");
            assert_eq!(seen, wanted);
        }
    });
}

#[test]
fn a_strange_environment_changes_nothing() {
    let strange = [
        ("IFS", "a/-:"),
        ("ENV", "/dev/tty"),
        ("CDPATH", "/tmp:/usr"),
        ("SHELLOPTS", "nounset:errexit"),
        ("LC_ALL", "C.UTF-8"),
        ("PWD", "/nonsense"),
        ("shim_library", "/nonsense"),
        ("shim_strict", ""),
        ("shim_value", "/nonsense"),
        ("BASH_FUNC_od%%", "() {  echo nonsense\n}"),
        ("BASH_FUNC_grep%%", "() {  exit 9\n}"),
        ("BASH_FUNC_readlink%%", "() {  echo /nonsense\n}"),
        ("BASH_FUNC_cat%%", "() {  echo nonsense\n}"),
    ];
    let scratch = Scratch::new();
    let link = scratch.path("link");
    symlink(WRAPPER, &link).unwrap();
    let script = "printenv LD_PRELOAD; [ $EGRESS_SHIM_STRICT = pid:$$ ] && echo 1; for n in /proc/self/ma*; do echo $n; done";
    under_each_shell(|shell| {
        for posix in [None, Some(("POSIXLY_CORRECT", "1"))] {
            let strangely = |arguments: &[&str]| {
                let mut command = wrapper_at(shell, &link, arguments);
                command.envs(strange).envs(posix);
                command
            };
            let seen = output(&mut strangely(&["bash", "-c", script]));
            assert_eq!(seen, format!("{LIBRARY}\n1\n/proc/self/map_files\n/proc/self/maps\n"));
            let wrong = ["--keepalive", "idle=nonsense", "--check", "127.0.0.1"];
            let (code, report, last) = check(&mut strangely(&wrong));
            assert_eq!(code, Some(78), "{report}");
            assert!(last.starts_with("a setting is wrong"), "{report}");
        }
    });
}

#[test]
fn a_root_that_holds_a_shell_and_nothing_else_is_enough() {
    let scratch = Scratch::new();
    let root = text(&scratch.0);
    for program in ["/bin/dash", "/bin/busybox", "/bin/bash", "/bin/true", LIBRARY] {
        for word in output(bare("ldd").arg(program)).split_whitespace() {
            if let Some(name) = word.strip_prefix('/') {
                scratch.copy(word, name);
            }
        }
    }
    for program in ["/bin/dash", "/bin/busybox", "/bin/bash", "/bin/true"] {
        scratch.copy(program, &program[1..]);
    }
    scratch.copy(WRAPPER, "usr/local/bin/egress-shim");
    scratch.copy(LIBRARY, "usr/local/lib/libegress_shim.so");
    under_each_shell(|shell| {
        let inside = |arguments: &[&str]| {
            let mut command = bare("chroot");
            command.arg(root).args(shell).arg("/usr/local/bin/egress-shim").args(arguments);
            command
        };
        assert_eq!(output(&mut inside(&["true"])), "");
        let seen = output(&mut inside(&["bash", "-c", "echo $LD_PRELOAD"]));
        assert_eq!(seen, "/usr/local/lib/libegress_shim.so\n");
        fails(&mut inside(&["no-such"]), 127, &["not found"]);
        let checked = run(&mut inside(&["--check", "localhost"]));
        assert_eq!(checked.status.code(), Some(125), "{checked:?}");
        assert!(checked.out.contains("there is no cat here"), "{checked:?}");
    });
}

#[test]
fn it_starts_at_most_three_helpers() {
    under_each_shell(|shell| {
        let mut command = bare("strace");
        command.args(["-f", "-qq", "-e", "trace=fork,vfork,clone,clone3"]).args(shell);
        let ran = run(command.args([WRAPPER, "--ipv4-only", "a.example", "/bin/true"]));
        assert!(ran.status.success(), "{ran:?}");
        let calls = ran.err.lines().filter(|line| line.contains("fork(") || line.contains("clone"));
        let calls = calls.filter(|line| !line.contains("resumed")).collect::<Vec<_>>();
        assert!(calls.len() <= 3, "{} forks: {calls:#?}", calls.len());
    });
}

// ------------------------------------------------------- --help, --version, --check

#[test]
fn help_names_every_option_and_variable() {
    let words = "--ipv4-only PATTERN|--ipv4-only-file FILE|--keepalive SPEC|--log FILTER|\
        --log-file FILE|--lenient|--library PATH|--check HOST|--help|--version|EGRESS_SHIM_LOG |\
        EGRESS_SHIM_IPV4_ONLY |EGRESS_SHIM_IPV4_ONLY_FILE |EGRESS_SHIM_KEEPALIVE |EGRESS_SHIM |\
        EGRESS_SHIM_LOG_FILE |EGRESS_SHIM_STRICT |idle=60,interval=60,count=5|default: warn|\
        \n   78 |\n  125 |\n  126 |\n  127 |../lib/egress-shim|../target/release|\nExample";
    under_each_shell(|shell| {
        let help = output(&mut wrapper(shell, &["--help"]));
        for word in words.split('|') {
            assert!(help.contains(word), "--help has {word:?}");
        }
        for line in help.lines() {
            assert!(line.len() <= 80, "a terminal holds {line:?}");
        }
    });
}

#[test]
fn its_version_is_the_packages() {
    under_each_shell(|shell| {
        let version = output(&mut wrapper(shell, &["--version"]));
        assert_eq!(version, concat!("egress-shim ", env!("CARGO_PKG_VERSION"), "\n"));
    });
}

/// Runs `--check`: the status, the lines of the report, the last of them.
fn check(command: &mut Command) -> (Option<i32>, String, String) {
    let ran = run(command);
    assert_eq!(ran.err, "", "the report is in one piece: {ran:?}");
    let last = ran.out.lines().last().unwrap_or_default().to_owned();
    (ran.status.code(), ran.out, last)
}

#[test]
fn check_says_what_becomes_of_a_host() {
    const NO_IPV4: &str = "is on the allowlist but has no IPv4 address: it does not resolve";
    let lab = Lab::start(&[]);
    let listed = ["--ipv4-only", "api.openai.com,v4only.example.com,v6only.example.com"];
    let two = "198.51.100.2 2001:db8:2::2";
    let (one, six, none) = ("198.51.100.2", "2001:db8:2::2", "does not resolve");
    let cases = [
        ("api.openai.com", 0, two, one, "is on the allowlist: IPv6 is left out"),
        ("other.example.com", 0, two, two, "is not on the allowlist: the same without and with"),
        ("v4only.example.com", 0, one, one, "has no IPv6 address here: the same without and with"),
        ("v6only.example.com", 125, six, none, NO_IPV4),
        ("nowhere.example.com", 125, none, none, "does not resolve, without or with"),
    ];
    let sorted = |report: &str, label: &str| {
        let line = report.lines().find_map(|line| line.strip_prefix(label)).expect("the line");
        let mut words = line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if line.contains(['.', ':']) {
            words.sort();
        }
        words.join(" ")
    };
    under_each_shell(|shell| {
        for (host, status, without, with, verdict) in cases {
            let mut command = wrapper(shell, &listed);
            lab.on(Host::Client, command.args(["--check", host]));
            for preload in ["", LIBRARY] {
                // Also where the image preloads it: `without` must be without.
                let (code, report, last) = check(command.env("LD_PRELOAD", preload));
                assert_eq!(last, format!("{host} {verdict}"), "{report}");
                assert_eq!(code, Some(status), "{report}");
                assert_eq!(sorted(&report, "without:"), without, "{report}");
                assert_eq!(sorted(&report, "with:"), with, "{report}");
                for line in [
                    format!("library:    {LIBRARY}"),
                    "loaded:     yes, seen in /proc/self/maps of /usr/bin/cat".to_owned(),
                    format!("            EGRESS_SHIM_IPV4_ONLY={}", listed[1]),
                    "            EGRESS_SHIM_LOG is not set: warn".to_owned(),
                ] {
                    assert!(report.lines().any(|seen| seen == line), "{line:?} in {report}");
                }
            }
        }
        let mut command = wrapper(shell, &["--check=api.openai.com"]);
        lab.on(Host::Client, command.env("EGRESS_SHIM", "off"));
        assert_eq!(check(&mut command).2, "EGRESS_SHIM=off: the library does nothing");
    });
}

#[test]
fn check_says_why_the_library_is_not_loaded() {
    let scratch = Scratch::new();
    let arm = scratch.patched(LIBRARY, "arm.so", |bytes| bytes[18] = 183);
    under_each_shell(|shell| {
        let mut command = wrapper(shell, &["--library", text(&arm), "--check", "localhost"]);
        let (code, report, last) = check(&mut command);
        assert_eq!(code, Some(125), "{report}");
        assert!(report.contains("cannot be preloaded"), "the loader's words: {report}");
        assert!(report.contains("\nloaded:     no"), "{report}");
        assert!(last.starts_with("the library is not loaded"), "{report}");
    });
}

#[test]
fn check_reports_a_wrong_setting_with_the_librarys_words() {
    under_each_shell(|shell| {
        let wrong = ["--keepalive", "idle=nonsense", "--check", "127.0.0.1"];
        let (code, report, last) = check(&mut wrapper(shell, &wrong));
        assert_eq!(code, Some(78), "{report}");
        assert!(report.contains("EGRESS_SHIM_KEEPALIVE: "), "{report}");
        assert!(last.starts_with("a setting is wrong"), "{report}");

        let (code, report, _) = check(wrapper(shell, &["--lenient"]).args(wrong));
        assert_eq!(code, Some(0), "{report}");
        assert!(report.contains("EGRESS_SHIM_KEEPALIVE: "), "{report}");
    });
}

#[test]
fn check_says_when_getent_is_missing() {
    let scratch = Scratch::new();
    symlink("/usr/bin/cat", scratch.path("cat")).unwrap();
    under_each_shell(|shell| {
        let mut command = wrapper(shell, &["--check", "localhost"]);
        let (code, report, last) = check(command.env("PATH", &scratch.0));
        assert_eq!(
            (code, last.as_str()),
            (Some(125), "there is no getent here to look up localhost"),
            "{report}"
        );
    });
}
