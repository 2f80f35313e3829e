//! Lookups: for a listed host the answer that libc gives for a host without IPv6 addresses, for
//! every other call libc's own.
//!
//! What that answer is, libc itself says. glibc since 2.36 has `RES_OPTIONS=no-aaaa`; any libc can
//! be asked for a name that has the same addresses but for those of IPv6, its twin.

mod lab;
mod programs;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::{Host, Lab};
use libc::{
    AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC, AI_ADDRCONFIG, AI_ALL, AI_CANONNAME, AI_NUMERICHOST,
    AI_NUMERICSERV, AI_PASSIVE, AI_V4MAPPED, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_RAW,
    SOCK_SEQPACKET, SOCK_STREAM, c_int,
};
use programs::Environment;

/// The names in the lab's DNS.
const NAMES: [&str; 8] = [
    "dual.example.com",
    "many.example.com",
    "alias.example.com",
    "v4only.example.com",
    "v4many.example.com",
    "v4alias.example.com",
    "v6only.example.com",
    "unknown.example.com",
];
/// How the names with IPv6 addresses begin, and how those of their twins do.
const TWINS: [(&str, &str); 6] = [
    ("dual", "v4only"),
    ("DUAL", "V4ONLY"),
    ("many", "v4many"),
    ("alias", "v4alias"),
    ("v6only", "addressless"),
    ("ok6", "none6"),
];
/// Lists all of them.
const LIST: &str = ".example.com";
/// Lists none of them.
const OTHER_LIST: &str = ".example.net other.example.com";

const FAMILIES: [c_int; 3] = [AF_UNSPEC, AF_INET, AF_INET6];
const FLAGS: [(c_int, &str); 7] = [
    (AI_PASSIVE, "PASSIVE"),
    (AI_CANONNAME, "CANONNAME"),
    (AI_NUMERICHOST, "NUMERICHOST"),
    (AI_V4MAPPED, "V4MAPPED"),
    (AI_ALL, "ALL"),
    (AI_ADDRCONFIG, "ADDRCONFIG"),
    (AI_NUMERICSERV, "NUMERICSERV"),
];

/// Every combination of the flags.
fn all_flags() -> impl Iterator<Item = c_int> {
    (0..1 << FLAGS.len()).map(|chosen: u32| {
        let flags = FLAGS.iter().enumerate().filter(|(index, _)| chosen & (1 << index) != 0);
        flags.fold(0, |all, (_, (flag, _))| all | flag)
    })
}

/// The hints of a call: flags, family, socktype, protocol.
type Hints = (c_int, c_int, c_int, c_int);

/// One call of getaddrinfo.
#[derive(Clone)]
struct Call {
    node: Option<String>,
    service: Option<&'static str>,
    hints: Option<Hints>,
}

impl Call {
    fn new(node: &str, service: Option<&'static str>, hints: Option<Hints>) -> Self {
        Self { node: Some(node.to_owned()), service, hints }
    }

    /// As `tests/programs/resolve.c` reads it.
    fn line(&self) -> String {
        let node = self.node.as_deref().unwrap_or("NULL");
        let service = self.service.unwrap_or("NULL");
        match self.hints {
            None => format!("{node}\t{service}\tNULL\n"),
            Some((flags, family, socktype, protocol)) => {
                format!("{node}\t{service}\t{flags}\t{family}\t{socktype}\t{protocol}\n")
            }
        }
    }

    fn twin(&self) -> Self {
        let node = self.node.as_ref().map(|node| {
            let found = TWINS.iter().find(|(label, _)| node.starts_with(label));
            found.map_or(node.clone(), |(label, twin)| node.replacen(label, twin, 1))
        });
        Self { node, ..self.clone() }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "getaddrinfo({:?}, {:?}, ", self.node, self.service)?;
        let Some((flags, family, socktype, protocol)) = self.hints else {
            return f.write_str("NULL)");
        };
        let known = FLAGS.iter().filter(|(flag, _)| flags & flag != 0);
        let mut names = known.clone().map(|(_, name)| (*name).to_owned()).collect::<Vec<_>>();
        let others = known.fold(flags, |others, (flag, _)| others & !flag);
        if others != 0 || flags == 0 {
            names.push(format!("{others:#x}"));
        }
        let flags = names.join("|");
        let family = match family {
            AF_UNSPEC => "AF_UNSPEC",
            AF_INET => "AF_INET",
            AF_INET6 => "AF_INET6",
            other => &format!("family {other}"),
        };
        write!(f, "{{{flags}, {family}, socktype {socktype}, protocol {protocol}}})")
    }
}

