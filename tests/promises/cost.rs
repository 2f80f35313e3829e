//! What it costs: system calls, memory, stack, and time where a list is long.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::environment::preload;
use crate::harness::lab::SILENT;
use crate::harness::run::{output, run, said, stderr, stdout, with};
use crate::harness::scratch::text;
use crate::harness::strace::traced;
use crate::harness::{Scratch, expect, in_each_architecture, in_each_environment, skip};

#[test]
fn switched_off_it_makes_no_system_call() {
    in_each_environment(|environment| {
        let directory = Scratch::new();
        let (log, trace) = (directory.join("log"), directory.join("trace"));
        let program = environment.program("show");
        let settings = [
            ("", "off"),
            ("IPV4_ONLY", "*"),
            ("IPV4_ONLY_FILE", "/no/such/file"),
            ("KEEPALIVE", "nonsense"),
            ("LOG", "trace"),
            ("LOG_FILE", text(&log)),
            ("STRICT", "1"),
        ];
        let calls = |command: Command| {
            // In /etc/hosts: what resolvers do is not always the same.
            let command = with(command, ["known.example.com"]);
            let output = run(&mut SILENT.client(traced(&command, "trace=all", &trace)));
            expect("what it says", said(&output), "keepalive off\nknown.example.com 46\n");
            let trace = fs::read_to_string(&trace).expect("strace has written its trace");
            // From the loader's last work on: PID CALL(ARGUMENTS) = RESULT
            let names = trace.lines().filter_map(|line| line.split_once(' ')?.1.split_once('('));
            let names: Vec<_> = names.map(|(name, _)| name.trim().to_owned()).collect();
            let program = names.iter().position(|name| name == "socket").expect("it connects");
            let loader = names[..program].iter().rposition(|name| name == "mprotect");
            names[loader.expect("the loader protects what it relocated")..].join("\n")
        };
        let bare = calls(environment.bare(&program));
        let off = calls(environment.shimmed(&program, &settings));
        expect("the system calls", off, bare);
        assert!(!log.exists(), "no log is made");
    });
}

/// A seccomp filter that lets a program start must let it start with the library: one that kills for anything
/// else would end it before `main`. An empty library in its place says what the loader does for any preload.
#[test]
fn a_start_makes_no_kind_of_system_call_that_the_loader_does_not_make() {
    let scratch = Scratch::new();
    let trace = scratch.join("trace");
    let small = scratch.file("small", "dual.example.com\n");
    let large = scratch.file("large", "# a comment\n".repeat(10_000));
    let settings: &[&[(&str, &str)]] = &[
        &[],
        &[("", "off")],
        &[("IPV4_ONLY", "a.example.com, *.b.example.com !c.example.com")],
        &[("IPV4_ONLY_FILE", text(&small))],
        &[("IPV4_ONLY_FILE", text(&large))],
        &[("IPV4_ONLY_FILE", "/no/such/file")],
        &[("IPV4_ONLY_FILE", text(&small)), ("STRICT", "1")],
        &[("KEEPALIVE", "idle=30,interval=10,count=3,user-timeout=60,enforce")],
        &[("KEEPALIVE", "off")],
        &[("PROGRAMS", "empty,!curl")],
        &[("PROGRAMS", "curl")],
        &[("LOG", "debug")],
        &[("LOG", "off")],
        &[("LOG", "egress_shim::keepalive=trace,warn")],
    ];
    in_each_environment(|environment| {
        let program = environment.program("empty");
        let kinds = |command: Command| {
            expect("what it says", said(&run(&mut traced(&command, "trace=all", &trace))), "");
            let trace = fs::read_to_string(&trace).expect("strace has written its trace");
            // PID CALL(ARGUMENTS) = RESULT, from the program's own start on.
            let names = trace.lines().filter_map(|line| line.split_once(' ')?.1.split_once('('));
            let names: Vec<_> = names.map(|(name, _)| name.trim().to_owned()).collect();
            let start = names.iter().rposition(|name| name == "execve").expect("it starts");
            names[start..].iter().cloned().collect::<BTreeSet<_>>()
        };
        let mut bare = environment.bare(&program);
        let empty = environment.shared_library("empty_library");
        let bare = {
            preload(&mut bare, &[&empty]);
            kinds(bare)
        };
        for settings in settings {
            let shimmed = kinds(environment.shimmed(&program, settings));
            let others: Vec<_> = shimmed.difference(&bare).collect();
            expect(
                format!("{settings:?}: other calls than {bare:?}"),
                others,
                Vec::<&String>::new(),
            );
        }
    });
}

