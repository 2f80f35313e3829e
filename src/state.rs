//! What is in force in this process: settings, log and allowlist, each loaded once.
//!
//! The settings are read when the library loads, or at a call before that. The allowlist's texts are kept
//! then and become a list at the first lookup that could be listed. A start makes no kind of system call
//! that libc's own loader has not made, whatever the settings are, but for a log file and a complaint.

use std::fmt;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64};

use egress_shim_core::allowlist::{self, Allowlist};
use egress_shim_core::settings::{self, Keepalive, Kind, LARGEST_FILE, Problem, Settings, Values};
use log::Level;
use once_cell::race::OnceRef;

use crate::logging::{self, log_once};
use crate::memory::{self, leak};
use crate::process::{self, Environment, Errno, File, PATH_LENGTH, c_path};

/// A list file up to this size is read at load, so that a daemon which drops its rights, changes its root
/// or restricts itself afterwards has it.
const SMALL_FILE: usize = 64 << 10;

/// The settings of this process, with copies of their texts, as the program may write over its environment.
static SETTINGS: OnceRef<'static, Settings<'static>> = OnceRef::new();
/// The library does nothing.
static OFF: Settings<'static> = Settings::OFF;
/// Of a privileged process: the environment is the caller's, so it decides nothing, and nothing is written.
static PRIVILEGED: Settings<'static> =
    Settings { keepalive: Some(Keepalive::DEFAULT), ..Settings::OFF };

/// The settings of this process. Usually the constructor has loaded them; the first call does where another
/// library's constructor calls a hook before it.
#[must_use]
pub fn settings() -> &'static Settings<'static> {
    // What is left on the connect path is a load and a compare.
    SETTINGS.get().unwrap_or_else(load)
}

/// What outbound TCP connections get; `None` if keepalive is off.
#[must_use]
pub fn keepalive() -> Option<Keepalive> {
    let settings = settings();
    log_what_is_in_force(settings);
    settings.keepalive
}

/// Reads the settings, unless that is done.
pub fn load_settings() {
    let _ = settings();
}

#[cold]
fn load() -> &'static Settings<'static> {
    let environment = Environment::starting_with(settings::SWITCH.variable);
    if process::is_secure() {
        let _ = SETTINGS.set(&PRIVILEGED);
        return &PRIVILEGED;
    }
    let values = Values::of(environment.clone());
    if values.is_off() || values.programs().is_some_and(|programs| !is_program_selected(programs)) {
        let _ = SETTINGS.set(&OFF);
    } else {
        process::without_cancellation(|| start(&values, environment));
    }
    SETTINGS.get().unwrap_or(&OFF)
}

/// Whether `EGRESS_SHIM_PROGRAMS` means the program that this process runs.
#[inline(never)]
fn is_program_selected(programs: &[u8]) -> bool {
    fn base_name(path: &[u8]) -> &[u8] {
        path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
    }
    let mut buffer = [0; 4096];
    let file = process::running_file(&mut buffer);
    settings::is_program_selected(programs, [base_name(process::executed_path()), base_name(file)])
}

/// Makes the settings those of this process, unless another thread was first, and reports what is wrong.
fn start(values: &Values<'_>, environment: Environment) {
    let mut problems = values.unknown;
    let parsed = values.parse(&mut |_| problems += 1);
    let (mut settings, complete) = keep(parsed);
    settings.ipv4_only_file = settings.ipv4_only_file.map(read_list_at_load);
    let log = settings.log.unwrap_or_default();
    let log_started = logging::start(log.filter, log.file);
    let Some(settings) = memory::leak(settings) else { return };
    if SETTINGS.set(settings).is_err() {
        return;
    }
    let mut complaints = Complaints::new(settings.strict);
    let mut report = |problem: &Problem<'_>| complaints.add(problem);
    if problems > 0 {
        settings::report_unknown(environment, &mut report);
        values.parse(&mut report);
    }
    if !complete {
        settings::report_no_memory(&mut report);
    }
    match (log_started, log.file) {
        // A child that has lost the privilege to write to its parent's log says nothing.
        (Err(Errno(libc::EACCES | libc::EPERM)), _) if !settings.strict => {}
        (Err(error), Some(path)) => settings::report_no_log(path, &error, &mut report),
        _ => {}
    }
    if settings.strict && settings.has_allowlist() {
        load_list(settings, &mut report);
    }
    complaints.end();
}

