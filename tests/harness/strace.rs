//! What strace sees of a program.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::run::Waiting;

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

/// A command from its start on under strace, which writes these calls to a file. The command has
/// its own environment, and strace none of it: a preload stays out of strace.
pub fn traced(command: &Command, calls: &str, trace: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.stdin(Stdio::null()).args(["-f", "-s", "4096", "-e", calls, "-o"]).arg(trace);
    for (name, value) in command.get_envs() {
        match value {
            None => _ = strace.env_remove(name),
            Some(value) => _ = strace.arg("-E").arg([name, value].join(OsStr::new("="))),
        }
    }
    strace.arg(command.get_program()).args(command.get_args());
    strace
}
