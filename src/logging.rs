//! Each line is one write, and no line ever waits. Lines go to the log file, or to standard error as long as that
//! is still the file that it was at load.
//!
//! A line is formatted on the stack and written by bare system calls: no lock, no allocation, no
//! cancellation point, and no signal handler meanwhile. So it may be logged from the connect path, and a
//! thread that leaves through a handler leaves nothing half done. A line that cannot be written at once is
//! dropped and counted, and the next line tells how many were.

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI32, AtomicU32};

use egress_shim_core::settings;
use libc::{c_int, c_long};
use log::{Level, LevelFilter};
use once_cell::race::OnceRef;

use crate::calls;
use crate::memory;
use crate::process::{
    self, Errno, PATH_LENGTH, SignalSet, Status, c_path, keeping_errno, without_signals,
};

/// The longest line, its end included; a longer one is cut and ends in `...`.
const LONGEST_LINE: usize = 1024;
/// The lowest number for the log file's descriptor: programs rely on getting the low ones.
const LOWEST_DESCRIPTOR: c_int = 100;

/// The facts that a line needs.
#[derive(Debug)]
struct Log {
    filter: Filter,
    /// Where the lines go; `None`: nowhere.
    sink: Option<Sink>,
    /// Where complaints about the settings go.
    stderr: Option<Sink>,
}

/// Set once, at load; `None` where nothing may ever be written.
static LOG: OnceRef<'static, Log> = OnceRef::new();
/// The lines that could not be written since the last one that could.
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Starts the log, before any line of this process. Several threads may do that at once, with the same
/// settings: the first one counts, and all can log afterwards. If the log file cannot be opened, lines go to
/// standard error.
///
/// # Errors
/// The log file cannot be opened.
// Never inlined, like others here, so that its stack is free again when a line needs room.
#[inline(never)]
pub fn start(filter: &'static [u8], file: Option<&[u8]>) -> Result<(), Errno> {
    let filter = Filter::of(filter);
    let stderr = Sink::of(libc::STDERR_FILENO);
    let log = |sink| Log { filter, sink, stderr };
    let result = match file {
        None => publish(log(stderr)).map(|_| ()),
        // A handler that jumped out meanwhile would leave a descriptor open.
        Some(path) => without_signals(|_| match LogFile::open(path) {
            Ok(file) => {
                let published = publish(log(file.sink));
                if published != Ok(true) {
                    file.close();
                }
                published.map(|_| ())
            }
            Err(error) => {
                // A child that has lost the privilege to write to its parent's log is silent.
                let is_denied = matches!(error, Errno(libc::EACCES | libc::EPERM));
                publish(log(stderr.filter(|_| !is_denied))).and(Err(error))
            }
        }),
    };
    log::set_max_level(filter.highest());
    result
}

/// Makes this the log of the process, unless there is one. Returns whether it is now.
fn publish(log: Log) -> Result<bool, Errno> {
    let log = memory::leak(log).ok_or(Errno(libc::ENOMEM))?;
    Ok(LOG.set(log).is_ok())
}

/// Writes a complaint about the settings to standard error, whatever the filter says.
pub fn complain(message: fmt::Arguments<'_>) {
    if let Some(stderr) = LOG.get().and_then(|log| log.stderr) {
        keeping_errno(|| {
            without_signals(|blocked| {
                if stderr.write(format_args!("egress-shim: {message}"), blocked) == Written::No {
                    DROPPED.fetch_add(1, Relaxed);
                }
            });
        });
    }
}

// --- Lines -------------------------------------------------------------------------------------------

/// The logger of this library's lines. The macros below name it, so that the `log` crate's global logger need not
/// be set: threads may have to wait for that.
#[derive(Clone, Copy, Debug)]
pub struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        LOG.get().is_some_and(|log| log.filter.passes(metadata.target(), metadata.level()))
    }

    fn log(&self, record: &log::Record<'_>) {
        write_line(record.level(), record.target(), *record.args(), None);
    }

    fn flush(&self) {}
}

