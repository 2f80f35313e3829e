//! Lookups: for a listed host the answer that libc gives for a host without IPv6 addresses, for
//! every other call libc's own. What that answer is, libc itself says: see oracle.rs.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use libc::{
    AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, AI_ADDRCONFIG, AI_ALL, AI_CANONNAME, AI_NUMERICHOST,
    AI_NUMERICSERV, AI_PASSIVE, AI_V4MAPPED, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_RAW,
    SOCK_SEQPACKET, SOCK_STREAM, c_int,
};

use super::oracle::{
    Call, FAMILIES, FLAGS, LIST, NAMES, OTHER_LIST, Oracle, Random, all_calls, ask, bare, compare,
    compare_with_bare, compare_with_oracles, finish, listing, some_calls, start, with_settings,
};
use crate::harness::lab::{Host, LAB, Lab};
use crate::harness::resolver::Resolver;
use crate::harness::run::{output, run, stderr, stdout, with};
use crate::harness::scratch::text;
use crate::harness::{
    Environment, Scratch, expect, in_each_architecture, in_each_environment,
    in_each_environment_at_once, log, skip,
};

#[test]
fn a_listed_host_is_answered_like_one_without_ipv6() {
    let lab = Lab::start(&[]);
    let calls = all_calls(&NAMES);
    assert!(calls.len() >= 500, "{} calls", calls.len());
    in_each_architecture(|environment| {
        compare_with_oracles(&lab, environment, &calls, LIST);
    });
}

#[test]
fn another_host_is_answered_by_libc_alone() {
    let lab = Lab::start(&[]);
    let calls = some_calls(&NAMES);
    assert!(calls.len() >= 500, "{} calls", calls.len());
    in_each_environment(|environment| {
        compare_with_bare(&lab, environment, &calls, OTHER_LIST);
        // Without any pattern there is not even a list.
        compare_with_bare(&lab, environment, &calls, "");
    });
}

#[test]
fn addresses_and_no_node_at_all_are_left_to_libc() {
    let lab = Lab::start(&[]);
    let nodes = [
        // The forms of inet_aton(3).
        "192.0.2.1",
        "127.1",
        "192.0.513",
        "0x7f.1",
        "0177.0.0.1",
        "1",
        "0X7F000001",
        "2130706433",
        "127.0.0.1.",
        // The forms of inet_pton(3), with scopes.
        "::1",
        "::",
        "2001:db8::1",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
        "fe80::1%gateway",
        "fe80::1%1",
        "fe80::1%nosuch",
        "::1%lo",
        "[::1]",
        // The machine's own names, which the pattern `*` leaves out.
        "localhost",
        "LOCALHOST",
        "localhost.",
        "www.localhost",
        // glibc takes these two for no node at all.
        "*",
        "",
    ];
    let mut calls = some_calls(&nodes);
    for call in some_calls(&["NULL"]) {
        let services = [Some("*"), Some(""), call.service];
        calls.extend(services.map(|service| Call { node: None, service, hints: call.hints }));
    }
    in_each_environment(|environment| {
        compare_with_bare(&lab, environment, &calls, "*");
    });
}

#[test]
fn random_calls_are_answered_like_those_of_a_host_without_ipv6() {
    const CALLS: usize = 3_000;
    const SPELLINGS: [&str; 26] = [
        "dual.example.com.",
        "DUAL.EXAMPLE.COM",
        "DUAL.example.com.",
        "dual.example.com..",
        "dual",
        "DUAL.",
        "many",
        "alias",
        "v6only",
        "localhost",
        "192.0.2.1",
        "::ffff:192.0.2.1",
        "2001:db8::1%lo",
        // Nearly addresses.
        "256.1.1.1",
        "1.2.3.4.5",
        "4294967296",
        "0x",
        "a..b",
        ".example.com",
        "-dash.example.com",
        "under_score.example.com",
        "with space.example.com",
        "b\u{fc}cher.example.com",
        "a-label-of-more-than-63-bytes-is-too-long-for-any-name-in-the-dns.example.com",
        "%",
        "example.com",
    ];
    const SERVICES: [Option<&str>; 14] = [
        None,
        Some("80"),
        Some("80"),
        Some("80"),
        Some("http"),
        Some("domain"),
        Some("unknown"),
        Some(""),
        Some("*"),
        Some("0"),
        Some("65536"),
        Some("-1"),
        Some(" 80"),
        Some("80x"),
    ];
    let nodes = [&NAMES[..], &NAMES[..], &SPELLINGS[..]].concat();
    let mut random = Random(0x2001_0db8_c633_6402);
    let calls = (0..CALLS).map(|_| {
        let mut flags = 0;
        for (flag, _) in FLAGS {
            // Most calls are to get past AI_NUMERICHOST.
            let chance = if flag == AI_NUMERICHOST { 8 } else { 3 };
            flags |= if random.below(chance) == 0 { flag } else { 0 };
        }
        // AI_IDN and AI_CANONIDN of glibc; what no libc knows.
        let rare = random.one_of(&[0x40, 0x80, 0x200, 0x8000]);
        flags |= if random.below(16) == 0 { rare } else { 0 };
        let family = random.one_of(&[AF_UNSPEC, AF_UNSPEC, AF_INET, AF_INET6, AF_INET6, AF_UNIX]);
        let socktype = random.one_of(&[0, SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, 77]);
        let protocol = random.one_of(&[0, 0, 0, IPPROTO_TCP, IPPROTO_UDP, 132, 255]);
        let hints = (flags, family, socktype, protocol);
        let hints = (random.below(20) != 0).then_some(hints);
        Call::new(random.one_of(&nodes), random.one_of(&SERVICES), hints)
    });
    let calls = calls.collect::<Vec<_>>();
    let lab = Lab::start(&[]);
    lab.write("resolv", "nameserver 192.0.2.1\nsearch unknown.example.com example.com\n");
    in_each_environment(|environment| {
        compare_with_oracles(&lab, environment, &calls, "*");
        compare_with_bare(&lab, environment, &calls, OTHER_LIST);
    });
}

