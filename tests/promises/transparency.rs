//! Every call gives the result and the errno that it gives without the library.
//!
//! `tests/programs/transparency.c` makes the calls, in a network namespace of its own, and says of
//! each what it should give: the bare run is held against that, the others against the bare run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use crate::harness::run::{stderr, stdout};
use crate::harness::scratch::text;
use crate::harness::strace::system_calls;
use crate::harness::{
    Environment, Scratch, expect, in_each_environment, in_each_environment_at_once,
};

/// Settings: see [`Environment::shimmed`].
type Settings<'a> = &'a [(&'a str, &'a str)];

/// One case: what is tried, what it should give (empty where the libcs differ) and what it gave.
#[derive(Clone, PartialEq, Eq)]
struct Case {
    tried: String,
    wanted: String,
    seen: String,
}

/// The cases of a run, and what it wrote to standard error.
fn run(mut command: Command, what: &str) -> (Vec<Case>, String) {
    let output = command
        .args(what.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = stderr(&output);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    let case = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        let mut part = || parts.next().expect("a line has three parts");
        Case { tried: part(), wanted: part(), seen: part() }
    };
    (stdout(&output).lines().map(case).collect(), errors)
}

/// How the cases are tried: each in a process of its own or all in one, by connect or a call that sends.
const CALLS: [&str; 6] =
    ["apart", "together", "apart sendto", "together sendto", "apart sendmsg", "apart sendmmsg"];

/// The program of an environment.
fn program(environment: &Environment) -> PathBuf {
    environment.program("transparency")
}

/// Asserts that the runs have the same cases and every answer is the same.
#[track_caller]
fn assert_same(place: &str, bare: &[Case], shimmed: &[Case]) {
    let differ = |(bare, shimmed): (&Case, &Case)| {
        let Case { tried, seen, .. } = bare;
        (bare != shimmed).then(|| format!("{tried}: wanted {seen}, seen {}", shimmed.seen))
    };
    let differences = bare.iter().zip(shimmed).filter_map(differ).collect::<Vec<_>>();
    assert!(
        differences.is_empty(),
        "{place}: other than the bare run:\n{}",
        differences.join("\n")
    );
    expect(format!("{place}: the number of cases"), shimmed.len(), bare.len());
}

/// Asserts that every call of connect is answered as without the library: the first of a process
/// and every later one. `check` gets what each run with the library wrote to standard error.
#[track_caller]
fn assert_connects_are_the_bare_runs(settings: Settings, check: impl Fn(&str) + Sync) {
    in_each_environment_at_once(|environment| {
        let program = &program(environment);
        // At once: some calls take a second.
        thread::scope(|scope| {
            // A message that connects (MSG_FASTOPEN) has no answers of its own to be held against, but those of the bare run.
            let runs = CALLS.map(|what| {
                let bare = environment.bare(program);
                let shimmed = environment.shimmed(program, settings);
                let bare = scope.spawn(move || run(bare, what));
                (what, bare, scope.spawn(move || run(shimmed, what)))
            });
            for (what, bare, shimmed) in runs {
                let bare = bare.join().expect("the bare run ends well");
                let known = bare.0.iter().filter(|_| !what.contains("send"));
                for Case { tried, wanted, seen } in known {
                    expect(format!("{what}: {tried}: without the library"), seen, wanted);
                }
                expect(format!("{what}: standard error without the library"), &*bare.1, "");
                let shimmed = shimmed.join().expect("the run with the library ends well");
                assert_same(&format!("{what}, {settings:?}"), &bare.0, &shimmed.0);
                check(&shimmed.1);
            }
        });
    });
}

/// For a run that is to write nothing to standard error.
fn nothing(errors: &str) {
    expect("what the library wrote to standard error", errors, "");
}

/// Whether a log tells of sockets that were set and of others that were left alone.
#[track_caller]
fn assert_traced(log: &str) {
    for level in [" DEBUG: connect: ", " TRACE: connect: "] {
        assert!(log.contains(level), "wanted lines with{level}in the log, seen:\n{log}");
    }
}

#[test]
fn every_connect_has_the_result_and_errno_of_the_bare_run() {
    assert_connects_are_the_bare_runs(&[], nothing);
}

#[test]
fn every_connect_is_as_in_the_bare_run_with_trace_in_a_file() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    assert_connects_are_the_bare_runs(&[("LOG", "trace"), ("LOG_FILE", text(&log))], nothing);
    assert_traced(&fs::read_to_string(&log).expect("the log file is there"));
}

#[test]
fn strace_shows_the_arguments_of_connect_as_the_program_gave_them() {
    in_each_environment(|environment| {
        let program = program(environment);
        let connects = |mut command: Command| {
            let calls = system_calls(command.arg("fixed"));
            calls.into_iter().filter(|call| call.starts_with("connect(")).collect::<Vec<_>>()
        };
        let bare = connects(environment.bare(&program));
        expect(format!("calls without the library: {bare:#?}"), bare.len(), 14);
        let shimmed = connects(environment.shimmed(&program, &[]));
        expect("connect as seen by strace (left: with the library)", shimmed, bare);
    });
}

/// Asserts that every lookup of a host that is not listed is answered as without the library.
#[track_caller]
fn assert_lookups_are_the_bare_runs(settings: Settings, check: impl Fn(&str)) {
    in_each_environment(|environment| {
        let program = program(environment);
        let commands = (environment.bare(&program), environment.shimmed(&program, settings));
        let (bare, shimmed) = thread::scope(|scope| {
            let bare = scope.spawn(|| run(commands.0, "lookups"));
            let shimmed = run(commands.1, "lookups");
            (bare.join().expect("the bare run ends well"), shimmed)
        });
        // The libcs differ, but each has these.
        for code in [
            "ok",
            "EAI_AGAIN",
            "EAI_BADFLAGS",
            "EAI_FAMILY",
            "EAI_NONAME",
            "EAI_SERVICE",
            "EAI_SYSTEM",
        ] {
            let start = format!("{code} (");
            let given = bare.0.iter().any(|case| case.seen.starts_with(&start));
            assert!(given, "a lookup gives {code} without the library");
        }
        assert_same(&format!("{settings:?}"), &bare.0, &shimmed.0);
        check(&shimmed.1);
    });
}

#[test]
fn every_lookup_without_an_allowlist_is_as_in_the_bare_run() {
    assert_lookups_are_the_bare_runs(&[], nothing);
}

#[test]
fn every_lookup_of_an_unlisted_host_is_as_in_the_bare_run() {
    let settings = [("IPV4_ONLY", "api.openai.com"), ("LOG", "trace")];
    assert_lookups_are_the_bare_runs(&settings, |errors| {
        let wanted = "getaddrinfo: name.example.com: ";
        assert!(errors.contains(wanted), "wanted {wanted:?} in the log, seen:\n{errors}");
    });
}