/// These nodes with every combination of families and flags, and more.
fn all_calls(nodes: &[&str]) -> Vec<Call> {
    calls(nodes, all_flags)
}

/// These nodes with every family and up to two flags at once, and more.
fn some_calls(nodes: &[&str]) -> Vec<Call> {
    calls(nodes, || all_flags().filter(|flags| flags.count_ones() <= 2))
}

/// These nodes with these flags and every family; the rarer services and socktypes with some flags;
/// and without hints.
fn calls<F: Iterator<Item = c_int>>(nodes: &[&str], every: fn() -> F) -> Vec<Call> {
    const RARE: [(Option<&str>, c_int, c_int); 7] = [
        (Some("http"), 0, 0),
        (Some("unknown"), 0, 0),
        (Some("unknown"), SOCK_DGRAM, 0),
        (Some("80"), SOCK_RAW, 0),
        (None, SOCK_RAW, 0),
        (Some("80"), 0, IPPROTO_UDP),
        (Some("80"), SOCK_SEQPACKET, IPPROTO_TCP),
    ];
    let mut calls = Vec::new();
    for node in nodes {
        for family in FAMILIES {
            for flags in every() {
                for (service, socktype) in [(Some("80"), SOCK_STREAM), (None, 0)] {
                    calls.push(Call::new(node, service, Some((flags, family, socktype, 0))));
                }
            }
            for flags in [0, AI_CANONNAME, AI_ADDRCONFIG, AI_V4MAPPED, AI_NUMERICSERV] {
                for (service, socktype, protocol) in RARE {
                    calls.push(Call::new(node, service, Some((flags, family, socktype, protocol))));
                }
            }
        }
        for service in [None, Some("80"), Some("http"), Some("unknown")] {
            calls.push(Call::new(node, service, None));
        }
    }
    calls
}

/// What `tests/programs/resolve.c` made of the calls.
struct Answers {
    lines: Vec<String>,
    errors: String,
}

/// Starts a command that runs `tests/programs/resolve.c` on the lab's client.
fn start(lab: &Lab, mut command: Command, calls: &[Call]) -> Child {
    // A file, so that nobody need write while the answers are read.
    // SAFETY: memfd_create(2) with a C string; the new descriptor is nobody else's.
    let mut input =
        unsafe { File::from_raw_fd(libc::memfd_create(c"calls".as_ptr(), libc::MFD_CLOEXEC)) };
    let text = calls.iter().map(Call::line).collect::<String>();
    input.write_all(text.as_bytes()).expect("the file can be written");
    input.rewind().expect("the file can be read again");
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    lab.on(Host::Client, &mut command).spawn().expect("tests/programs/resolve starts")
}

/// The answers of what [`start`] has started.
fn finish(child: Child, calls: &[Call]) -> Answers {
    let output = child.wait_with_output().expect("tests/programs/resolve ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = programs::stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(
        output.status.success(),
        "{} in {}; on standard error: {errors}",
        output.status,
        calls.get(lines.len()).unwrap_or(&calls[0])
    );
    assert_eq!(lines.len(), calls.len(), "one answer for each call; on standard error: {errors}");
    Answers { lines, errors }
}

fn ask(lab: &Lab, command: Command, calls: &[Call]) -> Answers {
    finish(start(lab, command, calls), calls)
}

/// The program without the library.
fn bare(environment: &Environment) -> Command {
    let mut command = environment.bare(environment.program("resolve"));
    command.env_remove("RES_OPTIONS").env_remove("LOCALDOMAIN").env_remove("HOSTALIASES");
    command
}

/// The program with the library and this list.
fn listing(environment: &Environment, list: &str) -> Command {
    with_settings(environment, &[("IPV4_ONLY", list)])
}

fn with_settings(environment: &Environment, settings: &[(&str, &str)]) -> Command {
    let mut command = environment.shimmed(environment.program("resolve"), settings);
    command.env_remove("RES_OPTIONS").env_remove("LOCALDOMAIN").env_remove("HOSTALIASES");
    command
}

/// Who says what a host without IPv6 addresses is answered.
#[derive(Clone, Copy, Debug)]
enum Oracle {
    /// `RES_OPTIONS=no-aaaa`.
    NoAaaa,
    /// The name's twin.
    Twin,
}

impl Oracle {
    /// Those that the environment has.
    fn all(environment: &Environment) -> Vec<Self> {
        match environment.glibc() {
            Some(version) if version >= (2, 36) => vec![Self::NoAaaa, Self::Twin],
            _ => vec![Self::Twin],
        }
    }

