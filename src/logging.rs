//! One line, one write, and no line ever waits. Lines go to the log file, or to standard error while that
//! still is the file that it was at load.
//!
//! A line is formatted on the stack and written by bare system calls: no lock, no allocation, no
//! cancellation point. So it may be logged from the connect path. What cannot be written at once is dropped
//! and counted, and the next line says how many were.

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use libc::{c_int, c_long};
use log::LevelFilter;
use once_cell::race::OnceBox;

use crate::process::{self, Errno};

/// The longest line, its end included; what is longer ends in `...`.
const LONGEST_LINE: usize = 1024;
/// The log file's descriptor is this or above: programs count on getting the low ones.
const LOWEST_DESCRIPTOR: c_int = 100;

/// A descriptor and the file that it stood for at load.
#[derive(Clone, Copy, Debug)]
struct Sink {
    descriptor: c_int,
    file: Identity,
    waits: Waits,
    /// The lines that could not be written since the last one that could.
    dropped: &'static AtomicU32,
}

/// What makes a file that file.
#[derive(Clone, Copy, Debug)]
struct Identity {
    device: libc::dev_t,
    inode: libc::ino_t,
    /// When the inode was last changed, in seconds and nanoseconds.
    changed: (i64, i64),
}

/// Whether a write could wait, and how that is avoided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// It never does: a regular file, or a device of memory such as /dev/null.
    Never,
    /// A pipe: the kernel can be asked for a write without waiting.
    Pipe,
    /// A socket, for which send(2) has a flag.
    Socket,
    /// A terminal or another device: only a non-blocking description helps.
    Device,
}

/// Where the lines of this process go.
#[derive(Clone, Copy, Debug)]
pub struct Sinks {
    log: Option<Sink>,
    stderr: Option<Sink>,
}

/// The logger behind the `log` crate's macros.
struct Logger {
    /// `None` lets everything pass that has the level.
    filter: Option<env_logger::Logger>,
    sink: Option<Sink>,
}

/// `None` before the start, and where nothing may ever be written.
static LOGGER: OnceBox<Logger> = OnceBox::new();
/// The lines that no sink of the process could write since the last one that could.
static DROPPED: AtomicU32 = AtomicU32::new(0);

impl Sinks {
    /// The sinks at load: what descriptor 2 stands for then, and the log file.
    ///
    /// # Errors
    /// The log file cannot be opened, so standard error is used.
    pub fn open(file: Option<&CStr>) -> (Self, Result<(), Errno>) {
        let stderr = Sink::of(libc::STDERR_FILENO);
        let (log, result) = match file.map(open) {
            None => (stderr, Ok(())),
            Some(Ok(sink)) => (sink, Ok(())),
            // A child that has lost the privilege to write to its parent's log is silent.
            Some(Err(error @ Errno(libc::EACCES | libc::EPERM))) => (None, Err(error)),
            Some(Err(error)) => (stderr, Err(error)),
        };
        (Self { log, stderr }, result)
    }

    /// Writes a complaint about the settings to standard error, whatever the filter says.
    pub fn complain(&self, message: fmt::Arguments<'_>) {
        if let Some(stderr) = self.stderr {
            stderr.write(format_args!("egress-shim: {message}"));
        }
    }

