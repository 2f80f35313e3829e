//! The settings: environment variables, read once, and what is wrong with them.
//!
//! A wrong setting disables only itself. It is reported in one line on standard error that names
//! the variable, the wrong part, what is right and what is used instead. Under
//! `EGRESS_SHIM_STRICT=1` it ends the program before `main`.

use std::borrow::Cow;
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use libc::{c_char, c_int};
use log::LevelFilter;
use once_cell::race::OnceBox;

use crate::allowlist::{self, Allowlist};
use crate::keepalive::Timings;
use crate::logging;

/// `off`: the library does nothing at all. Looked at before anything else.
const SWITCH: &str = "EGRESS_SHIM";
/// Host patterns, see [`Allowlist`].
const IPV4_ONLY: &str = "EGRESS_SHIM_IPV4_ONLY";
/// A file of host patterns; `#` starts a comment.
const IPV4_ONLY_FILE: &str = "EGRESS_SHIM_IPV4_ONLY_FILE";
/// `on`, `off` or any of `idle=S,interval=S,count=N`.
const KEEPALIVE: &str = "EGRESS_SHIM_KEEPALIVE";
/// An `env_logger` filter.
const LOG: &str = "EGRESS_SHIM_LOG";
/// A file to append log lines to.
const LOG_FILE: &str = "EGRESS_SHIM_LOG_FILE";
/// `1`: a wrong setting ends the program.
const STRICT: &str = "EGRESS_SHIM_STRICT";

/// Every variable that the library knows.
const VARIABLES: [&str; 7] = [SWITCH, IPV4_ONLY, IPV4_ONLY_FILE, KEEPALIVE, LOG, LOG_FILE, STRICT];

/// The timings of `on`, and of whatever a keepalive setting leaves out. 60 s of silence is less
/// than any NAT in the field allows (AWS 350 s, Azure 240 s; RFC 5382 asks for two hours).
const DEFAULT_TIMINGS: Timings = Timings { idle: 60, interval: 60, count: 5 };
/// The filter where none is set.
const DEFAULT_LOG: &str = "warn";
/// The exit status of `EGRESS_SHIM_STRICT` (`EX_CONFIG` in sysexits.h).
const EXIT_CONFIG: c_int = 78;
/// So many wrong patterns are reported one by one; a file may hold any number.
const PATTERNS_REPORTED: usize = 10;

/// What is wrong with one setting. `Display` names the variable, the wrong part and what is right.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    variable: String,
    /// Where in the setting, for a file: `/path line 3: `.
    place: String,
    part: Vec<u8>,
    right: Cow<'static, str>,
    instead: Cow<'static, str>,
}

impl Problem {
    fn new(
        variable: &str,
        part: &[u8],
        right: impl Into<Cow<'static, str>>,
        instead: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            variable: variable.to_owned(),
            place: String::new(),
            part: part.to_owned(),
            right: right.into(),
            instead: instead.into(),
        }
    }

    /// A log file that cannot be opened.
    #[must_use]
    pub fn log_file(path: &Path, error: &io::Error) -> Self {
        let right = format!("a file to append to is needed, and this is none ({error})");
        Self::new(LOG_FILE, path.as_os_str().as_bytes(), right, "standard error is used")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More of a wrong part than this does not help its reader.
        const SHOWN: usize = 100;
        let shown = self.part.get(..SHOWN).unwrap_or(&self.part);
        let more = if shown.len() < self.part.len() { "..." } else { "" };
        write!(
            f,
            "{}: {}\"{}{more}\": {}",
            self.variable,
            self.place,
            shown.escape_ascii(),
            self.right
        )
    }
}

/// The settings of this process.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The timings for outbound TCP; none where keepalive is off.
    pub keepalive: Option<Timings>,
    /// Where the allowlist's patterns are; none where no pattern is set.
    pub ipv4_only: Option<Patterns>,
    /// What is logged, and where; none where nothing may be written.
    pub log: Option<Log>,
    /// Whether a wrong setting is fatal.
    pub strict: bool,
    /// Whether this process runs on glibc. The other libc in the field is musl.
    pub glibc: bool,
}