    /// Whether it can be asked. glibc calls a name unknown where its alias leads to a host that
    /// exists, but not with the wanted addresses (`getanswer_r` in `resolv/nss_dns/dns-host.c`);
    /// `no-aaaa` and the library do not.
    fn knows(self, call: &Call) -> bool {
        let Some((flags, AF_INET6, ..)) = call.hints else { return true };
        let alias = call.node.as_ref().is_some_and(|node| node.contains("alias"));
        matches!(self, Self::NoAaaa) || !alias || flags & AI_V4MAPPED != 0
    }

    /// The program as the oracle runs it, and the calls that it answers.
    fn question(self, environment: &Environment, calls: &[Call]) -> (Command, Vec<Call>) {
        let mut command = bare(environment);
        match self {
            Self::NoAaaa => {
                command.env("RES_OPTIONS", "no-aaaa");
                (command, calls.to_owned())
            }
            Self::Twin => (command, calls.iter().map(Call::twin).collect()),
        }
    }

    /// An answer's line, with the same name for both of a pair of twins.
    fn answer(self, line: &str) -> String {
        match self {
            Self::NoAaaa => line.to_owned(),
            Self::Twin => {
                TWINS.iter().fold(line.to_owned(), |line, (label, twin)| line.replace(twin, label))
            }
        }
    }

    /// Compares what was seen with what the oracle answers to the same calls.
    fn compare(self, lab: &Lab, environment: &Environment, calls: &[Call], seen: &[String]) {
        let known = calls.iter().zip(seen).filter(|(call, _)| self.knows(call));
        let (calls, seen): (Vec<_>, Vec<_>) =
            known.map(|(call, line)| (call.clone(), self.answer(line))).unzip();
        let (command, questions) = self.question(environment, &calls);
        let wanted = ask(lab, command, &questions).lines;
        let wanted = wanted.iter().map(|line| self.answer(line)).collect::<Vec<_>>();
        compare(&format!("{environment}, {self:?}"), &calls, &wanted, &seen);
    }
}

/// Panics with some of the calls whose answers differ.
fn compare(context: &str, calls: &[Call], wanted: &[String], seen: &[String]) {
    const SHOWN: usize = 8;
    let answers = calls.iter().zip(wanted.iter().zip(seen));
    let different = answers.filter(|(_, (wanted, seen))| wanted != seen).collect::<Vec<_>>();
    let shown = different
        .iter()
        .take(SHOWN)
        .map(|(call, (wanted, seen))| format!("\n{call}\n  wanted {wanted}\n  seen   {seen}"));
    assert!(
        different.is_empty(),
        "{context}: {} of {} answers differ{}",
        different.len(),
        calls.len(),
        shown.collect::<String>()
    );
}

/// Listed hosts against every oracle.
fn compare_with_oracles(lab: &Lab, environment: &Environment, calls: &[Call], list: &str) {
    let seen = ask(lab, listing(environment, list), calls).lines;
    for oracle in Oracle::all(environment) {
        oracle.compare(lab, environment, calls, &seen);
    }
}

/// Hosts that no pattern lists against the program without the library.
fn compare_with_bare(lab: &Lab, environment: &Environment, calls: &[Call], list: &str) {
    let wanted = ask(lab, bare(environment), calls).lines;
    let seen = ask(lab, listing(environment, list), calls);
    compare(&environment.to_string(), calls, &wanted, &seen.lines);
    assert_eq!(seen.errors, "", "{environment}: nothing is said of other hosts");
}

/// A file of the lab, written anew.
fn write(lab: &Lab, file: &str, text: &str) {
    fs::write(lab.file(file), text).expect("a file of the lab can be written");
}

