//! One line, one write. Log lines go to the log file, or to standard error while that still is the
//! file that it was at load.
//!
//! A line is formatted on the stack and written by one bare system call: no lock, no allocation, no
//! cancellation point, no signal. So it may be logged from the connect path.

use std::fmt::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::{fs, io, ptr};

use libc::{c_int, c_long};
use once_cell::race::OnceBox;

use crate::config;

/// The longest line, its end included; what is longer ends in `...`.
const LONGEST_LINE: usize = 1024;
/// The log file's descriptor is this or above: programs count on getting the low ones.
const LOWEST_DESCRIPTOR: c_int = 100;

/// A descriptor and the file that it stood for at load.
#[derive(Clone, Copy)]
struct Sink {
    descriptor: c_int,
    file: Identity,
}

/// What makes a file that file: a deleted file's inode number goes to the next one (ext4, xfs), so
/// the time of its making is part of it where the file system knows that.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: libc::dev_t,
    inode: libc::ino_t,
    made: (i64, u32),
}

/// The logger behind the `log` crate's macros.
struct Logger {
    filter: env_logger::Logger,
    sink: Option<Sink>,
    stderr: Option<Sink>,
}

/// None before the start, and for ever where nothing may be written.
static LOGGER: OnceBox<Logger> = OnceBox::new();

/// Starts logging as the settings say. Called once per process.
pub fn start(settings: &config::Log, problems: &mut Vec<config::Problem>) {
    let stderr = Sink::of(libc::STDERR_FILENO);
    let sink = match &settings.file {
        None => stderr,
        Some(path) => match open(path) {
            Ok(file) => Sink::of(file.into_raw_fd()),
            Err(error) => {
                problems.push(config::Problem::log_file(path, &error));
                stderr
            }
        },
    };
    let filter = env_logger::Builder::new().parse_filters(&settings.filter).build();
    let level = filter.filter();
    let logger = LOGGER.get_or_init(|| Box::new(Logger { filter, sink, stderr }));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

/// Writes a complaint about the settings to standard error, whatever the filter says.
pub fn complain(message: fmt::Arguments<'_>) {
    // Another thread may be about to start the log.
    let stderr = LOGGER.get().map_or_else(|| Sink::of(libc::STDERR_FILENO), |logger| logger.stderr);
    let Some(stderr) = stderr else { return };
    let mut line = Line::new();
    // Formatting into a line does not fail.
    let _ = write!(line, "egress-shim: {message}");
    stderr.write(line.end());
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        let Some(sink) = self.sink.filter(|_| self.enabled(record.metadata())) else { return };
        let mut line = Line::new();
        // SAFETY: getpid(2) always succeeds.
        let process = unsafe { libc::getpid() };
        // Formatting into a line does not fail.
        let _ = write!(
            line,
            "{} egress-shim[{process}] {}: {}",
            Now,
            record.level().as_str(),
            record.args()
        );
        sink.write(line.end());
    }

    fn flush(&self) {}
}

/// Opens the log file to append to, out of the way of the program's own descriptors. `O_NONBLOCK`:
/// a pipe that nobody reads must not hold up the program.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let file: OwnedFd = fs::File::options()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?
        .into();
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit(2) with a local.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let last = c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX).saturating_sub(1);
    for lowest in [LOWEST_DESCRIPTOR.min(last), libc::STDERR_FILENO + 1] {
        // SAFETY: fcntl(2) on a descriptor that we own; the new one is owned below.
        let moved = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
        if moved >= 0 {
            // SAFETY: fcntl has just made it, and nobody else knows it.
            return Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(moved) });
        }
    }
    Err(io::Error::last_os_error())
}

impl Identity {
    fn of(descriptor: c_int) -> Option<Self> {
        // statx by the bare system call: libc's is newer than the oldest glibc that this runs on. A
        // kernel or a seccomp filter without it leaves the zeros.
        // SAFETY: all zeros are a valid stat and statx; fstat(2) and statx(2) bear any descriptor.
        unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            if libc::fstat(descriptor, &raw mut status) != 0 {
                return None;
            }
            let mut more: libc::statx = std::mem::zeroed();
            libc::syscall(
                libc::SYS_statx,
                descriptor,
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                libc::STATX_BTIME,
                &raw mut more,
            );
            let made = (more.stx_btime.tv_sec, more.stx_btime.tv_nsec);
            Some(Self { device: status.st_dev, inode: status.st_ino, made })
        }
    }
}

impl Sink {
    fn of(descriptor: c_int) -> Option<Self> {
        Identity::of(descriptor).map(|file| Self { descriptor, file })
    }

