//! What becomes of a socket that connects: the kernel's own word, as the program reads it back and
//! as `ss` sees it from outside.
//!
//! `tests/programs/keepalive.c` does the named steps, in a network namespace of its own. Each test
//! first runs them without the library: what is not so then is the library's doing.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use crate::harness::run::{Waiting, inside, output, run, run_meanwhile, stderr, stdout, with};
use crate::harness::scratch::text;
use crate::harness::strace::system_calls;
use crate::harness::{
    Environment, expect, in_each_architecture_at_once, in_each_environment, log, skip,
};

/// A socket that nobody has touched.
const UNTOUCHED: &str = "keepalive=0 idle=7200 interval=75 count=9";
/// A socket with the library's defaults.
const DEFAULTS: &str = "keepalive=1 idle=60 interval=60 count=5";
/// Every kind of socket that the library is for.
const TCP: [&str; 5] = ["tcp4", "tcp6", "mapped", "mptcp4", "mptcp6"];

/// Settings: see [`Environment::shimmed`].
type Settings<'a> = &'a [(&'a str, &'a str)];

/// The program of an environment.
fn program(environment: &Environment) -> PathBuf {
    environment.program("keepalive")
}

/// Gives the program its steps, in a network namespace of its own: the machine's sysctls are then
/// the kernel's, and its ports are free.
fn steps<'a>(command: &'a mut Command, steps: &str) -> &'a mut Command {
    command.arg("namespace").args(steps.split_whitespace())
}

/// What the program printed, as one line.
fn seen(mut command: Command, text: &str) -> String {
    joined(&output(steps(&mut command, text)))
}

fn joined(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

/// Asserts what the program sees without the library and with it, in every environment.
#[track_caller]
fn assert_seen(settings: Settings, steps: &str, bare: &str, shimmed: &str) {
    in_each_architecture_at_once(|environment| {
        // qemu lets no seccomp filter through, nor SO_NETNS_COOKIE, by which a namespace is known.
        if environment.is_emulated() && ["forbid=", "defaults="].iter().any(|it| steps.contains(it))
        {
            return skip(environment, format!("qemu cannot do it: {steps}"));
        }
        assert_seen_in(environment, settings, steps, bare, shimmed);
        let variants = [environment.with_64_bit_times(), environment.with_old_stack()];
        for environment in variants.into_iter().flatten() {
            assert_seen_in(&environment, settings, steps, bare, shimmed);
        }
    });
}

#[track_caller]
fn assert_seen_in(
    environment: &Environment,
    settings: Settings,
    steps: &str,
    bare: &str,
    shimmed: &str,
) {
    let program = program(environment);
    let commands = (environment.bare(&program), environment.shimmed(&program, settings));
    // At once: some steps take a second.
    let (seen_bare, seen_shimmed) = thread::scope(|scope| {
        let bare = scope.spawn(|| seen(commands.0, steps));
        let shimmed = seen(commands.1, steps);
        (bare.join().expect("the bare run ends well"), shimmed)
    });
    expect(format!("{steps}: without the library"), seen_bare, bare);
    expect(format!("{steps}: with the library, {settings:?}"), seen_shimmed, shimmed);
}

/// The kinds of TCP socket that this kernel has.
fn tcp_kinds() -> impl Iterator<Item = &'static str> {
    const IPPROTO_MPTCP: i32 = 262;
    // SAFETY: socket(2) takes three numbers, and close(2) the descriptor that nobody else knows.
    let mptcp = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP);
        socket >= 0 && libc::close(socket) == 0
    };
    if !mptcp {
        skip("MPTCP", "this kernel has none");
    }
    TCP.into_iter().filter(move |kind| mptcp || !kind.starts_with("mptcp"))
}

/// TCP, and MPTCP, whose options go another way in the kernel (`mptcp_setsockopt` in
/// net/mptcp/sockopt.c).
fn two_kinds() -> impl Iterator<Item = &'static str> {
    tcp_kinds().filter(|kind| ["tcp4", "mptcp6"].contains(kind))
}

/// The timer that `ss` shows on the program's socket: its name and its seconds, rounded up.
fn timer(mut command: Command, text: &str) -> Option<(String, u32)> {
    let waiting = Waiting::start(steps(&mut command, &format!("{text} port wait")));
    let port = waiting.printed.iter().find_map(|line| line.strip_prefix("port: "));
    let port = port.expect("the step `port` prints it");
    let namespace = File::open(format!("/proc/{}/ns/net", waiting.id())).expect("it lives");
    let mut ss = Command::new("ss");
    inside(ss.args(["-tnoH", "sport", &format!("= :{port}")]), vec![namespace]);
    let lines = output(&mut ss);
    waiting.finish();
    expect(format!("ss shows the socket:\n{lines}"), lines.lines().count(), 1);
    let (_, timer) = lines.split_once("timer:(")?;
    let mut parts = timer.split(',');
    let name = parts.next().expect("a timer has a name").to_owned();
    Some((name, seconds(parts.next().expect("a timer has a time"))))
}