/// The log's settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Log {
    /// An `env_logger` filter without a wrong part.
    pub filter: String,
    /// The file to append to; none is standard error.
    pub file: Option<PathBuf>,
}

/// Where the allowlist's patterns are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// The value of `EGRESS_SHIM_IPV4_ONLY`.
    list: Vec<u8>,
    /// The absolute path in `EGRESS_SHIM_IPV4_ONLY_FILE`.
    file: Option<PathBuf>,
}

static SETTINGS: OnceBox<Settings> = OnceBox::new();

/// The settings of this process. Usually the constructor has read them; the first call does where
/// another library's constructor calls a hook before it.
#[must_use]
pub fn settings() -> &'static Settings {
    // What is left on the connect path is a load and a compare.
    SETTINGS.get().unwrap_or_else(load)
}

/// Reads the settings, unless that is done, and starts the log.
#[cold]
pub fn load() -> &'static Settings {
    if SETTINGS.get().is_none() {
        let (settings, problems) = read_environment();
        if SETTINGS.set(Box::new(settings)).is_ok() {
            start(SETTINGS.get_or_init(Box::default), problems);
        }
    }
    SETTINGS.get_or_init(Box::default)
}

/// Starts logging and reports the problems, once per process.
fn start(settings: &Settings, mut problems: Vec<Problem>) {
    if let Some(log) = &settings.log {
        logging::start(log, &mut problems);
    }
    if settings.strict
        && let Some(patterns) = &settings.ipv4_only
    {
        problems.extend(patterns.load().1);
    }
    report_to(&problems, settings.strict);
    log::info!("{} {} is loaded: {settings}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
}

/// Reports problems found after the start, one line each; fatal where the settings say so.
pub fn report(problems: &[Problem]) {
    report_to(problems, settings().strict);
}

fn report_to(problems: &[Problem], strict: bool) {
    for problem in problems {
        let instead = if strict { "nothing is run" } else { &problem.instead };
        logging::complain(format_args!("{problem}; {instead}"));
    }
    if strict && !problems.is_empty() {
        // SAFETY: _exit(2) runs nothing of the program, which has not started.
        unsafe { libc::_exit(EXIT_CONFIG) };
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keepalive {
            Some(timings) => write!(f, "keepalive {timings}")?,
            None => write!(f, "keepalive off")?,
        }
        let Some(patterns) = &self.ipv4_only else { return write!(f, "; IPv4 only for no host") };
        write!(f, "; IPv4 only for \"{}\"", patterns.list.escape_ascii())?;
        if let Some(file) = &patterns.file {
            write!(f, " and what {} lists", file.as_os_str().as_bytes().escape_ascii())?;
        }
        Ok(())
    }
}

/// Reads the settings from the environment, unless that is not the owner's own.
fn read_environment() -> (Settings, Vec<Problem>) {
    // SAFETY: getauxval(3) and dlsym(3) with valid arguments; the second's result is only compared
    // with null.
    let (secure, glibc) = unsafe {
        (
            libc::getauxval(libc::AT_SECURE) != 0,
            !libc::dlsym(libc::RTLD_DEFAULT, c"gnu_get_libc_version".as_ptr()).is_null(),
        )
    };
    let (settings, problems) = if secure {
        // The environment is the caller's, not the owner's: it decides nothing, nothing is written.
        (Settings { keepalive: Some(DEFAULT_TIMINGS), ..Settings::default() }, Vec::new())
    } else {
        parse(environment())
    };
    (Settings { glibc, ..settings }, problems)
}

/// The entries of the environment, as they stand.
fn environment() -> impl Iterator<Item = &'static [u8]> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // std::env would take its lock, and a child forked in the meantime would wait for it.
    // SAFETY: libc's environ(7), null or a null-terminated array.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: not past the array's null; an entry is a C string. At load nobody changes them.
        unsafe {
            let entry = next.read();
            next = next.add(1);
            (!entry.is_null()).then(|| CStr::from_ptr(entry).to_bytes())
        }
    })
}

