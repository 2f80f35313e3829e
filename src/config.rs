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
use once_cell::race::OnceRef;

use crate::allowlist::{self, Allowlist};
use crate::keepalive::Timings;
use crate::{logging, resolver};

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
/// `1`: a wrong setting ends the program. `pid:N`: if that is process N; the wrapper's way, so that
/// what the program starts later, perhaps without its privileges, is not ended for a file that it may
/// not read.
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
/// A larger file is no list of hosts, and the program needs its memory for itself.
const LARGEST_FILE: u64 = 16 << 20;
/// So many wrong patterns are reported one by one; a file may hold any number.
const PATTERNS_REPORTED: usize = 10;

/// What is wrong with one setting. `Display` names the variable, the wrong part and what is right.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    variable: String,
    /// Where in the setting, for a file: `/path line 3: `.
    place: String,
    part: String,
    right: Cow<'static, str>,
    instead: Cow<'static, str>,
    /// Whether it ends a strict program.
    fatal: bool,
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
            part: shown(part),
            right: right.into(),
            instead: instead.into(),
            fatal: true,
        }
    }

    /// A log file that cannot be opened.
    #[must_use]
    pub fn log_file(path: &Path, error: &io::Error) -> Self {
        let right = format!("it cannot be appended to: {error}");
        Self::new(LOG_FILE, path.as_os_str().as_bytes(), right, "standard error is used")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\"{}\": {}", self.variable, self.place, self.part, self.right)
    }
}

/// What is shown of a part, a name or a path: printable, and so much that the whole line with two
/// of them fits.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 300;
    let mut text = String::new();
    for byte in bytes {
        if text.len() >= MOST {
            return text + "...";
        }
        text.extend(std::ascii::escape_default(*byte).map(char::from));
    }
    text
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

static SETTINGS: OnceRef<'static, Settings> = OnceRef::new();
/// The settings of `EGRESS_SHIM=off`: nothing is allocated for them.
static OFF: Settings =
    Settings { keepalive: None, ipv4_only: None, log: None, strict: false, glibc: false };

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
        if is_switched_off() {
            let _ = SETTINGS.set(&OFF);
        } else {
            let (settings, problems) = read_environment();
            // There for the life of the process; the loser of a race leaks its own.
            let settings: &'static Settings = Box::leak(Box::new(settings));
            if SETTINGS.set(settings).is_ok() {
                start(settings, problems);
            }
        }
    }
    SETTINGS.get().unwrap_or(&OFF)
}

/// Whether `EGRESS_SHIM=off` and the environment counts.
fn is_switched_off() -> bool {
    let value =
        environment().find_map(|entry| entry.strip_prefix(SWITCH.as_bytes())?.strip_prefix(b"="));
    value.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"off")) && !is_secure()
}

