//! The settings: the table of the environment variables, their parsers, and what is invalid about them.
//!
//! Pure and without allocation, so the command shares it, and no setting, however long, takes memory of the
//! host program. An invalid setting disables only itself: each is reported as a [`Problem`], which names the
//! variable, the invalid part, what is valid, and what is used instead.

use std::fmt;
use std::os::raw::c_int;
use std::sync::atomic::AtomicU64;

use log::LevelFilter;

use crate::allowlist::{Allowlist, OutOfMemory, Source};

/// One setting: its parser, and the texts about it in the help, the manual page and the README.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The environment variable.
    pub variable: &'static str,
    /// The command's option that sets it, with its dashes; empty if no option sets it.
    pub option: &'static str,
    /// The kind of its value.
    pub kind: ValueKind,
    /// The name of its value in the help.
    pub metavariable: &'static str,
    /// A valid value.
    pub example: &'static str,
    /// The value if the variable is not set.
    pub default: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Puts a value, which is not empty, into the settings.
    parse: Parse,
}

type Parse = for<'a> fn(&'a [u8], &mut Settings<'a>, Report<'_>);

/// The kind of a setting's value. It decides how two values are combined, and how shells complete a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// On or off, in any of the usual words.
    Switch,
    /// Words, separated by commas or white space: several values are one list.
    List,
    /// `KEY=VALUE` parts, separated by commas: several values are put together.
    Keys,
    /// The path of a file.
    File,
    /// Directives of a log filter, separated by commas: the last value counts.
    Filter,
}

/// Switches the library off; looked at before anything else.
pub const SWITCH: Row = Row {
    variable: "EGRESS_SHIM",
    option: "",
    kind: ValueKind::Switch,
    metavariable: "on|off",
    example: "off",
    default: "on",
    help: "off: the library does nothing at all",
    parse: |value, _, report| {
        if parse_switch(value).is_none() {
            report_invalid(report, &SWITCH, value, &ON_OR_OFF, &"using on");
        }
    },
};
/// The allowlist.
pub const IPV4_ONLY: Row = Row {
    variable: "EGRESS_SHIM_IPV4_ONLY",
    option: "--ipv4-only",
    kind: ValueKind::List,
    metavariable: "PATTERN",
    example: "api.example.com",
    default: "no host",
    help: "host patterns, separated by commas or white space",
    // The patterns are parsed by load_allowlist.
    parse: |value, settings, _| settings.ipv4_only = value,
};
/// The allowlist's file.
pub const IPV4_ONLY_FILE: Row = Row {
    variable: "EGRESS_SHIM_IPV4_ONLY_FILE",
    option: "--ipv4-only-file",
    kind: ValueKind::File,
    metavariable: "FILE",
    example: "/etc/egress-shim/hosts",
    default: "none",
    help: "a file of host patterns, where # starts a comment; adds to the patterns above",
    parse: |value, settings, _| settings.ipv4_only_file = Some(value),
};
/// The keepalive of outbound TCP connections.
pub const KEEPALIVE: Row = Row {
    variable: "EGRESS_SHIM_KEEPALIVE",
    option: "--keepalive",
    kind: ValueKind::Keys,
    metavariable: "SPEC",
    example: "idle=30",
    default: "idle=60,interval=60,count=5",
    help: "on, off, or any of idle=S,interval=S,count=N,user-timeout=S,enforce",
    parse: |value, settings, report| settings.keepalive = parse_keepalive(value, report),
};
/// The executables to act in.
pub const PROGRAMS: Row = Row {
    variable: "EGRESS_SHIM_PROGRAMS",
    option: "--program",
    kind: ValueKind::List,
    metavariable: "NAME",
    example: "python3.11",
    default: "every program",
    help: "act only in executables of these names; !NAME excludes one",
    parse: |value, settings, report| {
        settings.programs = Some(value);
        for part in words(value).filter(|part| !is_program_name(part)) {
            let must = "must be the name of an executable, without directories and *, or !NAME";
            report_invalid(report, &PROGRAMS, part, &must, &"ignoring this name");
        }
    },
};
/// The filter of the log.
pub const LOG: Row = Row {
    variable: "EGRESS_SHIM_LOG",
    option: "--log",
    kind: ValueKind::Filter,
    metavariable: "FILTER",
    example: "debug",
    default: "warn",
    help: "off, error, warn, info, debug or trace, also as egress_shim::MODULE=LEVEL",
    parse: |value, settings, report| {
        settings.log.get_or_insert_default().filter = value;
        for part in log_directives(value).filter_map(Result::err) {
            let must = format_args!(
                "must be off, error, warn, info, debug or trace, or egress_shim::MODULE=LEVEL for {Modules}"
            );
            report_invalid(report, &LOG, part, &must, &"ignoring this part");
        }
    },
};
/// The file of the log.
pub const LOG_FILE: Row = Row {
    variable: "EGRESS_SHIM_LOG_FILE",
    option: "--log-file",
    kind: ValueKind::File,
    metavariable: "FILE",
    example: "/var/log/egress-shim.log",
    default: "standard error",
    help: "a file to append log lines to",
    parse: |value, settings, _| settings.log.get_or_insert_default().file = Some(value),
};
/// Whether an invalid setting is fatal.
pub const STRICT: Row = Row {
    variable: "EGRESS_SHIM_STRICT",
    option: "",
    kind: ValueKind::Switch,
    metavariable: "on|off",
    example: "1",
    default: "off",
    help: "on (or 1): an invalid setting ends the program before main, with exit status 78",
    parse: |value, settings, report| match parse_switch(value) {
        Some(strict) => settings.strict = strict,
        None => report_invalid(report, &STRICT, value, &ON_OR_OFF, &"using off"),
    },
};

/// Every setting, in the order in which people need them. The order means nothing to the code.
pub const TABLE: [Row; 8] =
    [IPV4_ONLY, IPV4_ONLY_FILE, KEEPALIVE, PROGRAMS, LOG, LOG_FILE, STRICT, SWITCH];

/// The part of a row that the library needs. The texts stay out of the library's data, which the loader relocates.
type Parser = (&'static str, Parse);

const fn parsers<const COUNT: usize>(table: &[Row; COUNT]) -> [Parser; COUNT] {
    let mut parsers: [Parser; COUNT] = [("", SWITCH.parse); COUNT];
    let mut index = 0;
    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
    while index < COUNT {
        parsers[index] = (table[index].variable, table[index].parse);
        index += 1;
    }
    parsers
}

/// The parsers of the table.
static PARSERS: [Parser; TABLE.len()] = parsers(&TABLE);

/// The names of the settings.
fn variables() -> impl Iterator<Item = &'static str> {
    PARSERS.iter().map(|(variable, _)| *variable)
}

/// The question of `egress-shim --check` to a process that it has started. This is not a setting.
pub const CHECK: &str = "EGRESS_SHIM_CHECK";

/// The exit status for an invalid setting (`EX_CONFIG` in sysexits.h).
pub const EXIT_CONFIG: c_int = 78;

/// The settings of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings<'a> {
    /// The keepalive of outbound TCP connections; `None` if it is off.
    pub keepalive: Option<Keepalive>,
    /// The patterns of `EGRESS_SHIM_IPV4_ONLY`, unparsed.
    pub ipv4_only: &'a [u8],
    /// The path in `EGRESS_SHIM_IPV4_ONLY_FILE`.
    pub ipv4_only_file: Option<&'a [u8]>,
    /// The names of the programs to act in, unparsed; `None` is every program.
    pub programs: Option<&'a [u8]>,
    /// The filter and the file of the log; `None` if nothing may be written.
    pub log: Option<Log<'a>>,
    /// Whether an invalid setting is fatal.
    pub strict: bool,
}