/// Logs a line at the debug level: `log::debug!` with the library's logger.
macro_rules! debug {
    (target: $target:literal, $($message:tt)+) => {
        log::log!(logger: $crate::logging::Logger, target: $target, log::Level::Debug, $($message)+)
    };
    ($($message:tt)+) => {
        log::log!(logger: $crate::logging::Logger, log::Level::Debug, $($message)+)
    };
}
pub(crate) use debug;

/// Logs a line at the info level, as [`debug`] does.
macro_rules! info {
    ($($message:tt)+) => {
        log::log!(logger: $crate::logging::Logger, log::Level::Info, $($message)+)
    };
}
pub(crate) use info;

/// Logs a warning, as [`debug`] does. For a warning that may repeat, use [`log_once`].
macro_rules! warning {
    ($($message:tt)+) => {
        log::log!(logger: $crate::logging::Logger, log::Level::Warn, $($message)+)
    };
}
pub(crate) use warning;

/// Logs a line at the trace level, as [`debug`] does.
macro_rules! trace {
    ($($message:tt)+) => {
        log::log!(logger: $crate::logging::Logger, log::Level::Trace, $($message)+)
    };
}
pub(crate) use trace;

/// Logs a line once per process: `log_once!(Level::Warn, "...")`. The line is tried again at each call until a sink
/// has taken it, whatever other threads, signal handlers and children do meanwhile.
macro_rules! log_once {
    ($level:expr, $($message:tt)+) => {{
        static LINE: $crate::logging::OnceLine = $crate::logging::OnceLine::new();
        if $level <= log::max_level() && LINE.is_owed() {
            LINE.write($level, module_path!(), format_args!($($message)+));
        }
    }};
}
pub(crate) use log_once;

/// A line that is written once per process, see [`log_once`]. Holds [`OWED`](Self::OWED),
/// [`WRITTEN`](Self::WRITTEN), or the id of the process that is writing the line now. If that is another process,
/// this one is a child that was forked meanwhile, and nobody writes the line here.
#[derive(Debug)]
pub struct OnceLine(AtomicI32);

impl OnceLine {
    const OWED: i32 = 0;
    const WRITTEN: i32 = -1;

    /// A line that has yet to be written.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicI32::new(Self::OWED))
    }

    /// Whether the line has not been written.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.0.load(Relaxed) != Self::WRITTEN
    }

    /// Writes the line, unless its level is filtered out or another thread is writing it.
    pub fn write(&self, level: Level, module: &str, message: fmt::Arguments<'_>) {
        write_line(level, module, message, Some(self));
    }

    /// Claims the line for this process.
    fn claim(&self, process: c_int) -> bool {
        let now = self.0.load(Acquire);
        now != Self::WRITTEN
            && now != process
            && self.0.compare_exchange(now, process, Acquire, Relaxed).is_ok()
    }

    fn release(&self, written: bool) {
        self.0.store(if written { Self::WRITTEN } else { Self::OWED }, Release);
    }
}

/// Writes a line if the filter lets it pass. A line that is written once per process is tried again, so it is not
/// counted as dropped.
#[inline(never)]
fn write_line(level: Level, module: &str, message: fmt::Arguments<'_>, once: Option<&OnceLine>) {
    let Some(log) = LOG.get().filter(|log| log.filter.passes(module, level)) else { return };
    let Some(sink) = log.sink else { return };
    let write = |blocked| {
        let process = process::id();
        if once.is_some_and(|line| !line.claim(process)) {
            return;
        }
        let line = format_args!("{Now} egress-shim[{process}] {}: {message}", level.as_str());
        let written = sink.write(line, blocked);
        match once {
            Some(line) => line.release(written == Written::Yes),
            None if written == Written::No => {
                DROPPED.fetch_add(1, Relaxed);
            }
            None => {}
        }
    };
    keeping_errno(|| without_signals(write));
}

// --- The filter --------------------------------------------------------------------------------------