#[test]
fn a_listed_name_in_the_hosts_file_is_answered_without_its_ipv6_lines() {
    // The first three are in the DNS as well, without IPv6 addresses; the others are not.
    const IPV4: &str = "127.0.0.1 localhost\n\
        198.51.100.9 v4only.example.com\n\
        198.51.100.9 first.example.com v4many.example.com\n\
        198.51.100.8 v4many.example.com\n\
        198.51.100.7 addressless.example.com\n";
    const IPV6: &str = "::1 localhost\n\
        2001:db8:2::9 v4only.example.com\n\
        2001:db8:2::7 six.example.com\n\
        2001:db8:2::9 SIX.example.com\n";
    let nodes = [
        "v4only.example.com",
        "V4Only.Example.COM",
        "v4many.example.com",
        "addressless.example.com",
        "six.example.com",
        "unknown.example.com",
    ];
    let calls = some_calls(&nodes);
    let lab = Lab::start(&[]);
    in_each_environment(|environment| {
        lab.write("hosts", IPV4);
        let wanted = ask(&lab, bare(environment), &calls).lines;
        lab.write("hosts", &[IPV6, IPV4].concat());
        let bare = ask(&lab, bare(environment), &calls).lines;
        assert_ne!(bare, wanted, "the IPv6 lines matter");
        let seen = ask(&lab, listing(environment, LIST), &calls).lines;
        compare(&environment.to_string(), &calls, &wanted, &seen);
        let seen = ask(&lab, listing(environment, OTHER_LIST), &calls).lines;
        compare(&environment.to_string(), &calls, &bare, &seen);
    });
}

#[test]
fn a_question_for_ipv6_alone_fails_for_a_hosts_file_as_for_a_records() {
    let lab = Lab::start(&[]);
    lab.write("hosts", "198.51.100.9 both.example.com\n2001:db8:2::9 both.example.com\n");
    let call = |node| [Call::new(node, Some("80"), Some((0, AF_INET6, SOCK_STREAM, 0)))];
    in_each_environment(|environment| {
        let wanted = ask(&lab, bare(environment), &call("v4only.example.com")).lines;
        let call = call("both.example.com");
        let seen = ask(&lab, listing(environment, LIST), &call).lines;
        compare(&environment.to_string(), &call, &wanted, &seen);
    });
}

#[test]
fn an_ipv6_line_in_the_hosts_file_does_not_hide_a_records() {
    let lab = Lab::start(&[]);
    lab.write("hosts", "2001:db8:2::9 dual.example.com\n");
    let hints = |family| Some((AI_CANONNAME, family, SOCK_STREAM, 0));
    let calls = [AF_UNSPEC, AF_INET, AF_INET6]
        .map(|family| Call::new("dual.example.com", Some("80"), hints(family)));
    in_each_environment(|environment| {
        if environment.glibc.is_none() {
            return skip(environment, "musl ends the search at a line of either family");
        }
        let seen = ask(&lab, listing(environment, LIST), &calls).lines;
        Oracle::Twin.compare(&lab, environment, &calls, &seen);
    });
}

/// Of [`some_calls`] those with `AI_ADDRCONFIG`, which no hints may mean as well.
fn with_addrconfig(nodes: &[&str]) -> Vec<Call> {
    let mut calls = some_calls(nodes);
    calls.retain(|call| call.hints.is_none_or(|(flags, ..)| flags & AI_ADDRCONFIG != 0));
    calls
}