/// Makes settings of environment entries (`NAME=value`). An empty value is none.
pub fn parse<'a>(environment: impl Iterator<Item = &'a [u8]>) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut values = [None; VARIABLES.len()];
    for entry in environment.filter(|entry| entry.starts_with(SWITCH.as_bytes())) {
        let end = entry.iter().position(|&byte| byte == b'=').unwrap_or(entry.len());
        let (name, value) = entry.split_at(end);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let known = VARIABLES.iter().position(|known| known.as_bytes() == name);
        match known.and_then(|index| values.get_mut(index)) {
            // As for getenv(3), the first of two entries counts.
            Some(slot) => *slot = slot.or(Some(value).filter(|value| !value.is_empty())),
            None if name.get(SWITCH.len()) == Some(&b'_') => problems.push(Problem::new(
                &name.escape_ascii().to_string(),
                value,
                format!("no such setting (there are {})", VARIABLES.join(", ")),
                "it is ignored",
            )),
            None => {}
        }
    }
    let [switch, ipv4_only, ipv4_only_file, keepalive, log, log_file, strict] = values;

    if switch.is_some_and(|value| value.eq_ignore_ascii_case(b"off")) {
        return (Settings::default(), Vec::new());
    }
    if let Some(value) = switch.filter(|value| !value.eq_ignore_ascii_case(b"on")) {
        problems.push(Problem::new(SWITCH, value, "it is on or off", "on is used"));
    }
    if let Some(value) = strict.filter(|&value| value != b"1" && value != b"0") {
        problems.push(Problem::new(STRICT, value, "it is 1 or not set", "it counts as not set"));
    }
    let settings = Settings {
        keepalive: keepalive
            .map_or(Some(DEFAULT_TIMINGS), |value| parse_keepalive(value, &mut problems)),
        ipv4_only: (ipv4_only.is_some() || ipv4_only_file.is_some()).then(|| Patterns {
            list: ipv4_only.unwrap_or_default().to_owned(),
            file: ipv4_only_file.map(absolute),
        }),
        log: Some(Log {
            filter: log
                .map_or(DEFAULT_LOG.to_owned(), |value| parse_log_filter(value, &mut problems)),
            file: log_file.map(absolute),
        }),
        strict: strict == Some(b"1"),
        glibc: false,
    };
    // Checked here for the report alone: the list is built by the first lookup.
    if let Some(value) = ipv4_only {
        add_patterns(&mut Allowlist::default(), value, None, &mut problems);
    }
    (settings, problems)
}

/// A path that stays right when the program changes its directory.
fn absolute(value: &[u8]) -> PathBuf {
    let path = Path::new(OsStr::from_bytes(value));
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `on`, `off` or any of `idle=S,interval=S,count=N`; none is off.
fn parse_keepalive(value: &[u8], problems: &mut Vec<Problem>) -> Option<Timings> {
    if value.eq_ignore_ascii_case(b"off") {
        return None;
    }
    let mut timings = DEFAULT_TIMINGS;
    if value.eq_ignore_ascii_case(b"on") {
        return Some(timings);
    }
    // The kernel's ranges: MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT in include/net/tcp.h.
    let mut keys = [
        (&b"idle"[..], &mut timings.idle, 32767, " seconds", false),
        (b"interval", &mut timings.interval, 32767, " seconds", false),
        (b"count", &mut timings.count, 127, "", false),
    ];
    for part in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        let mut sides = part.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let (key, number) = (sides.next().unwrap_or_default(), sides.next());
        let known = keys.iter_mut().find(|(name, ..)| *name == key);
        let (Some((name, timing, most, unit, given)), Some(number)) = (known, number) else {
            problems.push(Problem::new(
                KEEPALIVE,
                part,
                "it is on, off or any of idle=S,interval=S,count=N",
                "this part is ignored",
            ));
            continue;
        };
        if *given {
            problems.push(Problem::new(
                KEEPALIVE,
                part,
                format!("{} is given twice", name.escape_ascii()),
                format!("the first, {timing}, is used"),
            ));
            continue;
        }
        *given = true;
        match parse_number(number).filter(|number| (1..=*most).contains(number)) {
            Some(number) => **timing = number,
            None => problems.push(Problem::new(
                KEEPALIVE,
                part,
                format!("{} is a whole number from 1 to {most}{unit}", name.escape_ascii()),
                format!("{timing} is used"),
            )),
        }
    }
    Some(timings)
}