/// The filter in `EGRESS_SHIM_LOG`, with the rules of `env_logger`: among the directives whose module is the start of
/// the line's module, the longest counts; without any directive, the level is `warn`. `env_logger` itself would
/// allocate, and a failed allocation there ends the program. The array has a place for each module, for the library,
/// and for all modules.
#[derive(Clone, Copy, Debug)]
struct Filter([Option<settings::Directive<'static>>; settings::MODULES.len() + 2]);

impl Filter {
    fn of(text: &'static [u8]) -> Self {
        let mut filter = Self([None; _]);
        for directive in settings::log_directives(text).filter_map(Result::ok) {
            // The last directive about a module counts.
            let is_place = |place: &Option<settings::Directive<'_>>| {
                place.is_none_or(|(module, _)| module == directive.0)
            };
            if let Some(place) = filter.0.iter_mut().find(|place| is_place(place)) {
                *place = Some(directive);
            }
        }
        if let [first @ None, ..] = &mut filter.0 {
            *first = Some((None, LevelFilter::Warn));
        }
        filter
    }

    fn passes(&self, target: &str, level: Level) -> bool {
        let about = |(module, _): &&settings::Directive<'_>| {
            module.is_none_or(|module| target.starts_with(module))
        };
        let length = |(module, _): &&settings::Directive<'_>| module.map_or(0, str::len);
        let directive = self.0.iter().flatten().filter(about).max_by_key(length);
        directive.is_some_and(|(_, highest)| level <= *highest)
    }

    /// The highest level that passes for any module.
    fn highest(&self) -> LevelFilter {
        self.0.iter().flatten().map(|(_, level)| *level).max().unwrap_or(LevelFilter::Off)
    }
}

// --- The log file ------------------------------------------------------------------------------------

/// A log file that the library has opened, or a descriptor of the program that its path stands for.
struct LogFile {
    sink: Option<Sink>,
    /// The descriptor that the library has opened.
    opened: Option<c_int>,
}

impl LogFile {
    /// Opens the log file to append to. If the path stands for a descriptor of the program, that descriptor is used.
    /// Opening the path would keep open, for instance, a pipe whose end the program's parent waits for.
    ///
    /// Not inlined: the buffer would cost a start without a log file a page of the stack.
    #[inline(never)]
    fn open(path: &[u8]) -> Result<Self, Errno> {
        if let Some(descriptor) = descriptor_of(path) {
            let sink = Sink::of(descriptor).ok_or(Errno(libc::EBADF))?;
            return Ok(Self { sink: Some(sink), opened: None });
        }
        let opened = open_to_append(c_path(path, &mut [0; PATH_LENGTH])?, libc::O_CREAT)?;
        let moved = out_of_the_way(opened);
        close(opened);
        let descriptor = moved?;
        let reopening = Reopening::of(descriptor);
        let sink = Sink::of(descriptor).map(|sink| Sink { reopening, ..sink });
        // Each line makes these system calls. A seccomp filter that kills for one of them should do so at the start.
        if sink.is_some_and(|sink| sink.file.is_of(descriptor)) {
            let _ = write!(Line::<64>::new(), "{Now} {}", process::id());
        }
        Ok(Self { sink, opened: Some(descriptor) })
    }

    fn close(self) {
        if let Some(descriptor) = self.opened {
            close(descriptor);
        }
    }
}

fn open_to_append(path: &CStr, more: c_int) -> Result<c_int, Errno> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NONBLOCK;
    open(path, flags | more)
}

/// openat(2); a terminal does not become the program's.
fn open(path: &CStr, flags: c_int) -> Result<c_int, Errno> {
    let flags = flags | libc::O_NOCTTY | libc::O_LARGEFILE;
    // SAFETY: a C string, and a mode as O_CREAT asks.
    let opened =
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o644) };
    descriptor(opened)
}

fn close(descriptor: c_int) {
    // SAFETY: close(2) takes any number; the callers have opened theirs, and nobody else knows it.
    unsafe { libc::syscall(libc::SYS_close, descriptor) };
}