/// Takes addresses from the lab's client: `-4 gateway` are those for IPv4 of its device gateway.
fn take_addresses(lab: &Lab, which: &str) {
    let (family, device) = which.split_once(' ').expect("a family and a device");
    let mut ip = Command::new("ip");
    ip.args([family, "address", "flush", "dev", device]);
    assert_eq!(output(lab.on(Host::Client, &mut ip)), "");
}

#[test]
fn addrconfig_means_what_libc_means_on_a_client_that_lacks_addresses() {
    let nodes = ["ok6-ok4.test", "ok6-none4.test", "none6-ok4.test", "none6-none4.test"];
    let calls = with_addrconfig(&nodes);
    let lacks: [&[&str]; 5] = [
        &["-4 gateway"],
        &["-6 gateway"],
        &["-4 gateway", "-6 gateway"],
        &["-4 gateway", "-4 lo"],
        &["-6 gateway", "-6 lo"],
    ];
    for lacking in lacks {
        println!("without the addresses {lacking:?}");
        let lab = Lab::start(&[]);
        let _resolver = Resolver::start(&lab);
        for addresses in lacking {
            take_addresses(&lab, addresses);
        }
        let server = if lacking.contains(&"-4 lo") { "::1" } else { "127.0.0.1" };
        lab.write("resolv", &format!("nameserver {server}\n"));
        in_each_environment(|environment| {
            let seen = ask(&lab, listing(environment, "*"), &calls).lines;
            for oracle in Oracle::all(environment) {
                oracle.compare(&lab, environment, &calls, &seen);
            }
            compare_with_bare(&lab, environment, &calls, OTHER_LIST);
        });
    }
}

#[test]
fn addrconfig_means_what_libc_means_on_a_client_without_any_address() {
    let lab = Lab::start(&[]);
    for addresses in ["-4 gateway", "-6 gateway", "-4 lo", "-6 lo"] {
        take_addresses(&lab, addresses);
    }
    let hosts = "198.51.100.2 dual.test v4only.test\n2001:db8:2::2 dual.test\n";
    lab.write("hosts", hosts);
    let calls = with_addrconfig(&["dual.test", "v4only.test"]);
    in_each_environment(|environment| {
        let seen = ask(&lab, listing(environment, "*"), &calls).lines;
        Oracle::Twin.compare(&lab, environment, &calls, &seen);
    });
}

/// What DNS was asked by one call of its own process.
fn questions(lab: &Lab, command: Command, call: &Call) -> Vec<String> {
    lab.questions(|| ask(lab, command, std::slice::from_ref(call))).1
}

#[test]
fn a_listed_host_costs_one_question_and_another_host_two() {
    let lab = Lab::start(&[]);
    let a = "query[A] dual.example.com";
    let aaaa = "query[AAAA] dual.example.com";
    let call = |flags, family| {
        let hints = Some((flags, family, SOCK_STREAM, 0));
        Call::new("dual.example.com", Some("80"), hints)
    };
    let calls = [
        call(0, AF_UNSPEC),
        call(AI_CANONNAME, AF_UNSPEC),
        call(AI_ADDRCONFIG | AI_V4MAPPED, AF_UNSPEC),
        Call::new("dual.example.com", Some("http"), None),
        Call::new("dual.example.com", None, Some((AI_ALL, AF_UNSPEC, 0, 0))),
    ];
    in_each_environment(|environment| {
        for call in &calls {
            let mut both = questions(&lab, listing(environment, OTHER_LIST), call);
            both.sort();
            expect(format!("another host, {call}"), both, [aaaa, a]);
            let one = questions(&lab, listing(environment, LIST), call);
            expect(format!("a listed host, {call}"), one, [a]);
        }
    });
}

#[test]
fn no_question_for_ipv6_is_asked_about_a_listed_host() {
    let lab = Lab::start(&[]);
    in_each_environment(|environment| {
        for node in NAMES {
            let flags = [0, AI_CANONNAME, AI_ADDRCONFIG, AI_ALL | AI_PASSIVE];
            let calls = flags.map(|flags| {
                FAMILIES.map(|family| {
                    Call::new(node, Some("80"), Some((flags, family, SOCK_STREAM, 0)))
                })
            });
            let calls = calls.concat();
            let (_, asked) = lab.questions(|| ask(&lab, listing(environment, LIST), &calls));
            let wanted = vec![format!("query[A] {node}"); calls.len()];
            expect(format!("what is asked about {node}"), asked, wanted);
        }
    });
}