/// A resolver at port 53 of the lab's client. Its names are of two parts: `ok6`, `none6` and
/// `fail6` say what becomes of a question for IPv6, `ok4`, `none4`, `fail4`, `refused4` and
/// `unknown4` what of one for IPv4.
struct Resolver {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resolver {
    fn start(lab: &Lab) -> Self {
        let namespace = Path::new("/proc").join(lab.file("client")).join("ns/net");
        let namespace = File::open(namespace).expect("the client's holder lives");
        let socket = thread::spawn(move || {
            // SAFETY: setns(2) with a descriptor that this thread owns; the thread ends below.
            assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            // Both families: the client may have lost either.
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).expect("port 53 is free")
        });
        let socket = socket.join().expect("the resolver has its socket");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                // The client may be gone by now.
                let _ = socket.send_to(&Self::answer(&question[..length]), from);
            }
        });
        Self { end, thread: Some(thread) }
    }

    /// RFC 1035, section 4.1: a header of 12 bytes, then the name as labels with their lengths up
    /// to an empty one, the type and the class.
    fn answer(message: &[u8]) -> Vec<u8> {
        const A: u16 = 1;
        const AAAA: u16 = 28;
        let name = &message[12..=12 + message[12..].iter().position(|&byte| byte == 0).unwrap()];
        let question = &message[12..12 + name.len() + 4];
        let kind = u16::from_be_bytes([question[name.len()], question[name.len() + 1]]);
        let label = String::from_utf8_lossy(&name[1..=usize::from(name[0])]).into_owned();
        let (six, four) = label.split_once('-').unwrap_or_default();
        // One of the client's own network, one of the machine's own, one of another network: what
        // libc sorts.
        let (what, addresses): (&str, [Vec<u8>; 3]) = match kind {
            A => (four, [vec![198, 51, 100, 2], vec![192, 0, 2, 9], vec![127, 0, 0, 1]]),
            AAAA => (
                six,
                ["2001:db8:2::2", "2001:db8:1::9", "::1"]
                    .map(|address| address.parse::<Ipv6Addr>().unwrap().octets().to_vec()),
            ),
            _ => ("", Default::default()),
        };
        let (code, count) = match what {
            "ok4" | "ok6" => (0, addresses.len()),
            "none4" | "none6" => (0, 0),
            "fail4" | "fail6" => (2, 0),
            "refused4" => (5, 0),
            _ => (3, 0),
        };
        let mut reply = message[..2].to_vec();
        reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(count).unwrap(), 0, 0, 0, 0]);
        reply.extend(question);
        for address in &addresses[..count] {
            // The name as a reference to the question's, the type and the class, 60 s to live.
            reply.extend([0xc0, 12]);
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1, 0, 0, 0, 60, 0, u8::try_from(address.len()).unwrap()]);
            reply.extend(address);
        }
        reply
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Random numbers, the same in each run (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits fit") % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[test]
fn a_listed_host_is_answered_like_one_without_ipv6() {
    let lab = Lab::start(&[]);
    let calls = all_calls(&NAMES);
    assert!(calls.len() >= 500, "{} calls", calls.len());
    for environment in Environment::all() {
        compare_with_oracles(&lab, &environment, &calls, LIST);
    }
}

#[test]
fn another_host_is_answered_by_libc_alone() {
    let lab = Lab::start(&[]);
    let calls = some_calls(&NAMES);
    assert!(calls.len() >= 500, "{} calls", calls.len());
    for environment in Environment::all() {
        compare_with_bare(&lab, &environment, &calls, OTHER_LIST);
        // Without any pattern there is not even a list.
        compare_with_bare(&lab, &environment, &calls, "");
    }
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
    for environment in Environment::all() {
        compare_with_bare(&lab, &environment, &calls, "*");
    }
}

#[test]
fn random_calls_are_answered_like_those_of_a_host_without_ipv6() {
    const CALLS: usize = 10_000;
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
    write(&lab, "resolv", "nameserver 192.0.2.1\nsearch unknown.example.com example.com\n");
    for environment in Environment::all() {
        compare_with_oracles(&lab, &environment, &calls, "*");
        compare_with_bare(&lab, &environment, &calls, OTHER_LIST);
    }
}

#[test]
fn a_listed_name_in_the_hosts_file_is_answered_as_if_its_ipv6_lines_were_not_there() {
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
    for environment in Environment::all() {
        write(&lab, "hosts", IPV4);
        let wanted = ask(&lab, bare(&environment), &calls).lines;
        write(&lab, "hosts", &[IPV6, IPV4].concat());
        let bare = ask(&lab, bare(&environment), &calls).lines;
        assert_ne!(bare, wanted, "{environment}: the IPv6 lines matter");
        let seen = ask(&lab, listing(&environment, LIST), &calls).lines;
        compare(&environment.to_string(), &calls, &wanted, &seen);
        let seen = ask(&lab, listing(&environment, OTHER_LIST), &calls).lines;
        compare(&environment.to_string(), &calls, &bare, &seen);
    }
}

#[test]
fn a_question_for_ipv6_alone_about_a_name_in_the_hosts_file_fails_as_for_a_records() {
    let lab = Lab::start(&[]);
    write(&lab, "hosts", "198.51.100.9 both.example.com\n2001:db8:2::9 both.example.com\n");
    let call = |node| [Call::new(node, Some("80"), Some((0, AF_INET6, SOCK_STREAM, 0)))];
    for environment in Environment::all() {
        let wanted = ask(&lab, bare(&environment), &call("v4only.example.com")).lines;
        let call = call("both.example.com");
        let seen = ask(&lab, listing(&environment, LIST), &call).lines;
        compare(&environment.to_string(), &call, &wanted, &seen);
    }
}

#[test]
fn an_ipv6_line_in_the_hosts_file_does_not_hide_a_records() {
    let lab = Lab::start(&[]);
    write(&lab, "hosts", "2001:db8:2::9 dual.example.com\n");
    let hints = |family| Some((AI_CANONNAME, family, SOCK_STREAM, 0));
    let calls = [AF_UNSPEC, AF_INET, AF_INET6]
        .map(|family| Call::new("dual.example.com", Some("80"), hints(family)));
    for environment in Environment::all() {
        if environment.glibc().is_none() {
            // musl ends the search at a line of either family (name_from_hosts in lookup_name.c).
            continue;
        }
        let seen = ask(&lab, listing(&environment, LIST), &calls).lines;
        Oracle::Twin.compare(&lab, &environment, &calls, &seen);
    }
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
    assert_eq!(programs::output(lab.on(Host::Client, &mut ip)), "");
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
        write(&lab, "resolv", &format!("nameserver {server}\n"));
        for environment in Environment::all() {
            let seen = ask(&lab, listing(&environment, "*"), &calls).lines;
            for oracle in Oracle::all(&environment) {
                oracle.compare(&lab, &environment, &calls, &seen);
            }
            compare_with_bare(&lab, &environment, &calls, OTHER_LIST);
        }
    }
}