/// The descriptor that a system call gives.
fn descriptor(result: c_long) -> Result<c_int, Errno> {
    c_int::try_from(result)
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(|| Errno(process::errno()))
}

/// A copy of a descriptor, out of the way of the program's own.
fn out_of_the_way(opened: c_int) -> Result<c_int, Errno> {
    let copy = |lowest: c_int| {
        // SAFETY: fcntl(2) with a command that takes a number.
        descriptor(unsafe { libc::syscall(libc::SYS_fcntl, opened, libc::F_DUPFD_CLOEXEC, lowest) })
    };
    copy(LOWEST_DESCRIPTOR)
        .or_else(|_| copy(descriptor_limit().saturating_sub(1).clamp(0, LOWEST_DESCRIPTOR)))
        .or_else(|_| copy(libc::STDERR_FILENO + 1))
}

/// The limit below which each descriptor of this process is.
fn descriptor_limit() -> c_int {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let none = ptr::null::<libc::rlimit64>();
    // SAFETY: prlimit64(2) of this process with a local.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, none, &raw mut limit) };
    c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX)
}

/// The way to open the log file again if the program has closed its descriptor, as daemons that close all
/// descriptors do. Each line then opens and closes the file, because such a program wants no open descriptor.
#[derive(Clone, Copy, Debug)]
struct Reopening {
    path: &'static CStr,
    user: [u32; 2],
}

impl Reopening {
    /// The way to open a descriptor's file. `None` unless it is a regular file on a local file system, where opening
    /// neither waits nor has a side effect, and the kernel knows its path.
    fn of(descriptor: c_int) -> Option<Self> {
        let status = process::status(descriptor)?;
        if status.st_mode & libc::S_IFMT != libc::S_IFREG || !is_local(descriptor) {
            return None;
        }
        let mut buffer = [0; PATH_LENGTH];
        let path = process::link_target(proc_path(descriptor).as_c_str(), &mut buffer);
        let path = Some(path).filter(|path| path.starts_with(b"/"))?;
        let path = memory::copy_with_nul(path)?;
        Some(Self { path, user: calls::effective_user() })
    }

    /// Opens the file for a line. Another file may have its path by now, so the caller checks which one it is.
    fn open(self) -> Result<c_int, Errno> {
        // A program that has dropped a privilege must not open the file any more.
        if calls::effective_user() != self.user {
            return Err(Errno(libc::EPERM));
        }
        open_to_append(self.path, libc::O_NOFOLLOW)
    }
}

/// Whether a file is on a file system that never waits for another machine or a program (statfs(2),
/// linux/magic.h).
fn is_local(descriptor: c_int) -> bool {
    /// ext2 to 4, xfs, btrfs, tmpfs, overlayfs, f2fs, ZFS, bcachefs, ramfs.
    const LOCAL: [u32; 9] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x0102_1994,
        0x794c_7630,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0xca45_1a4e,
        0x8584_58f6,
    ];
    calls::file_system(descriptor).is_some_and(|kind| LOCAL.contains(&kind))
}

/// The path that stands for a descriptor, with its end.
fn proc_path(descriptor: c_int) -> Line<32> {
    // The longest number has ten digits.
    let mut path = Line::new();
    let _ = write!(path, "/proc/self/fd/{descriptor}\0");
    path
}

/// The descriptor that a path stands for.
fn descriptor_of(path: &[u8]) -> Option<c_int> {
    match path {
        b"/dev/stdout" => return Some(libc::STDOUT_FILENO),
        b"/dev/stderr" => return Some(libc::STDERR_FILENO),
        _ => {}
    }
    let number = path.strip_prefix(b"/dev/fd/").or_else(|| path.strip_prefix(b"/proc/self/fd/"))?;
    let digits = str::from_utf8(number).ok().filter(|digits| !digits.starts_with('+'))?;
    digits.parse().ok()
}

// --- Sinks -------------------------------------------------------------------------------------------

/// A descriptor and the file that it stood for at load.
#[derive(Clone, Copy, Debug)]
struct Sink {
    descriptor: c_int,
    file: Identity,
    kind: Kind,
    /// The way to open the file again if the descriptor is closed; `None` if it must not be opened again.
    reopening: Option<Reopening>,
}