/// Only the first unknown settings are reported, and only the names are looked at.
#[test]
fn five_thousand_unknown_settings_cost_little_more_than_any_variables() {
    in_each_environment(|environment| {
        let program = environment.program("empty");
        let start = |prefix: &str| {
            let mut command = environment.shimmed(&program, &[]);
            command.envs((0..5000).map(|number| (format!("{prefix}{number}"), "x")));
            let time = || {
                let start = Instant::now();
                assert!(run(&mut command).status.success(), "{prefix} starts");
                start.elapsed()
            };
            // The least of some is what it costs where nothing else is to be done.
            std::iter::repeat_with(time).take(7).min().expect("some")
        };
        let (others, unknown) = (start("SOMEBODY_ELSES_"), start("EGRESS_SHIM_NAME_"));
        let seen = format!("{others:?} with other variables, {unknown:?} with unknown settings");
        println!("{seen}");
        assert!(unknown < others * 2 + Duration::from_millis(10), "{seen}");
    });
}

#[test]
fn many_threads_connect_and_resolve_without_growth() {
    /// What threads and their arenas may take more in the later nine tenths of a run than in the first one,
    /// beyond what they take without the library.
    const KIBIBYTES: i64 = 512;
    in_each_environment(|environment| {
        let program = environment.program("soak");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let settings =
            [("IPV4_ONLY", "known.example.com"), ("LOG", "debug"), ("LOG_FILE", text(&log))];
        // What went wrong, and by how much what grew, in KiB and descriptors.
        let grown = |command: Command| {
            let words = ["4000", "12000", "known.example.com", "static.example.com"];
            let output = run(&mut SILENT.client(with(command, words)));
            let text = stdout(&output);
            let value = |what: &str| -> i64 {
                let value = text.lines().find_map(|line| {
                    line.strip_prefix(what)?
                        .strip_prefix(" grew by ")?
                        .split(' ')
                        .next()?
                        .parse()
                        .ok()
                });
                value.unwrap_or_else(|| panic!("{} says {what}: {text}", program.display()))
            };
            (stderr(&output), value("descriptors"), value("RSS"), value("data"))
        };
        // glibc 2.31 loses some memory itself.
        let (wrong, _, bare_resident, bare_data) = grown(environment.bare(&program));
        assert!(wrong.contains("keepalive: off"), "bare, nothing is fixed: {wrong}");
        let (wrong, descriptors, resident, data) = grown(environment.shimmed(&program, &settings));
        expect("(what is wrong, descriptors left)", (&*wrong, descriptors), ("", 0));
        assert!(
            resident < bare_resident.max(0) + KIBIBYTES && data < bare_data.max(0) + KIBIBYTES,
            "it grows by less than {KIBIBYTES} KiB more than bare ({bare_resident} \
             resident, {bare_data} data): {resident} resident, {data} data"
        );
    });
}

/// On ppc64le a connect takes 660 bytes more and a reply 3.3 KiB, on s390x 1.4 and 7.6 KiB.
const LARGE_FRAMES: &str = "its frames are larger by its ABI";

/// The bytes of stack that a call takes, as `stack.c` prints them after what became of the call.
#[track_caller]
fn stack_of(mut command: Command, wanted: &str) -> u32 {
    let seen = said(&run(&mut command));
    let bytes = seen.strip_prefix(&format!("{wanted}, "));
    bytes
        .and_then(|rest| rest.strip_suffix(" bytes\n")?.parse().ok())
        .unwrap_or_else(|| panic!("wanted \"{wanted}, N bytes\", seen {seen:?}: {command:?}"))
}

/// `AT_MINSIGSTKSZ` differs between processors (AVX-512 leaves a handler less of it), so the bytes are measured, on
/// larger stacks too. A debug line takes some 2 KiB, which the smallest signal stack and musl's smallest thread do not
/// have.
#[test]
fn connect_fits_on_the_smallest_stacks_and_a_log_line_on_the_usual_ones() {
    /// As libkeepalive has room for on a stack of `AT_MINSIGSTKSZ` with AVX-512, the program's own frames included.
    const MOST: u32 = 360;
    /// i386 passes arguments on the stack, which a hook aligns first. Not even libc's connect has room on the smallest one.
    const MOST_OF_32_BITS: u32 = 480;
    /// Where the system calls for a socket's options go through libc's syscall(3) (`option_call` in src/calls.rs).
    const MOST_BY_LIBC: u32 = 600;
    in_each_architecture(|environment| {
        if environment.has_large_frames() {
            return skip(environment, LARGE_FRAMES);
        }
        let most = match environment.to_string().split('-').next() {
            Some("armhf") => MOST_BY_LIBC,
            _ if environment.bits == 64 => MOST,
            _ => MOST_OF_32_BITS,
        };
        let program = environment.program("stack");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let settings = [("LOG", "trace"), ("LOG_FILE", text(&log))];
        let enforced = [("KEEPALIVE", "idle=60,user-timeout=400,enforce")];
        for (which, more, logs) in [
            ("thread", "0", !environment.is_musl()),
            ("thread", "4096", true),
            ("signal", "0", false),
            ("signal", "4096", true),
        ] {
            if environment.is_emulated() && which == "signal" {
                skip(environment, "qemu's frame of a signal is its own");
                continue;
            }
            let bare = with(environment.bare(&program), [which, more]);
            if environment.bits == 32 && !run(&mut { bare }).status.success() {
                skip(environment, format!("{which} + {more}: libc's connect alone does not fit"));
                continue;
            }
            for timings in ["new", "own"] {
                let taken = |command, keepalive| {
                    let command = with(command, [which, more, timings]);
                    stack_of(command, &format!("keepalive {keepalive}"))
                };
                let bare =
                    taken(environment.bare(&program), if timings == "own" { "on" } else { "off" });
                let silent = taken(environment.shimmed(&program, &[]), "on");
                let enforcing = taken(environment.shimmed(&program, &enforced), "on");
                let logging = if logs {
                    taken(environment.shimmed(&program, &settings), "on")
                } else {
                    silent
                };
                let seen = format!(
                    "{which} + {more}, {timings} timings: connect takes {bare} bytes bare, {silent} with the shim, \
                     {enforcing} with enforce, {logging} with a log"
                );
                println!("{seen}");
                assert!(silent.max(enforcing) <= most, "{most} are wanted at most: {seen}");
                assert!(logging - bare <= 3072, "3072 more with a log are wanted at most: {seen}");
            }
        }
    });
}

