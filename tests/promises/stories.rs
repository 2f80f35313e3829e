//! The two stories that the library exists for, each with its bare run as control: a story whose
//! bare run does not fail proves nothing.

use std::fs;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use crate::harness::lab::Lab;
use crate::harness::run::{run_for, stdout, with};
use crate::harness::{Environment, expect, on_this_machine};

/// The gateway forgets a connection after this silence.
const IDLE_TIMEOUT: &str = "4";
/// The reply takes longer than that.
const SLOW_REPLY: &str = "http://v4only.example.com/after/7";
/// So long a reply is waited for: well past its time, well before a connect times out (some 130 s).
const PATIENCE: Duration = Duration::from_secs(30);
/// So long a run is watched whose reply is lost: past the time of the reply.
const LATE: Duration = Duration::from_secs(11);
/// So long a run is watched that waits for nothing.
const WAIT: Duration = Duration::from_secs(5);

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

/// Whether a reply was received and the program ended well.
fn answered(output: Option<&Output>) -> bool {
    output.is_some_and(|output| output.status.success() && stdout(output).contains("answer"))
}

type Client = fn(Command, &str) -> Command;
const CLIENTS: [(&str, &str, Client); 2] =
    [("curl", "/usr/bin/curl", curl), ("urllib", "/usr/bin/python3", urllib)];

/// So long a run is watched: Python takes seconds to start under qemu.
fn time(environment: &Environment, time: Duration) -> Duration {
    if environment.is_emulated() { 2 * time } else { time }
}

#[test]
fn a_reply_after_the_nat_timeout_arrives_with_the_shim_only() {
    on_this_machine(late_reply);
}

#[test]
fn a_reply_after_the_nat_timeout_arrives_with_the_shim_only_under_qemu() {
    Environment::emulated().for_each(|environment| late_reply(&environment));
}

#[test]
fn a_reply_after_the_nat_timeout_arrives_with_the_shim_only_on_i386() {
    Environment::i386_programs().iter().for_each(late_reply);
}

fn late_reply(environment: &Environment) {
    // On a busy machine a short wait may end before all have come so far.
    let have_asked = late_replies(environment, LATE) || late_replies(environment, PATIENCE);
    assert!(have_asked, "each has asked");
}

/// Runs the story, in which a reply that is lost is waited for so long. Whether each client has asked.
fn late_replies(environment: &Environment, late: Duration) -> bool {
    let lab = Lab::start(&["--idle-timeout", IDLE_TIMEOUT]);
    let shim = [("KEEPALIVE", "idle=1,interval=1,count=5")];
    thread::scope(|scope| {
        let run = |client: Client, command, most| {
            let mut command = lab.client(client(command, SLOW_REPLY));
            scope.spawn(move || run_for(&mut command, time(environment, most)))
        };
        let runs = CLIENTS.map(|(name, path, client)| {
            let path = environment.installed(path);
            let bare = run(client, environment.bare(&path), late);
            (name, bare, run(client, environment.shimmed(&path, &shim), PATIENCE))
        });
        for (name, bare, shimmed) in runs {
            let (bare, shimmed) = (bare.join().unwrap(), shimmed.join().unwrap());
            assert!(bare.is_none(), "bare {name} still waits: {bare:?}");
            assert!(answered(shimmed.as_ref()), "{name} with the shim gets the reply: {shimmed:?}");
        }
    });
    let requests = fs::read_to_string(lab.file("requests")).expect("the log can be read");
    requests.lines().count() == 2 * CLIENTS.len()
}

#[test]
fn a_host_with_an_ipv6_black_hole_answers_with_the_shim_only() {
    on_this_machine(black_hole);
}

#[test]
fn a_host_with_an_ipv6_black_hole_answers_with_the_shim_only_under_qemu() {
    Environment::emulated().for_each(|environment| black_hole(&environment));
}

#[test]
fn a_host_with_an_ipv6_black_hole_answers_with_the_shim_only_on_i386() {
    Environment::i386_programs().iter().for_each(black_hole);
}