fn is_secure() -> bool {
    // SAFETY: getauxval(3) with a valid argument.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Starts logging and reports the problems, once per process.
fn start(settings: &Settings, mut problems: Vec<Problem>) {
    if let Some(log) = &settings.log {
        logging::start(log, &mut problems);
    }
    if settings.strict
        && let Some(patterns) = &settings.ipv4_only
    {
        problems.extend(resolver::load_allowlist(patterns));
    }
    report_to(&problems, settings.strict);
    log::info!("{} {} is loaded: {settings}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
}

/// Reports problems found after the start, one line each; fatal where the settings say so.
pub fn report(problems: &[Problem]) {
    report_to(problems, settings().strict);
}

fn report_to(problems: &[Problem], strict: bool) {
    /// Who has so much wrong needs no longer list, and a log has other lines.
    const MOST: usize = 30;
    for problem in problems.iter().take(MOST) {
        let instead = if strict && problem.fatal {
            "the program is not run (EGRESS_SHIM_STRICT=1)"
        } else {
            &problem.instead
        };
        logging::complain(format_args!("{problem}; {instead}"));
    }
    if problems.len() > MOST {
        logging::complain(format_args!(
            "so many more settings are wrong: {}",
            problems.len() - MOST
        ));
    }
    if strict && problems.iter().any(|problem| problem.fatal) {
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
    // SAFETY: dlsym(3) with valid arguments; its result is only compared with null.
    let glibc =
        unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"gnu_get_libc_version".as_ptr()).is_null() };
    let (settings, problems) = if is_secure() {
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
    if next.is_null() {
        next = initial_environment();
    }
    std::iter::from_fn(move || {
        if next.is_null() {
            return None;
        }
        // SAFETY: not past the array's null; an entry is a C string. As with getenv(3), sound
        // as long as nobody calls setenv(3) meanwhile: at load, or at a call before it.
        unsafe {
            let entry = next.read();
            next = next.add(1);
            (!entry.is_null()).then(|| CStr::from_ptr(entry).to_bytes())
        }
    })
}

/// The environment as the kernel put it on the stack, behind the arguments (execve(2)); null where
/// libc does not say where that is.
///
/// glibc sets `environ` when libc itself is constructed (csu/init-first.c). The functions of the
/// program's `DT_PREINIT_ARRAY` run before that.
fn initial_environment() -> *const *const c_char {
    // SAFETY: glibc's loader has put the initial stack pointer in this variable (elf/dl-sysdep.c),
    // where the kernel has put the number of arguments, the arguments and a null.
    unsafe {
        let end = libc::dlsym(libc::RTLD_DEFAULT, c"__libc_stack_end".as_ptr());
        let Some(&stack) = end.cast::<*const usize>().as_ref() else { return std::ptr::null() };
        let arguments = stack.read();
        stack.add(1 + arguments + 1).cast()
    }
}

/// Makes settings of environment entries (`NAME=value`). An empty value is none.
pub fn parse<'a>(environment: impl Iterator<Item = &'a [u8]>) -> (Settings, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut values = [None; VARIABLES.len()];
    for entry in environment.filter(|entry| entry.starts_with(SWITCH.as_bytes())) {
        // As getenv(3) does, passes over what has no `=`.
        let Some(end) = entry.iter().position(|&byte| byte == b'=') else { continue };
        let (name, value) = entry.split_at(end);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let known = VARIABLES.iter().position(|known| known.as_bytes() == name);
        match known.and_then(|index| values.get_mut(index)) {
            // As for getenv(3), the first of two entries counts.
            Some(slot) => _ = slot.get_or_insert(value),
            // An image may have a variable that looks like ours: never fatal.
            None if is_meant_for_us(name) => problems.push(Problem {
                fatal: false,
                ..Problem::new(
                    &shown(name),
                    value,
                    format!("there is no such setting, only {}", VARIABLES.join(", ")),
                    "it is ignored",
                )
            }),
            None => {}
        }
    }
    let [switch, ipv4_only, ipv4_only_file, keepalive, log, log_file, strict] =
        values.map(|value| value.filter(|value| !value.is_empty()));

    if switch.is_some_and(|value| value.eq_ignore_ascii_case(b"off")) {
        return (Settings::default(), Vec::new());
    }
    if let Some(value) = switch.filter(|value| !value.eq_ignore_ascii_case(b"on")) {
        problems.push(Problem::new(SWITCH, value, "it is on or off", "on is used"));
    }
    let strict_process = strict.and_then(|value| parse_number(value.strip_prefix(b"pid:")?));
    if let Some(value) =
        strict.filter(|&value| value != b"1" && value != b"0" && strict_process.is_none())
    {
        problems.push(Problem::new(STRICT, value, "it is 1, or 0 or not set", "0 is used"));
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
        // SAFETY: getpid(2) always succeeds.
        strict: strict == Some(b"1") || strict_process == Some(unsafe { libc::getpid() }),
        glibc: false,
    };
    // Checked here for the report alone: the list is built by the first lookup.
    if let Some(value) = ipv4_only {
        add_patterns(&mut Allowlist::default(), value, None, &mut problems);
    }
    (settings, problems)
}

/// Whether a variable that is none of ours was meant to be. Kubernetes puts `NAME_SERVICE_HOST`,
/// `NAME_PORT` and more of that kind into every container beside a Service whose name begins as ours.
fn is_meant_for_us(name: &[u8]) -> bool {
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    name.get(SWITCH.len()) == Some(&b'_') && !has(b"_SERVICE_") && !has(b"_PORT")
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
                "it is on or off alone, or any of idle=S,interval=S,count=N",
                "this part is ignored",
            ));
            continue;
        };
        if *given {
            problems.push(Problem::new(
                KEEPALIVE,
                part,
                format!("{} is given twice", name.escape_ascii()),
                format!("{timing} is used"),
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
    // Those that log. A slash, which env_logger would take for a filter of texts, is in no name.
    let is_module = |word: &str| {
        let rest = word.strip_prefix(env!("CARGO_CRATE_NAME"));
        matches!(rest, Some("" | "::config" | "::keepalive" | "::resolver"))
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
                "it is off, error, warn, info, debug or trace, or egress_shim::MODULE=LEVEL for \
                 config, keepalive or resolver",
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
                Ok(text) => {
                    // What an editor on Windows may put before a text says nothing of a host.
                    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
                    add_patterns(&mut allowlist, text, Some(path), &mut problems);
                }
                Err(error) => problems.push(Problem::new(
                    IPV4_ONLY_FILE,
                    path.as_os_str().as_bytes(),
                    format!("it cannot be read as a file of host patterns: {error}"),
                    "it lists no host",
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
        Some(path) => format!("{} line {line}: ", shown(path.as_os_str().as_bytes())),
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
            format!("so many more are wrong: {more}"),
            "they are ignored",
        ));
    }
}

/// Reads a regular file whole. `O_NONBLOCK`, for a named pipe must not hold up the program.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(io::Error::other("larger than 16 MiB"));
    }
    let mut text = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other("larger than 16 MiB"));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::tests::Random;

    /// The settings that environment entries make, and of each problem the variable and the part.
    fn parsed(entries: &[&[u8]]) -> (Settings, Vec<String>) {
        let (settings, problems) = parse(entries.iter().copied());
        let of_problem = |problem: Problem| {
            let line = problem.to_string();
            let (start, right) = line.rsplit_once("\": ").expect("VARIABLE: \"PART\": RIGHT");
            assert!(!right.is_empty() && !problem.instead.is_empty(), "{problem:?}");
            start.replacen(": \"", " ", 1)
        };
        (settings, problems.into_iter().map(of_problem).collect())
    }

    /// The settings that `EGRESS_SHIM` and these endings and values make.
    fn set(values: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let entries: Vec<_> =
            values.iter().map(|(name, value)| format!("EGRESS_SHIM{name}={value}")).collect();
        parsed(&entries.iter().map(String::as_bytes).collect::<Vec<_>>())
    }

    fn defaults() -> Settings {
        Settings {
            keepalive: Some(DEFAULT_TIMINGS),
            log: Some(Log { filter: "warn".to_owned(), file: None }),
            ..Settings::default()
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let timings = Timings { idle: 60, interval: 60, count: 5 };
        assert_eq!(set(&[]), (defaults(), vec![]));
        assert_eq!(set(&[]).0.keepalive, Some(timings));
    }

    #[test]
    fn an_empty_value_is_none() {
        for value in ["", " ", " \t\r\n"] {
            let variables = VARIABLES.map(|variable| (&variable[SWITCH.len()..], value));
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
        for value in ["off", "OFF", " Off "] {
            for place in [0, 3, others.len()] {
                let mut values = others.to_vec();
                values.insert(place, ("", value));
                assert_eq!(set(&values), (Settings::default(), vec![]), "{values:?}");
            }
        }
        for value in ["on", "ON", " on"] {
            assert_eq!(set(&[("", value)]), (defaults(), vec![]), "{value:?}");
        }
        for value in ["0", "1", "no", "of", "off.", "off,on"] {
            let wanted = vec![format!("EGRESS_SHIM {value}")];
            assert_eq!(set(&[("", value)]), (defaults(), wanted), "{value:?}");
        }
    }

    #[test]
    fn strict_is_1_or_this_process_or_not_set() {
        for (value, strict, right) in [
            ("1", true, true),
            (" 1\n", true, true),
            ("0", false, true),
            ("yes", false, false),
            ("true", false, false),
            ("01", false, false),
            ("on", false, false),
            ("2", false, false),
            (&format!("pid:{}", std::process::id()), true, true),
            (&format!("pid:{}", std::process::id() + 1), false, true),
            ("pid:", false, false),
            ("pid:one", false, false),
        ] {
            let wanted = if right { vec![] } else { vec![format!("EGRESS_SHIM_STRICT {value}")] };
            let (settings, problems) = set(&[("_STRICT", value)]);
            assert_eq!((settings.strict, problems), (strict, wanted), "{value:?}");
        }
    }

    /// A value, the timings that it makes, its wrong parts.
    type Keepalive<'a> = (&'a str, Option<[c_int; 3]>, &'a [&'a str]);

    fn assert_keepalive(table: &[Keepalive<'_>]) {
        for (value, wanted, wrong) in table {
            let wanted = wanted.map(|[idle, interval, count]| Timings { idle, interval, count });
            let wrong: Vec<_> =
                wrong.iter().map(|part| format!("EGRESS_SHIM_KEEPALIVE {part}")).collect();
            let (settings, problems) = set(&[("_KEEPALIVE", value)]);
            assert_eq!((settings.keepalive, problems), (wanted, wrong), "{value:?}");
        }
    }

    #[test]
    fn keepalive_takes_on_off_or_any_of_the_three_timings_up_to_the_limits_of_the_kernel() {
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
        ]);
    }

    #[test]
    fn a_wrong_part_of_keepalive_loses_no_other_part() {
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
            ("idle=1s", Some([60, 60, 5]), &["idle=1s"]),
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

    #[test]
    fn a_log_filter_keeps_its_right_parts() {
        // Value, the filter made of it, wrong parts.
        let table: &[(&str, &str, &[&str])] = &[
            ("off", "off", &[]),
            ("error", "error", &[]),
            ("Debug", "Debug", &[]),
            (" TRACE ", "TRACE", &[]),
            ("egress_shim", "egress_shim", &[]),
            ("egress_shim=debug", "egress_shim=debug", &[]),
            ("egress_shim::keepalive", "egress_shim::keepalive", &[]),
            ("egress_shim::keepalive = trace", "egress_shim::keepalive=trace", &[]),
            ("warn, egress_shim::resolver=off", "warn,egress_shim::resolver=off", &[]),
            ("info,,", "info", &[]),
            (",", "warn", &[]),
            ("verbose", "warn", &["verbose"]),
            ("1", "warn", &["1"]),
            ("debug,trase", "debug", &["trase"]),
            ("info/keepalive", "warn", &["info/keepalive"]),
            ("hyper=debug", "warn", &["hyper=debug"]),
            ("egress-shim=debug", "warn", &["egress-shim=debug"]),
            ("egress_shimmer=debug", "warn", &["egress_shimmer=debug"]),
            ("egress_shim:keepalive=debug", "warn", &["egress_shim:keepalive=debug"]),
            ("egress_shim=loud", "warn", &["egress_shim=loud"]),
            ("egress_shim=", "warn", &["egress_shim="]),
            ("=info", "warn", &["=info"]),
            ("egress_shim=info=debug", "warn", &["egress_shim=info=debug"]),
            ("keepalive=trace", "warn", &["keepalive=trace"]),
        ];
        for (value, filter, wrong) in table {
            let wrong: Vec<_> =
                wrong.iter().map(|part| format!("EGRESS_SHIM_LOG {part}")).collect();
            let (settings, problems) = set(&[("_LOG", value)]);
            let seen = settings.log.expect("the switch is on").filter;
            assert_eq!((seen.as_str(), problems), (*filter, wrong), "{value:?}");
        }
    }

    #[test]
    fn a_module_in_a_log_filter_is_one_that_the_library_has() {
        for module in ["", "::config", "::keepalive", "::resolver"] {
            for level in ["", "=trace"] {
                let value = format!("egress_shim{module}{level}");
                let (settings, problems) = set(&[("_LOG", &value)]);
                let seen = settings.log.map(|log| log.filter);
                assert_eq!((seen, problems), (Some(value), vec![]));
            }
        }
        for wrong in [
            "egress_shim::keepalve=trace",
            "egress_shim::",
            "egress_shim::keepalive::=info",
            "egress_shim::keep alive=info",
            "egress_shim::keepalive/a",
            "egress_shim::keepalive/a/b",
            "egress_shim::\u{1b}[m=info",
        ] {
            let (settings, problems) = set(&[("_LOG", wrong)]);
            let wanted = vec![format!("EGRESS_SHIM_LOG {}", wrong.as_bytes().escape_ascii())];
            let seen = (settings.log.map(|log| log.filter), problems);
            assert_eq!(seen, (Some("warn".to_owned()), wanted), "{wrong:?}");
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
        let keepalive = Some(Timings { idle: 1, ..DEFAULT_TIMINGS });
        let log = Some(Log { filter: "info".to_owned(), file: None });
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
        assert_eq!(parsed(&entries), (Settings::default(), vec![]));
    }

    #[test]
    fn patterns_are_kept_as_they_stand_and_each_wrong_one_is_a_problem() {
        let (settings, problems) = set(&[("_IPV4_ONLY", " a.b,1.2.3.4 *.c\n!d a..b ")]);
        let list = b"a.b,1.2.3.4 *.c\n!d a..b".to_vec();
        assert_eq!(settings.ipv4_only, Some(Patterns { list, file: None }));
        assert_eq!(problems, ["EGRESS_SHIM_IPV4_ONLY 1.2.3.4", "EGRESS_SHIM_IPV4_ONLY a..b"]);
        let (allowlist, problems) = settings.ipv4_only.expect("it is set").load();
        assert_eq!(problems, [], "what was said once is not said again");
        let names = ["a.b", "x.c", "d", "a..b", "1.2.3.4"];
        let listed = names.map(|name| allowlist.contains(name.as_bytes()));
        assert_eq!(listed, [true, true, false, false, false], "{names:?}");
    }

    #[test]
    fn ten_wrong_patterns_are_shown_and_the_others_counted() {
        for count in [1, 9, 10, 11, 12, 5_000] {
            let value = "1 ".repeat(count);
            let (_, problems) = set(&[("_IPV4_ONLY", &value)]);
            let mut wanted = vec!["EGRESS_SHIM_IPV4_ONLY 1"; count.min(10)];
            wanted.extend((count > 10).then_some("EGRESS_SHIM_IPV4_ONLY ..."));
            assert_eq!(problems, wanted, "{count} wrong patterns");
        }
    }

    #[test]
    fn a_relative_path_is_that_of_the_directory_at_load() {
        let here = std::env::current_dir().expect("the test has a directory");
        for (value, wanted) in [("a b", here.join("a b")), ("/a/../b", PathBuf::from("/a/../b"))] {
            let (settings, problems) = set(&[("_IPV4_ONLY_FILE", value), ("_LOG_FILE", value)]);
            let patterns = Patterns { list: vec![], file: Some(wanted.clone()) };
            assert_eq!(settings.ipv4_only, Some(patterns));
            assert_eq!(settings.log.and_then(|log| log.file), Some(wanted));
            assert_eq!(problems, Vec::<String>::new());
        }
    }

    #[test]
    fn whatever_the_values_are_the_settings_are_sound_and_each_problem_is_one_printable_line() {
        let pieces = [
            "on",
            "off",
            "idle",
            "interval",
            "count",
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
                (&variable[SWITCH.len()..], value)
            });
            let entries =
                values.each_ref().map(|(name, value)| format!("EGRESS_SHIM{name}={value}"));
            let (settings, problems) = parse(entries.iter().map(String::as_bytes));
            if let Some(Timings { idle, interval, count }) = settings.keepalive {
                let sound = (1..=32767).contains(&idle)
                    && (1..=32767).contains(&interval)
                    && (1..=127).contains(&count);
                assert!(sound, "{values:?}: {settings}");
            }
            for problem in &problems {
                let line = problem.to_string();
                assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
                assert!(VARIABLES.iter().any(|name| line.starts_with(name)), "{line}");
            }
            reported += problems.len();
        }
        assert!(reported > 50_000, "only {reported} problems");
    }
}