#[test]
fn a_call_that_needs_no_resolver_asks_none() {
    let lab = Lab::start(&[]);
    lab.write("hosts", "198.51.100.9 both.example.com\n2001:db8:2::9 both.example.com\n");
    let dual = |service, hints| Call::new("dual.example.com", Some(service), Some(hints));
    let calls = [
        Call::new("both.example.com", Some("80"), Some((0, AF_UNSPEC, SOCK_STREAM, 0))),
        Call::new("198.51.100.2", Some("80"), None),
        dual("80", (AI_NUMERICHOST, AF_UNSPEC, SOCK_STREAM, 0)),
        dual("80", (AI_NUMERICHOST, AF_INET6, SOCK_STREAM, 0)),
        dual("80", (AI_NUMERICHOST | AI_V4MAPPED, AF_INET6, SOCK_STREAM, 0)),
        dual("80", (0x8000, AF_INET6, SOCK_STREAM, 0)),
        dual("80", (0, AF_UNIX, SOCK_STREAM, 0)),
        dual("unknown", (0, AF_UNSPEC, SOCK_STREAM, 0)),
        dual("unknown", (0, AF_INET6, SOCK_STREAM, 0)),
        dual("unknown", (AI_V4MAPPED, AF_INET6, SOCK_STREAM, 0)),
    ];
    in_each_environment(|environment| {
        for call in &calls {
            let none: [&str; 0] = [];
            let bare = questions(&lab, bare(environment), call);
            expect(format!("without the library, {call}"), bare, none);
            let asked = questions(&lab, listing(environment, LIST), call);
            expect(format!("{call}"), asked, none);
        }
    });
}

#[test]
fn a_resolver_that_drops_questions_for_ipv6_holds_up_no_listed_host() {
    /// Before the resolver is given up.
    const AT_ONCE: Duration = Duration::from_millis(2900);
    let lab = Lab::start(&["--drop-aaaa"]);
    lab.write("resolv", "nameserver 192.0.2.53\noptions timeout:3 attempts:1\n");
    let call = |node: &str, family| Call::new(node, Some("80"), Some((0, family, SOCK_STREAM, 0)));
    let calls = [
        (call("dual.example.com", AF_UNSPEC), "ok; inet 1/6"),
        (call("dual.example.com", AF_INET6), "EAI_NO"),
        (call("v6only.example.com", AF_UNSPEC), "EAI_NO"),
        (call("v6only.example.com", AF_INET6), "EAI_NO"),
    ];
    let timed = |command, call: &Call| {
        let start = Instant::now();
        (ask(&lab, command, std::slice::from_ref(call)).lines, start.elapsed())
    };
    in_each_environment_at_once(|environment| {
        thread::scope(|scope| {
            let control = scope.spawn(|| timed(bare(environment), &calls[0].0).1);
            for (call, wanted) in &calls {
                let (seen, took) = timed(listing(environment, LIST), call);
                let seen = &seen[0];
                assert!(
                    seen.starts_with(wanted) && took < AT_ONCE,
                    "{call}\n  wanted {wanted} in {AT_ONCE:?}\n  seen   {seen} in {took:?}"
                );
            }
            let took = control.join().expect("the bare run ends");
            assert!(took > AT_ONCE, "the bare run took {took:?} only");
        });
    });
}

/// It is IPv4 on the wire.
#[test]
fn an_ipv4_mapped_address_in_dns_stays_where_mapped_ones_are_asked_for() {
    let lab = Lab::start(&[]);
    let _resolver = Resolver::start(&lab);
    lab.write("resolv", "nameserver 127.0.0.1\n");
    let node = "mapped6-ok4.test";
    let call =
        [Call::new(node, Some("80"), Some((AI_V4MAPPED | AI_ALL, AF_INET6, SOCK_STREAM, 0)))];
    in_each_environment(|environment| {
        let seen = ask(&lab, listing(environment, "*"), &call).lines.concat();
        let mapped = |address| seen.contains(&format!(" ::ffff:{address} "));
        expect(&seen, ["198.51.100.7", "198.51.100.2"].map(mapped), [true, true]);
        expect(&seen, seen.contains("2001:db8:"), false);
    });
}

