//! Calls of the library's own that fail, one after the other: the program notices none of them.

use std::fs;
use std::process::Command;

use super::settings::{command, large};
use crate::harness::environment::preload;
use crate::harness::run::{run, stderr, stdout};
use crate::harness::scratch::text;
use crate::harness::{Environment, Scratch, expect, in_each_environment};

/// More system calls than the library makes in one of these runs.
const MANY: usize = 300;

/// Has one of the library's system calls fail: the `at`-th of this name, the first being 0. The command's lookups ask nobody
/// (`next_getaddrinfo.c`).
pub fn fail(command: &mut Command, environment: &Environment, (call, at): (&str, i32), error: i32) {
    let next = environment.shared_library("next_getaddrinfo");
    let faults = environment.shared_library("faults");
    preload(command, &[&environment.library, &next, &faults]);
    let [at, error] = [at, error].map(|number| number.to_string());
    command.envs([("FAULT_CALL", call), ("FAULT_AT", &at), ("FAULT_ERRNO", &error)]);
}

/// What the program prints, but for what the library is there to change.
fn plain(output: &str) -> String {
    let lines = output.lines().map(|line| match line {
        "off" => "a socket",
        line if line.starts_with("idle=") => "a socket",
        line => line.strip_suffix(" IPv4").or(line.strip_suffix(" any")).unwrap_or(line),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The errors are those of a filter, of a signal, of a machine without memory and of an old kernel. Whatever
/// does not come about is reported on standard error, or not at all.
#[test]
fn each_system_call_of_the_library_may_fail_unnoticed_by_the_program() {
    let scratch = Scratch::new();
    let (told, log) = (scratch.join("told"), scratch.join("log"));
    let small = scratch.file("small", "name.test\n");
    let large = scratch.file("large", large("name.test\n"));
    in_each_environment(|environment| {
        let next = environment.shared_library("next_getaddrinfo");
        let faults = environment.shared_library("faults");
        let actions =
            ["say", "runs", "look", "127.0.0.1", "look", "name.test", "connect", "exit", "42"];
        let mut bare = command::<&str>(environment, &[], &actions);
        let bare = run(preload(&mut bare, &[&next]));
        expect("bare", (bare.status.code(), stderr(&bare)), (Some(42), String::new()));
        let bare = plain(&stdout(&bare));
        for (list, errors) in
            [(&small, [libc::EPERM, libc::EINTR]), (&large, [libc::ENOMEM, libc::ENOSYS])]
        {
            for error in errors {
                let (list, file) = (text(list), text(&log));
                let settings = [("IPV4_ONLY_FILE", list), ("LOG", "debug"), ("LOG_FILE", file)];
                for fault in 0.. {
                    let _ = fs::remove_file(&told);
                    let mut shimmed = command(environment, &settings, &actions);
                    preload(&mut shimmed, &[&environment.library, &next, &faults]);
                    shimmed.env("FAULT_AT", fault.to_string()).env("FAULT_FILE", &told);
                    let output = run(shimmed.env("FAULT_ERRNO", error.to_string()));
                    let call = fs::read_to_string(&told).ok();
                    let what = format!("{list}: errno {error} of call {fault}, {call:?}");
                    expect(
                        &what,
                        (output.status.code(), plain(&stdout(&output))),
                        (Some(42), bare.clone()),
                    );
                    let errors = stderr(&output);
                    let ours = |line: &str| line.contains("egress-shim");
                    assert!(errors.lines().all(ours), "{what}: standard error: {errors}");
                    if call.is_none() {
                        assert!(fault > 20, "{what}: it makes more calls than that");
                        break;
                    }
                    assert!(fault < MANY, "{what}: no end of calls");
                }
            }
        }
    });
}