/// Seconds of iproute2's `1min30sec`, `59sec`, `4.520ms` (which is 4.52 s) and the like.
fn seconds(time: &str) -> u32 {
    let (minutes, rest) = time.split_once("min").unwrap_or(("0", time));
    let rest = rest.trim_end_matches("sec").trim_end_matches("ms");
    let whole = rest.split('.').next().unwrap_or_default();
    let number = |digits: &str| digits.parse().unwrap_or(0);
    number(minutes) * 60 + number(whole) + u32::from(rest.contains('.'))
}

// --- What is set ---------------------------------------------------------------------------------

#[test]
fn a_socket_that_connects_has_keepalive_with_the_default_timings() {
    for kind in tcp_kinds() {
        let bare = format!("connect: 0; {UNTOUCHED}");
        let shimmed = format!("connect: 0; {DEFAULTS}");
        assert_seen(&[], &format!("{kind} connect show"), &bare, &shimmed);
    }
}

#[test]
fn a_nonblocking_socket_has_keepalive_from_its_first_connect_on() {
    let seen =
        |options| format!("connect: EINPROGRESS; {options}; finish: 0; connect: 0; {options}");
    let (bare, shimmed) = (seen(UNTOUCHED), seen(DEFAULTS));
    thread::scope(|scope| {
        for kind in tcp_kinds() {
            let steps = format!("{kind} nonblocking full connect show drain finish connect show");
            let (bare, shimmed) = (&bare, &shimmed);
            scope.spawn(move || assert_seen(&[], &steps, bare, shimmed));
        }
    });
}

#[test]
fn the_keepalive_timer_runs_as_seen_from_outside() {
    in_each_environment(|environment| {
        let program = program(environment);
        for kind in tcp_kinds() {
            for (settings, idle) in [(&[][..], 60), (&[("KEEPALIVE", "idle=20")], 20)] {
                let steps = format!("{kind} connect");
                let bare = timer(environment.bare(&program), &steps);
                expect(format!("{kind}: the timer without the library"), bare, None);
                let (name, left) = timer(environment.shimmed(&program, settings), &steps)
                    .unwrap_or_else(|| panic!("{kind}: a timer, but there is none"));
                expect(format!("{kind}: the timer's name"), name, "keepalive");
                assert!(
                    (idle / 2..=idle).contains(&left),
                    "{kind}: the timer with {settings:?}: wanted some {idle} s, \
                     seen {left} s"
                );
            }
        }
    });
}

#[test]
fn a_silent_connection_sends_probes() {
    assert_seen(
        &[("KEEPALIVE", "idle=1")],
        "tcp4 connect probes sleep=1500 probes",
        "connect: 0; probes: 0; probes: 0",
        "connect: 0; probes: 0; probes: 1",
    );
}

#[test]
fn each_timing_is_as_the_settings_say() {
    for (setting, timings) in [
        ("idle=240", "idle=240 interval=60 count=5"),
        ("interval=7", "idle=60 interval=7 count=5"),
        ("count=3", "idle=60 interval=60 count=3"),
        ("idle=32767,interval=32767,count=127", "idle=32767 interval=32767 count=127"),
        // The kernel's own: keepalive is on all the same.
        ("idle=7200,interval=75,count=9", "idle=7200 interval=75 count=9"),
    ] {
        assert_seen(
            &[("KEEPALIVE", setting)],
            "tcp4 connect show",
            &format!("connect: 0; {UNTOUCHED}"),
            &format!("connect: 0; keepalive=1 {timings}"),
        );
    }
}

#[test]
fn keepalive_off_leaves_every_socket_alone() {
    for kind in tcp_kinds() {
        let seen = format!("connect: 0; {UNTOUCHED}");
        assert_seen(&[("KEEPALIVE", "off")], &format!("{kind} connect show"), &seen, &seen);
    }
}

// --- A default, never an override ----------------------------------------------------------------