    /// Starts logging: once per process. Of directives the last about a module counts; without any, `warn`.
    // Out of line, as are others here: what it has on the stack is gone when a line needs room there.
    #[inline(never)]
    pub fn start<'a>(self, directives: impl Iterator<Item = (Option<&'a str>, LevelFilter)>) {
        let mut directives = directives.peekable();
        let filter = directives.peek().is_some().then(|| {
            let mut builder = env_logger::Builder::new();
            for (module, level) in directives {
                builder.filter(module, level);
            }
            builder.build()
        });
        let level = filter.as_ref().map_or(LevelFilter::Warn, env_logger::Logger::filter);
        let logger = LOGGER.get_or_init(|| Box::new(Logger { filter, sink: self.log }));
        if log::set_logger(logger).is_ok() {
            log::set_max_level(level);
        }
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        match &self.filter {
            Some(filter) => filter.enabled(metadata),
            None => metadata.level() <= LevelFilter::Warn,
        }
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(sink) = self.sink.filter(|_| self.enabled(record.metadata())) {
            let level = record.level().as_str();
            let process = process::id();
            sink.write(format_args!("{Now} egress-shim[{process}] {level}: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Opens the log file to append to, out of the way of the program's own descriptors. A path that stands for
/// a descriptor of the program is that descriptor: opening it would make another holder of, say, the pipe
/// that whoever started the program waits on.
fn open(path: &CStr) -> Result<Option<Sink>, Errno> {
    if let Some(descriptor) = descriptor_of(path.to_bytes()) {
        return Sink::of(descriptor).map(Some).ok_or(Errno(libc::EBADF));
    }
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
    let flags = flags | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a C string, and a mode as O_CREAT asks.
    let opened =
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, 0o644) };
    let Ok(opened @ 0..) = c_int::try_from(opened) else { return Err(Errno(process::errno())) };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let none = ptr::null::<libc::rlimit>();
    // SAFETY: prlimit64(2) of this process with a local.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, none, &raw mut limit) };
    let last = c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX).saturating_sub(1);
    let mut moved = Err(Errno(libc::EMFILE));
    for lowest in [LOWEST_DESCRIPTOR.min(last), libc::STDERR_FILENO + 1] {
        // SAFETY: fcntl(2) on the descriptor opened above.
        let copy = unsafe { libc::syscall(libc::SYS_fcntl, opened, libc::F_DUPFD_CLOEXEC, lowest) };
        match c_int::try_from(copy) {
            Ok(copy @ 0..) => {
                moved = Ok(copy);
                break;
            }
            _ => moved = Err(Errno(process::errno())),
        }
    }
    // SAFETY: the descriptor opened above, which nobody else knows.
    unsafe { libc::syscall(libc::SYS_close, opened) };
    Ok(Sink::of(moved?))
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

impl Identity {
    fn of(status: &libc::stat) -> Self {
        let changed = (status.st_ctime, status.st_ctime_nsec);
        Self { device: status.st_dev, inode: status.st_ino, changed }
    }

    /// Whether a descriptor stands for this file.
    fn is_of(self, descriptor: c_int) -> bool {
        let Some(status) = process::status(descriptor) else { return false };
        let now = Self::of(&status);
        if (now.device, now.inode) != (self.device, self.inode) {
            return false;
        }
        // A deleted file's inode number goes to the next one (ext4, xfs): that one was born after the last
        // change of ours at load.
        status.st_mode & libc::S_IFMT != libc::S_IFREG
            || born(descriptor).is_none_or(|born| born <= self.changed)
    }
}

/// When a file was made, where the file system knows that. statx(2) by the bare system call: libc's is newer
/// than the oldest glibc that this runs on.
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
        let waits = match status.st_mode & libc::S_IFMT {
            libc::S_IFREG => Waits::Never,
            libc::S_IFIFO => Waits::Pipe,
            libc::S_IFSOCK => Waits::Socket,
            libc::S_IFCHR if libc::major(status.st_rdev) == MEMORY => Waits::Never,
            _ => Waits::Device,
        };
        Some(Self { descriptor, file: Identity::of(&status), waits, dropped: &DROPPED })
    }

    /// Writes a line if the descriptor still stands for the same file: a program that closes it and gets
    /// its number again must not find our lines in its data.
    #[inline(never)]
    fn write(self, message: fmt::Arguments<'_>) {
        if !self.file.is_of(self.descriptor) {
            return;
        }
        let dropped = self.dropped.swap(0, Relaxed);
        let mut line = Line::<LONGEST_LINE>::new();
        // Formatting into a line does not fail.
        let _ = write!(line, "{message}");
        if dropped > 0 {
            let _ = write!(line, " (lines before this one that could not be written: {dropped})");
        }
        if !self.write_line(line.end()) {
            self.dropped.fetch_add(dropped.saturating_add(1), Relaxed);
        }
    }

    /// Writes a whole line without waiting, or says that it could not.
    #[inline(never)]
    fn write_line(self, line: &[u8]) -> bool {
        let written = match self.waits {
            Waits::Never => {
                write(self.descriptor, line, if has_size_limit() { bit(libc::SIGXFSZ) } else { 0 })
            }
            Waits::Pipe if !has_reader(self.descriptor) => return false,
            Waits::Pipe => match write_to_pipe(self.descriptor, line) {
                // The kernel has that for pipes since 6.4.
                Err(Errno(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                    self.write_non_blocking(line, bit(libc::SIGPIPE))
                }
                written => written,
            },
            Waits::Socket => send(self.descriptor, line),
            // Of a terminal whose foreground others have.
            Waits::Device => self.write_non_blocking(line, bit(libc::SIGTTOU)),
        };
        written == Ok(line.len())
    }

    /// Writes through a description of our own, which is there for this line only: the program's may not be
    /// made non-blocking, for others share it. POLLOUT would promise some room, not a line's.
    #[inline(never)]
    fn write_non_blocking(self, line: &[u8], signals: u64) -> Result<usize, Errno> {
        // SAFETY: fcntl(2) with a command that takes no argument.
        let flags = unsafe { libc::syscall(libc::SYS_fcntl, self.descriptor, libc::F_GETFL) };
        if flags >= 0 && flags & c_long::from(libc::O_NONBLOCK) != 0 {
            return write(self.descriptor, line, signals);
        }
        // The longest number has ten digits.
        let mut path = Line::<32>::new();
        let _ = write!(path, "/proc/self/fd/{}\0", self.descriptor);
        let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the path is terminated above; no mode is read without O_CREAT.
        let opened =
            unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.buffer.as_ptr(), flags) };
        let Ok(opened @ 0..) = c_int::try_from(opened) else { return Err(Errno(process::errno())) };
        let same = self.file.is_of(opened);
        let written = if same { write(opened, line, signals) } else { Err(Errno(libc::ESTALE)) };
        // SAFETY: the descriptor opened above, which nobody else knows.
        unsafe { libc::syscall(libc::SYS_close, opened) };
        written
    }
}