impl Settings<'_> {
    /// Those of a process in which the library does nothing.
    pub const OFF: Self = Self {
        keepalive: None,
        ipv4_only: &[],
        ipv4_only_file: None,
        programs: None,
        log: None,
        strict: false,
    };

    /// Those of a process in which nothing is set.
    pub const DEFAULT: Self = Self {
        keepalive: Some(Keepalive::DEFAULT),
        log: Some(Log { filter: &[], file: None }),
        ..Self::OFF
    };

    /// Whether any host may be listed.
    #[must_use]
    pub fn has_allowlist(&self) -> bool {
        !self.ipv4_only.is_empty() || self.ipv4_only_file.is_some()
    }
}

/// The log's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log<'a> {
    /// The filter as it stands, for [`log_directives`]; empty is the default.
    pub filter: &'a [u8],
    /// The file to append to; `None` is standard error.
    pub file: Option<&'a [u8]>,
}

/// The keepalive of outbound TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The three timings.
    pub timings: Timings,
    /// `TCP_USER_TIMEOUT`, in seconds; `None` leaves it to the program.
    pub user_timeout: Option<c_int>,
    /// Whether the timings are upper limits for those that the program sets.
    pub enforce: bool,
}

/// The three keepalive timings of a TCP socket (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// `TCP_KEEPIDLE`: seconds of silence before the first probe.
    pub idle: c_int,
    /// `TCP_KEEPINTVL`: seconds between probes.
    pub interval: c_int,
    /// `TCP_KEEPCNT`: unanswered probes after which the connection is dropped.
    pub count: c_int,
}

impl Timings {
    /// The timings of a new socket if the sysctls are unchanged (`TCP_KEEPALIVE_TIME`,
    /// `TCP_KEEPALIVE_INTVL` and `TCP_KEEPALIVE_PROBES` in the kernel's include/net/tcp.h).
    pub const KERNEL: Self = Self { idle: 7200, interval: 75, count: 9 };
}

impl Keepalive {
    /// 60 s of silence is less than any NAT in the field allows (AWS 350 s, Azure 240 s; RFC 5382, section 5,
    /// asks for 2 hours and 4 minutes).
    pub const DEFAULT: Self = Self {
        timings: Timings { idle: 60, interval: 60, count: 5 },
        user_timeout: None,
        enforce: false,
    };
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idle={},interval={},count={}", self.idle, self.interval, self.count)
    }
}

/// As the setting would be written.
impl fmt::Display for Keepalive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timings)?;
        if let Some(seconds) = self.user_timeout {
            write!(f, ",user-timeout={seconds}")?;
        }
        f.write_str(if self.enforce { ",enforce" } else { "" })
    }
}

/// The settings in force, for the log.
impl fmt::Display for Settings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keepalive {
            Some(keepalive) => write!(f, "keepalive {keepalive}")?,
            None => f.write_str("keepalive off")?,
        }

        if !self.has_allowlist() {
            return f.write_str("; no host listed");
        }
        f.write_str("; IPv4 only for ")?;
        if !self.ipv4_only.is_empty() {
            write!(f, "\"{}\"", self.ipv4_only.escape_ascii())?;
        }
        if let Some(file) = self.ipv4_only_file {
            let and = if self.ipv4_only.is_empty() { "" } else { " and " };
            write!(f, "{and}the hosts listed in {}", file.escape_ascii())?;
        }
        Ok(())
    }
}

/// The problem of one setting. `Display` names the variable, the invalid part, what is valid and what is
/// used instead, in one printable line.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// Its kind.
    pub kind: Kind,
    /// The variable, as it stands in the environment.
    pub variable: &'a [u8],
    /// For a pattern in a file: the path and the number of the line.
    pub place: Option<(&'a [u8], usize)>,
    /// The invalid part of the value.
    pub part: &'a [u8],
    /// The valid values.
    pub must: &'a dyn fmt::Display,
    /// The value that is used instead.
    pub instead: &'a dyn fmt::Display,
}

/// The kind of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An invalid setting, which ends a strict program.
    Invalid,
    /// A variable that looks like a setting but is not one. It never ends a program, because images may set such
    /// variables.
    Unknown,
    /// A valid setting whose effect people may not expect.
    Questionable,
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", Escaped(self.variable))?;
        if let Some((path, line)) = self.place {
            write!(f, "{} line {line}: ", Escaped(path))?;
        }
        write!(f, "\"{}\": {}; {}", Escaped(self.part), self.must, self.instead)
    }
}

/// A part, a name or a path in a message: printable, and cut, so that a line with two of them is not too long.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 300;
        let mut length = 0;
        for &byte in self.0 {
            if length >= MOST {
                return f.write_str("...");
            }
            let escaped = std::ascii::escape_default(byte);
            length += escaped.len();
            fmt::Display::fmt(&escaped, f)?;
        }
        Ok(())
    }
}

/// Takes each problem.
pub type Report<'a> = &'a mut dyn FnMut(&Problem<'_>);

fn report_invalid(
    report: Report<'_>,
    row: &Row,
    part: &[u8],
    must: &dyn fmt::Display,
    instead: &dyn fmt::Display,
) {
    let variable = row.variable.as_bytes();
    report(&Problem { kind: Kind::Invalid, variable, place: None, part, must, instead });
}

/// The values of the settings in environment entries (`NAME=value`), without white space around them. An empty
/// value counts as not set.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// In the order of [`PARSERS`].
    values: [Option<&'a [u8]>; TABLE.len()],
    /// The number of variables that look like a setting but are not one.
    pub unknown: usize,
}

impl<'a> Values<'a> {
    /// As for getenv(3), the first of two entries counts, and one without `=` does not.
    pub fn of(entries: impl Iterator<Item = &'a [u8]>) -> Self {
        Self::in_order_of(&PARSERS, entries)
    }

    fn in_order_of(
        parsers: &[Parser; TABLE.len()],
        entries: impl Iterator<Item = &'a [u8]>,
    ) -> Self {
        let mut values = [None; TABLE.len()];
        let mut unknown = 0;
        for (name, value) in entries.filter_map(own_entry) {
            let known = parsers.iter().position(|(known, _)| known.as_bytes() == name);
            match known.and_then(|index| values.get_mut(index)) {
                Some(slot) => _ = slot.get_or_insert(value),
                None => unknown += usize::from(is_meant_for_us(name)),
            }
        }
        Self { values: values.map(|value| value.filter(|value| !value.is_empty())), unknown }
    }

    /// The value of one setting.
    fn get(&self, parsers: &[Parser; TABLE.len()], row: &Row) -> Option<&'a [u8]> {
        let place = parsers.iter().position(|(variable, _)| *variable == row.variable)?;
        self.values.get(place).copied().flatten()
    }

    /// Whether they switch the library off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.get(&PARSERS, &SWITCH).and_then(parse_switch) == Some(false)
    }

    /// The settings of the log, unparsed.
    #[must_use]
    pub fn log(&self) -> Log<'a> {
        let filter = self.get(&PARSERS, &LOG).unwrap_or_default();
        Log { filter, file: self.get(&PARSERS, &LOG_FILE) }
    }

    /// Whether an invalid setting is fatal.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.get(&PARSERS, &STRICT).and_then(parse_switch) == Some(true)
    }

    /// The names of the programs to act in.
    #[must_use]
    pub fn programs(&self) -> Option<&'a [u8]> {
        self.get(&PARSERS, &PROGRAMS)
    }

    /// Turns the values into settings. Patterns are parsed later, by [`load_allowlist`].
    pub fn parse(&self, report: Report<'_>) -> Settings<'a> {
        self.parse_with(&PARSERS, report)
    }

    fn parse_with(&self, parsers: &[Parser; TABLE.len()], report: Report<'_>) -> Settings<'a> {
        if self.get(parsers, &SWITCH).and_then(parse_switch) == Some(false) {
            return Settings::OFF;
        }
        let mut settings = Settings::DEFAULT;
        for ((_, parse), value) in parsers.iter().zip(self.values) {
            if let Some(value) = value {
                parse(value, &mut settings, report);
            }
        }
        settings
    }
}

/// The name and the value of an entry that may be a setting of egress-shim.
fn own_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    if !entry.starts_with(SWITCH.variable.as_bytes()) {
        return None;
    }
    let (name, value) = entry.split_at(entry.iter().position(|&byte| byte == b'=')?);
    Some((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

/// Reports each variable that looks like a setting but is not one.
pub fn report_unknown<'a>(entries: impl Iterator<Item = &'a [u8]>, report: Report<'_>) {
    for (variable, part) in entries.filter_map(own_entry) {
        let is_known = variables().any(|known| known.as_bytes() == variable);
        if !is_known && is_meant_for_us(variable) {
            report(&Problem {
                kind: Kind::Unknown,
                variable,
                place: None,
                part,
                must: &NoSuchSetting(variable),
                instead: &"ignoring it",
            });
        }
    }
}

/// The valid values of a switch.
const ON_OR_OFF: &str = "must be on or off (also 1 or 0, yes or no, true or false)";

/// A switch in any of the usual words; ASCII case does not matter.
fn parse_switch(value: &[u8]) -> Option<bool> {
    const WORDS: [[&str; 2]; 4] = [["on", "off"], ["1", "0"], ["yes", "no"], ["true", "false"]];
    let is = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    WORDS.iter().find_map(|[on, off]| match (is(on), is(off)) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    })
}

/// Whether a variable that is not a setting was meant to be one. If a Service's name begins with egress-shim, Kubernetes
/// sets `EGRESS_SHIM..._SERVICE_HOST`, `..._PORT` and the like in every container of the namespace.
fn is_meant_for_us(name: &[u8]) -> bool {
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    name.get(SWITCH.variable.len()) == Some(&b'_')
        && name != CHECK.as_bytes()
        && !has(b"_SERVICE_")
        && !has(b"_PORT")
}

/// The message about a variable that is not a setting.
struct NoSuchSetting<'a>(&'a [u8]);