/// The settings with copies of their texts, and whether there was memory for all of them.
fn keep(settings: Settings<'_>) -> (Settings<'static>, bool) {
    let mut complete = true;
    let mut keep = |text: &[u8]| {
        let copy = memory::copy(text);
        complete &= copy.is_some();
        copy
    };
    let kept = Settings {
        programs: None,
        ipv4_only: keep(settings.ipv4_only).unwrap_or_default(),
        ipv4_only_file: settings.ipv4_only_file.and_then(&mut keep),
        log: settings.log.map(|log| settings::Log {
            filter: keep(log.filter).unwrap_or_default(),
            file: log.file.and_then(&mut keep),
        }),
        ..settings
    };
    (kept, complete)
}

/// The complaints of one load.
struct Complaints {
    strict: bool,
    count: usize,
    fatal: bool,
}

impl Complaints {
    /// More lines would not help, and would bury the others of a log.
    const MOST: usize = 30;

    fn new(strict: bool) -> Self {
        Self { strict, count: 0, fatal: false }
    }

    /// Writes a line about a problem, unless there were many.
    fn add(&mut self, problem: &Problem<'_>) {
        self.count += 1;
        let fatal = self.strict && problem.kind == Kind::Invalid;
        self.fatal |= fatal;
        if self.count <= Self::MOST {
            let instead: &dyn fmt::Display = if fatal {
                &"the program is not run (EGRESS_SHIM_STRICT=1)"
            } else {
                problem.instead
            };
            logging::complain(format_args!("{}", Problem { instead, ..*problem }));
        }
    }

    /// Counts those that were not written, and ends a strict program.
    fn end(self) {
        if let Some(more) = self.count.checked_sub(Self::MOST).filter(|more| *more > 0) {
            let are = if more == 1 { "setting is" } else { "settings are" };
            logging::complain(format_args!("{more} more {are} invalid"));
        }
        if self.fatal {
            process::exit(settings::EXIT_CONFIG);
        }
    }
}

/// Says what is in force at the first call that the library has something to do with, so that a start writes
/// nothing.
#[inline]
fn log_what_is_in_force(settings: &Settings<'_>) {
    log_once!(Level::Info, "egress-shim {} is loaded: {settings}", env!("CARGO_PKG_VERSION"));
}

// --- The allowlist -----------------------------------------------------------------------------------

/// The text of the list file, once it has been read.
static LIST_FILE: OnceRef<'static, Vec<u8>> = OnceRef::new();
/// The list, once there is one.
static LIST: AtomicPtr<Allowlist> = AtomicPtr::new(null_mut());
/// When the list is to be loaded again, in seconds of the monotonic clock; [`COMPLETE`] when it need not be.
static NEXT_TRY: AtomicI64 = AtomicI64::new(0);
const COMPLETE: i64 = i64::MAX;
/// The process and the thread that load the list now; 0 where none does.
static LOADER: AtomicU64 = AtomicU64::new(0);
/// How many loads have ended: what other threads wait for.
static LOADS: AtomicU32 = AtomicU32::new(0);

/// Whether a name that is looked up is on the allowlist of this process. The first call for a name that could
/// be loads the list.
#[must_use]
pub fn is_listed(name: &[u8]) -> bool {
    is_on_list(name, Caller::Lookup)
}

/// What asks whether the name of a reply is listed; `None` if no name can be.
#[must_use]
pub fn allowlist() -> Option<fn(&[u8]) -> bool> {
    settings().has_allowlist().then_some(|name| is_on_list(name, Caller::Reply))
}