#[test]
fn what_the_program_set_before_connect_stays() {
    for (own, bare, shimmed) in [
        ("idle=30", "0 idle=30 interval=75 count=9", "1 idle=30 interval=60 count=5"),
        ("interval=9 count=2", "0 idle=7200 interval=9 count=2", "1 idle=60 interval=9 count=2"),
        ("keepalive=1", "1 idle=7200 interval=75 count=9", "1 idle=60 interval=60 count=5"),
        (
            "keepalive=1 idle=9 interval=8 count=7",
            "1 idle=9 interval=8 count=7",
            "1 idle=9 interval=8 count=7",
        ),
        // Those of the settings.
        (
            "idle=60 interval=60 count=5",
            "0 idle=60 interval=60 count=5",
            "1 idle=60 interval=60 count=5",
        ),
    ] {
        for kind in two_kinds() {
            assert_seen(
                &[],
                &format!("{kind} {own} connect show"),
                &format!("connect: 0; keepalive={bare}"),
                &format!("connect: 0; keepalive={shimmed}"),
            );
        }
    }
}

#[test]
fn a_user_timeout_is_set_where_the_program_has_set_none() {
    for (own, bare, shimmed) in [
        ("", "", " user-timeout=600000"),
        ("user-timeout=7000 ", " user-timeout=7000", " user-timeout=7000"),
    ] {
        for kind in ["tcp4", "tcp6"] {
            assert_seen(
                &[("KEEPALIVE", "user-timeout=600")],
                &format!("{kind} {own}connect show"),
                &format!("connect: 0; {UNTOUCHED}{bare}"),
                &format!("connect: 0; {DEFAULTS}{shimmed}"),
            );
        }
    }
}

#[test]
fn what_the_program_sets_after_connect_wins() {
    for (own, bare, shimmed) in [
        ("keepalive=0", UNTOUCHED, "keepalive=0 idle=60 interval=60 count=5"),
        (
            "idle=30",
            "keepalive=0 idle=30 interval=75 count=9",
            "keepalive=1 idle=30 interval=60 count=5",
        ),
        ("idle=7200 interval=75 count=9", UNTOUCHED, "keepalive=1 idle=7200 interval=75 count=9"),
    ] {
        for kind in two_kinds() {
            assert_seen(
                &[],
                &format!("{kind} connect {own} show"),
                &format!("connect: 0; {bare}"),
                &format!("connect: 0; {shimmed}"),
            );
        }
    }
}

/// A program may ask how its connect goes by a second one (`EALREADY`, `EISCONN`).
#[track_caller]
fn assert_kept_by_a_second_connect(settings: Settings, before: &str, own: &str, options: &str) {
    in_each_environment(|environment| {
        for kind in two_kinds() {
            for (first, second) in [
                (format!("{kind} {before} connect"), "connect: EISCONN"),
                (format!("{kind} {before} nonblocking full connect"), "connect: EALREADY"),
            ] {
                let steps = format!("{first} {own} connect show");
                let seen = seen(environment.shimmed(program(environment), settings), &steps);
                let wanted = format!("{second}; {options}");
                assert!(
                    seen.ends_with(&wanted),
                    "{steps}, {settings:?}: wanted ...{wanted}, seen {seen}"
                );
            }
        }
    });
}

#[test]
fn a_second_connect_keeps_keepalive_off() {
    let off = "keepalive=0 idle=60 interval=60 count=5";
    assert_kept_by_a_second_connect(&[], "", "keepalive=0", off);
    // Beside timings of the program's own.
    let off = "keepalive=0 idle=30 interval=60 count=5";
    assert_kept_by_a_second_connect(&[], "idle=30", "keepalive=0", off);
    assert_kept_by_a_second_connect(&[], "", "idle=30 keepalive=0", off);
    // Where the kernel has the timings of the settings, so that none is set.
    let settings = [("KEEPALIVE", "idle=7200,interval=75,count=9")];
    assert_kept_by_a_second_connect(&settings, "", "keepalive=0", UNTOUCHED);
}

#[test]
fn a_second_connect_keeps_a_timing_that_the_program_put_back() {
    for (own, options) in [
        ("idle=7200", "keepalive=1 idle=7200 interval=60 count=5"),
        ("interval=75 count=9", "keepalive=1 idle=60 interval=75 count=9"),
    ] {
        assert_kept_by_a_second_connect(&[], "", own, options);
    }
}

#[test]
fn a_socket_that_connects_again_after_a_failure_has_keepalive() {
    for kind in two_kinds() {
        let seen = |options| format!("refused: ECONNREFUSED; {options}; connect: 0; {options}");
        let steps = format!("{kind} refused show connect show");
        assert_seen(&[], &steps, &seen(UNTOUCHED), &seen(DEFAULTS));
    }
}

