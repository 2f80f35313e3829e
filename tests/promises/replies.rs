//! Programs that bring their own resolver: a DNS reply about a listed host reaches them as if the host
//! had no IPv6 address, and every other message as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::lab::LAB;
use crate::harness::run::{expect_says, output, with};
use crate::harness::scratch::text;
use crate::harness::strace::traced;
use crate::harness::{
    Environment, Scratch, expect, in_each_architecture, in_each_environment, on_this_machine, skip,
};

/// What `receive.c` wants where dual.example.com is not listed, and where it is.
#[derive(Clone, Copy)]
enum Wanted {
    Bare = 1,
    Listed = 2,
}

/// Runs `receive.c`, or one of its cases, and expects of each what it wants.
#[track_caller]
fn expect_received(command: Command, wanted: Wanted) {
    expect_received_but(command, wanted, &[]);
}

/// The same, without these cases.
#[track_caller]
fn expect_received_but(mut command: Command, wanted: Wanted, but: &[String]) {
    let lines = output(&mut command);
    for line in lines.lines() {
        let parts: Vec<_> = line.split('\t').collect();
        if but.iter().any(|case| case == parts[0]) {
            continue;
        }
        expect(format!("{command:?}: {}", parts[0]), parts[3], parts[wanted as usize]);
    }
    let least = if command.get_args().any(|argument| argument == "TCP") { 1 } else { 40 };
    assert!(lines.lines().count() >= least, "{command:?}: cases: {lines}");
}

#[test]
fn every_call_receives_a_listed_hosts_reply_without_ipv6_addresses() {
    in_each_architecture(|environment| {
        expect_listed(environment);
        let variants = [environment.with_64_bit_times(), environment.with_old_stack()];
        variants.iter().flatten().for_each(expect_listed);
    });
}

#[track_caller]
fn expect_listed(environment: &Environment) {
    let program = environment.program("receive");
    let settings = [("IPV4_ONLY", "dual.example.com")];
    let wrong = if environment.is_emulated() { wrong_under_qemu(environment) } else { Vec::new() };
    if wrong.is_empty() {
        expect_received(environment.bare(&program), Wanted::Bare);
    }
    expect_received_but(environment.shimmed(&program, &settings), Wanted::Listed, &wrong);
}

/// The cases of `receive.c` that qemu gets wrong without the library: bad addresses, and where programs have a 64-bit
/// `time_t` on 32 bits, recvmmsg(2).
fn wrong_under_qemu(environment: &Environment) -> Vec<String> {
    const MOST: usize = 9;
    let lines = output(&mut environment.bare(environment.program("receive")));
    let cases = lines.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let wrong = cases.filter(|case| case[3] != case[Wanted::Bare as usize]);
    let wrong: Vec<_> = wrong.map(|case| case[0].to_owned()).collect();
    assert!(wrong.len() <= MOST, "{environment}: at most {MOST} are expected: {wrong:?}");
    for case in &wrong {
        skip(environment, format!("qemu is wrong without the library: {case}"));
    }
    wrong
}

#[test]
fn every_other_message_has_the_result_errno_and_flags_of_the_bare_run() {
    in_each_environment(|environment| {
        let program = environment.program("receive");
        let scratch = Scratch::new();
        let log = scratch.join("log");
        expect_received(environment.shimmed(&program, &[]), Wanted::Bare);
        for filter in ["trace", "egress_shim::dns=debug"] {
            let logged = [("IPV4_ONLY", "* !*.com"), ("LOG", filter), ("LOG_FILE", text(&log))];
            expect_received(environment.shimmed(&program, &logged), Wanted::Bare);
            let seen = fs::read_to_string(&log).expect("the log file is there");
            let line = "DNS reply: dual.example.com: not listed, left alone";
            assert!(seen.contains(line), "{filter}: wanted {line:?} in the log, seen:\n{seen}");
            fs::remove_file(&log).expect("the log file can be removed");
        }
    });
}