/// Who asks for the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// getaddrinfo(3) and the like, which no signal handler may call.
    Lookup,
    /// recv(2) and the like, which one may.
    Reply,
}

fn is_on_list(name: &[u8], caller: Caller) -> bool {
    let settings = settings();
    log_what_is_in_force(settings);
    if !settings.has_allowlist() || !allowlist::can_be_listed(name) {
        return false;
    }
    if NEXT_TRY.load(Acquire) != COMPLETE
        && allowlist::is_localhost(name)
        && !may_list_localhost(settings)
    {
        return false;
    }
    list(settings, caller).is_some_and(|list| list.contains(name))
}

/// Whether a text that is in memory names `localhost`, which no other pattern lists: what is asked so often
/// is not worth the reading of a file.
fn may_list_localhost(settings: &Settings<'_>) -> bool {
    const LOCALHOST: &[u8] = b"localhost";
    [settings.ipv4_only, LIST_FILE.get().map_or(&[], Vec::as_slice)].into_iter().any(|text| {
        text.windows(LOCALHOST.len()).any(|window| window.eq_ignore_ascii_case(LOCALHOST))
    })
}

fn list(settings: &'static Settings<'static>, caller: Caller) -> Option<&'static Allowlist> {
    if NEXT_TRY.load(Acquire) != COMPLETE {
        load_list_once(settings, caller);
    }
    // SAFETY: null, or a list that lasts as long as the process.
    unsafe { LIST.load(Acquire).as_ref() }
}

/// Has the list loaded by one thread, while others wait. The waiting knows whose it is: a child forked
/// meanwhile has no such thread and loads for itself, and a reply in a signal handler of the loading thread
/// passes by the list that there is.
///
/// A signal handler may also jump out of the load (siglongjmp(3)), as wget's does when a lookup has taken too
/// long. Then nobody loads any more: that thread's next lookup does, or another thread that has waited for so
/// long that no load takes.
#[cold]
fn load_list_once(settings: &'static Settings<'static>, caller: Caller) {
    /// In seconds.
    const LONGEST_LOAD: i64 = 10;
    let (process, thread) = (process::id(), process::thread_id());
    let own = u64::from(process.cast_unsigned()) << 32 | u64::from(thread.cast_unsigned());
    let end = process::monotonic_seconds() + LONGEST_LOAD;
    loop {
        let loads = LOADS.load(Acquire);
        let now = process::monotonic_seconds();
        if now < NEXT_TRY.load(Acquire) {
            return;
        }
        let loader = LOADER.load(Acquire);
        let is_free = if loader == own {
            caller == Caller::Lookup
        } else {
            // In a new PID namespace a child may have its parent's id, but not the thread.
            loader == 0
                || loader >> 32 != own >> 32
                || !process::has_thread(process, loader)
                || now >= end
        };
        if is_free {
            if LOADER.compare_exchange(loader, own, AcqRel, Relaxed).is_ok() {
                // Another thread's load may have ended since the look at the time.
                if now >= NEXT_TRY.load(Acquire) {
                    load_list_now(settings);
                }
                // Unless another thread has taken over.
                let _ = LOADER.compare_exchange(own, 0, Release, Relaxed);
                LOADS.fetch_add(1, AcqRel);
                process::wake_all(&LOADS);
                return;
            }
        } else if loader == own || !LIST.load(Acquire).is_null() {
            // For a reply in a signal handler of the loading thread, or while another one tries again.
            return;
        } else {
            process::keeping_errno(|| process::wait_while(&LOADS, loads));
        }
    }
}

fn load_list_now(settings: &'static Settings<'static>) {
    process::keeping_errno(|| {
        process::without_cancellation(|| {
            let mut complaints = Complaints::new(false);
            load_list(settings, &mut |problem| complaints.add(problem));
            complaints.end();
        });
    });
}