#[test]
fn a_socket_that_connects_again_after_a_disconnect_has_keepalive() {
    let seen = |options| format!("connect: 0; disconnect: 0; connect: 0; {options}");
    let steps = "tcp4 connect disconnect connect show";
    assert_seen(&[], steps, &seen(UNTOUCHED), &seen(DEFAULTS));
}

// --- What is left alone --------------------------------------------------------------------------

#[test]
fn sockets_that_are_not_tcp_are_left_alone() {
    for kind in ["udp4", "udp6", "unix", "netlink", "raw"] {
        let seen = "connect: 0; keepalive=0";
        assert_seen(&[], &format!("{kind} connect show"), seen, seen);
    }
}

#[test]
fn listening_and_accepted_sockets_are_left_alone() {
    for kind in tcp_kinds() {
        let seen = |options| format!("connect: 0; {UNTOUCHED}; {UNTOUCHED}; {options}");
        let steps = format!("{kind} connect listener show accepted show first show");
        assert_seen(&[], &steps, &seen(UNTOUCHED), &seen(DEFAULTS));
    }
}

#[test]
fn a_socket_that_does_not_connect_is_left_alone() {
    for kind in tcp_kinds() {
        let seen = |options| format!("connect: 0; {options}; {UNTOUCHED}");
        let steps = format!("{kind} {kind} connect show first show");
        assert_seen(&[], &steps, &seen(UNTOUCHED), &seen(DEFAULTS));
    }
}

// --- Messages that connect -----------------------------------------------------------------------

#[test]
fn a_message_that_connects_by_fast_open_switches_keepalive_on() {
    for kind in tcp_kinds() {
        for call in ["sendto", "sendmsg", "sendmmsg"] {
            let seen = |options| format!("{call}: 1; {options}");
            assert_seen(&[], &format!("{kind} {call} show"), &seen(UNTOUCHED), &seen(DEFAULTS));
        }
    }
}

/// What differs is in the address: its header is read for the log alone.
#[test]
fn the_debug_line_of_a_message_that_connects_names_the_peer() {
    in_each_environment(|environment| {
        for call in ["sendto", "sendmsg", "sendmmsg"] {
            let errors = errors_of(environment, &[("LOG", "debug")], &format!("tcp4 {call}"));
            let lines = log::lines(&errors);
            let right = |line: &log::Line| {
                line.kind() == "DEBUG connect:" && line.message.contains(" to 127.0.0.1:")
            };
            assert!(lines.iter().any(right), "{call}: a line with the peer, seen {errors}");
        }
    });
}

// --- Enforced settings ---------------------------------------------------------------------------

const ENFORCED: Settings = &[("KEEPALIVE", "enforce")];

/// More than cookies of one processor's batch, of which every table of 4,096 would forget some.
#[test]
fn enforce_holds_for_each_of_thousands_of_open_connections() {
    assert_seen(ENFORCED, "tcp4 crowd=4500", "crowd: 0", "crowd: 4500");
}

#[test]
fn enforce_holds_for_every_kind_of_connection_and_after_exec() {
    in_each_environment(|environment| {
        let own = "keepalive=0 idle=7200 interval=75 count=9 show";
        for kind in tcp_kinds() {
            for between in ["", "exec"] {
                let steps = format!("{kind} connect {between} {own}");
                let program = program(environment);
                let bare = seen(environment.bare(&program), &steps);
                expect(format!("{steps}: bare"), bare, format!("connect: 0; {UNTOUCHED}"));
                let shimmed = seen(environment.shimmed(&program, ENFORCED), &steps);
                expect(steps, shimmed, format!("connect: 0; {DEFAULTS}"));
            }
        }
    });
}

#[test]
fn enforce_leaves_sockets_alone_that_others_connect_to() {
    for kind in tcp_kinds() {
        let own = "keepalive=0 idle=7200 interval=75 count=9 show";
        // The peer's end and its listening socket.
        let seen = format!("connect: 0; {UNTOUCHED}; {UNTOUCHED}");
        let steps = format!("{kind} connect accepted keepalive=1 {own} listener keepalive=1 {own}");
        assert_seen(ENFORCED, &steps, &seen, &seen);
        // A socket that was connected, then listens, and what it accepts. Of MPTCP the kernel goes on to name the peer.
        if kind.starts_with("mptcp") {
            continue;
        }
        let seen = format!("connect: 0; disconnect: 0; {UNTOUCHED}; {UNTOUCHED}; {UNTOUCHED}");
        let steps = format!("{kind} connect disconnect {own} listen {own} accepted {own}");
        assert_seen(ENFORCED, &steps, &seen, &seen);
    }
}