impl fmt::Display for NoSuchSetting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match nearest_variable(self.0) {
            Some(nearest) => write!(f, "no such setting; did you mean {nearest}?"),
            None if self.0 == b"EGRESS_SHIM_LIBRARY" => f.write_str(
                "no such setting; the library can only be named by an option: --library PATH",
            ),
            None => {
                f.write_str("no such setting; the settings are ")?;
                for (index, variable) in variables().enumerate() {
                    write!(f, "{}{variable}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}

/// The setting that a misspelt name probably means.
#[must_use]
pub fn nearest_variable(name: &[u8]) -> Option<&'static str> {
    let start = SWITCH.variable.len() + 1;
    let ending = name.get(start..)?;
    let (nearest, distance) = variables()
        .filter_map(|known| Some((known, distance(known.as_bytes().get(start..)?, ending)?)))
        .min_by_key(|(_, distance)| *distance)?;
    (distance <= 1 + ending.len() / 4).then_some(nearest)
}

/// The number of letters to insert, delete or change to turn one word into the other (Levenshtein's
/// distance), ignoring case; `None` for words that are too long for a setting.
fn distance(known: &[u8], other: &[u8]) -> Option<usize> {
    const LONGEST: usize = 32;
    let mut row = [0; LONGEST];
    let row = row.get_mut(..=other.len())?;
    for (index, cell) in row.iter_mut().enumerate() {
        *cell = index;
    }
    for (index, letter) in known.iter().enumerate() {
        let (mut diagonal, mut left) = (index, index + 1);
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, candidate) in row.iter_mut().skip(1).zip(other) {
            let changed = diagonal + usize::from(!letter.eq_ignore_ascii_case(candidate));
            diagonal = *cell;
            *cell = changed.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
    }
    row.last().copied()
}

/// A key of `EGRESS_SHIM_KEEPALIVE` that takes a number.
struct Key {
    name: &'static str,
    unit: Unit,
    /// The kernel's limit.
    most: c_int,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Probes,
}

impl Key {
    /// A number that is valid for the key.
    fn parse(&self, text: &[u8]) -> Option<c_int> {
        parse_number(text, self.unit).filter(|number| (1..=self.most).contains(number))
    }
}

/// The key that a number without a key probably means.
const IDLE: Key = Key { name: "idle", unit: Unit::Seconds, most: 32767 };

/// The keys, in the order of [`parse_keepalive`]'s values. The limits are `MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL` and
/// `MAX_TCP_KEEPCNT` in the kernel's include/net/tcp.h; `TCP_USER_TIMEOUT` is an int of milliseconds.
static KEYS: [Key; 4] = [
    IDLE,
    Key { name: "interval", unit: Unit::Seconds, most: 32767 },
    Key { name: "count", unit: Unit::Probes, most: 127 },
    Key { name: "user-timeout", unit: Unit::Seconds, most: c_int::MAX / 1000 },
];

/// `on`, `off` or any of `idle=S,interval=S,count=N,user-timeout=S,enforce`; `None` is off.
fn parse_keepalive(value: &[u8], report: Report<'_>) -> Option<Keepalive> {
    if value.eq_ignore_ascii_case(b"off") {
        return None;
    }
    if value.eq_ignore_ascii_case(b"on") {
        return Some(Keepalive::DEFAULT);
    }
    let default = Keepalive::DEFAULT.timings;
    let defaults = [Some(default.idle), Some(default.interval), Some(default.count), None];
    // For each key, whether it was given, and its valid value.
    let mut given = [None::<Option<c_int>>; KEYS.len()];
    let mut enforce = false;
    for part in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if part == b"enforce" {
            if enforce {
                report_invalid(report, &KEEPALIVE, part, &"must be given once", &"using it");
            }
            enforce = true;
            continue;
        }
        let mut sides = part.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let (name, number) = (sides.next().unwrap_or_default(), sides.next());
        let mut known = KEYS.iter().zip(&mut given).zip(defaults);
        let known = known.find(|((key, _), _)| key.name.as_bytes() == name);
        let (Some(((key, given), default)), Some(number)) = (known, number) else {
            let must = NoKeepalivePart(part);
            report_invalid(report, &KEEPALIVE, part, &must, &"ignoring this part");
            continue;
        };
        let parsed = key.parse(number);
        let instead = &InUse(given.map_or(default, |given| given.or(default)));
        if given.is_some() {
            let must = format_args!("{} must be given once", key.name);
            report_invalid(report, &KEEPALIVE, part, &must, instead);
            continue;
        }
        *given = Some(parsed);
        if parsed.is_none() {
            let must = InvalidNumber { key, text: number };
            report_invalid(report, &KEEPALIVE, part, &must, instead);
        }
    }
    let [idle, interval, count, user_timeout] = given.map(Option::flatten);
    let timings = Timings {
        idle: idle.unwrap_or(default.idle),
        interval: interval.unwrap_or(default.interval),
        count: count.unwrap_or(default.count),
    };
    // 32767 + 32767 * 127 fits.
    let probes = timings.idle + timings.interval * timings.count;
    if let Some(seconds) = user_timeout.filter(|seconds| *seconds < probes) {
        report(&Problem {
            kind: Kind::Questionable,
            variable: KEEPALIVE.variable.as_bytes(),
            place: None,
            part: value,
            must: &format_args!(
                "user-timeout should be at least idle + interval x count, which is {probes}: it ends \
                 a silent connection before the last probe"
            ),
            instead: &format_args!("using {seconds}"),
        });
    }
    Some(Keepalive { timings, user_timeout, enforce })
}

/// The value in use for a key, if the given value is invalid.
struct InUse(Option<c_int>);

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "using {value}"),
            None => f.write_str("leaving it unset"),
        }
    }
}

