//! The C programs of the tests, and the environments that they run in: each test that says
//! something of the library says it of every pair of libc and library file in the table below.

#![allow(dead_code, reason = "each test file uses its part")]

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
    /// The C compiler whose programs run there.
    compiler: &'static str,
    /// The library.
    pub library: PathBuf,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Environment {
    /// This machine's glibc with the library of `cargo build --release`.
    pub fn here() -> Self {
        let library = Path::new(ROOT).join("target/release/libegress_shim.so");
        assert!(library.exists(), "{} is not built: run scripts/test", library.display());
        Self { name: "glibc", compiler: "cc", library }
    }

    /// Every environment.
    pub fn all() -> Vec<Self> {
        vec![Self::here()]
    }

    /// The program made of `tests/programs/NAME.c` (or `.cc`) for this environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.compile(name, name, &[])
    }

    /// A shared library made of `tests/programs/NAME.c`.
    pub fn shared_library(&self, name: &str) -> PathBuf {
        self.compile(name, &format!("{name}.so"), &["-shared", "-fPIC"])
    }

    fn compile(&self, name: &str, file: &str, flags: &[&str]) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let source = Path::new(ROOT).join("tests/programs").join(name).with_extension("c");
        let directory = Path::new(ROOT).join("target/test-programs").join(self.name);
        let made = directory.join(file);
        let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
        if let (Ok(of_source), Ok(of_made)) = (changed(&source), changed(&made))
            && of_source < of_made
        {
            return made;
        }
        fs::create_dir_all(&directory).expect("target can be written to");
        // Tests run in threads: each compiles for itself and then puts the whole file in place.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let own = directory.join(format!("{file}.{}.{number}", std::process::id()));
        let output = Command::new(self.compiler)
            .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
            .args(flags)
            .arg(&source)
            .arg("-o")
            .arg(&own)
            .arg("-ldl")
            .output()
            .unwrap_or_else(|error| panic!("{} starts: {error}", self.compiler));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&own, &made).expect("the program can be put in place");
        made
    }

    /// A command without the library: nothing of the surroundings' settings or preloads is left in
    /// its environment.
    pub fn bare(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
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