/// In a signal handler, where the program has made no such call before, and where there is nothing to say.
#[test]
fn the_first_recvmsg_and_keepalive_off_fit_on_the_smallest_signal_stack() {
    /// There is room for that much on a processor with AVX-512.
    const MOST: u32 = 376;
    in_each_environment(|environment| {
        if environment.bits == 32 {
            return skip(environment, "connect says what has room there");
        }
        let program = environment.program("stack");
        for (call, bare, shimmed) in
            [("message", "received -1", "received -1"), ("off", "idle time 7200", "idle time 60")]
        {
            let taken = |command, wanted| stack_of(with(command, ["signal", "0", call]), wanted);
            let bare = taken(environment.bare(&program), bare);
            let shimmed = taken(environment.shimmed(&program, &[]), shimmed);
            let seen = format!("{call} takes {bare} bytes bare, {shimmed} with the shim");
            println!("{seen}");
            assert!(shimmed <= MOST, "{MOST} are wanted at most: {seen}");
        }
    });
}

/// The first reply builds the list, which takes most of it.
#[test]
fn a_dns_reply_takes_at_most_3_kib_of_stack() {
    in_each_architecture(|environment| {
        if environment.has_large_frames() {
            return skip(environment, LARGE_FRAMES);
        }
        let program = environment.program("stack");
        let taken = |command, received| {
            let command = with(command, ["thread", "4096", "reply"]);
            stack_of(command, &format!("received {received}"))
        };
        let bare = taken(environment.bare(&program), 62);
        let listed = [("IPV4_ONLY", "dual.example.com")];
        let shimmed = taken(environment.shimmed(&program, &listed), 34);
        let seen = format!("recv takes {bare} bytes bare, {shimmed} with the shim");
        println!("{seen}");
        assert!(shimmed - bare <= 3072, "3072 more are wanted at most: {seen}");
    });
}

/// In time of the process itself, as ratios: a list that is searched one by one would take a hundred
/// times as long where it is a hundred times as long, and one that is built so ten thousand times.
#[test]
fn a_long_list_costs_a_lookup_hardly_more_than_a_short_one() {
    let scratch = Scratch::new();
    in_each_environment(|environment| {
        let measure = |count: usize| -> [u64; 2] {
            let patterns = (0..count).map(|host| format!("host-{host}.example.com\n"));
            let file = scratch.file("hosts", patterns.collect::<String>());
            let settings = [("IPV4_ONLY_FILE", text(&file))];
            let mut command = environment.shimmed(environment.program("settings"), &settings);
            let next = environment.shared_library("next_getaddrinfo");
            preload(&mut command, &[&environment.library, &next]);
            command.args(["look", "host-2.example.com", "look", "other.example.com"]);
            let seen = output(command.args(["time", "host-2.example.com", "20000"]));
            let (answers, times) = seen.trim_end().rsplit_once('\n').expect("lines");
            expect("which are listed", answers, "host-2.example.com IPv4\nother.example.com any");
            let times = times.split_once(' ').expect("two numbers");
            [times.0, times.1].map(|number| number.parse().expect("nanoseconds"))
        };
        let ([first, later], [first_of_many, later_of_many]) = (measure(1_000), measure(100_000));
        let seen = format!(
            "the first lookup takes {first} ns with 1,000 patterns, {first_of_many} ns with \
             100,000, and a later one {later} ns and {later_of_many} ns"
        );
        println!("{seen}");
        assert!(later_of_many < 20 * later + 2_000, "{seen}");
    });
}