fn black_hole(environment: &Environment) {
    let lab = Lab::start(&[]);
    let run = |command, url, most| {
        run_for(&mut lab.client(urllib(command, url)), time(environment, most))
    };
    let python = &environment.installed("/usr/bin/python3");
    let url = "http://api.openai.com/now";
    let settings = [("IPV4_ONLY", "api.openai.com")];

    // On a busy machine a short wait may end before it has come so far.
    let has_asked = |most| {
        let (bare, asked) = lab.questions(|| run(environment.bare(python), url, most));
        assert!(bare.is_none(), "bare urllib still waits: {bare:?}");
        !asked.is_empty()
    };
    assert!(has_asked(WAIT) || has_asked(PATIENCE), "bare urllib has looked the host up");

    let ipv4 = run(environment.bare(python), "http://v4only.example.com/now", PATIENCE);
    assert!(answered(ipv4.as_ref()), "bare urllib reaches a host that has only IPv4: {ipv4:?}");

    let shimmed = run(environment.shimmed(python, &settings), url, PATIENCE);
    assert!(answered(shimmed.as_ref()), "urllib with the shim gets the reply: {shimmed:?}");

    let other = run(environment.shimmed(python, &settings), "http://other.example.com/now", WAIT);
    assert!(other.is_none(), "a host that is not listed is as before: {other:?}");
}

/// A program that sets an idle time of its own, before it connects or after, and waits for a reply
/// that takes longer than the NAT remembers.
const OWN_IDLE: &str = "
import socket, sys
when, idle = sys.argv[1], int(sys.argv[2])
def set(socket_):
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    socket_.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
client = socket.socket()
if when == 'before': set(client)
client.connect(('198.51.100.2', 80))
if when == 'after': set(client)
client.sendall(b'GET /after/7 HTTP/1.0\\r\\n\\r\\n')
print(client.makefile().read())
";

#[test]
fn a_program_with_too_long_an_idle_time_gets_its_reply_by_enforce_only() {
    on_this_machine(own_idle);
}

fn own_idle(environment: &Environment) {
    let lab = Lab::start(&["--idle-timeout", IDLE_TIMEOUT]);
    let python = |keepalive, when, idle| {
        let settings = [("KEEPALIVE", keepalive)];
        let command = environment.shimmed("/usr/bin/python3", &settings);
        lab.client(with(command, ["-c", OWN_IDLE, when, idle]))
    };
    thread::scope(|scope| {
        // As curl does, and as Rust's postgres clients do.
        let runs = [("before", "60"), ("after", "7200")].map(|(when, idle)| {
            let run = |keepalive, most| {
                let mut command = python(keepalive, when, idle);
                scope.spawn(move || run_for(&mut command, most))
            };
            let kept = run("idle=1,interval=1,count=5", LATE);
            (when, kept, run("idle=1,interval=1,count=5,enforce", PATIENCE))
        });
        for (when, kept, enforced) in runs {
            let (kept, enforced) = (kept.join().unwrap(), enforced.join().unwrap());
            assert!(kept.is_none(), "its own, set {when} connect, stays: {kept:?}");
            assert!(answered(enforced.as_ref()), "set {when} connect, enforced: {enforced:?}");
        }
    });
}

/// A program that writes on a connection which has been silent for longer than the NAT remembers,
/// and says how its wait for the answer ends.
const WRITE_LATE: &str = "
import socket, time
client = socket.create_connection(('198.51.100.2', 80))
time.sleep(6)
start = time.monotonic()
try:
    client.sendall(b'GET /now HTTP/1.0\\r\\n\\r\\n')
    print('received', client.recv(100))
except TimeoutError:
    print('timed out,', 'in time' if time.monotonic() - start < 10 else 'late')
";

/// A program whose peer takes the connection and does not read.
const NOT_READ: &str = "
import socket
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
try:
    client.sendall(bytes(1 << 26))
except TimeoutError:
    print('timed out')
";

#[test]
fn a_write_that_nobody_acknowledges_fails_after_the_user_timeout() {
    on_this_machine(user_timeout);
}

fn user_timeout(environment: &Environment) {
    let lab = Lab::start(&["--idle-timeout", IDLE_TIMEOUT]);
    lab.drop_what_is_forgotten();
    let python = |keepalive, program| {
        let command = environment.shimmed("/usr/bin/python3", &[("KEEPALIVE", keepalive)]);
        lab.client(with(command, ["-c", program]))
    };
    thread::scope(|scope| {
        let runs = [(WRITE_LATE, "timed out, in time\n"), (NOT_READ, "timed out\n")];
        let runs = runs.map(|(program, wanted)| {
            // Neither sends a probe in this time, so that it is the user timeout which ends it.
            let mut without = python("idle=60", program);
            let without = scope.spawn(move || run_for(&mut without, LATE));
            let mut timed = python("idle=60,user-timeout=2", program);
            (wanted, without, scope.spawn(move || run_for(&mut timed, PATIENCE)))
        });
        for (wanted, without, timed) in runs {
            let (without, timed) = (without.join().unwrap(), timed.join().unwrap());
            assert!(without.is_none(), "without a user timeout it waits: {without:?}");
            let seen = timed.as_ref().map(stdout);
            expect("with one", seen.as_deref(), Some(wanted));
        }
    });
}