/// The identity of a file.
#[derive(Clone, Copy, Debug)]
struct Identity {
    device: libc::dev_t,
    inode: libc::ino64_t,
    /// When the inode was last changed, in seconds and nanoseconds.
    changed: (i64, i64),
}

/// The kind of a sink: whether a write could wait, and how that is avoided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A regular file, or a device of memory such as /dev/null: a write never waits.
    File,
    /// A pipe: the kernel can be asked for a write without waiting.
    Pipe,
    /// A socket, for which send(2) has a flag.
    Socket,
    /// A terminal or another device: only a non-blocking description helps.
    Device,
}

/// The outcome of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Yes,
    /// The line is lost, or the sink has taken only a part of it.
    No,
    /// There is nothing to write to any more.
    NoSink,
}

impl Identity {
    fn of(status: &Status) -> Self {
        let changed = process::changed(status);
        Self { device: status.st_dev, inode: status.st_ino, changed }
    }

    /// Whether a descriptor stands for this file.
    fn is_of(self, descriptor: c_int) -> bool {
        let Some(status) = process::status(descriptor) else { return false };
        let now = Self::of(&status);
        if (now.device, now.inode) != (self.device, self.inode) {
            return false;
        }
        // A new file may get the inode number of a deleted one (ext4, xfs). It was then made after the last change of
        // the log's file at load.
        status.st_mode & libc::S_IFMT != libc::S_IFREG
            || born(descriptor).is_none_or(|born| born <= self.changed)
    }
}

/// When a file was made, if the file system knows that. statx(2) is a bare system call here: the oldest supported
/// glibc has no function for it.
fn born(descriptor: c_int) -> Option<(i64, i64)> {
    // SAFETY: all zeros are a valid statx; the pointers are to an empty C string and a local.
    let (result, status) = unsafe {
        let mut status: libc::statx = std::mem::zeroed();
        let result = libc::syscall(
            libc::SYS_statx,
            descriptor,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BTIME,
            &raw mut status,
        );
        (result, status)
    };
    let known = result == 0 && status.stx_mask & libc::STATX_BTIME != 0;
    known.then(|| (status.stx_btime.tv_sec, status.stx_btime.tv_nsec.into()))
}

