//! The command `egress-shim`, the static file that is shipped. Its tests run as root, as `scripts/test` says:
//! they make set-user-ID copies, chroots and mounts.

mod check;
mod completions;
mod inspect;
mod mistakes;
#[cfg(target_arch = "x86_64")]
mod multilib;
mod rescue;
mod run;
mod stuck;

use std::ffi::OsStr;
use std::process::{Command, ExitStatus};
use std::sync::LazyLock;

use crate::harness::environment::shipped;
use crate::harness::run as programs;
use crate::harness::run::{NOBODY, PATH, Process, as_nobody, bare, output};
use crate::harness::scratch::{Public, mode, text};

/// The command, and the library beside it.
pub static COMMAND: LazyLock<String> = LazyLock::new(|| text(&shipped("egress-shim")).to_owned());
static LIBRARY: LazyLock<String> = LazyLock::new(|| text(&shipped("libegress_shim.so")).to_owned());

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

/// The last line of a report.
#[track_caller]
fn last(ran: &Ran) -> &str {
    ran.out.lines().last().unwrap_or_default()
}