fn written(result: c_long) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno(process::errno()))
}

/// Whether a file may not grow as it likes: a write beyond the limit raises `SIGXFSZ`.
fn has_size_limit() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let none = ptr::null::<libc::rlimit>();
    // SAFETY: prlimit64(2) of this process with a local.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_FSIZE, none, &raw mut limit) };
    limit.rlim_cur != libc::RLIM_INFINITY
}

/// Whether somebody has a pipe open to read: a write would raise `SIGPIPE` otherwise, which cannot be told
/// from one that is pending already. The bare system call: libc's is a cancellation point.
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

fn write(descriptor: c_int, line: &[u8], signals: u64) -> Result<usize, Errno> {
    without_signals(signals, || {
        // SAFETY: the pointer and the length are those of one slice.
        written(unsafe { libc::syscall(libc::SYS_write, descriptor, line.as_ptr(), line.len()) })
    })
}

/// pwritev2(2) at the current position, with the flag that makes it fail rather than wait.
fn write_to_pipe(descriptor: c_int, line: &[u8]) -> Result<usize, Errno> {
    const HERE: c_long = -1;
    let vector = libc::iovec { iov_base: line.as_ptr().cast_mut().cast(), iov_len: line.len() };
    without_signals(bit(libc::SIGPIPE), || {
        // SAFETY: one vector, of one slice, which the kernel reads.
        written(unsafe {
            let (vector, flags) = (&raw const vector, libc::RWF_NOWAIT);
            libc::syscall(libc::SYS_pwritev2, descriptor, vector, 1, HERE, HERE, flags)
        })
    })
}

