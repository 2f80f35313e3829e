//! `--rescue`: connections of a running program that hang get their answer, or their end.
//!
//! Each story stands beside a bare run of the same program that hangs.

use std::fs;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::{NOBODY, Public, Ran, as_nobody, bare, run, shim, shim_at};
use crate::harness::lab::Lab;
use crate::harness::run::{run_for, run_meanwhile, stdout};

/// The gateway forgets a connection after so many seconds of silence.
const IDLE_TIMEOUT: u64 = 8;
/// A reply takes so long: well past that.
const SLOW: u64 = 14;
/// So long a bare run is watched whose reply is lost.
const LATE: Duration = Duration::from_secs(SLOW + 4);
/// Keepalive that no busy machine makes too short, and that the gateway takes for traffic.
const KEEPALIVE: &str = "idle=2,interval=2,count=8";

fn lab() -> Lab {
    Lab::start(&["--idle-timeout", &IDLE_TIMEOUT.to_string()])
}

/// A Python program.
fn python(program: &str, arguments: &[&str]) -> Command {
    let mut command = bare("/usr/bin/python3");
    command.args(["-Ic", program]).args(arguments);
    command
}

/// Asks for a URL; after an error it says which, and asks for another.
const FETCH: &str = "
import errno, sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url).read().decode())
        break
    except OSError as error:
        print(errno.errorcode[getattr(error, 'reason', error).errno], flush=True)
";

fn rescue(options: &[&str], process: u32) -> Ran {
    let process = process.to_string();
    run(&mut shim(&[&["--keepalive", KEEPALIVE][..], options, &["--rescue", &process]].concat()))
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a request with this mark has arrived at the lab's server.
#[track_caller]
fn until_asked(lab: &Lab, mark: &str) {
    let log = lab.file("requests");
    until(mark, || fs::read_to_string(&log).expect("the log can be read").contains(mark));
}

/// Runs a program on the client and does something meanwhile, with its PID.
fn meanwhile(lab: &Lab, command: Command, act: impl FnOnce(u32)) -> Output {
    run_meanwhile(&mut lab.client(command), |child| act(child.id()))
}

#[track_caller]
fn says(ran: &Ran, status: i32, words: &[&str]) {
    assert_eq!(ran.status.code(), Some(status), "{ran:?}");
    for word in words {
        assert!(ran.out.contains(word), "{word:?} in {ran:?}");
    }
}

fn url(wait: u64, mark: &str) -> String {
    format!("http://v4only.example.com/after/{wait}?{mark}")
}

#[test]
fn a_late_reply_arrives_after_a_rescue_and_never_without() {
    let lab = lab();
    thread::scope(|scope| {
        let control =
            scope.spawn(|| run_for(&mut lab.client(python(FETCH, &[&url(SLOW, "bare")])), LATE));
        let output = meanwhile(&lab, python(FETCH, &[&url(SLOW, "rescued")]), |process| {
            until_asked(&lab, "rescued");
            thread::sleep(Duration::from_secs(3));
            let ran = rescue(&[], process);
            let words = ["ESTABLISHED 198.51.100.2:80: answers (", " s: keepalive is on now ("];
            says(&ran, 0, &words);
        });
        assert!(stdout(&output).contains("answer"), "{output:?}");
        let control = control.join().unwrap();
        assert!(control.is_none(), "bare it still waits: {control:?}");
    });
}

#[test]
fn a_forgotten_connection_ends_soon_and_the_programs_retry_succeeds() {
    // The lab's NAT answers with a reset. Others say nothing.
    let silent = lab();
    silent.drop_what_is_forgotten();
    let labs = [
        (lab(), "ECONNRESET", "it ended when the probe went out"),
        (silent, "ETIMEDOUT", "within 16 s"),
    ];
    thread::scope(|scope| {
        for (lab, error, words) in &labs {
            let late = url(60, "rescued");
            let program = python(FETCH, &[&late, "http://v4only.example.com/now"]);
            scope.spawn(move || {
                let output = meanwhile(lab, program, |process| {
                    until_asked(lab, "rescued");
                    thread::sleep(Duration::from_secs(IDLE_TIMEOUT + 2));
                    says(&rescue(&[], process), 0, &[words]);
                });
                let seen = stdout(&output);
                assert!(seen.starts_with(error) && seen.contains("answer"), "{error}: {output:?}");
            });
            let control = python(FETCH, &[&url(60, "bare"), "http://v4only.example.com/now"]);
            scope.spawn(move || {
                let control = run_for(&mut lab.client(control), Duration::from_secs(40));
                assert!(control.is_none(), "bare it still waits: {control:?}");
            });
        }
    });
}

/// A program that connects to one address alone.
const ONE_ADDRESS: &str = "
import errno, socket, sys
try:
    socket.create_connection(('2001:db8:2::2', 80))
except OSError as error:
    print(errno.errorcode[error.errno])
";

#[test]
fn a_connect_stuck_over_ipv6_ends_and_the_program_goes_on() {
    let lab = Lab::start(&[]);
    let several = || python(FETCH, &["http://api.openai.com/now"]);
    let (_public, installed) = Public::installed();
    thread::scope(|scope| {
        let control = scope.spawn(|| run_for(&mut lab.client(several()), LATE));
        for (program, wanted) in [(several(), "IPv4"), (python(ONE_ADDRESS, &[]), "ECONNABORTED")] {
            let lab = &lab;
            scope.spawn(move || {
                let output = meanwhile(lab, program, |process| {
                    let ran = rescued_connect(|| rescue(&[], process));
                    says(&ran, 0, &["SYN-SENT    [2001:db8:2::2]:80: ended: the program goes on"]);
                });
                assert!(stdout(&output).contains(wanted), "{wanted}: {output:?}");
            });
        }
        // Without CAP_NET_ADMIN the kernel ends it when the next SYN would go out.
        for (program, wanted) in [(several(), "IPv4"), (python(ONE_ADDRESS, &[]), "ETIMEDOUT")] {
            let (lab, installed, program) = (&lab, &installed, unprivileged(program));
            scope.spawn(move || {
                let output = meanwhile(lab, program, |process| {
                    let process = process.to_string();
                    let ran = rescued_connect(|| {
                        run(as_nobody(&mut shim_at(installed, &["--rescue", &process])))
                    });
                    says(
                        &ran,
                        0,
                        &["SYN-SENT    [2001:db8:2::2]:80: ends with \"Connection timed out\""],
                    );
                });
                assert!(stdout(&output).contains(wanted), "{wanted}: {output:?}");
            });
        }
        let control = control.join().unwrap();
        assert!(control.is_none(), "bare it still waits: {control:?}");
    });
}

/// A command on a host of the lab, which root has to enter first, as a user without privileges.
fn unprivileged(command: Command) -> Command {
    let mut setpriv = bare("setpriv");
    let user = NOBODY.to_string();
    setpriv.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
    setpriv.arg(command.get_program()).args(command.get_args());
    setpriv
}

/// Rescues until there is a connect that is old enough.
fn rescued_connect(rescue: impl Fn() -> Ran) -> Ran {
    let start = Instant::now();
    loop {
        let ran = rescue();
        let is_early = !ran.out.contains("SYN-SENT") || ran.out.contains("too early");
        if !is_early || start.elapsed() > Duration::from_secs(30) {
            return ran;
        }
        thread::sleep(Duration::from_millis(100));
    }
}