/// A number of digits alone.
fn parse_number(digits: &[u8]) -> Option<c_int> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The parts of an `env_logger` filter that mean something here: `LEVEL`, `egress_shim::MODULE` or
/// `egress_shim::MODULE=LEVEL`. `env_logger` takes any other word for the name of a module that
/// does not exist, and a misspelt level would silence the log without a word.
fn parse_log_filter(value: &[u8], problems: &mut Vec<Problem>) -> String {
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    let is_module = |word: &str| {
        word.strip_prefix(env!("CARGO_CRATE_NAME"))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let mut filter = Vec::new();
    for part in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        let text = str::from_utf8(part).unwrap_or_default();
        let right = match text.split_once('=').map(|(module, level)| (module.trim(), level.trim()))
        {
            Some((module, level)) if is_module(module) && is_level(level) => {
                Some(format!("{module}={level}"))
            }
            None if is_level(text) || is_module(text) => Some(text.to_owned()),
            _ => None,
        };
        if right.is_none() && !part.is_empty() {
            problems.push(Problem::new(
                LOG,
                part,
                "it is off, error, warn, info, debug or trace; for one module \
                 egress_shim::MODULE=LEVEL",
                "this part is ignored",
            ));
        }
        filter.extend(right);
    }
    if filter.is_empty() { DEFAULT_LOG.to_owned() } else { filter.join(",") }
}

impl Patterns {
    /// Builds the allowlist. Takes no lock; other threads may do the same.
    #[must_use]
    pub fn load(&self) -> (Allowlist, Vec<Problem>) {
        let mut allowlist = Allowlist::default();
        let mut problems = Vec::new();
        // What is wrong with the variable itself was said at the start.
        add_patterns(&mut allowlist, &self.list, None, &mut Vec::new());
        if let Some(path) = &self.file {
            match without_cancellation(|| read_file(path)) {
                Ok(text) => add_patterns(&mut allowlist, &text, Some(path), &mut problems),
                Err(error) => problems.push(Problem::new(
                    IPV4_ONLY_FILE,
                    path.as_os_str().as_bytes(),
                    format!("a file of host patterns is needed, and this is none ({error})"),
                    format!("only {IPV4_ONLY} is used"),
                )),
            }
        }
        (allowlist, problems)
    }
}

/// Adds every pattern of a value or, with a path, of a file's text.
fn add_patterns(
    allowlist: &mut Allowlist,
    text: &[u8],
    file: Option<&Path>,
    problems: &mut Vec<Problem>,
) {
    let variable = if file.is_some() { IPV4_ONLY_FILE } else { IPV4_ONLY };
    let place = |line| match file {
        Some(path) => format!("{} line {line}: ", path.as_os_str().as_bytes().escape_ascii()),
        None => String::new(),
    };
    let mut wrong = 0_usize;
    for (line, pattern) in allowlist::patterns(text, file.is_some()) {
        let Err(error) = allowlist.add(pattern) else { continue };
        wrong += 1;
        if wrong <= PATTERNS_REPORTED {
            let problem =
                Problem::new(variable, pattern, error.to_string(), "this pattern is ignored");
            problems.push(Problem { place: place(line), ..problem });
        }
    }
    if let Some(more) = wrong.checked_sub(PATTERNS_REPORTED).filter(|&more| more > 0) {
        problems.push(Problem::new(
            variable,
            b"...",
            format!("{more} more patterns are wrong"),
            "they are ignored",
        ));
    }
}

/// Reads a regular file whole. `O_NONBLOCK`, for a named pipe must not hold up the program.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// Runs `f`, which may own things, with thread cancellation put off: open(2) and read(2) are
/// cancellation points, and the forced unwind would leave what `f` owns behind.
fn without_cancellation<T>(f: impl FnOnce() -> T) -> T {
    const PTHREAD_CANCEL_DISABLE: c_int = 1;
    unsafe extern "C" {
        fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    }
    let mut old = 0;
    // SAFETY: pthread_setcancelstate(3) with a local for the old state, which it restores.
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut old) };
    let value = f();
    // SAFETY: as above; the second pointer may not be null in POSIX.
    unsafe { pthread_setcancelstate(old, &raw mut old) };
    value
}