#[test]
fn the_error_is_the_one_of_the_question_for_ipv4() {
    let lab = Lab::start(&[]);
    let _resolver = Resolver::start(&lab);
    lab.write("resolv", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    let call = |node: &str, flags, family| {
        Call::new(node, Some("80"), Some((flags, family, SOCK_STREAM, 0)))
    };
    let nodes = [
        "ok6-fail4.test",
        "none6-fail4.test",
        "ok6-refused4.test",
        "ok6-none4.test",
        "ok6-unknown4.test",
    ];
    in_each_environment(|environment| {
        // musl waits out its time for an answer better than a failure: all at once.
        let mut runs = Vec::new();
        for node in nodes {
            let wanted = [call(node, 0, AF_INET)];
            let wanted = (start(&lab, bare(environment), &wanted), wanted);
            let calls = [
                call(node, 0, AF_UNSPEC),
                call(node, AI_CANONNAME, AF_UNSPEC),
                call(node, 0, AF_INET6),
                call(node, AI_V4MAPPED, AF_INET6),
                call(node, AI_V4MAPPED | AI_ALL, AF_INET6),
                Call::new(node, Some("80"), None),
            ];
            let seen = calls.map(|call| {
                (start(&lab, listing(environment, "*"), std::slice::from_ref(&call)), [call])
            });
            runs.push((wanted, seen));
        }
        for ((wanted, call), seen) in runs {
            let wanted = finish(wanted, &call).lines;
            assert!(wanted[0].starts_with("EAI_"), "{} is {wanted:?}", call[0]);
            for (seen, call) in seen {
                let seen = finish(seen, &call).lines;
                compare(&environment.to_string(), &call, &wanted, &seen);
            }
        }
    });
}

/// glibc's own lookup of IPv4 alone does not tell them apart if there is a search domain.
#[test]
fn a_server_that_fails_is_no_missing_name_behind_a_search_domain() {
    let lab = Lab::start(&[]);
    let _resolver = Resolver::start(&lab);
    let search = "search search.test\noptions timeout:1 attempts:1\n";
    lab.write("resolv", &format!("nameserver 127.0.0.1\n{search}"));
    let call = |node: &str, flags, family| {
        Call::new(node, Some("80"), Some((flags, family, SOCK_STREAM, 0)))
    };
    in_each_environment(|environment| {
        for (node, without_ipv6, wanted) in [
            ("ok6-fail4.test", "fail6-fail4.test", "EAI_AGAIN"),
            ("ok6-refused4.test", "fail6-refused4.test", "EAI_AGAIN"),
            ("ok6-unknown4.test", "unknown6-unknown4.test", "EAI_NONAME"),
        ] {
            let calls = |node| {
                [(0, AF_UNSPEC), (0, AF_INET6), (AI_V4MAPPED, AF_INET6), (0, AF_INET)]
                    .map(|(flags, family)| call(node, flags, family))
            };
            let (questions, calls) = (calls(without_ipv6), calls(node));
            let bare = start(&lab, bare(environment), &questions);
            let seen = start(&lab, listing(environment, "*"), &calls);
            let (bare, seen) = (finish(bare, &questions).lines, finish(seen, &calls).lines);
            assert!(bare[0].starts_with(wanted), "bare: {}: {}", questions[0], bare[0]);
            for (call, seen) in calls[..3].iter().zip(&seen) {
                assert!(seen.starts_with(wanted), "{environment}: {call}: {seen}, not {wanted}");
            }
            expect("what is asked for IPv4 alone", &seen[3], &bare[3]);
        }
    });
}

#[test]
fn errno_after_a_successful_lookup_is_what_libc_leaves() {
    let lab = Lab::start(&[]);
    let in_hosts = "198.51.100.2 dual.test v4only.test\n2001:db8:2::2 dual.test\n";
    lab.write("hosts", in_hosts);
    // A log line is written in each call: it must not show.
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let shimmed = |environment: &Environment, list| {
        let settings = [("IPV4_ONLY", list), ("LOG", "trace"), ("LOG_FILE", text(&log))];
        with_settings(environment, &settings)
    };
    // The status and errno, without the list.
    let ask = |mut command: Command, calls: &[Call]| {
        command.arg("errno");
        let lines = ask(&lab, command, calls).lines;
        let errno = |line: &String| line.split(';').next().unwrap_or(line).to_owned();
        lines.iter().map(errno).collect::<Vec<_>>()
    };
    in_each_environment(|environment| {
        // With DNS, musl's errno depends on how soon the answer comes. With the hosts file, glibc's
        // depends on the family asked for.
        let (calls, oracles) = match environment.glibc {
            Some(_) => (some_calls(&NAMES), Oracle::all(environment)),
            None => (some_calls(&["dual.test", "v4only.test"]), vec![Oracle::Twin]),
        };
        let wanted = ask(bare(environment), &calls);
        let seen = ask(shimmed(environment, OTHER_LIST), &calls);
        compare("other hosts", &calls, &wanted, &seen);

        let seen = ask(shimmed(environment, "*"), &calls);
        log::expect_lines(&log, 2 * calls.len());
        fs::remove_file(&log).expect("it is there");
        for oracle in oracles {
            let (command, questions) = oracle.question(environment, &calls);
            let wanted = ask(command, &questions);
            let all = calls.iter().zip(wanted.iter().zip(&seen));
            let succeeded = all.filter(|(_, (wanted, _))| wanted.starts_with("ok"));
            let (calls, lines): (Vec<_>, Vec<_>) = succeeded
                .map(|(call, (wanted, seen))| (call.clone(), (wanted.clone(), seen.clone())))
                .unzip();
            let (wanted, seen): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
            assert!(calls.len() > 100, "{} calls succeed", calls.len());
            compare(&format!("{oracle:?}"), &calls, &wanted, &seen);
        }
    });
}

/// Each call is the first of its process, which reads the list; `AF_INET6` fails for an IPv4 host.
#[test]
fn errno_is_kept_where_the_list_is_missing_or_a_warning_unwritable() {
    let lab = Lab::start(&[]);
    lab.write("hosts", "198.51.100.2 dual.test\n2001:db8:2::2 dual.test\n");
    let ask = |mut command: Command, node, family| {
        command.arg("errno");
        let call = Call::new(node, Some("80"), Some((0, family, SOCK_STREAM, 0)));
        let seen = ask(&lab, command, &[call]);
        (seen.lines, seen.errors)
    };
    in_each_environment(|environment| {
        for family in FAMILIES {
            let (wanted, _) = ask(bare(environment), "dual.test", family);
            for settings in [
                [("IPV4_ONLY", OTHER_LIST), ("IPV4_ONLY_FILE", "/missing/list"), ("LOG", "off")],
                [("IPV4_ONLY", OTHER_LIST), ("LOG", "trace"), ("LOG_FILE", "/dev/full")],
            ] {
                let (seen, errors) =
                    ask(with_settings(environment, &settings), "dual.test", family);
                expect(format!("family {family}, {settings:?}"), &seen, &wanted);
                let is_missing = settings.contains(&("IPV4_ONLY_FILE", "/missing/list"));
                expect("the list is missed", errors.contains("/missing/list"), is_missing);
            }
        }
        for family in [AF_UNSPEC, AF_INET6] {
            let lookup = |log: (&str, &str)| {
                let settings = [("IPV4_ONLY", LIST), log];
                ask(with_settings(environment, &settings), "v6only.example.com", family)
            };
            let (wanted, _) = lookup(("LOG", "off"));
            let (seen, _) = lookup(("LOG_FILE", "/dev/full"));
            expect(format!("family {family}, with a warning"), seen, wanted);
        }
    });
}

#[test]
fn the_name_is_matched_as_the_program_passed_it() {
    const LISTED: bool = true;
    const LEFT_ALONE: bool = false;
    // What a pattern matches is in the allowlist's own tests.
    let cases = [
        ("dual.example.com", "DUAL.example.com.", LISTED),
        ("!dual.example.com,.example.com", "dual.example.com", LEFT_ALONE),
        // CNAMEs play no part.
        ("alias.example.com", "alias.example.com", LISTED),
        ("dual.example.com", "alias.example.com", LEFT_ALONE),
        // Nor do search domains.
        ("dual", "dual", LISTED),
        ("*", "dual", LISTED),
        ("dual.example.com", "dual", LEFT_ALONE),
        (".example.com", "dual", LEFT_ALONE),
        ("dual.example", "dual.example", LISTED),
    ];
    let lab = Lab::start(&[]);
    lab.write("resolv", "nameserver 192.0.2.1\nsearch com example.com\noptions ndots:2\n");
    in_each_environment(|environment| {
        for (patterns, node, listed) in cases {
            let call = Call::new(node, Some("80"), Some((AI_CANONNAME, AF_UNSPEC, SOCK_STREAM, 0)));
            let call = std::slice::from_ref(&call);
            let bare = ask(&lab, bare(environment), call).lines;
            let (command, question) = Oracle::Twin.question(environment, call);
            let twin = Oracle::Twin.answer(&ask(&lab, command, &question).lines[0]);
            assert_ne!(bare[0], twin, "{} shows nothing", call[0]);
            let wanted = if listed { [twin] } else { [bare[0].clone()] };
            let seen = ask(&lab, listing(environment, patterns), call).lines;
            compare(&format!("patterns {patterns}"), call, &wanted, &seen);
        }
    });
}

#[test]
fn what_is_wrong_with_a_call_is_said_as_libc_says_it() {
    let lab = Lab::start(&[]);
    let dual = |service, hints| Call::new("dual.example.com", service, Some(hints));
    let mut calls = Vec::new();
    for family in FAMILIES {
        for more in [0, AI_V4MAPPED, AI_V4MAPPED | AI_ALL, AI_ADDRCONFIG] {
            let hints = |flags, socktype, protocol| (flags | more, family, socktype, protocol);
            calls.extend([
                dual(Some("80"), hints(0x8000, SOCK_STREAM, 0)),
                dual(Some("80"), hints(c_int::MIN, SOCK_STREAM, 0)),
                dual(Some("80"), hints(0, 77, 0)),
                dual(None, hints(0, 77, 0)),
                dual(Some("80"), hints(0, SOCK_STREAM, IPPROTO_UDP)),
                dual(Some("80"), hints(0, 0, 77)),
                dual(Some("80"), hints(0, SOCK_RAW, 0)),
                dual(Some("unknown"), hints(0, SOCK_STREAM, 0)),
                dual(Some("unknown"), hints(0, 0, 0)),
                dual(Some("unknown"), hints(AI_NUMERICSERV, SOCK_STREAM, 0)),
                dual(Some("80"), hints(AI_NUMERICHOST, SOCK_STREAM, 0)),
                dual(Some("unknown"), hints(AI_NUMERICHOST, SOCK_STREAM, 0)),
                Call::new("unknown.example.com", Some("80"), Some(hints(0, SOCK_STREAM, 0))),
                Call::new("unknown.example.com", Some("unknown"), Some(hints(0, 0, 0))),
            ]);
        }
    }
    for family in [AF_UNIX, -1, 77] {
        for flags in [0, AI_V4MAPPED, AI_ADDRCONFIG, 0x8000] {
            calls.push(dual(Some("80"), (flags, family, SOCK_STREAM, 0)));
            calls.push(dual(Some("unknown"), (flags, family, SOCK_STREAM, 0)));
        }
    }
    in_each_environment(|environment| {
        let wanted = ask(&lab, bare(environment), &calls).lines;
        // What succeeds nevertheless (this libc minds no unknown protocol, say) is not meant.
        let failing = calls.iter().zip(&wanted).filter(|(_, line)| !line.starts_with("ok"));
        let (calls, wanted): (Vec<_>, Vec<_>) =
            failing.map(|(call, line)| (call.clone(), line.clone())).unzip();
        let codes = wanted.iter().collect::<BTreeSet<_>>();
        assert!(codes.len() >= 4, "libc has but {codes:?}");
        let seen = ask(&lab, listing(environment, LIST), &calls).lines;
        compare(&environment.to_string(), &calls, &wanted, &seen);
    });
}

/// Of such a call libc says what it says of a name that does not exist.
#[test]
fn a_call_that_wants_a_number_is_no_line_about_the_name() {
    let call = |service, flags| {
        let hints = (flags, AF_UNSPEC, SOCK_STREAM, 0);
        Call::new("dual.example.com", Some(service), Some(hints))
    };
    let calls = [call("80", AI_NUMERICHOST), call("unknown", AI_NUMERICSERV)];
    in_each_environment(|environment| {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let mut command = listing(environment, LIST);
        command.env("EGRESS_SHIM_LOG", "debug").env("EGRESS_SHIM_LOG_FILE", &log);
        ask(&LAB, command, &calls);
        let seen = fs::read_to_string(&log).expect("the log file is there");
        let lines = log::lines(&seen).into_iter();
        let of_lookups = lines.filter(|line| line.message.starts_with("getaddrinfo: "));
        let wanted = ["DEBUG getaddrinfo: dual.example.com: listed, IPv4 only"; 2];
        let seen: Vec<_> =
            of_lookups.map(|line| format!("{} {}", line.level, line.message)).collect();
        expect("lines", seen, wanted);
    });
}

/// Neither is news to anybody: the one is what most lookups are, the other libc says itself.
#[test]
fn unlisted_and_missing_names_are_lines_of_debug_and_no_warning() {
    let names = ["other.example.com", "nosuch.example.com"];
    in_each_environment(|environment| {
        if environment.is_musl() {
            return skip(environment, "it says the same of a name without an IPv4 address");
        }
        let lines = |level: &str| {
            let settings = [("IPV4_ONLY", names[1]), ("LOG", level)];
            let show = environment.shimmed(environment.program("show"), &settings);
            let errors = stderr(&run(&mut LAB.client(with(show, names))));
            let lines = log::lines(&errors).into_iter();
            let of_lookups = lines.filter(|line| line.message.starts_with("getaddrinfo: "));
            of_lookups.map(|line| format!("{} {}", line.level, line.message)).collect::<Vec<_>>()
        };
        expect("lines at info", lines("info"), Vec::<String>::new());
        let wanted = [
            format!("DEBUG getaddrinfo: {}: not listed, left alone", names[0]),
            format!("DEBUG getaddrinfo: {}: listed, IPv4 only", names[1]),
            format!("DEBUG getaddrinfo: {}: no such name", names[1]),
        ];
        expect("lines at debug", lines("debug"), wanted);
    });
}

#[test]
fn a_host_without_ipv4_fails_with_libcs_own_error_and_one_warning() {
    let lab = Lab::start(&[]);
    let call = |node: &str, flags, family| {
        Call::new(node, Some("80"), Some((flags, family, SOCK_STREAM, 0)))
    };
    let ways = [
        (0, AF_UNSPEC),
        (AI_CANONNAME, AF_UNSPEC),
        (AI_NUMERICSERV | AI_ADDRCONFIG, AF_UNSPEC),
        (0, AF_INET6),
        (AI_V4MAPPED, AF_INET6),
    ];
    in_each_environment(|environment| {
        for (flags, family) in ways {
            let call = call("v6only.example.com", flags, family);
            let calls = [call.clone(), call.clone(), call];
            let twins = calls.clone().map(|call| call.twin());
            let wanted = ask(&lab, bare(environment), &twins).lines;
            let seen = ask(&lab, listing(environment, LIST), &calls);
            compare(&environment.to_string(), &calls, &wanted, &seen.lines);
            let lines = seen.errors.lines().collect::<Vec<_>>();
            let warning =
                |line: &&str| line.contains("WARN") && line.contains("v6only.example.com");
            assert!(
                lines.len() == 1 && lines.iter().all(warning),
                "{}\n  wanted one warning\n  seen   {lines:?}",
                calls[0]
            );
        }
    });
}

#[test]
fn nothing_is_said_unless_a_host_has_no_ipv4_address() {
    let lab = Lab::start(&[]);
    let calls = some_calls(&["dual.example.com", "v4only.example.com", "alias.example.com"]);
    in_each_environment(|environment| {
        let seen = ask(&lab, listing(environment, LIST), &calls);
        expect("all of these hosts have IPv4 addresses", seen.errors, "");
        // Of these calls the numbers are wrong, not the name.
        let numbers = [
            Call::new("dual.example.com", None, Some((AI_NUMERICHOST, AF_UNSPEC, SOCK_STREAM, 0))),
            Call::new(
                "dual.example.com",
                Some("http"),
                Some((AI_NUMERICSERV, AF_UNSPEC, SOCK_STREAM, 0)),
            ),
        ];
        let seen = ask(&lab, listing(environment, LIST), &numbers);
        expect("a name where a number must be", seen.errors, "");
        let settings = [("IPV4_ONLY", LIST), ("LOG", "debug")];
        let seen = ask(&lab, with_settings(environment, &settings), &calls);
        assert!(seen.errors.contains("listed, IPv4 only"), "each is listed: {}", seen.errors);
    });
}

#[test]
fn what_the_library_takes_out_of_a_list_is_freed() {
    // A leak of one address in each call would be some 400 KiB. An allocator grows by steps.
    const CALLS: usize = 2000;
    const NOISE: i64 = 200;
    let lab = Lab::start(&[]);
    let lines = "198.51.100.2 both.example.com\n\
        2001:db8:2::2 both.example.com\n\
        198.51.100.3 both.example.com\n";
    lab.write("hosts", lines);
    let ways = [(AI_CANONNAME, AF_UNSPEC), (0, AF_INET6), (AI_V4MAPPED | AI_CANONNAME, AF_INET6)];
    let grown = |mut command: Command, flags, family| {
        let call = Call::new("both.example.com", None, Some((flags, family, 0, 0)));
        let calls = vec![call; CALLS];
        command.arg("memory");
        let output = start(&lab, command, &calls).wait_with_output().expect("it ends");
        let grown = stdout(&output).trim().parse::<i64>();
        grown.unwrap_or_else(|_| panic!("{}: {output:?}", calls[0]))
    };
    let scratch = Scratch::new();
    let log = scratch.join("log");
    in_each_environment(|environment| {
        for (flags, family) in ways {
            let settings = [("IPV4_ONLY", LIST), ("LOG", "debug"), ("LOG_FILE", text(&log))];
            let seen = grown(with_settings(environment, &settings), flags, family);
            log::expect_lines(&log, CALLS);
            fs::remove_file(&log).expect("it is there");
            // glibc before 2.36 loses some memory itself where it maps addresses of a host that
            // has both kinds (`convert_hostent_to_gaih_addrtuple` in getaddrinfo.c).
            let own = match flags & AI_V4MAPPED {
                0 => 0,
                _ => grown(bare(environment), flags | AI_ALL, family),
            };
            assert!(
                seen < own + NOISE,
                "{CALLS} times flags {flags:#x}, family {family}: {seen} KiB more, \
                 wanted less than {}",
                own + NOISE
            );
        }
    });
}