fn send(descriptor: c_int, line: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let nobody = ptr::null::<libc::sockaddr>();
    // SAFETY: the pointer and the length are those of one slice; no address is given.
    written(unsafe {
        let (start, length) = (line.as_ptr(), line.len());
        libc::syscall(libc::SYS_sendto, descriptor, start, length, flags, nobody, 0)
    })
}

/// A signal in a signal set of the kernel.
const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Makes a write whose own signals, which would end or stop the program, are kept from it. No other signal
/// is held up.
///
/// All are bare system calls: libc's are cancellation points, and a signal set of the kernel is one word.
fn without_signals(
    signals: u64,
    write: impl FnOnce() -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    const SIZE: usize = size_of::<u64>();
    if signals == 0 {
        return write();
    }
    let (mut blocked, mut pending) = (0_u64, 0_u64);
    // SAFETY: every pointer is to a local of the size that the kernel is told.
    unsafe {
        let (set, old) = (&raw const signals, &raw mut blocked);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, set, old, SIZE);
        libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SIZE);
    }
    let written = write();
    let ours = signals & !pending;
    if written.is_err() && ours != 0 {
        let (now, nothing) =
            (libc::timespec { tv_sec: 0, tv_nsec: 0 }, ptr::null::<libc::siginfo_t>());
        // Takes back the signal of this write, but none that was there before.
        // SAFETY: as above; sigtimedwait(2) with no time to wait.
        unsafe {
            let (set, most) = (&raw const ours, &raw const now);
            libc::syscall(libc::SYS_rt_sigtimedwait, set, nothing, most, SIZE);
        }
    }
    let unblock = signals & !blocked;
    // SAFETY: as above.
    unsafe {
        let (set, old) = (&raw const unblock, ptr::null::<u64>());
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_UNBLOCK, set, old, SIZE);
    }
    written
}

/// A line under construction, on the stack.
struct Line<const SIZE: usize = LONGEST_LINE> {
    buffer: [u8; SIZE],
    length: usize,
    cut: bool,
}

