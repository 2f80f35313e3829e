//! Every call gives the result and the errno that it gives without the library.
//!
//! `tests/programs/transparency.c` makes the calls, in a network namespace of its own, and says of
//! each what it should give: the bare run is held against that, the others against the bare run.

mod programs;
#[path = "programs/waiting.rs"]
mod waiting;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use programs::{Environment, stdout};
use waiting::system_calls;

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
    let output = command.arg(what).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    let case = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        let mut part = || parts.next().expect("a line has three parts");
        Case { tried: part(), wanted: part(), seen: part() }
    };
    (stdout(&output).lines().map(case).collect(), errors)
}

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
    assert_eq!(shimmed.len(), bare.len(), "{place}: the number of cases");
}

/// Asserts that every call of connect is answered as without the library: the first of a process
/// and every later one. Returns what the runs with the library wrote to standard error, each.
#[track_caller]
fn assert_connects_are_the_bare_runs(settings: Settings) -> Vec<String> {
    let environments = Environment::all();
    let runs = thread::scope(|scope| {
        // All at once: some calls take a second.
        let start = |environment: &Environment, what: &'static str| {
            let program = program(environment);
            let commands = (environment.bare(&program), environment.shimmed(&program, settings));
            let bare = scope.spawn(move || run(commands.0, what));
            let shimmed = scope.spawn(move || run(commands.1, what));
            (format!("{environment}, {what}"), bare, shimmed)
        };
        let started = environments
            .iter()
            .flat_map(|environment| ["apart", "together"].map(|what| start(environment, what)))
            .collect::<Vec<_>>();
        let end = |(place, bare, shimmed): (_, thread::ScopedJoinHandle<_>, _)| {
            let join = |run: thread::ScopedJoinHandle<_>| run.join().expect("the run ends well");
            (place, join(bare), join(shimmed))
        };
        started.into_iter().map(end).collect::<Vec<(String, _, _)>>()
    });
    let mut errors = Vec::new();
    for (place, bare, shimmed) in runs {
        for Case { tried, wanted, seen } in &bare.0 {
            assert_eq!(seen, wanted, "{place}: {tried}: without the library");
        }
        assert_same(&format!("{place}, {settings:?}"), &bare.0, &shimmed.0);
        assert_eq!(bare.1, "", "{place}: standard error without the library");
        errors.push(shimmed.1);
    }
    errors
}

/// Whether a log tells of sockets that were set and of others that were left alone.
#[track_caller]
fn assert_traced(log: &str) {
    for level in [" DEBUG: connect: ", " TRACE: connect: "] {
        assert!(log.contains(level), "wanted lines with{level}in the log, seen:\n{log}");
    }
}

/// The path of a log file that is not there yet.
fn log_file() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("transparency.{number}.log"));
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn every_connect_has_the_result_and_errno_of_the_bare_run() {
    for errors in assert_connects_are_the_bare_runs(&[]) {
        assert_eq!(errors, "", "what the library wrote to standard error");
    }
}

#[test]
fn every_connect_has_the_result_and_errno_of_the_bare_run_with_trace_on_standard_error() {
    for errors in assert_connects_are_the_bare_runs(&[("LOG", "trace")]) {
        assert_traced(&errors);
    }
}

#[test]
fn every_connect_has_the_result_and_errno_of_the_bare_run_with_trace_in_a_file() {
    let path = log_file();
    let file = path.to_str().expect("the path is text");
    for errors in assert_connects_are_the_bare_runs(&[("LOG", "trace"), ("LOG_FILE", file)]) {
        assert_eq!(errors, "", "what the library wrote to standard error");
    }
    assert_traced(&fs::read_to_string(&path).expect("the log file is there"));
}

#[test]
fn every_connect_has_the_result_and_errno_of_the_bare_run_with_the_switch_off() {
    for errors in assert_connects_are_the_bare_runs(&[("", "off"), ("LOG", "trace")]) {
        assert_eq!(errors, "", "what the library wrote to standard error");
    }
}

#[test]
fn strace_shows_the_arguments_of_connect_as_the_program_gave_them() {
    for environment in Environment::all() {
        let program = program(&environment);
        let connects = |mut command: Command| {
            let calls = system_calls(command.arg("fixed"));
            calls.into_iter().filter(|call| call.starts_with("connect(")).collect::<Vec<_>>()
        };
        let bare = connects(environment.bare(&program));
        assert_eq!(bare.len(), 14, "{environment}: calls without the library: {bare:#?}");
        let shimmed = connects(environment.shimmed(&program, &[]));
        assert_eq!(
            shimmed, bare,
            "{environment}: connect as seen by strace (left: with the library)"
        );
    }
}

/// Asserts that every lookup of a host that is not listed is answered as without the library.
#[track_caller]
fn assert_lookups_are_the_bare_runs(settings: Settings) -> Vec<String> {
    let mut logs = Vec::new();
    for environment in Environment::all() {
        let program = program(&environment);
        let commands = (environment.bare(&program), environment.shimmed(&program, settings));
        let (bare, shimmed) = thread::scope(|scope| {
            let bare = scope.spawn(|| run(commands.0, "lookups"));
            let shimmed = run(commands.1, "lookups");
            (bare.join().expect("the bare run ends well"), shimmed)
        });
        // The libcs differ, but each has these.
        for code in [
            "0",
            "EAI_AGAIN",
            "EAI_BADFLAGS",
            "EAI_FAMILY",
            "EAI_NONAME",
            "EAI_SERVICE",
            "EAI_SYSTEM",
        ] {
            let start = format!("{code} (");
            let given = bare.0.iter().any(|case| case.seen.starts_with(&start));
            assert!(given, "{environment}: a lookup gives {code} without the library");
        }
        assert_same(&format!("{environment}, {settings:?}"), &bare.0, &shimmed.0);
        logs.push(shimmed.1);
    }
    logs
}

#[test]
fn every_lookup_has_the_code_errno_and_answer_of_the_bare_run_without_an_allowlist() {
    for errors in assert_lookups_are_the_bare_runs(&[]) {
        assert_eq!(errors, "", "what the library wrote to standard error");
    }
}

#[test]
fn every_lookup_of_an_unlisted_host_has_the_code_errno_and_answer_of_the_bare_run() {
    for errors in assert_lookups_are_the_bare_runs(&[("IPV4_ONLY", "api.openai.com")]) {
        assert_eq!(errors, "", "what the library wrote to standard error");
    }
}

#[test]
fn every_lookup_of_an_unlisted_host_has_the_code_errno_and_answer_of_the_bare_run_with_trace() {
    let settings = [("IPV4_ONLY", "api.openai.com"), ("LOG", "trace")];
    for errors in assert_lookups_are_the_bare_runs(&settings) {
        let wanted = " TRACE: getaddrinfo: name.example.com: not listed";
        assert!(errors.contains(wanted), "wanted{wanted} in the log, seen:\n{errors}");
    }
}