impl Sink {
    fn of(descriptor: c_int) -> Option<Self> {
        /// The devices of memory: null, zero, full (Documentation/admin-guide/devices.txt).
        const MEMORY: libc::c_uint = 1;
        let status = process::status(descriptor)?;
        let kind = match status.st_mode & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFIFO => Kind::Pipe,
            libc::S_IFSOCK => Kind::Socket,
            libc::S_IFCHR if libc::major(status.st_rdev) == MEMORY => Kind::File,
            _ => Kind::Device,
        };
        Some(Self { descriptor, file: Identity::of(&status), kind, reopening: None })
    }

    /// Writes a line if the descriptor still stands for the same file: if the program closes it and gets
    /// its number again, no line may go into the program's data. `blocked` has the signals that the program blocks;
    /// during the call all are blocked.
    #[inline(never)]
    fn write(self, message: fmt::Arguments<'_>, blocked: SignalSet) -> Written {
        if self.file.is_of(self.descriptor) {
            return self.write_message(message, blocked);
        }
        let Some(reopening) = self.reopening else { return Written::NoSink };
        let Ok(opened) = reopening.open() else { return Written::No };
        let written = if self.file.is_of(opened) {
            Self { descriptor: opened, ..self }.write_message(message, blocked)
        } else {
            Written::No
        };
        close(opened);
        written
    }

    #[inline(never)]
    fn write_message(self, message: fmt::Arguments<'_>, blocked: SignalSet) -> Written {
        let dropped = DROPPED.swap(0, Relaxed);
        let mut line = Line::<LONGEST_LINE>::new();
        // Formatting into a line does not fail.
        let _ = write!(line, "{message}");
        if dropped > 0 {
            let _ = write!(line, " (lines before this one that could not be written: {dropped})");
        }
        let line = line.end();
        if self.write_bytes(line, blocked) == Ok(line.len()) {
            Written::Yes
        } else {
            DROPPED.fetch_add(dropped, Relaxed);
            Written::No
        }
    }

    /// Writes without waiting, and takes back the signal that a failed write has raised.
    #[inline(never)]
    fn write_bytes(self, line: &[u8], blocked: SignalSet) -> Result<usize, Errno> {
        let pending = process::pending_signals(blocked);
        // If a SIGPIPE is pending already, one that the write raises cannot be told from it.
        if self.kind == Kind::Pipe && pending.has(libc::SIGPIPE) && !has_reader(self.descriptor) {
            return Err(Errno(libc::EPIPE));
        }
        let result = match self.kind {
            Kind::File => write(self.descriptor, line),
            Kind::Pipe => match write_to_pipe(self.descriptor, line) {
                // The kernel knows that flag for pipes since 6.4.
                Err(Errno(libc::EOPNOTSUPP | libc::ENOSYS)) => self.write_non_blocking(line),
                result => result,
            },
            Kind::Socket => send(self.descriptor, line),
            Kind::Device => self.write_non_blocking(line),
        };
        let raised = match result {
            // A file that has reached its limit (setrlimit(2)).
            Err(Errno(libc::EFBIG)) => libc::SIGXFSZ,
            Err(Errno(libc::EPIPE)) if self.kind != Kind::Socket => libc::SIGPIPE,
            _ => return result,
        };
        if !pending.has(raised) {
            process::take_back(raised);
        }
        result
    }

    /// Writes through a file description that is opened for this line only: the program's must not be made
    /// non-blocking, because others share it. POLLOUT would only promise some room, not enough for a line. While
    /// SIGTTOU is blocked, a background process may write to a terminal.
    #[inline(never)]
    fn write_non_blocking(self, line: &[u8]) -> Result<usize, Errno> {
        // SAFETY: fcntl(2) with a command that takes no argument.
        let flags = unsafe { libc::syscall(libc::SYS_fcntl, self.descriptor, libc::F_GETFL) };
        if flags >= 0 && flags & c_long::from(libc::O_NONBLOCK) != 0 {
            return write(self.descriptor, line);
        }
        let path = proc_path(self.descriptor);
        let opened = open(path.as_c_str(), libc::O_WRONLY | libc::O_NONBLOCK | libc::O_CLOEXEC)?;
        // Another thread may have replaced the descriptor, or /proc may belong to another PID namespace.
        let is_same = self.file.is_of(opened);
        let written = if is_same { write(opened, line) } else { Err(Errno(libc::ESTALE)) };
        close(opened);
        written
    }
}

/// The number of bytes that a system call has written.
fn count(result: c_long) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno(process::errno()))
}

/// Whether somebody has a pipe open for reading. A bare system call, because libc's is a cancellation point.
fn has_reader(pipe: c_int) -> bool {
    let mut poll = libc::pollfd { fd: pipe, events: 0, revents: 0 };
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let no_mask = ptr::null::<u64>();
    // SAFETY: the pointers are to locals; no signal set.
    unsafe {
        let (polls, most) = (&raw mut poll, &raw mut now);
        libc::syscall(libc::SYS_ppoll, polls, 1, most, no_mask, size_of::<u64>());
    }
    poll.revents & libc::POLLERR == 0
}

fn write(descriptor: c_int, line: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the pointer and the length are those of one slice.
    count(unsafe { libc::syscall(libc::SYS_write, descriptor, line.as_ptr(), line.len()) })
}

/// pwritev2(2) at the current position, with the flag that makes it fail rather than wait.
fn write_to_pipe(descriptor: c_int, line: &[u8]) -> Result<usize, Errno> {
    const HERE: c_long = -1;
    let vector = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    // SAFETY: one vector, of one slice, which the kernel reads.
    count(unsafe {
        let (vector, flags) = (&raw const vector, libc::RWF_NOWAIT);
        libc::syscall(libc::SYS_pwritev2, descriptor, vector, 1, HERE, HERE, flags)
    })
}