impl<const SIZE: usize> Line<SIZE> {
    /// What replaces the end of a line that is too long.
    const CUT: &[u8] = b"...";
    /// What a message may fill: room is kept for the cut and the line's end.
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
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a local for the time; the clock exists on every kernel.
        unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut now) };
        write_utc(f, now.tv_sec)
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
    use std::fs;
    use std::io::{self, Read, Seek};
    use std::os::fd::AsRawFd;

    /// A sink that counts for itself.
    fn sink_of(descriptor: &impl AsRawFd) -> Sink {
        let sink = Sink::of(descriptor.as_raw_fd()).expect("the descriptor is open");
        Sink { dropped: Box::leak(Box::default()), ..sink }
    }

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

    /// A file without a name, and a descriptor for it.
    fn file() -> fs::File {
        let name = c"log";
        // SAFETY: memfd_create(2) with a C string; the descriptor it makes is owned by the file.
        unsafe {
            let descriptor = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
            assert!(descriptor >= 0, "{}", io::Error::last_os_error());
            std::os::fd::FromRawFd::from_raw_fd(descriptor)
        }
    }

    fn text(mut file: &fs::File) -> String {
        let mut text = String::new();
        file.rewind().expect("a file can be read from its start");
        file.read_to_string(&mut text).expect("the file can be read");
        text
    }

    /// Makes a descriptor stand for another file, as a program does that closes it and gets its
    /// number again.
    fn replace(descriptor: &fs::File, with: &fs::File) {
        // SAFETY: dup2(2) on two descriptors that stay open.
        let status = unsafe { libc::dup2(with.as_raw_fd(), descriptor.as_raw_fd()) };
        assert_eq!(status, descriptor.as_raw_fd());
    }

    #[test]
    fn a_sink_writes_only_while_its_descriptor_is_the_file_that_it_was() {
        let (log, other) = (file(), file());
        let (descriptor, same) = (log.try_clone().unwrap(), log.try_clone().unwrap());
        let sink = sink_of(&descriptor);
        sink.write(format_args!("1"));
        replace(&descriptor, &other);
        sink.write(format_args!("2"));
        replace(&descriptor, &same);
        sink.write(format_args!("3"));
        assert_eq!((text(&log), text(&other)), ("1\n3\n".to_owned(), String::new()));
        // A descriptor above any limit, which no other test's thread can be given meanwhile.
        assert!(Sink::of(c_int::MAX).is_none(), "a closed descriptor is no sink");
        Sink { descriptor: c_int::MAX, ..sink }.write(format_args!("4"));
    }

    #[test]
    fn a_full_pipe_drops_lines_and_the_next_one_says_how_many() {
        let (mut reader, writer) = io::pipe().expect("pipe(2)");
        let sink = sink_of(&writer);
        let line = "x".repeat(1000);
        while sink.dropped.load(Relaxed) == 0 {
            sink.write(format_args!("{line}"));
        }
        sink.write(format_args!("{line}"));
        let mut buffer = vec![0; 1 << 20];
        let length = reader.read(&mut buffer).expect("there are lines");
        assert!(length >= 1001, "{length} bytes");
        sink.write(format_args!("there again"));
        let length = reader.read(&mut buffer).expect("there is a line");
        let seen = String::from_utf8_lossy(&buffer[..length]);
        assert!(
            seen.ends_with("there again (lines before this one that could not be written: 2)\n"),
            "{seen}"
        );
    }

    /// This thread's blocked and pending signals.
    fn signals() -> [u64; 2] {
        let mut sets = [0_u64; 2];
        let [blocked, pending] = &mut sets;
        // SAFETY: a signal set of the kernel is one word, and both pointers are to one.
        unsafe {
            let (none, size) = (ptr::null::<u64>(), size_of::<u64>());
            libc::syscall(libc::SYS_rt_sigprocmask, 0, none, &raw mut *blocked, size);
            libc::syscall(libc::SYS_rt_sigpending, &raw mut *pending, size);
        }
        sets
    }

    #[test]
    fn a_write_to_a_pipe_without_a_reader_leaves_no_signal_and_no_mask() {
        let (reader, writer) = io::pipe().expect("pipe(2)");
        let sink = sink_of(&writer);
        drop(reader);
        // Blocked, so that a signal which is left stays to be seen. The thread ends with the test.
        let blocked: u64 = 1 << (libc::SIGPIPE - 1);
        // SAFETY: a local word, which is a signal set of the kernel.
        unsafe {
            let (set, size) = (&raw const blocked, size_of::<u64>());
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, set, ptr::null::<u64>(), size);
        }
        let before = signals();
        sink.write(format_args!("lost"));
        assert_eq!(signals(), before, "blocked and pending signals");
        assert_eq!(sink.dropped.load(Relaxed), 1, "the line is counted");
    }

    #[test]
    fn a_record_that_passes_the_filter_is_one_line_with_time_and_level() {
        let log = file();
        let logger = Logger {
            filter: Some(env_logger::Builder::new().parse_filters("info").build()),
            sink: Some(sink_of(&log)),
        };
        for level in [log::Level::Warn, log::Level::Debug] {
            let message = format_args!("it happened");
            let record = log::Record::builder().level(level).args(message).build();
            log::Log::log(&logger, &record);
        }
        let seen = text(&log);
        let (date, rest) = seen.split_at(20);
        let wanted = format!(" egress-shim[{}] WARN: it happened\n", std::process::id());
        assert_eq!(rest, wanted, "after the date {date}");
        assert!(date.starts_with("20") && date.ends_with('Z'), "{date} is a date");
    }
}