#[test]
fn what_is_no_reply_costs_no_system_call() {
    in_each_environment(|environment| {
        let program = environment.program("receive");
        let scratch = Scratch::new();
        let trace = scratch.join("trace");
        let settings = [("IPV4_ONLY", "*"), ("KEEPALIVE", "off")];
        for case in [
            "a question",
            "a question, flags",
            "empty datagram",
            "urgent data",
            "nothing there",
            "a file",
        ] {
            let calls = |command: Command| {
                output(&mut traced(&with(command, [case]), "trace=all", &trace));
                let trace = fs::read_to_string(&trace).expect("strace has written its trace");
                let lines = || trace.lines().filter_map(|line| line.split_once(' '));
                let (program, _) = lines().next().expect("the program starts");
                let of_case = lines().filter(|(process, _)| *process != program);
                let calls = of_case.filter(|(_, call)| !call.trim().starts_with("<..."));
                let names = calls.filter_map(|(_, call)| Some(call.trim().split_once('(')?.0));
                names.map(str::to_owned).collect::<Vec<_>>().join(" ")
            };
            let bare = calls(environment.bare(&program));
            assert!(bare.contains("recv"), "{case}: the case receives: {bare}");
            let shimmed = calls(environment.shimmed(&program, &settings));
            expect(format!("{case}: system calls"), shimmed, bare);
        }
    });
}

/// musl has neither function: there the program must find none, or one that is as recv.
#[test]
fn a_fortified_recv_is_there_only_where_libc_has_it() {
    in_each_environment(|environment| {
        let program = environment.program("fortified");
        let bare = output(&mut environment.bare(&program));
        expect("there without the library", bare.contains("no "), environment.is_musl());
        for settings in [&[][..], &[("IPV4_ONLY", "*")]] {
            expect("with it", output(&mut environment.shimmed(&program, settings)), &*bare);
        }
    });
}

/// dlsym(3) would wait for the other thread's dlopen(3), whose library waits for this one.
#[test]
fn a_first_recv_waits_for_no_lock() {
    in_each_environment(|environment| {
        let program = environment.program("unlocked");
        let library = environment.shared_library("unlocked");
        for how in ["signal", "fork", "vfork"] {
            let with = |command| with(with(command, [how]), [&library]);
            let listed = [("IPV4_ONLY", "*")];
            expect_says(with(environment.bare(&program)), "received 62\n");
            expect_says(with(environment.shimmed(&program, &[])), "received 62\n");
            expect_says(with(environment.shimmed(&program, &listed)), "received 34\n");
        }
    });
}

// --- libresolv -------------------------------------------------------------------------------------------

/// What `resolv.c` says of a name; the name of a host with IPv4 addresses alone gives what is wanted.
#[test]
fn libresolv_answers_for_a_listed_host_as_for_one_with_ipv4_only() {
    in_each_architecture(|environment| {
        expect_answered(environment);
        environment.with_old_stack().iter().for_each(expect_answered);
    });
}