// --- Keepalive that the program switches off -----------------------------------------------------

/// What a run writes to standard error.
fn errors_of(environment: &Environment, settings: Settings, text: &str) -> String {
    let mut command = environment.shimmed(program(environment), settings);
    stderr(&run(steps(&mut command, text)))
}

#[test]
fn keepalive_switched_off_after_connecting_is_warned_of_once() {
    in_each_environment(|environment| {
        for kind in two_kinds() {
            let kind = kind.replace('6', "4");
            let twice = format!("elsewhere {kind} connect keepalive=0 {kind} connect keepalive=0");
            let errors = errors_of(environment, &[], &twice);
            let lines = log::lines(&errors);
            let [line] = &lines[..] else { panic!("{twice}: one warning, seen {errors}") };
            let right = line.kind() == "WARN setsockopt:"
                && line.message.contains(" to 192.0.2.1:")
                && line.message.contains("EGRESS_SHIM_KEEPALIVE=enforce");
            assert!(right, "{twice}: it names the peer and the way out, seen {errors}");
            // Each is the last word about its connection.
            let errors = errors_of(environment, &[("LOG", "debug")], &twice);
            let kinds: Vec<_> = log::lines(&errors).iter().skip(1).map(log::Line::kind).collect();
            let wanted =
                ["DEBUG connect:", "WARN setsockopt:", "DEBUG connect:", "DEBUG setsockopt:"];
            expect(format!("{twice}: the lines of {errors}"), kinds, wanted.map(str::to_owned));
        }
    });
}

#[test]
fn nothing_is_said_of_keepalive_that_is_switched_off_elsewhere() {
    in_each_environment(|environment| {
        for (settings, text) in [
            // On this machine there is no NAT.
            (&[][..], "tcp4 connect keepalive=0"),
            (&[], "elsewhere tcp4 connect keepalive=1"),
            (&[], "elsewhere tcp4 keepalive=1 keepalive=0"),
            (&[], "elsewhere tcp4 connect disconnect keepalive=0"),
            (&[], "elsewhere tcp4 connect accepted keepalive=1 keepalive=0"),
            (&[], "elsewhere tcp4 connect accepted idle=60 keepalive=1 keepalive=0"),
            (&[], "defaults=60,60,5 elsewhere tcp4 connect accepted keepalive=1 keepalive=0"),
            (&[], "elsewhere tcp4 connect listener keepalive=1 keepalive=0"),
            (&[("KEEPALIVE", "off")], "elsewhere tcp4 connect keepalive=0"),
            (ENFORCED, "elsewhere tcp4 connect keepalive=0"),
        ] {
            expect(text, errors_of(environment, settings, text), "");
        }
    });
}

// --- Network namespaces --------------------------------------------------------------------------

#[test]
fn a_namespaces_own_defaults_give_way_to_the_settings() {
    for (idle, interval, count) in [(600, 20, 3), (600, 75, 9), (7200, 20, 9), (7200, 75, 3)] {
        let bare = format!("connect: 0; keepalive=0 idle={idle} interval={interval} count={count}");
        for kind in two_kinds() {
            assert_seen(
                &[],
                &format!(
                    "defaults={idle},{interval},{count} {kind} connect show {kind} connect show"
                ),
                &[&*bare; 2].join("; "),
                &format!("connect: 0; {DEFAULTS}; connect: 0; {DEFAULTS}"),
            );
        }
    }
}

#[test]
fn what_differs_from_the_namespaces_defaults_is_the_programs_and_stays() {
    for (own, bare, shimmed) in [
        ("idle=7200", "0 idle=7200 interval=20 count=3", "1 idle=7200 interval=60 count=5"),
        ("interval=75", "0 idle=600 interval=75 count=3", "1 idle=60 interval=75 count=5"),
        ("count=9", "0 idle=600 interval=20 count=9", "1 idle=60 interval=60 count=9"),
    ] {
        for kind in two_kinds() {
            // Twice, as the first connect of a process is the one that asks for the defaults.
            let step = format!("{kind} {own} connect show");
            let seen = |options| {
                format!("connect: 0; keepalive={options}; connect: 0; keepalive={options}")
            };
            let steps = format!("defaults=600,20,3 {step} {step}");
            assert_seen(&[], &steps, &seen(bare), &seen(shimmed));
        }
    }
}