/// The message about the value of a key.
struct InvalidNumber<'a> {
    key: &'a Key,
    text: &'a [u8],
}

impl fmt::Display for InvalidNumber<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { name, unit, most } = self.key;
        let mut words = self.text.split(|byte| byte.is_ascii_whitespace() || *byte == b';');
        if words.next().is_some_and(|word| parse_number(word, *unit).is_some())
            && words.any(|word| word.iter().any(u8::is_ascii_alphabetic))
        {
            return f.write_str("the parts must be separated by commas");
        }
        match unit {
            Unit::Seconds => {
                write!(
                    f,
                    "{name} must be a whole number of seconds from 1 to {most}, as in 60, 60s or 1m"
                )
            }
            Unit::Probes => write!(f, "{name} must be a whole number from 1 to {most}"),
        }
    }
}

/// The message about a part that is not a key with a value: a guess at the intended part.
struct NoKeepalivePart<'a>(&'a [u8]);

impl fmt::Display for NoKeepalivePart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.0;
        if part.eq_ignore_ascii_case(b"on") || part.eq_ignore_ascii_case(b"off") {
            return f
                .write_str("on and off must stand alone; enforce by itself switches keepalive on");
        }
        // 1 and 0 are words for on and off elsewhere.
        if parse_switch(part).is_none() && IDLE.parse(part).is_some() {
            return write!(f, "must have a key; did you mean idle={}?", Escaped(part));
        }
        let end = part.iter().position(|byte| !byte.is_ascii_alphabetic() && *byte != b'-');
        let (name, rest) = part.split_at(end.unwrap_or(part.len()));
        let rest = rest.trim_ascii_start();
        let value =
            rest.strip_prefix(b":").or_else(|| rest.strip_prefix(b"=")).map(<[u8]>::trim_ascii);
        let nearest = KEYS
            .iter()
            .filter_map(|key| Some((key, distance(key.name.as_bytes(), name)?)))
            .filter(|(key, distance)| *distance <= key.name.len().max(name.len()) / 2)
            .min_by_key(|(_, distance)| *distance)
            .map(|(key, _)| key);
        match (nearest, value) {
            (Some(key), Some(value)) if key.parse(value).is_some() => {
                write!(f, "did you mean {}={}?", key.name, Escaped(value))
            }
            (Some(key), None) if rest.is_empty() => {
                write!(f, "{} needs a value, as in {}=60", key.name, key.name)
            }
            _ => write!(f, "must be {}", KEEPALIVE.help),
        }
    }
}

/// A decimal number. A number of seconds may have a unit: `60s`, `1m`, `1h`.
fn parse_number(text: &[u8], unit: Unit) -> Option<c_int> {
    let (digits, factor) = match text {
        [digits @ .., b's'] if unit == Unit::Seconds => (digits, 1),
        [digits @ .., b'm'] if unit == Unit::Seconds => (digits, 60),
        [digits @ .., b'h'] if unit == Unit::Seconds => (digits, 3600),
        _ => (text, 1),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse::<c_int>().ok()?.checked_mul(factor)
}

/// The modules of the library that log.
pub const MODULES: [&str; 5] = ["state", "list", "resolver", "dns", "keepalive"];

/// The modules in a sentence.
struct Modules;

impl fmt::Display for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, module) in MODULES.iter().enumerate() {
            let separator = match index {
                0 => "",
                _ if index + 1 == MODULES.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{module}")?;
        }
        Ok(())
    }
}

/// One directive of a log filter: its module, or `None` for all modules, and the level.
pub type Directive<'a> = (Option<&'a str>, LevelFilter);

/// The directives of a log filter as `env_logger` reads them: `LEVEL`, `egress_shim::MODULE` or
/// `egress_shim::MODULE=LEVEL`, separated by commas. A part that is not a directive is an error. `env_logger` takes any
/// other word for the name of a module, so a misspelt level would silence the log without a message.
pub fn log_directives(filter: &[u8]) -> impl Iterator<Item = Result<Directive<'_>, &[u8]>> {
    let level = |word: &str| word.trim().parse::<LevelFilter>().ok();
    // env_logger would take a slash for a filter of texts. No name has a slash.
    let is_module = |word: &str| {
        word.strip_prefix("egress_shim").is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix("::").is_some_and(|name| MODULES.contains(&name))
        })
    };
    filter.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|part| !part.is_empty()).map(
        move |part| {
            let text = str::from_utf8(part).map_err(|_| part)?;
            let directive = match text.split_once('=') {
                Some((name, word)) => {
                    let name = Some(name.trim()).filter(|name| is_module(name));
                    name.and_then(|name| Some((Some(name), level(word)?)))
                }
                None if is_module(text) => Some((Some(text), LevelFilter::Trace)),
                None => level(text).map(|level| (None, level)),
            };
            directive.ok_or(part)
        },
    )
}

/// The words of a value, which are separated by commas or white space.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',' || byte.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

fn is_program_name(word: &[u8]) -> bool {
    let name = word.strip_prefix(b"!").unwrap_or(word);
    !name.is_empty() && !name.iter().any(|byte| matches!(byte, b'/' | b'*' | b'!'))
}

/// Whether the library acts in a program. The names are that of the executed file and that of the file that runs. For a
/// script these are its own name and its interpreter's.
#[must_use]
pub fn is_program_selected(programs: &[u8], names: [&[u8]; 2]) -> bool {
    let (mut any, mut wanted) = (false, false);
    for word in words(programs).filter(|word| is_program_name(word)) {
        match word.strip_prefix(b"!") {
            Some(name) if names.contains(&name) => return false,
            Some(_) => {}
            None => {
                any = true;
                wanted |= names.contains(&word);
            }
        }
    }
    wanted || !any
}

/// The largest list file. A larger file is hardly a list of hosts, and would take memory from the program.
pub const LARGEST_FILE: usize = 16 << 20;
/// The problem of a larger file.
pub const TOO_LARGE: &str = "larger than 16 MiB";
/// The problem of a directory, a pipe or a device as the file of patterns.
pub const NOT_REGULAR: &str = "not a regular file";
/// At most this many invalid patterns are reported one by one; a file may hold any number.
const PATTERNS_REPORTED: usize = 10;

/// Builds the allowlist of the two texts, the file's with its path.
///
/// # Errors
/// There is not enough memory for the list.
pub fn load_allowlist(
    variable: &[u8],
    file: Option<(&[u8], &[u8])>,
    report: Report<'_>,
) -> Result<Allowlist, OutOfMemory> {
    let text = file.map(|(_, text)| text).unwrap_or_default();
    let list = Allowlist::with_room_for(variable, text)?;
    fill_allowlist(&list, variable, file, report);
    Ok(list)
}

