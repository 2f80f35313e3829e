//! Calls of getaddrinfo, what comes back, and who says what should: glibc since 2.36 has
//! `RES_OPTIONS=no-aaaa`; any libc can be asked for a name that has the same addresses but for those
//! of IPv6, its twin.

use std::fmt;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::FromRawFd;
use std::process::{Child, Command, Stdio};

use libc::{
    AF_INET, AF_INET6, AF_UNSPEC, AI_ADDRCONFIG, AI_ALL, AI_CANONNAME, AI_NUMERICHOST,
    AI_NUMERICSERV, AI_PASSIVE, AI_V4MAPPED, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_RAW,
    SOCK_SEQPACKET, SOCK_STREAM, c_int,
};

use crate::harness::lab::{Host, Lab};
use crate::harness::run::{stderr, stdout};
use crate::harness::{Environment, expect};

/// The names in the lab's DNS.
pub const NAMES: [&str; 8] = [
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
pub const TWINS: [(&str, &str); 6] = [
    ("dual", "v4only"),
    ("DUAL", "V4ONLY"),
    ("many", "v4many"),
    ("alias", "v4alias"),
    ("v6only", "addressless"),
    ("ok6", "none6"),
];
/// Lists all of them.
pub const LIST: &str = ".example.com";
/// Lists none of them.
pub const OTHER_LIST: &str = ".example.net other.example.com";

pub const FAMILIES: [c_int; 3] = [AF_UNSPEC, AF_INET, AF_INET6];
pub const FLAGS: [(c_int, &str); 7] = [
    (AI_PASSIVE, "PASSIVE"),
    (AI_CANONNAME, "CANONNAME"),
    (AI_NUMERICHOST, "NUMERICHOST"),
    (AI_V4MAPPED, "V4MAPPED"),
    (AI_ALL, "ALL"),
    (AI_ADDRCONFIG, "ADDRCONFIG"),
    (AI_NUMERICSERV, "NUMERICSERV"),
];

/// Every combination of the flags.
pub fn all_flags() -> impl Iterator<Item = c_int> {
    (0..1 << FLAGS.len()).map(|chosen: u32| {
        let flags = FLAGS.iter().enumerate().filter(|(index, _)| chosen & (1 << index) != 0);
        flags.fold(0, |all, (_, (flag, _))| all | flag)
    })
}

/// The hints of a call: flags, family, socktype, protocol.
pub type Hints = (c_int, c_int, c_int, c_int);

/// One call of getaddrinfo.
#[derive(Clone)]
pub struct Call {
    pub node: Option<String>,
    pub service: Option<&'static str>,
    pub hints: Option<Hints>,
}

impl Call {
    pub fn new(node: &str, service: Option<&'static str>, hints: Option<Hints>) -> Self {
        Self { node: Some(node.to_owned()), service, hints }
    }

    /// As `tests/programs/resolve.c` reads it.
    pub fn line(&self) -> String {
        let node = self.node.as_deref().unwrap_or("NULL");
        let service = self.service.unwrap_or("NULL");
        match self.hints {
            None => format!("{node}\t{service}\tNULL\n"),
            Some((flags, family, socktype, protocol)) => {
                format!("{node}\t{service}\t{flags}\t{family}\t{socktype}\t{protocol}\n")
            }
        }
    }

    pub fn twin(&self) -> Self {
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
pub fn all_calls(nodes: &[&str]) -> Vec<Call> {
    calls(nodes, all_flags)
}

/// These nodes with every family and up to two flags at once, and more.
pub fn some_calls(nodes: &[&str]) -> Vec<Call> {
    calls(nodes, || all_flags().filter(|flags| flags.count_ones() <= 2))
}

/// These nodes with these flags and every family; the rarer services and socktypes with some flags;
/// and without hints.
pub fn calls<F: Iterator<Item = c_int>>(nodes: &[&str], every: fn() -> F) -> Vec<Call> {
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
pub struct Answers {
    pub lines: Vec<String>,
    pub errors: String,
}

/// Starts a command that runs `tests/programs/resolve.c` on the lab's client.
pub fn start(lab: &Lab, mut command: Command, calls: &[Call]) -> Child {
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
pub fn finish(child: Child, calls: &[Call]) -> Answers {
    let output = child.wait_with_output().expect("tests/programs/resolve ends");
    let errors = stderr(&output);
    let lines = stdout(&output).lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(
        output.status.success(),
        "{} in {}; on standard error: {errors}",
        output.status,
        calls.get(lines.len()).unwrap_or(&calls[0])
    );
    expect(
        format!("one answer for each call; on standard error: {errors}"),
        lines.len(),
        calls.len(),
    );
    Answers { lines, errors }
}

pub fn ask(lab: &Lab, command: Command, calls: &[Call]) -> Answers {
    finish(start(lab, command, calls), calls)
}

/// The program without the library.
pub fn bare(environment: &Environment) -> Command {
    let mut command = environment.bare(environment.program("resolve"));
    command.env_remove("RES_OPTIONS").env_remove("LOCALDOMAIN").env_remove("HOSTALIASES");
    command
}

/// The program with the library and this list.
pub fn listing(environment: &Environment, list: &str) -> Command {
    with_settings(environment, &[("IPV4_ONLY", list)])
}

pub fn with_settings(environment: &Environment, settings: &[(&str, &str)]) -> Command {
    let mut command = environment.shimmed(environment.program("resolve"), settings);
    command.env_remove("RES_OPTIONS").env_remove("LOCALDOMAIN").env_remove("HOSTALIASES");
    command
}

/// Who says what a host without IPv6 addresses is answered.
#[derive(Clone, Copy, Debug)]
pub enum Oracle {
    /// `RES_OPTIONS=no-aaaa`.
    NoAaaa,
    /// The name's twin.
    Twin,
}

impl Oracle {
    /// Those that the environment has.
    pub fn all(environment: &Environment) -> Vec<Self> {
        match environment.glibc {
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
    pub fn question(self, environment: &Environment, calls: &[Call]) -> (Command, Vec<Call>) {
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
    pub fn answer(self, line: &str) -> String {
        match self {
            Self::NoAaaa => line.to_owned(),
            Self::Twin => {
                TWINS.iter().fold(line.to_owned(), |line, (label, twin)| line.replace(twin, label))
            }
        }
    }

    /// Compares what was seen with what the oracle answers to the same calls.
    pub fn compare(self, lab: &Lab, environment: &Environment, calls: &[Call], seen: &[String]) {
        let known = calls.iter().zip(seen).filter(|(call, _)| self.knows(call));
        let (calls, seen): (Vec<_>, Vec<_>) =
            known.map(|(call, line)| (call.clone(), self.answer(line))).unzip();
        let (command, questions) = self.question(environment, &calls);
        let wanted = ask(lab, command, &questions).lines;
        let wanted = wanted.iter().map(|line| self.answer(line)).collect::<Vec<_>>();
        compare(&format!("{self:?}"), &calls, &wanted, &seen);
    }
}

/// Panics with some of the calls whose answers differ.
pub fn compare(context: &str, calls: &[Call], wanted: &[String], seen: &[String]) {
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
pub fn compare_with_oracles(lab: &Lab, environment: &Environment, calls: &[Call], list: &str) {
    let seen = ask(lab, listing(environment, list), calls).lines;
    for oracle in Oracle::all(environment) {
        oracle.compare(lab, environment, calls, &seen);
    }
}

/// Hosts that no pattern lists against the program without the library.
pub fn compare_with_bare(lab: &Lab, environment: &Environment, calls: &[Call], list: &str) {
    let wanted = ask(lab, bare(environment), calls).lines;
    let seen = ask(lab, listing(environment, list), calls);
    compare(&environment.to_string(), calls, &wanted, &seen.lines);
    expect("nothing is said of other hosts", seen.errors, "");
}

/// Random numbers, the same in each run (xorshift64, Marsaglia 2003).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits fit") % bound
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