#[test]
fn the_kernels_own_idle_time_stays_where_the_namespaces_is_another() {
    // A socket that the program left alone has told of the namespace.
    for kind in two_kinds() {
        assert_seen(
            &[],
            &format!("defaults=600,75,9 {kind} connect {kind} idle=7200 connect show"),
            "connect: 0; connect: 0; keepalive=0 idle=7200 interval=75 count=9",
            "connect: 0; connect: 0; keepalive=1 idle=7200 interval=60 count=5",
        );
    }
}

#[test]
fn a_program_in_another_namespace_has_that_ones_defaults_replaced() {
    let seen = |a, b| format!("connect: 0; {a}; connect: 0; {b}; connect: 0; {a}");
    assert_seen(
        &[],
        "tcp4 connect show namespace defaults=600,20,3 tcp4 connect show back tcp4 connect show",
        &seen(UNTOUCHED, "keepalive=0 idle=600 interval=20 count=3"),
        &seen(DEFAULTS, DEFAULTS),
    );
}

#[test]
fn a_program_that_enters_another_namespace_keeps_its_own_timings_there() {
    assert_seen(
        &[],
        "tcp4 connect namespace defaults=600,20,3 tcp4 idle=7200 connect show \
         back tcp4 idle=600 connect show",
        "connect: 0; connect: 0; keepalive=0 idle=7200 interval=20 count=3; \
         connect: 0; keepalive=0 idle=600 interval=75 count=9",
        "connect: 0; connect: 0; keepalive=1 idle=7200 interval=60 count=5; \
         connect: 0; keepalive=1 idle=600 interval=60 count=5",
    );
}

/// A new socket shows the defaults of the thread's namespace, not those of a socket that was made in another one.
#[test]
fn a_socket_of_another_namespace_spoils_no_memory_of_either() {
    assert_seen(
        &[],
        "tcp4 idle=7000 namespace defaults=300,75,9 connect back tcp4 idle=300 connect show",
        "connect: 0; connect: 0; keepalive=0 idle=300 interval=75 count=9",
        "connect: 0; connect: 0; keepalive=1 idle=300 interval=60 count=5",
    );
    assert_seen(
        &[],
        "namespace defaults=300,75,9 tcp4 back connect back tcp4 connect show",
        "connect: 0; connect: 0; keepalive=0 idle=300 interval=75 count=9",
        &format!("connect: 0; connect: 0; {DEFAULTS}"),
    );
    // What is the default here is the program's own there.
    assert_seen(
        &[],
        "tcp4 idle=300 namespace defaults=300,75,9 connect show",
        "connect: 0; keepalive=0 idle=300 interval=75 count=9",
        "connect: 0; keepalive=1 idle=300 interval=60 count=5",
    );
}

#[test]
fn keepalive_is_on_where_the_namespace_has_the_configured_timings() {
    for kind in two_kinds() {
        assert_seen(
            &[],
            &format!("defaults=60,60,5 {kind} connect show"),
            "connect: 0; keepalive=0 idle=60 interval=60 count=5",
            &format!("connect: 0; {DEFAULTS}"),
        );
    }
}

#[test]
fn keepalive_stays_on_when_the_defaults_become_the_configured_timings() {
    assert_seen(
        &[],
        "tcp4 connect tcp4 defaults=60,60,5 connect show",
        "connect: 0; connect: 0; keepalive=0 idle=60 interval=60 count=5",
        &format!("connect: 0; connect: 0; {DEFAULTS}"),
    );
}

// --- A guest in narrow rooms ---------------------------------------------------------------------

#[test]
fn connect_works_and_sets_keepalive_without_a_free_descriptor() {
    for kind in tcp_kinds() {
        let seen = |options| format!("connect: 0; {options}");
        let steps = format!("{kind} exhaust connect show");
        assert_seen(&[], &steps, &seen(UNTOUCHED), &seen(DEFAULTS));
    }
}

#[test]
fn what_the_program_set_stays_without_a_free_descriptor() {
    assert_seen(
        &[],
        "tcp4 idle=30 exhaust connect show",
        "connect: 0; keepalive=0 idle=30 interval=75 count=9",
        "connect: 0; keepalive=1 idle=30 interval=60 count=5",
    );
}

#[test]
fn without_a_free_descriptor_a_namespace_known_before_is_remembered() {
    assert_seen(
        &[],
        "defaults=600,20,3 tcp4 connect tcp4 idle=7200 exhaust connect show",
        "connect: 0; connect: 0; keepalive=0 idle=7200 interval=20 count=3",
        "connect: 0; connect: 0; keepalive=1 idle=7200 interval=60 count=5",
    );
}