#[track_caller]
fn expect_answered(environment: &Environment) {
    let program = environment.program_with("resolv", Path::new("-lresolv"));
    let ask = |command, host| output(&mut LAB.client(with(command, [host, "example.com"])));
    let listed = [("IPV4_ONLY", "dual.example.com")];
    let shimmed = |host| ask(environment.shimmed(&program, &listed), host);
    let bare = |host| ask(environment.bare(&program), host);
    assert!(bare("dual").contains(", 1 AAAA"), "{}", bare("dual"));
    // The hosts have names of different lengths. Buffers of 13 and 11 bytes hold no question, and one that is
    // too small for an answer to ANY (type 255) is another matter.
    let is_whole = |line: &&str| {
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        !has(&["in 13:", "in 11:"]) && !has(&["255 in 60:", "255 in 40:"])
    };
    let essence = |text: &str| {
        let line = |line: &str| {
            let (call, rest) = line.split_once(": ").expect("a call and its result");
            let rest = rest
                .split(", ")
                .filter(|part| !part.starts_with("length") && !part.starts_with("bytes"));
            format!("{call}: {}", rest.collect::<Vec<_>>().join(", "))
        };
        text.lines().filter(is_whole).map(line).collect::<Vec<_>>().join("\n")
    };
    let (seen, bare_dual) = (shimmed("dual"), bare("dual"));
    expect("a listed host", essence(&seen), essence(&bare("v4only")));
    assert!(!seen.contains(", 1 AAAA"), "{seen}");
    // A full buffer tells the program that it needs a larger one. Before glibc 2.34 the datagrams of a state of
    // the program's own are edited too, before the answer is.
    if environment.glibc.is_some_and(|version| version < (2, 34)) {
        return;
    }
    let cut = |text: &str| {
        let lines = text.lines().filter(|line| line.contains(" 255 in 60: "));
        lines.map(|line| line.split(", ").next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // musl 1.2.5 gives the length of the whole answer.
    let is_full = |line: &String| ["length 60", "length 78"].iter().any(|end| line.ends_with(end));
    assert!(cut(&bare_dual).iter().all(is_full), "{bare_dual}");
    expect("a cut answer's length", cut(&seen), cut(&bare_dual));
}

/// Result, `h_errno`, errno and every byte of the buffer.
#[test]
fn libresolv_answers_as_without_the_library_for_any_other_host() {
    in_each_environment(|environment| {
        let program = environment.program_with("resolv", Path::new("-lresolv"));
        let ask = |command, host| output(&mut LAB.client(with(command, [host, "example.com"])));
        for host in ["other", "v4only", "unknown"] {
            let bare = ask(environment.bare(&program), host);
            assert!(bare.contains(", 1 records") != (host == "unknown"), "{host}:\n{bare}");
            for settings in [&[][..], &[("IPV4_ONLY", "dual.example.com")]] {
                let seen = ask(environment.shimmed(&program, settings), host);
                expect(format!("{host}, {settings:?}"), seen, bare.clone());
            }
        }
    });
}

// --- gethostbyname2 --------------------------------------------------------------------------------------

/// What `hosts.c` says of a name, which is left out.
#[track_caller]
fn hosts(environment: &Environment, command: Command, name: &str) -> String {
    let text = output(&mut LAB.client(with(command, [name]))).replace(name, "NAME");
    expect(format!("{environment}: lines of {text}"), text.lines().count(), 6);
    text
}

#[test]
fn gethostbyname2_answers_for_a_listed_host_as_for_one_with_ipv4_only() {
    in_each_environment(|environment| {
        let program = environment.program("hosts");
        let listed = [("IPV4_ONLY", "dual.example.com,none.example.com")];
        for (name, twin) in
            [("dual.example.com", "v4only.example.com"), ("none.example.com", "none.example.com")]
        {
            let wanted = hosts(environment, environment.bare(&program), twin);
            let seen = hosts(environment, environment.shimmed(&program, &listed), name);
            expect(format!("what is said of {name}"), seen, wanted);
            if environment.glibc >= Some((2, 36)) {
                let mut no_aaaa = environment.bare(&program);
                no_aaaa.env("RES_OPTIONS", "no-aaaa");
                let wanted = hosts(environment, no_aaaa, name);
                let seen = hosts(environment, environment.shimmed(&program, &listed), name);
                expect(format!("what is said of {name}, by no-aaaa"), seen, wanted);
            }
        }
        let other = "other.example.com";
        let wanted = hosts(environment, environment.bare(&program), other);
        assert!(wanted.contains("2001:db8:2::2"), "it has an IPv6 address: {wanted}");
        let seen = hosts(environment, environment.shimmed(&program, &listed), other);
        expect("what is said of a host that is not listed", seen, wanted);
    });
}

#[test]
fn dig_of_i386_is_told_of_no_ipv6_address_of_a_listed_host() {
    if let Some(environment) = Environment::i386_programs() {
        let dig = "/usr/bin/dig";
        let query = ["+short", "dual.example.com", "AAAA", "other.example.com", "AAAA"];
        let seen = |command| output(&mut LAB.client(with(command, query)));
        // Both names have this address.
        let address = "2001:db8:2::2\n";
        expect("bare", seen(environment.bare(dig)), address.repeat(2));
        let listed = [("IPV4_ONLY", "dual.example.com")];
        expect("listed", seen(environment.shimmed(dig, &listed)), address);
    }
}

#[test]
fn getent_shows_the_ipv4_address_of_a_listed_host() {
    on_this_machine(|environment| {
        let command = |command| LAB.client(with(command, ["hosts", "dual.example.com"]));
        let listed = [("IPV4_ONLY", "dual.example.com")];
        let seen = |command| output(&mut { command }).split_whitespace().next().unwrap().to_owned();
        let getent = "/usr/bin/getent";
        expect("bare", seen(command(environment.bare(getent))), "2001:db8:2::2");
        expect("listed", seen(command(environment.shimmed(getent, &listed))), "198.51.100.2");
    });
}

/// A large reply in several parts is put together in a mapping. A thread may leave recvmsg at any moment.
#[test]
fn jumps_out_of_a_large_reply_in_parts_leave_no_memory_behind() {
    in_each_environment(|environment| {
        let program = environment.program("left_replies");
        let wanted = |length| format!("memory stays, blocked:; received {length}\n");
        expect_says(with(environment.bare(&program), ["500"]), &wanted(50434));
        let listed = [("IPV4_ONLY", "dual.example.com")];
        expect_says(with(environment.shimmed(&program, &listed), ["500"]), &wanted(34));
    });
}