/// Loads the list and reports what is wrong with it. Where it cannot be had now but perhaps later, the
/// patterns of the variable hold meanwhile.
fn load_list(settings: &'static Settings<'static>, report: settings::Report<'_>) {
    /// Whether an earlier try has reported what was wrong.
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let again = REPORTED.swap(true, Relaxed);
    let path = settings.ipv4_only_file;
    let mut failure = path.and_then(|path| list_file(path).err());
    let is_passing = |failure: &Option<Failure>| failure.is_some_and(Failure::is_passing);
    if LIST.load(Acquire).is_null() || !is_passing(&failure) {
        let text = path.zip(LIST_FILE.get().map(Vec::as_slice));
        let list = settings::load_allowlist(settings.ipv4_only, text, &mut |problem| {
            if !(again && problem.variable == settings::IPV4_ONLY.variable.as_bytes()) {
                report(problem);
            }
        });
        match list.ok().and_then(leak) {
            Some(list) => LIST.store(std::ptr::from_ref(list).cast_mut(), Release),
            None => failure = Some(Failure::System(Errno(libc::ENOMEM))),
        }
    }
    let passing = is_passing(&failure);
    if let Some(failure) = failure.filter(|_| !again || !passing) {
        settings::report_no_list(path, &failure, passing, report);
    }
    NEXT_TRY.store(if passing { process::monotonic_seconds() + 1 } else { COMPLETE }, Release);
}

/// Reads the list file at load where it is small, in silence: the first lookup reports what is wrong. Gives
/// the path for that lookup: one that holds when the program has changed its directory.
fn read_list_at_load(path: &'static [u8]) -> &'static [u8] {
    if !process::may_hang(path)
        && let Ok(text) = read(path, SMALL_FILE)
        && let Some(text) = leak(text)
    {
        let _ = LIST_FILE.set(text);
        return path;
    }
    let mut buffer = [0; PATH_LENGTH];
    let directory = if path.starts_with(b"/") { &[] } else { process::directory(&mut buffer) };
    let mut absolute = Vec::new();
    if directory.is_empty() || absolute.try_reserve_exact(directory.len() + 1 + path.len()).is_err()
    {
        return path;
    }
    for part in [directory, b"/", path] {
        absolute.extend_from_slice(part);
    }
    absolute.leak()
}

/// The text of the list file, which is read unless it has been.
fn list_file(path: &[u8]) -> Result<&'static [u8], Failure> {
    if LIST_FILE.get().is_none() {
        let text = leak(read(path, LARGEST_FILE)?).ok_or(Failure::System(Errno(libc::ENOMEM)))?;
        let _ = LIST_FILE.set(text);
    }
    Ok(LIST_FILE.get().map_or(&[], Vec::as_slice))
}

/// Reads a regular file of at most `most` bytes.
fn read(path: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut buffer = [0; PATH_LENGTH];
    let file = File::open(c_path(path, &mut buffer)?)?;
    let status = file.status()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Failure::NotRegular);
    }
    let size = usize::try_from(status.st_size).unwrap_or(usize::MAX);
    if size > most {
        return Err(Failure::TooLarge);
    }
    Ok(file.read_whole(size.max(1000) + 1, most)?)
}

/// Why the list file cannot be had.
#[derive(Clone, Copy, Debug)]
enum Failure {
    System(Errno),
    NotRegular,
    TooLarge,
}

impl Failure {
    /// Whether it may be over at a later lookup.
    fn is_passing(self) -> bool {
        matches!(
            self,
            Self::System(Errno(
                libc::EMFILE
                    | libc::ENFILE
                    | libc::ENOMEM
                    | libc::EINTR
                    | libc::EAGAIN
                    | libc::ENOBUFS
            ))
        )
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        if errno == Errno(libc::EFBIG) { Self::TooLarge } else { Self::System(errno) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => errno.fmt(f),
            Self::NotRegular => f.write_str(settings::NOT_REGULAR),
            Self::TooLarge => f.write_str(settings::TOO_LARGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_settings_has_keepalive_and_no_allowlist() {
        load_settings();
        assert_eq!(keepalive(), Some(Keepalive::DEFAULT));
        assert!(allowlist().is_none() && !is_listed(b"api.openai.com"));
    }
}