/// `EPERM`, `EACCES` and `ENOSYS` are a filter's: of a socket that is not TCP the kernel says
/// something else.
#[test]
fn a_forbidden_option_changes_nothing_but_is_logged_once() {
    in_each_environment(|environment| {
        let program = program(environment);
        for (call, errno) in [
            ("setsockopt", libc::EPERM),
            ("getsockopt", libc::EPERM),
            ("getsockopt", libc::EACCES),
            ("getsockopt", libc::ENOSYS),
        ] {
            let text = format!("tcp4 tcp4 forbid={call},{errno} connect connect first connect");
            let run = |mut command: Command| {
                let output = run(steps(&mut command, &text));
                (joined(&stdout(&output)), stderr(&output))
            };
            let bare = run(environment.bare(&program));
            expect(format!("{text}: standard error without the library"), &*bare.1, "");
            let shimmed = run(environment.shimmed(&program, &[]));
            expect(format!("{text}: what connect gives"), shimmed.0, bare.0);
            let warnings = log::lines(&shimmed.1);
            let right = |line: &log::Line| {
                line.kind() == "WARN connect:" && line.message.contains(&format!("errno {errno}"))
            };
            let one = warnings.len() == 1 && warnings.iter().all(right);
            assert!(one, "{text}: one warning that names errno {errno}, seen {warnings:#?}");
        }
    });
}

/// Before Linux 4.3 i386 had no calls for sockets but socketcall(2). The log goes to a socket.
#[test]
fn before_linux_4_3_i386_sets_options_and_logs_by_socketcall() {
    Environment::with_32_bits().for_each(|environment| {
        let program = program(&environment);
        let refuse = environment.shimmed(environment.program("refuse"), &[("LOG", "debug")]);
        let no_call = libc::ENOSYS.to_string();
        let mut command = with(refuse, ["sockets", &*no_call, text(&program)]);
        let (mut log, stderr) = UnixStream::pair().expect("a pair of sockets");
        let done = "defaults=600,20,3 tcp4 idle=7200 connect show";
        let output = run_meanwhile(steps(&mut command, done).stderr(OwnedFd::from(stderr)), |_| ());
        drop(command);
        let wanted = "connect: 0; keepalive=1 idle=7200 interval=60 count=5";
        expect(done, joined(&stdout(&output)), wanted);
        let mut lines = String::new();
        log.read_to_string(&mut lines).expect("it is closed at its other end");
        assert!(lines.contains("DEBUG: connect: "), "lines of the log: {lines:?}");
    });
}

/// What a new socket has by default is asked of IPv6 then.
#[test]
fn the_namespaces_defaults_are_known_where_ipv4_sockets_are_refused() {
    assert_seen(
        &[],
        &format!(
            "defaults=600,20,3 tcp6 idle=7200 forbid=ipv4,{} connect show",
            libc::EAFNOSUPPORT
        ),
        "connect: 0; keepalive=0 idle=7200 interval=20 count=3",
        "connect: 0; keepalive=1 idle=7200 interval=60 count=5",
    );
}

#[test]
fn connect_leaves_no_descriptor_behind() {
    in_each_environment(|environment| {
        let program = program(environment);
        let steps = "tcp4 connect free tcp4 idle=30 connect free namespace tcp6 connect free";
        let bare = seen(environment.bare(&program), steps);
        let shimmed = seen(environment.shimmed(&program, &[]), steps);
        expect(steps, shimmed, bare);
        let acted = seen(environment.shimmed(&program, &[]), "tcp4 idle=30 connect show");
        expect("it acts", acted, "connect: 0; keepalive=1 idle=30 interval=60 count=5");
    });
}

// --- What the log says ---------------------------------------------------------------------------

