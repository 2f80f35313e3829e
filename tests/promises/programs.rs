//! `EGRESS_SHIM_PROGRAMS`: the library acts in the programs that are meant, by the name that was
//! executed and by that of the file that runs. In every other one it is as with `EGRESS_SHIM=off`.
//!
//! `tests/programs/next_getaddrinfo.c` stands behind the library and says which family it was asked
//! for; tests/programs/settings.c asks.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::harness::environment::preload;
use crate::harness::run::{before, output, result, run, said, with};
use crate::harness::scratch::text;
use crate::harness::strace::traced;
use crate::harness::{Environment, Scratch, expect, in_each_environment};

/// How the program of the tests is started. The file that runs is always `settings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Started {
    /// As itself.
    Plainly,
    /// By a symbolic link `alias`.
    Linked,
    /// As the interpreter of a script `service`.
    Interpreting,
    /// From a file that is gone, `settings` by its last name, as an update may leave a program that starts itself anew.
    Deleted,
}
use Started::{Deleted, Interpreting, Linked, Plainly};

/// The setting, how the program is started, and whether that program is meant.
const CASES: &[(&str, Started, bool)] = &[
    ("settings", Plainly, true),
    ("other", Plainly, false),
    ("setting", Plainly, false),
    ("other,settings", Plainly, true),
    ("other settings", Plainly, true),
    ("!settings", Plainly, false),
    ("!other", Plainly, true),
    ("settings !settings", Plainly, false),
    ("alias", Linked, true),
    ("settings", Linked, true),
    ("!alias", Linked, false),
    ("!settings", Linked, false),
    ("service", Interpreting, true),
    ("settings", Interpreting, true),
    ("other", Interpreting, false),
    ("!service", Interpreting, false),
    ("!settings", Interpreting, false),
    ("service !settings", Interpreting, false),
    ("settings", Deleted, true),
    ("!settings", Deleted, false),
];

/// The program, so started, with these settings. It asks for a listed name.
fn command(
    environment: &Environment,
    directory: &Scratch,
    started: Started,
    settings: &[(&str, &str)],
) -> Command {
    const KEPT: RawFd = 9;
    let program = environment.program("settings");
    let path = match started {
        Plainly => program.clone(),
        Linked => directory.join("alias"),
        Interpreting => directory.join("service"),
        Deleted => format!("/proc/self/fd/{KEPT}").into(),
    };
    let mut command = environment.shimmed(path, settings);
    if started == Deleted {
        let copy = directory.join("settings");
        fs::copy(&program, &copy).expect("target can be written to");
        let opened = File::open(&copy).expect("it is there");
        fs::remove_file(&copy).expect("it is there");
        before(&mut command, move || {
            // SAFETY: dup2(2) with a descriptor that the closure owns, and fcntl(2) with numbers. A descriptor that has
            // this number already is left as it is, which is closed by execve(2).
            result(unsafe {
                libc::dup2(opened.as_raw_fd(), KEPT);
                libc::fcntl(KEPT, libc::F_SETFD, 0)
            })
        });
    }
    let next = environment.shared_library("next_getaddrinfo");
    preload(&mut command, &[&environment.library, &next]);
    // The script's own arguments come after its first line's, which makes it say its path.
    if started != Interpreting {
        command.args(["say", "started"]);
    }
    with(command, ["look", "name.test"])
}

/// A directory with the names by which the program is started.
fn directory(environment: &Environment) -> Scratch {
    let directory = Scratch::new();
    let program = environment.program("settings");
    symlink(&program, directory.join("alias")).expect("target can be written to");
    let script = directory.file("service", format!("#!{} say\n", text(&program)));
    fs::set_permissions(script, PermissionsExt::from_mode(0o755)).expect("it is the test's own");
    directory
}

#[test]
fn the_library_acts_in_the_programs_that_are_meant_and_in_no_other() {
    in_each_environment(|environment| {
        let directory = directory(environment);
        for &(programs, started, is_meant) in CASES {
            let settings = [("IPV4_ONLY", "name.test"), ("PROGRAMS", programs)];
            let mut command = command(environment, &directory, started, &settings);
            let seen = output(&mut command);
            let wanted = if is_meant { "name.test IPv4" } else { "name.test any" };
            expect(format!("{programs:?}, {started:?}"), seen.lines().last(), Some(wanted));
        }
    });
}

#[test]
fn in_every_other_program_the_library_is_as_with_off() {
    in_each_environment(|environment| {
        let directory = directory(environment);
        let (log, list) = (directory.text("log"), text(&directory.file("list", "a..b")).to_owned());
        // Each would show itself: in the log, by an open file, in a problem's line.
        let settings = [
            ("IPV4_ONLY", "name.test a..b"),
            ("IPV4_ONLY_FILE", &list),
            ("KEEPALIVE", "idle=1,idle=2"),
            ("LOG", "trace"),
            ("LOG_FILE", &log),
            ("STRICT", "1"),
            ("UNKNOWN", "1"),
        ];
        for started in [Plainly, Linked, Interpreting] {
            let see = |first: (&str, &str)| {
                let settings = [&[first][..], &settings].concat();
                let command = command(environment, &directory, started, &settings);
                let trace = directory.join("trace");
                let said = said(&run(&mut traced(&command, "trace=open,openat", &trace)));
                (said, opened(&trace))
            };
            let (said_off, opened_off) = see(("", "off"));
            let (said, mut opened) = see(("PROGRAMS", "other"));
            expect(format!("{started:?}: what it says"), said, said_off);
            // What tells the name of the file that runs.
            opened.retain(|path| path != "/proc/self/maps");
            expect(format!("{started:?}: what it opens"), opened, opened_off);
            assert!(!Path::new(&log).exists(), "{started:?}: nothing is logged");
            // The control: where the program is meant, the invalid settings are reported and end it.
            let (said, _) = see(("PROGRAMS", "settings"));
            assert!(said.contains("EGRESS_SHIM_KEEPALIVE"), "{started:?}: {said}");
            fs::remove_file(&log).expect("the control has made it");
        }
    });
}

/// The paths that were opened, or tried, by strace's word.
fn opened(trace: &Path) -> Vec<String> {
    let trace = fs::read_to_string(trace).expect("strace writes it");
    let path = |line: &str| line.split('"').nth(1).map(str::to_owned);
    trace.lines().filter_map(path).collect()
}