/// Writes the allowlist of the two settings' texts, the file's with its path, over another list, which has
/// room for it.
pub fn fill_allowlist<W: AsRef<[AtomicU64]>>(
    list: &Allowlist<W>,
    variable: &[u8],
    file: Option<(&[u8], &[u8])>,
    report: Report<'_>,
) {
    let text = file.map(|(_, text)| text).unwrap_or_default();
    let (mut invalid_in_variable, mut invalid_in_file) = (0_usize, 0_usize);
    list.fill(variable, text, |source, line, part, error| {
        let invalid = match source {
            Source::Variable => &mut invalid_in_variable,
            Source::File => &mut invalid_in_file,
        };
        *invalid += 1;
        if *invalid > PATTERNS_REPORTED {
            return;
        }
        let in_file = file.filter(|_| source == Source::File);
        report(&Problem {
            kind: Kind::Invalid,
            variable: row_of(source).variable.as_bytes(),
            place: in_file.map(|(path, _)| (path, line)),
            part,
            must: &error.about(part),
            instead: &"ignoring this pattern",
        });
    });
    for (source, invalid) in
        [(Source::Variable, invalid_in_variable), (Source::File, invalid_in_file)]
    {
        if let Some(more) = invalid.checked_sub(PATTERNS_REPORTED).filter(|&more| more > 0) {
            let are = if more == 1 { "pattern is" } else { "patterns are" };
            let must = format_args!("{more} more {are} invalid");
            report_invalid(report, row_of(source), b"...", &must, &"ignoring the rest");
        }
    }
}

fn row_of(source: Source) -> &'static Row {
    match source {
        Source::Variable => &IPV4_ONLY,
        Source::File => &IPV4_ONLY_FILE,
    }
}

/// Reports an allowlist that cannot be loaded, now or at all. The list of a file is named by its path.
pub fn report_no_list(
    path: Option<&[u8]>,
    error: &dyn fmt::Display,
    later: bool,
    report: Report<'_>,
) {
    let instead: &dyn fmt::Display =
        if later { &"trying again at later lookups" } else { &"ignoring this list" };
    match path {
        Some(path) => {
            let must = format_args!("must be a readable file of host patterns: {error}");
            report_invalid(report, &IPV4_ONLY_FILE, path, &must, instead);
        }
        None => report_invalid(report, &IPV4_ONLY, b"...", &format_args!("{error}"), instead),
    }
}

/// Reports that there is no memory for the texts of the settings.
pub fn report_no_memory(report: Report<'_>) {
    report_invalid(
        report,
        &SWITCH,
        b"",
        &"out of memory for the settings",
        &"ignoring some of them",
    );
}