#[test]
fn addrconfig_means_what_libc_means_on_a_client_without_any_address() {
    let lab = Lab::start(&[]);
    for addresses in ["-4 gateway", "-6 gateway", "-4 lo", "-6 lo"] {
        take_addresses(&lab, addresses);
    }
    let hosts = "198.51.100.2 dual.test v4only.test\n2001:db8:2::2 dual.test\n";
    write(&lab, "hosts", hosts);
    let calls = with_addrconfig(&["dual.test", "v4only.test"]);
    for environment in Environment::all() {
        let seen = ask(&lab, listing(&environment, "*"), &calls).lines;
        Oracle::Twin.compare(&lab, &environment, &calls, &seen);
    }
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
    for environment in Environment::all() {
        for call in &calls {
            let mut both = questions(&lab, listing(&environment, OTHER_LIST), call);
            both.sort();
            assert_eq!(both, [aaaa, a], "{environment}: another host, {call}");
            let one = questions(&lab, listing(&environment, LIST), call);
            assert_eq!(one, [a], "{environment}: a listed host, {call}");
        }
    }
}

#[test]
fn no_question_for_ipv6_is_asked_about_a_listed_host() {
    let lab = Lab::start(&[]);
    for environment in Environment::all() {
        for node in NAMES {
            for family in FAMILIES {
                for flags in [0, AI_CANONNAME, AI_ADDRCONFIG, AI_ALL | AI_PASSIVE] {
                    let call = Call::new(node, Some("80"), Some((flags, family, SOCK_STREAM, 0)));
                    let asked = questions(&lab, listing(&environment, LIST), &call);
                    let question = format!("query[A] {node}");
                    assert_eq!(asked, [question], "{environment}: {call}");
                }
            }
        }
    }
}

#[test]
fn a_call_that_needs_no_resolver_asks_none() {
    let lab = Lab::start(&[]);
    write(&lab, "hosts", "198.51.100.9 both.example.com\n2001:db8:2::9 both.example.com\n");
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
    for environment in Environment::all() {
        for call in &calls {
            let none: [&str; 0] = [];
            let bare = questions(&lab, bare(&environment), call);
            assert_eq!(bare, none, "{environment}: without the library, {call}");
            let asked = questions(&lab, listing(&environment, LIST), call);
            assert_eq!(asked, none, "{environment}: {call}");
        }
    }
}