fn send(descriptor: c_int, line: &[u8]) -> Result<usize, Errno> {
    count(calls::send(descriptor, line, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
}

/// A line under construction, on the stack.
struct Line<const SIZE: usize = LONGEST_LINE> {
    buffer: [u8; SIZE],
    length: usize,
    cut: bool,
}

impl<const SIZE: usize> Line<SIZE> {
    /// The mark at the end of a line that was too long.
    const CUT: &[u8] = b"...";
    /// The bytes that a message may fill; the rest is kept for the cut and the line's end.
    const ROOM: usize = SIZE - Self::CUT.len() - 1;

    fn new() -> Self {
        Self { buffer: [0; SIZE], length: 0, cut: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.buffer.iter_mut().skip(self.length).zip(bytes) {
            *slot = *byte;
            self.length += 1;
        }
    }

    /// The text up to its first NUL.
    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.buffer).unwrap_or_default()
    }

    /// The whole line with its end.
    fn end(&mut self) -> &[u8] {
        if self.cut {
            self.push(Self::CUT);
        }
        self.push(b"\n");
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl<const SIZE: usize> Write for Line<SIZE> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Self::ROOM.saturating_sub(self.length);
        match text.as_bytes().get(..room) {
            Some(fitting) if fitting.len() < text.len() => {
                self.push(fitting);
                self.cut = true;
            }
            _ => self.push(text.as_bytes()),
        }
        Ok(())
    }
}

/// The time of day in UTC, as `2026-11-21T03:10:57Z`. libc's `gmtime_r` takes a lock.
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_utc(f, calls::time_of_day())
    }
}