/// Reports a log file that cannot be opened.
pub fn report_no_log(path: &[u8], error: &dyn fmt::Display, report: Report<'_>) {
    let must = format_args!("must be a file that can be appended to: {error}");
    report_invalid(report, &LOG_FILE, path, &must, &"using standard error");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::tests::Random;

    const VARIABLES: [&str; TABLE.len()] = {
        let mut names = [""; TABLE.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = TABLE[index].variable;
            index += 1;
        }
        names
    };

    /// The variable and the part of a problem, whose line must say more.
    fn variable_and_part(problem: &Problem<'_>) -> String {
        let line = problem.to_string();
        let (start, rest) = line.rsplit_once("\": ").expect("VARIABLE: \"PART\": MUST; INSTEAD");
        let (must, instead) = rest.rsplit_once("; ").expect("MUST; INSTEAD");
        assert!(!must.is_empty() && !instead.is_empty(), "{line}");
        start.replacen(": \"", " ", 1)
    }

    /// The settings that environment entries make, and of each problem the variable and the part.
    fn parsed<'a>(entries: &[&'a [u8]]) -> (Settings<'a>, Vec<String>) {
        let mut problems = Vec::new();
        let report = &mut |problem: &Problem<'_>| problems.push(variable_and_part(problem));
        let values = Values::of(entries.iter().copied());
        if !values.is_off() {
            report_unknown(entries.iter().copied(), report);
        }
        (values.parse(report), problems)
    }

    /// The settings that `EGRESS_SHIM` and these endings and values make.
    fn set(values: &[(&str, &str)]) -> (Settings<'static>, Vec<String>) {
        let entries: Vec<_> = values
            .iter()
            .map(|(name, value)| format!("EGRESS_SHIM{name}={value}").into_bytes())
            .map(|entry| -> &'static [u8] { entry.leak() })
            .collect();
        parsed(&entries)
    }

    fn defaults() -> Settings<'static> {
        Settings::DEFAULT
    }

    /// The list that two texts make, and the problems.
    fn loaded(variable: &str, file: Option<&str>) -> (Allowlist, Vec<String>) {
        let mut problems = Vec::new();
        let report = &mut |problem: &Problem<'_>| problems.push(variable_and_part(problem));
        let file = file.map(|text| (&b"/list"[..], text.as_bytes()));
        let list = load_allowlist(variable.as_bytes(), file, report).expect("there is memory");
        (list, problems)
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let timings = Timings { idle: 60, interval: 60, count: 5 };
        let keepalive = Keepalive { timings, user_timeout: None, enforce: false };
        assert_eq!(set(&[]), (defaults(), vec![]));
        assert_eq!(set(&[]).0.keepalive, Some(keepalive));
        assert_eq!(keepalive.to_string(), KEEPALIVE.default);
    }

    #[test]
    fn what_is_in_force_is_said_without_what_is_not_set() {
        let (list, file) = (("_IPV4_ONLY", "a.b"), ("_IPV4_ONLY_FILE", "/list"));
        for (values, wanted) in [
            (&[][..], "no host listed"),
            (&[list], "IPv4 only for \"a.b\""),
            (&[file], "IPv4 only for the hosts listed in /list"),
            (&[list, file], "IPv4 only for \"a.b\" and the hosts listed in /list"),
        ] {
            let wanted = format!("keepalive {}; {wanted}", KEEPALIVE.default);
            assert_eq!(set(values).0.to_string(), wanted);
        }
    }

    #[test]
    fn an_empty_value_is_none() {
        for value in ["", " ", " \t\r\n"] {
            let variables = VARIABLES.map(|variable| (&variable[SWITCH.variable.len()..], value));
            assert_eq!(set(&variables), (defaults(), vec![]), "every variable is {value:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_not_looked_at() {
        let entries: [&[u8]; 8] = [
            b"",
            b"=",
            b"=EGRESS_SHIM_LOG=x",
            b"EGRESS_SHIMX=off",
            b"EGRESS_SHIM2_LOG=x",
            b"egress_shim_log=x",
            b"XEGRESS_SHIM=off",
            b"EGRESS=off",
        ];
        assert_eq!(parsed(&entries), (defaults(), vec![]));
    }

    #[test]
    fn a_variable_that_there_is_not_is_a_problem_of_its_own() {
        let wanted = vec![
            "EGRESS_SHIM_IPV4ONLY a.b".to_owned(),
            "EGRESS_SHIM_ ".to_owned(),
            r"EGRESS_SHIM_\x1b[m\xff x=y".to_owned(),
        ];
        let entries: [&[u8]; 3] =
            [b"EGRESS_SHIM_IPV4ONLY=a.b", b"EGRESS_SHIM_=", b"EGRESS_SHIM_\x1b[m\xff=x=y"];
        assert_eq!(parsed(&entries), (defaults(), wanted));
    }

    #[test]
    fn the_switch_is_looked_at_before_anything_else() {
        let others = [
            ("_LOG", "x"),
            ("_KEEPALIVE", "x"),
            ("_IPV4_ONLY", "1.2.3.4"),
            ("_STRICT", "x"),
            ("_NO_SUCH", "x"),
            ("_IPV4_ONLY_FILE", "/"),
            ("_LOG_FILE", "/"),
        ];
        for value in ["off", "OFF", " Off ", "0", "no", "FALSE"] {
            for place in [0, 3, others.len()] {
                let mut values = others.to_vec();
                values.insert(place, ("", value));
                assert_eq!(set(&values), (Settings::OFF, vec![]), "{values:?}");
            }
        }
        for value in ["on", "ON", " on", "1", "Yes", "true"] {
            assert_eq!(set(&[("", value)]), (defaults(), vec![]), "{value:?}");
        }
        for value in ["00", "n", "of", "off.", "off,on", "disabled"] {
            let wanted = vec![format!("EGRESS_SHIM {value}")];
            assert_eq!(set(&[("", value)]), (defaults(), wanted), "{value:?}");
        }
    }

    #[test]
    fn strict_takes_the_usual_words_and_is_off_by_default() {
        for (value, strict, valid) in [
            ("1", true, true),
            (" 1\n", true, true),
            ("on", true, true),
            ("YES", true, true),
            ("true", true, true),
            ("0", false, true),
            ("off", false, true),
            ("No", false, true),
            ("false", false, true),
            ("01", false, false),
            ("2", false, false),
            ("pid:1", false, false),
        ] {
            let wanted = if valid { vec![] } else { vec![format!("EGRESS_SHIM_STRICT {value}")] };
            let (settings, problems) = set(&[("_STRICT", value)]);
            assert_eq!((settings.strict, problems), (strict, wanted), "{value:?}");
        }
    }

    #[test]
    fn the_order_of_the_table_changes_nothing() {
        let entries: Vec<String> = [
            "=on",
            "_IPV4_ONLY=a.b",
            "_IPV4_ONLY_FILE=/list",
            "_KEEPALIVE=idle=30,nonsense",
            "_PROGRAMS=python3",
            "_LOG=debug",
            "_LOG_FILE=/log",
            "_STRICT=maybe",
        ]
        .map(|ending| format!("EGRESS_SHIM{ending}"))
        .to_vec();
        assert_eq!(entries.len(), TABLE.len(), "a value for each setting");
        let parsed_in = |parsers: &[Parser; TABLE.len()]| {
            let mut problems = Vec::new();
            let report = &mut |problem: &Problem<'_>| problems.push(problem.to_string());
            let entries = entries.iter().map(String::as_bytes);
            let settings = Values::in_order_of(parsers, entries).parse_with(parsers, report);
            problems.sort();
            (settings, problems)
        };
        let wanted = parsed_in(&PARSERS);
        assert_eq!(wanted.0.keepalive.map(|keepalive| keepalive.timings.idle), Some(30));
        assert_eq!(wanted.0.programs, Some(&b"python3"[..]));
        let mut shuffled = TABLE;
        let mut random = Random(14);
        for _ in 0..200 {
            for index in 1..shuffled.len() {
                shuffled.swap(index, random.below(index + 1));
            }
            assert_eq!(parsed_in(&parsers(&shuffled)), wanted, "{shuffled:?}");
        }
    }

    #[test]
    fn every_row_of_the_table_is_complete_and_its_example_is_valid() {
        for row in TABLE {
            let Row { variable, option, kind, metavariable, example, default, help, .. } = row;
            let texts = [variable, metavariable, example, default, help];
            assert!(texts.iter().all(|text| !text.is_empty()), "{row:?} lacks a text");
            assert!(option.is_empty() || option.starts_with("--"), "{option} begins with --");
            assert!(
                variable == SWITCH.variable || variable.starts_with("EGRESS_SHIM_"),
                "{variable} begins with EGRESS_SHIM_"
            );
            let (settings, problems) = set(&[(&variable[SWITCH.variable.len()..], example)]);
            assert_eq!(problems, Vec::<String>::new(), "{variable}={example} is valid");
            assert_ne!(settings, defaults(), "{variable}={example} sets something ({kind:?})");
        }
        let names: std::collections::HashSet<_> = VARIABLES.into_iter().collect();
        assert_eq!(names.len(), TABLE.len(), "each variable has one row");
    }

    #[test]
    fn the_message_about_a_part_of_keepalive_names_what_was_meant() {
        let part = "must be on, off, or any of idle=S,interval=S,count=N,user-timeout=S,enforce";
        let alone = "on and off must stand alone; enforce by itself switches keepalive on";
        let commas = "the parts must be separated by commas";
        for (value, wanted) in [
            ("60", "must have a key; did you mean idle=60?"),
            ("60s", "must have a key; did you mean idle=60s?"),
            ("on,enforce", alone),
            ("enforce,OFF", alone),
            ("idle=60 interval=5", commas),
            ("idle=60;interval=5", commas),
            ("idle:60", "did you mean idle=60?"),
            ("idel=60", "did you mean idle=60?"),
            ("timeout=60", "did you mean user-timeout=60?"),
            ("intervals = 5", "did you mean interval=5?"),
            ("count", "count needs a value, as in count=60"),
            ("nonsense", part),
            // No line advises what is invalid itself, or a probe each second to those who mean on.
            ("1", part),
            ("0", part),
            ("99999", part),
            ("idle:0", part),
            ("conut=128", part),
            (
                "idle=x",
                "idle must be a whole number of seconds from 1 to 32767, as in 60, 60s or 1m",
            ),
            ("count=1s", "count must be a whole number from 1 to 127"),
        ] {
            let mut lines = Vec::new();
            let entry = format!("EGRESS_SHIM_KEEPALIVE={value}");
            let report = &mut |problem: &Problem<'_>| lines.push(problem.to_string());
            Values::of([entry.as_bytes()].into_iter()).parse(report);
            let [line] = &lines[..] else { panic!("{value}: one line: {lines:?}") };
            assert!(line.contains(&format!("\": {wanted}; ")), "{line} holds: {wanted}");
        }
    }

    /// A value, the timings that it makes, its wrong parts.
    type TimingsRow<'a> = (&'a str, Option<[c_int; 3]>, &'a [&'a str]);

    fn assert_keepalive(table: &[TimingsRow<'_>]) {
        for (value, wanted, wrong) in table {
            let wanted = wanted.map(|[idle, interval, count]| Keepalive {
                timings: Timings { idle, interval, count },
                ..Keepalive::DEFAULT
            });
            let wrong: Vec<_> =
                wrong.iter().map(|part| format!("EGRESS_SHIM_KEEPALIVE {part}")).collect();
            let (settings, problems) = set(&[("_KEEPALIVE", value)]);
            assert_eq!((settings.keepalive, problems), (wanted, wrong), "{value:?}");
        }
    }

    #[test]
    fn keepalive_takes_on_off_or_any_timings_within_the_kernels_limits() {
        assert_keepalive(&[
            ("on", Some([60, 60, 5]), &[]),
            ("ON", Some([60, 60, 5]), &[]),
            ("off", None, &[]),
            (" Off\n", None, &[]),
            ("idle=1", Some([1, 60, 5]), &[]),
            ("interval=1", Some([60, 1, 5]), &[]),
            ("count=1", Some([60, 60, 1]), &[]),
            ("idle=32767,interval=32767,count=127", Some([32767, 32767, 127]), &[]),
            ("count=2,idle=3,interval=4", Some([3, 4, 2]), &[]),
            (" idle = 7 ,\tcount=8", Some([7, 60, 8]), &[]),
            ("idle=007", Some([7, 60, 5]), &[]),
            ("idle=90s,interval=1m", Some([90, 60, 5]), &[]),
            ("idle=9h", Some([32400, 60, 5]), &[]),
        ]);
    }

    #[test]
    fn an_invalid_part_of_keepalive_loses_no_other_part() {
        assert_keepalive(&[
            ("idle=0,count=2", Some([60, 60, 2]), &["idle=0"]),
            (
                "idle=32768,interval=32768,count=128",
                Some([60, 60, 5]),
                &["idle=32768", "interval=32768", "count=128"],
            ),
            ("interval=0,count=0", Some([60, 60, 5]), &["interval=0", "count=0"]),
            ("count=4294967297", Some([60, 60, 5]), &["count=4294967297"]),
            (
                "idle=18446744073709551617,count=2",
                Some([60, 60, 2]),
                &["idle=18446744073709551617"],
            ),
            ("idle=-1", Some([60, 60, 5]), &["idle=-1"]),
            ("idle=+1", Some([60, 60, 5]), &["idle=+1"]),
            ("idle=1.5", Some([60, 60, 5]), &["idle=1.5"]),
            ("idle=1d", Some([60, 60, 5]), &["idle=1d"]),
            ("count=1s", Some([60, 60, 5]), &["count=1s"]),
            ("idle=s", Some([60, 60, 5]), &["idle=s"]),
            ("idle=1ms", Some([60, 60, 5]), &["idle=1ms"]),
            ("idle=10h", Some([60, 60, 5]), &["idle=10h"]),
            ("idle=99999999h", Some([60, 60, 5]), &["idle=99999999h"]),
            ("idle=0x10", Some([60, 60, 5]), &["idle=0x10"]),
            ("idle=", Some([60, 60, 5]), &["idle="]),
            ("idle==1", Some([60, 60, 5]), &["idle==1"]),
            ("idle=1 2", Some([60, 60, 5]), &["idle=1 2"]),
            ("idle=٣", Some([60, 60, 5]), &[r"idle=\xd9\xa3"]),
            ("idle=1 interval=2", Some([60, 60, 5]), &["idle=1 interval=2"]),
            ("idle=1;interval=2", Some([60, 60, 5]), &["idle=1;interval=2"]),
            ("idle=1,idle=1", Some([1, 60, 5]), &["idle=1"]),
            ("idle=1,count=2,idle=3", Some([1, 60, 2]), &["idle=3"]),
            ("Idle=1,count=2", Some([60, 60, 2]), &["Idle=1"]),
            ("time=1,count=2", Some([60, 60, 2]), &["time=1"]),
            ("=1,count=2", Some([60, 60, 2]), &["=1"]),
            ("idle,count=2", Some([60, 60, 2]), &["idle"]),
            ("1", Some([60, 60, 5]), &["1"]),
            ("60,60,5", Some([60, 60, 5]), &["60", "60", "5"]),
            ("on,count=2", Some([60, 60, 2]), &["on"]),
            ("off,count=2", Some([60, 60, 2]), &["off"]),
            ("count=2,", Some([60, 60, 2]), &[""]),
            (",", Some([60, 60, 5]), &["", ""]),
        ]);
    }

    /// The right directives of a filter, as one would be written.
    fn directives(filter: &[u8]) -> String {
        let written = |(module, level): Directive<'_>| match module {
            None => level.to_string(),
            Some(module) => format!("{module}={level}"),
        };
        let right: Vec<_> = log_directives(filter).filter_map(Result::ok).map(written).collect();
        right.join(",").to_lowercase()
    }

    #[test]
    fn a_log_filter_keeps_its_right_parts() {
        // Value, its directives, wrong parts.
        let table: &[(&str, &str, &[&str])] = &[
            ("off", "off", &[]),
            ("error", "error", &[]),
            ("Debug", "debug", &[]),
            (" TRACE ", "trace", &[]),
            ("egress_shim", "egress_shim=trace", &[]),
            ("egress_shim=debug", "egress_shim=debug", &[]),
            ("egress_shim::keepalive", "egress_shim::keepalive=trace", &[]),
            ("egress_shim::keepalive = trace", "egress_shim::keepalive=trace", &[]),
            ("warn, egress_shim::resolver=off", "warn,egress_shim::resolver=off", &[]),
            ("info,,", "info", &[]),
            (",", "", &[]),
            ("verbose", "", &["verbose"]),
            ("1", "", &["1"]),
            ("debug,trase", "debug", &["trase"]),
            ("info/keepalive", "", &["info/keepalive"]),
            ("hyper=debug", "", &["hyper=debug"]),
            ("egress-shim=debug", "", &["egress-shim=debug"]),
            ("egress_shimmer=debug", "", &["egress_shimmer=debug"]),
            ("egress_shim:keepalive=debug", "", &["egress_shim:keepalive=debug"]),
            ("egress_shim=loud", "", &["egress_shim=loud"]),
            ("egress_shim=", "", &["egress_shim="]),
            ("=info", "", &["=info"]),
            ("egress_shim=info=debug", "", &["egress_shim=info=debug"]),
            ("keepalive=trace", "", &["keepalive=trace"]),
            ("egress_shim::keepalve=trace", "", &["egress_shim::keepalve=trace"]),
            ("egress_shim::", "", &["egress_shim::"]),
            ("egress_shim::keepalive/a", "", &["egress_shim::keepalive/a"]),
            ("egress_shim::\u{1b}[m=info", "", &[r"egress_shim::\x1b[m=info"]),
        ];
        for (value, wanted, wrong) in table {
            let wrong: Vec<_> =
                wrong.iter().map(|part| format!("EGRESS_SHIM_LOG {part}")).collect();
            let (settings, problems) = set(&[("_LOG", value)]);
            let seen = directives(settings.log.expect("the switch is on").filter);
            assert_eq!((seen.as_str(), problems), (*wanted, wrong), "{value:?}");
        }
        for module in MODULES {
            let value = format!("egress_shim::{module}=info");
            assert_eq!(directives(value.as_bytes()), value, "a module that the library has");
        }
    }

    #[test]
    fn user_timeout_and_enforce_are_parts_of_keepalive() {
        let defaults = Keepalive::DEFAULT;
        let (timeout, enforce) = (Some(360), true);
        for (value, wanted, wrong) in [
            ("enforce", Keepalive { enforce, ..defaults }, &[][..]),
            ("user-timeout=360", Keepalive { user_timeout: timeout, ..defaults }, &[]),
            (
                "enforce,user-timeout=360",
                Keepalive { user_timeout: timeout, enforce, ..defaults },
                &[],
            ),
            ("user-timeout=2147483", Keepalive { user_timeout: Some(2_147_483), ..defaults }, &[]),
            ("user-timeout=2147484", defaults, &["user-timeout=2147484"]),
            ("user-timeout=0", defaults, &["user-timeout=0"]),
            ("user-timeout", defaults, &["user-timeout"]),
            ("enforce=1", defaults, &["enforce=1"]),
            ("enforce,enforce", Keepalive { enforce, ..defaults }, &["enforce"]),
            // Right, but it is said that the last probe is never sent.
            (
                "user-timeout=359",
                Keepalive { user_timeout: Some(359), ..defaults },
                &["user-timeout=359"],
            ),
        ] {
            let wrong: Vec<_> =
                wrong.iter().map(|part| format!("EGRESS_SHIM_KEEPALIVE {part}")).collect();
            let (settings, problems) = set(&[("_KEEPALIVE", value)]);
            assert_eq!((settings.keepalive, problems), (Some(wanted), wrong), "{value:?}");
        }
    }

    #[test]
    fn the_library_is_program_selected_the_programs_that_are_named() {
        let names = |file: &'static str| [&b"gunicorn"[..], file.as_bytes()];
        for (programs, wanted) in [
            ("", true),
            ("gunicorn", true),
            ("python3.11", true),
            ("python3", false),
            ("nginx,gunicorn", true),
            ("nginx gunicorn", true),
            ("nginx", false),
            ("!nginx", true),
            ("!gunicorn", false),
            ("gunicorn,!python3.11", false),
            ("!python3.11,gunicorn", false),
            ("gunicor", false),
            ("GUNICORN", false),
            // What is wrong does not count.
            ("/usr/bin/nginx", true),
            ("*", true),
        ] {
            let seen = is_program_selected(programs.as_bytes(), names("python3.11"));
            assert_eq!(seen, wanted, "{programs:?}");
        }
        let (_, problems) = set(&[("_PROGRAMS", "a /b !c/d !!e f* !,g")]);
        let wrong =
            ["/b", "!c/d", "!!e", "f*", "!"].map(|name| format!("EGRESS_SHIM_PROGRAMS {name}"));
        assert_eq!(problems, wrong);
    }

    #[test]
    fn a_misspelt_variable_is_told_which_one_it_may_be() {
        for (name, wanted) in [
            ("EGRESS_SHIM_KEEPALVE", Some("EGRESS_SHIM_KEEPALIVE")),
            ("EGRESS_SHIM_KEEP_ALIVE", Some("EGRESS_SHIM_KEEPALIVE")),
            ("EGRESS_SHIM_IPV4ONLY", Some("EGRESS_SHIM_IPV4_ONLY")),
            ("EGRESS_SHIM_IPV4_ONLY_FIL", Some("EGRESS_SHIM_IPV4_ONLY_FILE")),
            ("EGRESS_SHIM_log", Some("EGRESS_SHIM_LOG")),
            ("EGRESS_SHIM_LO", Some("EGRESS_SHIM_LOG")),
            ("EGRESS_SHIM_PROGRAM", Some("EGRESS_SHIM_PROGRAMS")),
            ("EGRESS_SHIM_LOGFILES", Some("EGRESS_SHIM_LOG_FILE")),
            ("EGRESS_SHIM_FILE", None),
            ("EGRESS_SHIM_VERSION", None),
            ("EGRESS_SHIM_", None),
            ("EGRESS_SHIM_A_NAME_THAT_IS_LONGER_THAN_ANY_SETTING_IS", None),
        ] {
            assert_eq!(nearest_variable(name.as_bytes()), wanted, "{name}");
        }
    }

    #[test]
    fn the_first_of_two_entries_counts() {
        let entries: [&[u8]; 5] = [
            b"EGRESS_SHIM_KEEPALIVE=idle=1",
            b"EGRESS_SHIM_LOG=info",
            b"EGRESS_SHIM_KEEPALIVE=wrong",
            b"EGRESS_SHIM_LOG=",
            b"EGRESS_SHIM_KEEPALIVE=off",
        ];
        let (settings, problems) = parsed(&entries);
        let timings = Timings { idle: 1, ..Keepalive::DEFAULT.timings };
        let keepalive = Some(Keepalive { timings, ..Keepalive::DEFAULT });
        let log = Some(Log { filter: b"info", file: None });
        assert_eq!((settings, problems), (Settings { keepalive, log, ..defaults() }, vec![]));
    }

    #[test]
    fn the_first_of_two_entries_counts_also_when_it_is_empty() {
        let entries: [&[u8]; 4] = [
            b"EGRESS_SHIM=",
            b"EGRESS_SHIM_KEEPALIVE=",
            b"EGRESS_SHIM=off",
            b"EGRESS_SHIM_KEEPALIVE=idle=1",
        ];
        assert_eq!(parsed(&entries), (defaults(), vec![]));
        // getenv(3) passes over what has no `=`.
        let entries: [&[u8]; 2] = [b"EGRESS_SHIM", b"EGRESS_SHIM=off"];
        assert_eq!(parsed(&entries), (Settings::OFF, vec![]));
    }

    #[test]
    fn patterns_and_paths_are_kept_as_they_stand() {
        let patterns = " a.b,1.2.3.4 *.c\n!d a..b ";
        let (settings, problems) =
            set(&[("_IPV4_ONLY", patterns), ("_IPV4_ONLY_FILE", "a b"), ("_LOG_FILE", "../c")]);
        assert_eq!(settings.ipv4_only, patterns.trim().as_bytes());
        assert_eq!(settings.ipv4_only_file, Some(&b"a b"[..]));
        assert_eq!(settings.log.and_then(|log| log.file), Some(&b"../c"[..]));
        assert_eq!(
            problems,
            Vec::<String>::new(),
            "patterns are looked at when the list is loaded"
        );
    }

    #[test]
    fn each_invalid_pattern_is_a_problem_and_loses_no_other() {
        let (list, problems) = loaded("a.b,1.2.3.4 *.c\n!d a..b", Some("\u{feff}e # 5\n\nf..g h"));
        let wanted = [
            "EGRESS_SHIM_IPV4_ONLY 1.2.3.4",
            "EGRESS_SHIM_IPV4_ONLY a..b",
            "EGRESS_SHIM_IPV4_ONLY_FILE: /list line 3 f..g",
        ];
        assert_eq!(problems, wanted);
        let names = ["a.b", "x.c", "d", "a..b", "1.2.3.4", "e", "h"];
        let listed = names.map(|name| list.contains(name.as_bytes()));
        assert_eq!(listed, [true, true, false, false, false, true, true], "{names:?}");
    }

    #[test]
    fn ten_invalid_patterns_are_shown_and_the_others_counted() {
        for count in [1, 9, 10, 11, 12, 5_000] {
            let text = "1 ".repeat(count);
            let wanted = |of_one: &str, of_all: &str| {
                let mut wanted = vec![of_one.to_owned(); count.min(10)];
                wanted.extend((count > 10).then(|| of_all.to_owned()));
                wanted
            };
            let of_variable = wanted("EGRESS_SHIM_IPV4_ONLY 1", "EGRESS_SHIM_IPV4_ONLY ...");
            assert_eq!(loaded(&text, None).1, of_variable, "{count} wrong patterns");
            let of_file = wanted(
                "EGRESS_SHIM_IPV4_ONLY_FILE: /list line 1 1",
                "EGRESS_SHIM_IPV4_ONLY_FILE ...",
            );
            assert_eq!(loaded("", Some(&text)).1, of_file, "{count} wrong patterns in the file");
        }
    }

    #[test]
    fn whatever_the_values_the_settings_are_sound_and_problems_printable() {
        let pieces = [
            "on",
            "off",
            "idle",
            "interval",
            "count",
            "user-timeout",
            "enforce",
            "=",
            "=",
            ",",
            ",",
            " ",
            "1",
            "9",
            "32767",
            "0",
            "-",
            "egress_shim",
            "::",
            "keepalive",
            "trace",
            "warn",
            "*",
            ".",
            "!",
            "a",
            "localhost",
            "\u{1b}",
            "\n",
            "\"",
            "\\",
            "\u{e4}",
            "#",
            "/",
        ];
        let mut random = Random(78);
        let mut reported = 0;
        for _ in 0..20_000 {
            let values = VARIABLES.map(|variable| {
                let count = random.below(8);
                let value: String = (0..count).map(|_| random.of(&pieces)).collect();
                (&variable[SWITCH.variable.len()..], value)
            });
            let entries =
                values.each_ref().map(|(name, value)| format!("EGRESS_SHIM{name}={value}"));
            let mut lines = Vec::new();
            let report = &mut |problem: &Problem<'_>| lines.push(problem.to_string());
            let settings = Values::of(entries.iter().map(String::as_bytes)).parse(report);
            let _ = load_allowlist(settings.ipv4_only, None, report).expect("there is memory");
            if let Some(Keepalive { timings: Timings { idle, interval, count }, .. }) =
                settings.keepalive
            {
                let sound = (1..=32767).contains(&idle)
                    && (1..=32767).contains(&interval)
                    && (1..=127).contains(&count);
                assert!(sound, "{values:?}: {settings}");
            }
            for line in &lines {
                assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
                assert!(VARIABLES.iter().any(|name| line.starts_with(name)), "{line}");
            }
            reported += lines.len();
        }
        assert!(reported > 50_000, "only {reported} problems");
    }
}
