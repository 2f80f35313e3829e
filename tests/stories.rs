//! The two stories that the library exists for, each with its bare run as control: a story whose
//! bare run does not fail proves nothing.

mod lab;
mod programs;

use std::process::Command;
use std::thread;
use std::time::Duration;

use lab::{Host, Lab};
use programs::{Ended, Environment, run_for};

/// The gateway forgets a connection after this silence.
const IDLE_TIMEOUT: &str = "4";
/// The reply takes longer than that.
const SLOW_REPLY: &str = "http://v4only.example.com/after/7";
/// So long a bare run is waited for: well past the reply.
const PATIENCE: Duration = Duration::from_secs(11);

fn curl(mut command: Command, url: &str) -> Command {
    // curl asks for keepalive after 60 s of silence by itself, which is the program's own choice
    // and stays; most programs ask for none.
    command.args(["--silent", "--show-error", "--no-keepalive", url]);
    command
}

fn urllib(mut command: Command, url: &str) -> Command {
    let program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())";
    command.args(["-c", program, url]);
    command
}

/// A reply was received, the program ended well, and this is how long it took.
fn answered(ended: &Ended) -> bool {
    ended.output.as_ref().is_some_and(|output| {
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("answer")
    })
}

type Client = fn(Command, &str) -> Command;
const CLIENTS: [(&str, &str, Client); 2] =
    [("curl", "/usr/bin/curl", curl), ("urllib", "/usr/bin/python3", urllib)];

#[test]
fn a_reply_after_the_nat_timeout_arrives_with_the_shim_and_is_lost_without() {
    let lab = Lab::start(&["--idle-timeout", IDLE_TIMEOUT]);
    let environment = &Environment::here();
    let shim = [("KEEPALIVE", "idle=1,interval=1,count=5")];
    thread::scope(|scope| {
        let run = |client: Client, command| {
            let mut command = client(command, SLOW_REPLY);
            lab.on(Host::Client, &mut command);
            scope.spawn(move || run_for(&mut command, PATIENCE))
        };
        let runs = CLIENTS.map(|(name, path, client)| {
            let bare = run(client, environment.bare(path));
            (name, bare, run(client, environment.shimmed(path, &shim)))
        });
        for (name, bare, shimmed) in runs {
            let (bare, shimmed) = (bare.join().unwrap(), shimmed.join().unwrap());
            assert!(bare.output.is_none(), "bare {name} still waits: {bare:?}");
            assert!(answered(&shimmed), "{name} with the shim gets the reply: {shimmed:?}");
        }
    });
}

#[test]
fn a_host_whose_ipv6_is_a_black_hole_answers_at_once_with_the_shim_and_never_without() {
    let lab = Lab::start(&[]);
    let environment = &Environment::here();
    let run = |command, url, time| {
        let mut command = urllib(command, url);
        run_for(lab.on(Host::Client, &mut command), time)
    };
    let python = "/usr/bin/python3";
    let url = "http://api.openai.com/now";
    let settings = [("IPV4_ONLY", "api.openai.com")];

    let bare = run(environment.bare(python), url, Duration::from_secs(5));
    assert!(bare.output.is_none(), "bare urllib still waits: {bare:?}");

    let ipv4 = run(environment.bare(python), "http://v4only.example.com/now", PATIENCE);
    assert!(answered(&ipv4), "bare urllib reaches a host that has only IPv4: {ipv4:?}");

    let shimmed = run(environment.shimmed(python, &settings), url, PATIENCE);
    assert!(answered(&shimmed), "urllib with the shim gets the reply: {shimmed:?}");
    assert!(shimmed.time < Duration::from_secs(3), "at once: {shimmed:?}");

    let other = run(
        environment.shimmed(python, &settings),
        "http://other.example.com/now",
        Duration::from_secs(5),
    );
    assert!(other.output.is_none(), "a host that is not listed is as before: {other:?}");
}