    /// Whether a line may be written now: the descriptor still stands for the same file (a program
    /// that closes it and gets its number again must not find our lines in its data), and the write
    /// would neither wait for a reader of a full pipe nor fail for want of one.
    fn is_ready(self) -> bool {
        if Identity::of(self.descriptor) != Some(self.file) {
            return false;
        }
        let mut poll = libc::pollfd { fd: self.descriptor, events: libc::POLLOUT, revents: 0 };
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointers are to locals; no signal set. The bare system call: libc's is a
        // cancellation point.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_ppoll,
                &raw mut poll,
                1,
                &raw mut now,
                ptr::null::<u64>(),
                size_of::<u64>(),
            )
        };
        ready == 1 && poll.revents == libc::POLLOUT
    }

    /// Writes a line if the descriptor still is ours to write to.
    ///
    /// One write(2), whose signals are kept from the program: `SIGPIPE` of a pipe without a reader
    /// and `SIGXFSZ` of a file at its limit would end it. No other signal comes in between: its
    /// handler would find these two blocked, and a program that it starts would inherit that.
    ///
    /// All are bare system calls: libc's are cancellation points, and a signal set of the kernel is
    /// one word.
    fn write(self, line: &[u8]) {
        const SIZE: usize = size_of::<u64>();
        let all: u64 = !0;
        let signals: u64 = 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);
        let mut mask: u64 = 0;
        let mut pending: u64 = 0;
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        if !self.is_ready() {
            return;
        }
        // SAFETY: every pointer is to a local of the size that the kernel is told.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_BLOCK,
                &raw const all,
                &raw mut mask,
                SIZE,
            );
            libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SIZE);
            let written: c_long =
                libc::syscall(libc::SYS_write, self.descriptor, line.as_ptr(), line.len());
            if written < 0 {
                // Takes back the signal of this write, but none that was there before.
                let ours = signals & !pending;
                libc::syscall(
                    libc::SYS_rt_sigtimedwait,
                    &raw const ours,
                    ptr::null::<libc::siginfo_t>(),
                    &raw const now,
                    SIZE,
                );
            }
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const mask,
                ptr::null::<u64>(),
                SIZE,
            );
        }
    }
}

/// A line under construction, on the stack.
struct Line {
    buffer: [u8; LONGEST_LINE],
    length: usize,
    cut: bool,
}

impl Line {
    /// What replaces the end of a line that is too long.
    const CUT: &[u8] = b"...";
    /// What a message may fill: room is kept for the cut and the line's end.
    const ROOM: usize = LONGEST_LINE - Self::CUT.len() - 1;

    fn new() -> Self {
        Self { buffer: [0; LONGEST_LINE], length: 0, cut: false }
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

impl Write for Line {
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
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
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

/// The calling thread's errno.
#[must_use]
pub fn errno() -> c_int {
    // SAFETY: errno's address is valid as long as its thread lives.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's errno.
pub fn set_errno(errno: c_int) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn line(pieces: &[&str]) -> String {
        let mut line = Line::new();
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
        let sink = Sink::of(descriptor.as_raw_fd()).expect("the descriptor is open");
        sink.write(b"1");
        replace(&descriptor, &other);
        sink.write(b"2");
        replace(&descriptor, &same);
        sink.write(b"3");
        assert_eq!((text(&log), text(&other)), ("13".to_owned(), String::new()));
        // A descriptor above any limit, which no other test's thread can be given meanwhile.
        assert!(Sink::of(c_int::MAX).is_none(), "a closed descriptor is no sink");
        Sink { descriptor: c_int::MAX, ..sink }.write(b"4");
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
        let sink = Sink::of(writer.as_raw_fd()).expect("the pipe is open");
        drop(reader);
        // Blocked, so that a signal which is left stays to be seen. The thread ends with the test.
        let blocked: u64 = 1 << (libc::SIGPIPE - 1);
        // SAFETY: a local word, which is a signal set of the kernel.
        unsafe {
            let (set, size) = (&raw const blocked, size_of::<u64>());
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, set, ptr::null::<u64>(), size);
        }
        let before = signals();
        sink.write(b"lost\n");
        assert_eq!(signals(), before, "blocked and pending signals");
    }

    #[test]
    fn a_record_is_one_line_that_says_when_who_and_how_grave_if_the_filter_lets_it_pass() {
        let log = file();
        let logger = Logger {
            filter: env_logger::Builder::new().parse_filters("info").build(),
            sink: Sink::of(log.as_raw_fd()),
            stderr: None,
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
