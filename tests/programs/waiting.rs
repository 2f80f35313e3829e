//! Programs that print `ready` and wait for a byte on standard input, so that others can look at
//! them: `ss`, or strace, which attaches to them. Nothing is preloaded into the looker, and the
//! program may be in another root or another namespace.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A program that waits.
pub struct Waiting {
    child: Child,
    output: BufReader<ChildStdout>,
    /// The lines that it printed before.
    pub printed: Vec<String>,
}

impl Waiting {
    /// Starts the program and lets it run until it waits.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut printed = Vec::new();
        loop {
            let mut line = String::new();
            let length = output.read_line(&mut line).expect("its output can be read");
            assert_ne!(length, 0, "{command:?} ended before it was ready: {printed:?}");
            match line.trim_end() {
                "ready" => return Self { child, output, printed },
                line => printed.push(line.to_owned()),
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on, and waits for its end.
    pub fn finish(mut self) {
        self.child.stdin.take().expect("its input is a pipe").write_all(b"\n").expect("it waits");
        io::copy(&mut self.output, &mut io::sink()).expect("its output can be read");
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success(), "the program ends well: {status}");
    }
}

/// The system calls that a program makes after its waiting, one a line, as strace shows them.
pub fn system_calls(command: &mut Command) -> Vec<String> {
    let waiting = Waiting::start(command);
    let mut strace = Command::new("strace")
        .args(["-f", "-p", &waiting.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts (apt-get install strace)");
    let mut lines = BufReader::new(strace.stderr.take().expect("its output is a pipe")).lines();
    let mut line = || lines.next().transpose().expect("strace's output can be read");
    let attached = line().unwrap_or_default();
    assert!(attached.contains("attached"), "strace attaches: {attached}");
    waiting.finish();
    // What is left of the waiting itself may be seen or not.
    let is_call = |line: &String| line.contains(") ") && !line.starts_with("read(0,");
    let calls = std::iter::from_fn(line).filter(is_call).collect();
    strace.wait().expect("strace can be waited for");
    calls
}
