//! Real programs that hang and are rescued by `egress-shim --rescue`, each beside a bare run that hangs:
//!
//! - a reply that takes longer than the NAT's memory arrives where the rescue came before the NAT forgot;
//! - where it came too late, the program has an error soon, or tries again by itself;
//! - a connect to a black hole ends, and the program goes on to IPv4 or has an error.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::bed::Bed;
use super::made::{lacks, make_clients};
use super::run::Run;
use super::table::rescued_clients;
use super::{AtBlackHole, Client, IPV4, PATIENCE, Row, dark, host};
use crate::command::COMMAND;
use crate::harness::run::stdout;
use crate::harness::skip;

/// The NAT forgets a connection after so many seconds of silence.
const IDLE_TIMEOUT: u64 = 8;
/// A reply that takes longer.
const SLOW: u64 = 16;
/// A reply that nobody waits for.
const NEVER: u64 = 300;

#[test]
fn real_programs_that_hang_are_rescued_and_hang_otherwise() {
    let clients = rescued_clients();
    let unmade = make_clients(&clients);
    let bed = &Bed::new(&clients, &unmade, IDLE_TIMEOUT.try_into().expect("it is small"));
    let problems = thread::scope(|scope| {
        let rows = clients.iter().zip(1..).filter_map(|(client, number)| {
            if let Some(reason) = lacks(client, &unmade) {
                skip(client.name, reason);
                return None;
            }
            Some(scope.spawn(move || problems(&Row { client, number, bed })))
        });
        let rows: Vec<_> = rows.collect();
        assert!(!rows.is_empty(), "no client is here");
        rows.into_iter()
            .flat_map(|row| row.join().expect("a row does not panic"))
            .collect::<Vec<_>>()
    });
    assert!(problems.is_empty(), "{} problems:\n{problems:#?}", problems.len());
}

/// What is not as promised.
fn problems(row: &Row<'_>) -> Vec<String> {
    let Row { client, number, .. } = *row;
    let v4only = host(number, "v4only");
    // One that keeps its connections alive itself is here for the black hole.
    if client.keepalive.idle.is_some() {
        return goes_on(row, client, number).into_iter().collect();
    }
    thread::scope(|scope| {
        let v4only = &v4only;
        let tries = [
            scope.spawn(move || hangs(&mut row.start(false, v4only, SLOW, "rescue-bare"))),
            scope.spawn(move || arrives(&mut row.start(false, v4only, SLOW, "rescue-slow"))),
            scope.spawn(move || ends(&mut row.start(false, v4only, NEVER, "rescue-late"))),
            scope.spawn(move || goes_on(row, client, number)),
        ];
        let found = tries.map(|attempt| attempt.join().expect("it does not panic"));
        found.into_iter().flatten().map(|problem| format!("{}: {problem}", client.name)).collect()
    })
}

/// The bare run.
fn hangs(run: &mut Run<'_>) -> Option<String> {
    run.end(Duration::from_secs(SLOW + 3));
    run.output.as_ref().map(|output| format!("bare it ends: {output:?}"))
}

fn arrives(run: &mut Run<'_>) -> Option<String> {
    thread::sleep(Duration::from_secs(2));
    let report = rescue(run);
    run.end(Duration::from_secs(SLOW) + PATIENCE);
    match &run.output {
        Some((status, out, _)) if status.success() && out.contains("42") => None,
        output => Some(format!("the late reply is lost: {output:?}\n{report}")),
    }
}

fn ends(run: &mut Run<'_>) -> Option<String> {
    thread::sleep(Duration::from_secs(IDLE_TIMEOUT + 3));
    let report = rescue(run);
    let start = Instant::now();
    // Some programs try again by themselves.
    while !run.has_ended() && run.arrivals() < 2 && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
    }
    run.end(Duration::ZERO);
    match &run.output {
        Some((status, ..)) if status.success() => {
            Some(format!("no error: {:?}\n{report}", run.output))
        }
        None if run.arrivals() < 2 => Some(format!("it hangs on\n{report}")),
        _ => None,
    }
}

/// The black hole.
fn goes_on(row: &Row<'_>, client: &Client, number: usize) -> Option<String> {
    if client.at_black_hole != AtBlackHole::Hangs {
        return None;
    }
    let mut run = row.start(false, &dark(number), 0, "rescue-dark");
    let start = Instant::now();
    let mut report = String::new();
    // Java tries the same address again.
    while !run.has_ended() && start.elapsed() < PATIENCE {
        report += &rescue(&run);
        thread::sleep(Duration::from_millis(500));
    }
    run.end(PATIENCE);
    let family = run.family();
    match &run.output {
        Some((status, ..)) if status.success() && family == IPV4 => None,
        // It holds one address.
        Some((status, _, err)) if !status.success() && !err.is_empty() => None,
        output => Some(format!("it hangs on at a black hole: {output:?}\n{report}")),
    }
}

/// What a rescue reports.
fn rescue(run: &Run<'_>) -> String {
    let mut command = Command::new(&*COMMAND);
    command.args(["--keepalive", "idle=2,interval=2,count=8", "--rescue", &run.id().to_string()]);
    let output = command.env_clear().stdin(Stdio::null()).output().expect("it starts");
    stdout(&output)
}