#[test]
fn the_debug_line_of_a_connect_names_values_their_owners_and_the_peer() {
    in_each_environment(|environment| {
        let program = program(environment);
        let all = "idle=60 (from settings), interval=60 (from settings), count=5 (from settings)";
        let all_four = format!("{all}, user-timeout=600 (from settings)");
        for (kind, own, keepalive, values) in [
            ("tcp4", "", "on", all),
            (
                "tcp4",
                "keepalive=1 idle=30 count=2",
                "on",
                "idle=30 (from the program), interval=60 (from settings), count=2 (from the program)",
            ),
            ("tcp4", "", "user-timeout=600", &all_four),
            ("tcp6", "", "on", all),
            ("mapped", "", "on", all),
        ] {
            let settings = [("LOG", "debug"), ("KEEPALIVE", keepalive)];
            let mut command = environment.shimmed(&program, &settings);
            let output = run(steps(&mut command, &format!("{kind} {own} connect")));
            let errors = stderr(&output);
            let lines = log::lines(&errors);
            let line = lines.iter().find(|line| line.kind() == "DEBUG connect:");
            let message = line.map(|line| line.message).unwrap_or_default();
            let wanted = format!(": keepalive on, {values}");
            let peer = message
                .strip_suffix(&wanted)
                .and_then(|start| start.strip_prefix("connect: descriptor ")?.split_once(" to "));
            let (_, peer) = peer.unwrap_or_else(|| panic!("{kind} {own}: ...{wanted} in {errors}"));
            let address = match kind {
                "tcp4" => "127.0.0.1:",
                "tcp6" => "[::1]:",
                _ => "[::ffff:127.0.0.1]:",
            };
            let port = peer.strip_prefix(address).and_then(|port| port.parse::<u16>().ok());
            assert!(port.is_some(), "{kind}: its peer {address}PORT, seen {peer}");
        }
    });
}

// --- What it costs -------------------------------------------------------------------------------

/// How many system calls the library adds to those that follow the step `wait`, with all of them.
fn added_calls(environment: &Environment, settings: Settings, text: &str) -> (usize, String) {
    let program = program(environment);
    let calls = |mut command: Command| system_calls(steps(&mut command, text));
    let bare = calls(environment.bare(&program));
    let shimmed = calls(environment.shimmed(&program, settings));
    let added = shimmed.len().saturating_sub(bare.len());
    let place = format!("{text}, {settings:?}");
    (added, format!("{place}: system calls added to\n{bare:#?}\nwhich are now\n{shimmed:#?}"))
}

#[track_caller]
fn assert_added_calls(settings: Settings, text: &str, wanted: usize) {
    in_each_environment(|environment| {
        let (added, calls) = added_calls(environment, settings, text);
        expect(calls, added, wanted);
    });
}

#[test]
fn a_connect_costs_seven_system_calls_the_first_as_every_other() {
    assert_added_calls(&[], "tcp4 wait connect", 7);
    assert_added_calls(&[], "tcp4 connect tcp6 wait connect", 7);
}

/// curl's, and with a count of its own; then some that the settings do not have.
const OWN_TIMINGS: [&str; 3] = [
    "keepalive=1 idle=60 interval=60",
    "keepalive=1 idle=60 interval=60 count=9",
    "keepalive=1 idle=45 interval=15 count=3",
];

#[test]
fn a_connect_with_own_timings_costs_eight_system_calls_at_most() {
    in_each_environment(|environment| {
        for own in OWN_TIMINGS {
            for before in ["", "tcp4 connect", "tcp4 idle=30 connect"] {
                let steps = format!("{before} tcp4 {own} wait connect");
                let (added, calls) = added_calls(environment, &[], &steps);
                assert!((1..=8).contains(&added), "1 to 8, seen {added}: {calls}");
            }
        }
    });
}

/// Another thread's child would have it, and a program that closes a descriptor and opens another would
/// find its number taken.
#[test]
fn where_the_namespace_has_the_kernels_defaults_none_is_opened() {
    in_each_environment(|environment| {
        let program = program(environment);
        for own in [&[""][..], &OWN_TIMINGS].concat() {
            let mut command = environment.shimmed(&program, &[]);
            let calls = system_calls(steps(&mut command, &format!("tcp4 {own} wait connect")));
            let name = |call: &String| call.split('(').next().unwrap_or_default().to_owned();
            let mut names: Vec<_> = calls.iter().map(name).collect();
            let sets = names.iter().any(|name| name.ends_with("setsockopt"));
            assert!(sets, "{own}: it acts, seen {calls:#?}");
            // With brk(2) libc takes and gives back the program's memory.
            let known = ["getsockopt", "setsockopt", "connect", "write", "brk", "exit_group"];
            names.retain(|name| !known.iter().any(|known| name.ends_with(known)));
            names.retain(|name| !name.ends_with("writev"));
            expect(format!("{own}: other calls of {calls:#?}"), names, Vec::<String>::new());
        }
    });
}

#[test]
fn a_connect_that_is_not_tcps_costs_one_system_call() {
    assert_added_calls(&[], "udp4 wait connect", 1);
}

#[test]
fn a_connect_costs_no_system_call_where_keepalive_is_off() {
    assert_added_calls(&[("KEEPALIVE", "off")], "tcp4 wait connect", 0);
    assert_added_calls(&[("", "off")], "tcp4 wait connect", 0);
}