/// Writes seconds since 1970 as a date and time. Days are counted from 0000-03-01, so that the leap
/// day is the last of its year.
fn write_utc(f: &mut impl Write, seconds: i64) -> fmt::Result {
    let (days, second) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn line(pieces: &[&str]) -> String {
        let mut line = Line::<LONGEST_LINE>::new();
        for piece in pieces {
            line.write_str(piece).expect("a line takes every piece");
        }
        String::from_utf8(line.end().to_owned()).expect("the pieces were ASCII")
    }

    #[test]
    fn a_line_is_whole_up_to_its_room_and_cut_with_dots_beyond() {
        let text = |length| "x".repeat(length);
        let (full, cut) = (text(1020) + "\n", text(1020) + "...\n");
        let table: &[(&[&str], &str)] = &[
            (&[], "\n"),
            (&["a", "", "b"], "ab\n"),
            (&[&text(1020)], &full),
            (&[&text(1020), ""], &full),
            (&[&text(1000), &text(20)], &full),
            (&[&text(1021)], &cut),
            (&[&text(1020), "x"], &cut),
            (&[&text(1019), "xx"], &cut),
            (&[&text(1000), &text(30), "y", "z"], &cut),
            (&[&text(100_000), "y"], &cut),
        ];
        for (pieces, wanted) in table {
            let lengths: Vec<_> = pieces.iter().map(|piece| piece.len()).collect();
            assert_eq!(line(pieces), *wanted, "pieces of {lengths:?} bytes");
        }
        assert_eq!(cut.len(), LONGEST_LINE, "the longest line");
    }

    #[test]
    fn a_date_is_that_of_the_calendar() {
        // From GNU date: date -u -d @SECONDS +%FT%TZ
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (86_399, "1970-01-01T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_078_012_800, "2004-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_230_657, "2026-11-21T03:10:57Z"),
            (2_147_483_648, "2038-01-19T03:14:08Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_563_200, "2400-02-29T00:00:00Z"),
            (253_402_300_800, "10000-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-86_400, "1969-12-31T00:00:00Z"),
            (-58_060_800, "1968-02-29T00:00:00Z"),
            (-2_203_891_200, "1900-03-01T00:00:00Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
        ];
        for (seconds, wanted) in table {
            let mut seen = String::new();
            write_utc(&mut seen, seconds).expect("a string takes a date");
            assert_eq!(seen, wanted, "{seconds} s");
        }
        for seconds in [i64::MIN, i64::MAX] {
            write_utc(&mut String::new(), seconds).expect("no clock is too far off");
        }
    }

    #[test]
    fn a_filter_lets_pass_what_env_logger_would() {
        let modules = settings::MODULES.map(|module| format!("egress_shim::{module}"));
        let words: Vec<_> = ["egress_shim".to_owned()]
            .into_iter()
            .chain(modules)
            .flat_map(|name| ["", "=off", "=warn", "=debug"].map(|level| format!("{name}{level}")))
            .chain(["off", "error", "Info", "debug", "trace"].map(str::to_owned))
            .collect();
        let pairs = words.iter().flat_map(|a| words.iter().map(move |b| format!("{a},{b}")));
        let longer = [words.join(","), words.iter().rev().cloned().collect::<Vec<_>>().join(",")];
        for text in [String::new()].into_iter().chain(pairs).chain(longer) {
            let filter = Filter::of(text.clone().leak().as_bytes());
            let mut oracle = env_logger::Builder::new();
            // Without a directive env_logger lets errors pass, here it is warnings.
            let oracle = oracle.parse_filters(if text.is_empty() { "warn" } else { &text }).build();
            assert_eq!(filter.highest(), oracle.filter(), "{text:?}");
            for target in ["", "::state", "::resolver", "::dns", "::keepalive", "::new"] {
                let target = &format!("egress_shim{target}");
                for level in Level::iter() {
                    let metadata = log::Metadata::builder().level(level).target(target).build();
                    let wanted = log::Log::enabled(&oracle, &metadata);
                    assert_eq!(filter.passes(target, level), wanted, "{text:?}: {target} {level}");
                }
            }
        }
    }

    #[test]
    fn only_a_path_that_stands_for_a_descriptor_is_taken_for_one() {
        for (path, wanted) in [
            ("/dev/stdout", Some(1)),
            ("/dev/stderr", Some(2)),
            ("/dev/fd/7", Some(7)),
            ("/proc/self/fd/12", Some(12)),
            ("/dev/fd/+1", None),
            ("/dev/fd/1x", None),
            ("/dev/fd/", None),
            ("/dev/fd/99999999999", None),
            ("/tmp/dev/fd/1", None),
            ("/dev/null", None),
        ] {
            assert_eq!(descriptor_of(path.as_bytes()), wanted, "{path}");
        }
    }

    /// Opening any other file may wait, or have an effect of its own.
    #[test]
    fn only_a_regular_file_on_a_local_file_system_is_opened_again() {
        let path = std::env::temp_dir().join(format!("egress-shim-log-{}", process::id()));
        std::fs::write(&path, "").expect("there is room for a file");
        for (path, wanted) in [
            (path.to_str().expect("plain"), true),
            ("/dev/null", false),
            // A regular file, but one of the kernel's.
            ("/proc/self/comm", false),
        ] {
            let file = std::fs::File::options().append(true).open(path).expect("it is there");
            let reopening = Reopening::of(file.as_raw_fd());
            assert_eq!(reopening.is_some(), wanted, "{path}: {reopening:?}");
        }
        std::fs::remove_file(&path).expect("it is this test's");
    }

    #[test]
    fn a_line_is_owed_until_it_is_written_but_not_in_a_forked_child() {
        let line = OnceLine::new();
        let (parent, child) = (10, 11);
        assert!(line.is_owed() && line.claim(parent), "the first one writes");
        assert!(!line.claim(parent), "nobody else of that process meanwhile");
        assert!(line.claim(child), "the process that was forked meanwhile");
        line.release(false);
        assert!(line.is_owed() && line.claim(parent), "it is owed after a failure");
        line.release(true);
        assert!(!line.is_owed() && !line.claim(parent) && !line.claim(child), "written is written");
    }
}