#[test]
fn a_resolver_that_drops_questions_for_ipv6_holds_up_no_listed_host() {
    const AT_ONCE: Duration = Duration::from_millis(1500);
    let lab = Lab::start(&["--drop-aaaa"]);
    write(&lab, "resolv", "nameserver 192.0.2.53\noptions timeout:2 attempts:1\n");
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
    thread::scope(|scope| {
        for environment in Environment::all() {
            let (timed, calls) = (&timed, &calls);
            let control = bare(&environment);
            scope.spawn(move || {
                let (call, _) = &calls[0];
                let (_, took) = timed(control, call);
                assert!(took > AT_ONCE, "{environment}: the bare run took {took:?} only");
                for (call, wanted) in calls {
                    let (seen, took) = timed(listing(&environment, LIST), call);
                    let seen = &seen[0];
                    assert!(
                        seen.starts_with(wanted) && took < AT_ONCE,
                        "{environment}: {call}\n  wanted {wanted} in {AT_ONCE:?}\n  \
                         seen   {seen} in {took:?}"
                    );
                }
            });
        }
    });
}

#[test]
fn the_error_is_the_one_of_the_question_for_ipv4() {
    let lab = Lab::start(&[]);
    let _resolver = Resolver::start(&lab);
    write(&lab, "resolv", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
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
    for environment in Environment::all() {
        // musl waits out its time for an answer better than a failure: all at once.
        let mut runs = Vec::new();
        for node in nodes {
            let wanted = [call(node, 0, AF_INET)];
            let wanted = (start(&lab, bare(&environment), &wanted), wanted);
            let calls = [
                call(node, 0, AF_UNSPEC),
                call(node, AI_CANONNAME, AF_UNSPEC),
                call(node, 0, AF_INET6),
                call(node, AI_V4MAPPED, AF_INET6),
                call(node, AI_V4MAPPED | AI_ALL, AF_INET6),
                Call::new(node, Some("80"), None),
            ];
            let seen = calls.map(|call| {
                (start(&lab, listing(&environment, "*"), std::slice::from_ref(&call)), [call])
            });
            runs.push((wanted, seen));
        }
        for ((wanted, call), seen) in runs {
            let wanted = finish(wanted, &call).lines;
            assert!(wanted[0].starts_with("EAI_"), "{environment}: {} is {wanted:?}", call[0]);
            for (seen, call) in seen {
                let seen = finish(seen, &call).lines;
                compare(&environment.to_string(), &call, &wanted, &seen);
            }
        }
    }
}

#[test]
fn success_with_an_empty_list_never_happens() {
    let lab = Lab::start(&[]);
    write(&lab, "hosts", "2001:db8:2::9 six.example.com\n2001:db8:2::9 v4only.example.com\n");
    let calls = some_calls(&["v6only.example.com", "six.example.com", "v4only.example.com"]);
    for environment in Environment::all() {
        let seen = ask(&lab, listing(&environment, LIST), &calls).lines;
        let empty = |line: &str| line == "ok" || line.contains("WITHOUT A LIST");
        let found = calls.iter().zip(&seen).find(|(_, line)| empty(line));
        if let Some((call, line)) = found {
            panic!("{environment}: {call}\n  wanted an error or a list\n  seen   {line}");
        }
    }
}

#[test]
fn a_failed_lookup_leaves_the_result_as_it_was() {
    let lab = Lab::start(&[]);
    let calls = some_calls(&["v6only.example.com", "dual.example.com", "unknown.example.com"]);
    for environment in Environment::all() {
        for command in [bare(&environment), listing(&environment, LIST)] {
            let seen = ask(&lab, command, &calls).lines;
            let found = calls.iter().zip(&seen).find(|(_, line)| line.contains("RESULT CHANGED"));
            if let Some((call, line)) = found {
                panic!("{environment}: {call}\n  wanted the result untouched\n  seen   {line}");
            }
        }
    }
}

#[test]
fn the_callers_arguments_are_read_and_never_written() {
    // They are in pages that are read-only during each call; `ask` reports a death by signal.
    let lab = Lab::start(&[]);
    let calls = some_calls(&["dual.example.com", "DUAL.example.com.", "v6only.example.com"]);
    for environment in Environment::all() {
        ask(&lab, listing(&environment, LIST), &calls);
    }
}

#[test]
fn the_canonical_name_is_kept() {
    let lab = Lab::start(&[]);
    write(
        &lab,
        "hosts",
        "198.51.100.9 first.test second.test\n2001:db8:2::9 first.test second.test\n",
    );
    let mapped = AI_V4MAPPED | AI_ALL;
    let cases = [
        ("alias.example.com", AF_UNSPEC, 0, " 198.51.100.2 port 80 canon dual.example.com"),
        (
            "alias.example.com",
            AF_INET6,
            mapped,
            " ::ffff:198.51.100.2 port 80 canon dual.example.com",
        ),
        ("many.example.com", AF_UNSPEC, 0, " 198.51.100.2 port 80 canon many.example.com"),
        (
            "many.example.com",
            AF_INET6,
            mapped,
            " ::ffff:198.51.100.2 port 80 canon many.example.com",
        ),
        ("second.test", AF_UNSPEC, 0, " 198.51.100.9 port 80 canon first.test"),
        ("second.test", AF_INET6, mapped, " ::ffff:198.51.100.9 port 80 canon first.test"),
    ];
    for environment in Environment::all() {
        for (node, family, flags, wanted) in cases {
            let hints = Some((flags | AI_CANONNAME, family, SOCK_STREAM, 0));
            let call = [Call::new(node, Some("80"), hints)];
            let seen = ask(&lab, listing(&environment, "*"), &call).lines;
            let first = seen[0].split("; ").nth(1).unwrap_or(&seen[0]);
            assert!(
                first.ends_with(wanted),
                "{environment}: {}\n  wanted {wanted}\n  seen   {seen:?}",
                call[0]
            );
        }
    }
}

#[test]
fn errno_after_a_successful_lookup_is_what_libc_leaves() {
    let lab = Lab::start(&[]);
    let in_hosts = "198.51.100.2 dual.test v4only.test\n2001:db8:2::2 dual.test\n";
    write(&lab, "hosts", in_hosts);
    // A log line is written in each call: it must not show.
    let shimmed = |environment: &Environment, list| {
        let settings = [("IPV4_ONLY", list), ("LOG", "trace"), ("LOG_FILE", "/dev/null")];
        with_settings(environment, &settings)
    };
    // The status and errno, without the list.
    let ask = |mut command: Command, calls: &[Call]| {
        command.arg("errno");
        let lines = ask(&lab, command, calls).lines;
        let errno = |line: &String| line.split(';').next().unwrap_or(line).to_owned();
        lines.iter().map(errno).collect::<Vec<_>>()
    };
    for environment in Environment::all() {
        // With DNS, musl's errno depends on how soon the answer comes. With the hosts file, glibc's
        // depends on the family asked for.
        let (calls, oracles) = match environment.glibc() {
            Some(_) => (some_calls(&NAMES), Oracle::all(&environment)),
            None => (some_calls(&["dual.test", "v4only.test"]), vec![Oracle::Twin]),
        };
        let wanted = ask(bare(&environment), &calls);
        let seen = ask(shimmed(&environment, OTHER_LIST), &calls);
        compare(&format!("{environment}, other hosts"), &calls, &wanted, &seen);

        let seen = ask(shimmed(&environment, "*"), &calls);
        for oracle in oracles {
            let (command, questions) = oracle.question(&environment, &calls);
            let wanted = ask(command, &questions);
            let all = calls.iter().zip(wanted.iter().zip(&seen));
            let succeeded = all.filter(|(_, (wanted, _))| wanted.starts_with("ok"));
            let (calls, lines): (Vec<_>, Vec<_>) = succeeded
                .map(|(call, (wanted, seen))| (call.clone(), (wanted.clone(), seen.clone())))
                .unzip();
            let (wanted, seen): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
            assert!(calls.len() > 100, "{environment}: {} calls succeed", calls.len());
            compare(&format!("{environment}, {oracle:?}"), &calls, &wanted, &seen);
        }
    }
}

#[test]
fn the_name_is_matched_as_the_program_passed_it() {
    const LISTED: bool = true;
    const LEFT_ALONE: bool = false;
    let cases = [
        ("dual.example.com", "dual.example.com", LISTED),
        // Case and one trailing dot.
        ("DUAL.Example.COM.", "dual.example.com", LISTED),
        ("dual.example.com", "DUAL.EXAMPLE.COM", LISTED),
        ("dual.example.com", "dual.example.com.", LISTED),
        // What a pattern is for.
        ("*.example.com", "dual.example.com", LISTED),
        (".example.com", "dual.example.com", LISTED),
        (".dual.example.com", "dual.example.com", LISTED),
        ("*", "dual.example.com", LISTED),
        ("other.example.com, dual.example.com", "dual.example.com", LISTED),
        ("*.dual.example.com", "dual.example.com", LEFT_ALONE),
        ("example.com", "dual.example.com", LEFT_ALONE),
        ("ual.example.com .ample.com", "dual.example.com", LEFT_ALONE),
        ("dual.example.co", "dual.example.com", LEFT_ALONE),
        // What is exempt wins, wherever it stands.
        (".example.com !dual.example.com", "dual.example.com", LEFT_ALONE),
        ("!dual.example.com dual.example.com", "dual.example.com", LEFT_ALONE),
        ("!*.example.com,*", "dual.example.com", LEFT_ALONE),
        ("!*,.example.com", "DUAL.example.com.", LEFT_ALONE),
        ("!many.example.com,.example.com", "dual.example.com", LISTED),
        ("!.dual.example.com,.example.com", "many.example.com", LISTED),
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
    write(&lab, "resolv", "nameserver 192.0.2.1\nsearch com example.com\noptions ndots:2\n");
    for environment in Environment::all() {
        for (patterns, node, listed) in cases {
            let call = Call::new(node, Some("80"), Some((AI_CANONNAME, AF_UNSPEC, SOCK_STREAM, 0)));
            let call = std::slice::from_ref(&call);
            let bare = ask(&lab, bare(&environment), call).lines;
            let (command, question) = Oracle::Twin.question(&environment, call);
            let twin = Oracle::Twin.answer(&ask(&lab, command, &question).lines[0]);
            assert_ne!(bare[0], twin, "{environment}: {} shows nothing", call[0]);
            let wanted = if listed { [twin] } else { [bare[0].clone()] };
            let seen = ask(&lab, listing(&environment, patterns), call).lines;
            compare(&format!("{environment}, patterns {patterns}"), call, &wanted, &seen);
        }
    }
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
    for environment in Environment::all() {
        let wanted = ask(&lab, bare(&environment), &calls).lines;
        // What succeeds nevertheless (this libc minds no unknown protocol, say) is not meant.
        let failing = calls.iter().zip(&wanted).filter(|(_, line)| !line.starts_with("ok"));
        let (calls, wanted): (Vec<_>, Vec<_>) =
            failing.map(|(call, line)| (call.clone(), line.clone())).unzip();
        let codes = wanted.iter().collect::<BTreeSet<_>>();
        assert!(codes.len() >= 4, "{environment}: libc has but {codes:?}");
        let seen = ask(&lab, listing(&environment, LIST), &calls).lines;
        compare(&environment.to_string(), &calls, &wanted, &seen);
    }
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
    for environment in Environment::all() {
        for (flags, family) in ways {
            let call = call("v6only.example.com", flags, family);
            let calls = [call.clone(), call.clone(), call];
            let twins = calls.clone().map(|call| call.twin());
            let wanted = ask(&lab, bare(&environment), &twins).lines;
            let seen = ask(&lab, listing(&environment, LIST), &calls);
            compare(&environment.to_string(), &calls, &wanted, &seen.lines);
            let lines = seen.errors.lines().collect::<Vec<_>>();
            let told = |line: &&str| line.contains("WARN") && line.contains("v6only.example.com");
            assert!(
                lines.len() == 1 && lines.iter().all(told),
                "{environment}: {}\n  wanted one warning\n  seen   {lines:?}",
                calls[0]
            );
        }
    }
}

#[test]
fn nothing_is_said_unless_a_host_has_no_ipv4_address() {
    let lab = Lab::start(&[]);
    let calls = some_calls(&["dual.example.com", "v4only.example.com", "alias.example.com"]);
    for environment in Environment::all() {
        let seen = ask(&lab, listing(&environment, LIST), &calls);
        assert_eq!(seen.errors, "", "{environment}: all of these hosts have IPv4 addresses");
    }
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
    write(&lab, "hosts", lines);
    let ways = [(AI_CANONNAME, AF_UNSPEC), (0, AF_INET6), (AI_V4MAPPED | AI_CANONNAME, AF_INET6)];
    let grown = |environment: &Environment, mut command: Command, flags, family| {
        let call = Call::new("both.example.com", None, Some((flags, family, 0, 0)));
        let calls = vec![call; CALLS];
        command.arg("memory");
        let output = start(&lab, command, &calls).wait_with_output().expect("it ends");
        let grown = programs::stdout(&output).trim().parse::<i64>();
        grown.unwrap_or_else(|_| panic!("{environment}: {}: {output:?}", calls[0]))
    };
    for environment in Environment::all() {
        for (flags, family) in ways {
            let seen = grown(&environment, listing(&environment, LIST), flags, family);
            // glibc before 2.36 loses some memory itself where it maps addresses of a host that
            // has both kinds (`convert_hostent_to_gaih_addrtuple` in getaddrinfo.c).
            let own = match flags & AI_V4MAPPED {
                0 => 0,
                _ => grown(&environment, bare(&environment), flags | AI_ALL, family),
            };
            assert!(
                seen < own + NOISE,
                "{environment}: {CALLS} times flags {flags:#x}, family {family}: {seen} KiB more, \
                 wanted less than {}",
                own + NOISE
            );
        }
    }
}
