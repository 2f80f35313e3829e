//! The process that the library is a guest in: errno, environment, privilege, libc, cancellation, files.
//!
//! Nothing here has a policy or takes a lock. A function that only some libcs have is found by a weak reference,
//! which the dynamic loader leaves null in the others.

use std::ffi::CStr;
use std::fmt;

use libc::{c_char, c_int};

/// The assembler's directive for a word of memory that holds an address, and its size.
#[cfg(target_pointer_width = "64")]
macro_rules! word {
    () => {
        ".quad "
    };
}
#[cfg(target_pointer_width = "32")]
macro_rules! word {
    () => {
        ".long "
    };
}
#[cfg(target_pointer_width = "64")]
macro_rules! word_size {
    () => {
        "8"
    };
}
#[cfg(target_pointer_width = "32")]
macro_rules! word_size {
    () => {
        "4"
    };
}
pub(crate) use {word, word_size};

/// Declares a function that not every libc has: `Some` if the loader has found it. Stable Rust has no weak
/// references, so the assembler makes a slot for the loader to fill.
macro_rules! weak {
    ($slot:ident: $type:ty = $symbol:literal, $label:literal) => {
        std::arch::global_asm!(
            concat!(".weak ", $symbol),
            ".pushsection .data.rel.ro.egress_shim_weak,\"aw\"",
            concat!(".globl ", $label),
            concat!(".hidden ", $label),
            concat!(".balign ", $crate::process::word_size!()),
            concat!($label, ":"),
            concat!($crate::process::word!(), $symbol),
            ".popsection",
        );
        unsafe extern "C" {
            #[link_name = $label]
            static $slot: Option<$type>;
        }
    };
}
#[cfg(portable)]
pub(crate) use weak;

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

/// The calling thread's `h_errno`.
#[must_use]
pub fn h_errno() -> c_int {
    // SAFETY: h_errno's address is valid as long as its thread lives.
    unsafe { *__h_errno_location() }
}

/// Sets the calling thread's `h_errno`.
pub fn set_h_errno(h_errno: c_int) {
    // SAFETY: as in `h_errno`.
    unsafe { *__h_errno_location() = h_errno };
}

unsafe extern "C" {
    safe fn __h_errno_location() -> *mut c_int;
}

/// `NO_DATA` of <netdb.h>: the host exists, but has no address of that family.
pub const NO_DATA: c_int = 4;
/// `TRY_AGAIN` of <netdb.h>: a server has failed.
pub const TRY_AGAIN: c_int = 2;

/// Runs `f` and leaves errno as the caller had it.
pub fn keeping_errno<T>(f: impl FnOnce() -> T) -> T {
    let errno = errno();
    let value = f();
    set_errno(errno);
    value
}

/// Runs `f` in its own frame, so that the caller needs no frame and can end in a jump.
#[inline(never)]
pub fn in_own_frame<T>(f: impl FnOnce() -> T) -> T {
    f()
}

/// An errno, displayed as libc's text if it is one that files and sockets often give. libc's strerror(3) allocates, and
/// takes the locks of the message catalogues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            libc::EPERM => "Operation not permitted",
            libc::ENOENT => "No such file or directory",
            libc::EINTR => "Interrupted system call",
            libc::EIO => "Input/output error",
            libc::ENXIO => "No such device or address (a pipe that nobody reads?)",
            libc::EBADF => "Bad file descriptor",
            libc::EAGAIN => "Resource temporarily unavailable",
            libc::ENOMEM => "Cannot allocate memory",
            libc::EACCES => "Permission denied",
            libc::ENOTDIR => "Not a directory",
            libc::EISDIR => "Is a directory",
            libc::EINVAL => "Invalid argument",
            libc::EMFILE => "Too many open files",
            libc::ENFILE => "Too many open files in system",
            libc::ENOSPC => "No space left on device",
            libc::EROFS => "Read-only file system",
            libc::ENAMETOOLONG => "File name too long",
            libc::ENOSYS => "Function not implemented",
            libc::ENOBUFS => "No buffer space available",
            libc::ELOOP => "Too many levels of symbolic links",
            errno => return write!(f, "errno {errno}"),
        })
    }
}

/// The process's id. A bare system call, because in a child made by clone(2) glibc before 2.25 still had the parent's
/// id.
#[must_use]
pub fn id() -> c_int {
    number_of(libc::SYS_getpid)
}

/// The calling thread's id.
#[must_use]
pub fn thread_id() -> c_int {
    number_of(libc::SYS_gettid)
}

/// Whether this process has a thread of this id (tgkill(2) with no signal).
#[must_use]
pub fn has_thread(process: c_int, thread: u32) -> bool {
    // SAFETY: tgkill(2) takes three numbers, and sends nothing for signal 0.
    keeping_errno(|| unsafe {
        libc::syscall(libc::SYS_tgkill, process, thread, 0) == 0 || errno() != libc::ESRCH
    })
}

/// The result of a system call without arguments; getpid(2) and gettid(2) cannot fail.
fn number_of(call: libc::c_long) -> c_int {
    // SAFETY: the callers above make calls without arguments.
    c_int::try_from(unsafe { libc::syscall(call) }).unwrap_or_default()
}

/// Ends the process at once. Nothing of the program runs any more: no destructor, no `atexit` handler.
pub fn exit(status: c_int) -> ! {
    // SAFETY: exit_group(2) takes a number.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    std::process::abort()
}

/// Whether the process is set-user-ID, set-group-ID or has file capabilities (`AT_SECURE`, getauxval(3)). Its
/// environment is then not to be trusted.
#[must_use]
pub fn is_privileged() -> bool {
    // SAFETY: getauxval(3) takes a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Whether this process runs on glibc. The other libc in the field is musl.
#[must_use]
pub fn is_glibc() -> bool {
    // SAFETY: the loader has filled the slot before any code of the library ran.
    unsafe { GLIBC_VERSION.is_some() }
}

weak!(GLIBC_VERSION: unsafe extern "C" fn() -> *const c_char = "gnu_get_libc_version", "egress_shim_glibc_version");

/// The path that was executed (`AT_EXECFN`). For a script it is the script's path, not its interpreter's.
#[must_use]
pub fn executed_path() -> &'static [u8] {
    // SAFETY: getauxval(3) takes a number, and gives 0 or the address of a C string that the kernel has put
    // on the initial stack.
    unsafe {
        let path = libc::getauxval(libc::AT_EXECFN) as *const c_char;
        if path.is_null() { &[] } else { CStr::from_ptr(path).to_bytes() }
    }
}

/// The path of the file that runs, as far as it fits into the buffer. For a script it is the interpreter's path. It is
/// read from /proc/self/maps, because a seccomp filter may kill for readlink(2), which libc's loader need not call.
pub fn running_file(buffer: &mut [u8]) -> &[u8] {
    // SAFETY: getauxval(3) takes a number. The program headers are in the file's first mapping.
    let program = usize::try_from(unsafe { libc::getauxval(libc::AT_PHDR) }).unwrap_or_default();
    let Ok(file) = File::open(c"/proc/self/maps") else { return &[] };
    let Ok(length) = file.read(buffer) else { return &[] };
    let maps = buffer.get(..length).unwrap_or_default();
    // FROM-TO PERMISSIONS OFFSET DEVICE INODE PATH (proc_pid_maps(5))
    let holds_program = |line: &&[u8]| {
        let number = |digits: &[u8]| usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
        let mut ends = line.splitn(3, |byte| matches!(byte, b'-' | b' '));
        let range = ends.next().and_then(number).zip(ends.next().and_then(number));
        range.is_some_and(|(from, to)| (from..to).contains(&program))
    };
    let line = maps.split(|&byte| byte == b'\n').find(holds_program).unwrap_or_default();
    let path = line.iter().position(|&byte| byte == b'/').and_then(|start| line.get(start..));
    let path = path.unwrap_or_default();
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}

/// The working directory (getcwd(2)); empty if the kernel does not tell, or the buffer is too small.
pub fn directory(buffer: &mut [u8]) -> &[u8] {
    // SAFETY: the pointer and the length are those of one slice.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    // The length includes the final NUL. A directory that cannot be reached from the root does not begin with a slash.
    let path = usize::try_from(length).ok().and_then(|length| buffer.get(..length.checked_sub(1)?));
    path.filter(|path| path.starts_with(b"/")).unwrap_or_default()
}

/// The target of a symbolic link (readlink(2)); empty if the link cannot be read, or the buffer is too small.
pub fn link_target<'a>(link: &CStr, buffer: &'a mut [u8]) -> &'a [u8] {
    // SAFETY: a C string; the pointer and the length are those of one slice.
    let length = unsafe {
        let (start, length) = (buffer.as_mut_ptr(), buffer.len());
        libc::syscall(libc::SYS_readlinkat, libc::AT_FDCWD, link.as_ptr(), start, length)
    };
    // A target that fills the buffer may be cut.
    let target = usize::try_from(length).ok().filter(|length| *length < buffer.len());
    target.and_then(|length| buffer.get(..length)).unwrap_or_default()
}

/// Milliseconds of the monotonic clock, as of the kernel's last tick. libc's function makes no system call if the kernel
/// provides the time in the process's memory (vdso(7)).
#[must_use]
pub fn milliseconds() -> i64 {
    time(libc::CLOCK_MONOTONIC_COARSE)
}

/// The milliseconds since a file was last changed or put in its place.
#[must_use]
pub fn age(status: &Status) -> i64 {
    let of = |(seconds, nanoseconds): (i64, i64)| seconds * 1000 + nanoseconds / 1_000_000;
    let written = of(wide(status.st_mtime, status.st_mtime_nsec));
    time(libc::CLOCK_REALTIME_COARSE) - written.max(of(changed(status)))
}

/// The time of the last change of a file's inode, in seconds and nanoseconds.
#[must_use]
pub fn changed(status: &Status) -> (i64, i64) {
    wide(status.st_ctime, status.st_ctime_nsec)
}

/// A time, whose words have 32 bits on some machines.
fn wide(seconds: impl Into<i64>, nanoseconds: impl Into<i64>) -> (i64, i64) {
    (seconds.into(), nanoseconds.into())
}

fn time(clock: libc::clockid_t) -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a local for the time; both clocks exist on every kernel.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let (seconds, nanoseconds) = wide(now.tv_sec, now.tv_nsec);
    seconds * 1000 + nanoseconds / 1_000_000
}

/// Whether opening a file could wait for another machine or a program: according to /proc/self/mountinfo, the file is
/// not on a file system that is known to be local. The path is absolute. A symbolic link to another file system is not
/// noticed.
#[must_use]
pub fn is_on_remote_fs(path: &[u8]) -> bool {
    /// Larger tables are those of machines that run many containers.
    const MOST: usize = 256 << 10;
    let Ok(file) = File::open(c"/proc/self/mountinfo") else { return false };
    let Ok(table) = file.read_whole(8 << 10, MOST, |_, _| ()) else { return true };
    is_remote_in(&table, path)
}

fn is_remote_in(table: &[u8], path: &[u8]) -> bool {
    /// The names in /proc/filesystems.
    #[rustfmt::skip]
    const LOCAL: &[&[u8]] = &[
        b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"bcachefs", b"f2fs", b"zfs", b"jfs", b"reiserfs", b"nilfs2",
        b"tmpfs", b"ramfs", b"rootfs", b"devtmpfs", b"hugetlbfs", b"overlay", b"aufs", b"squashfs", b"erofs", b"cramfs",
        b"romfs", b"ubifs", b"jffs2", b"vfat", b"msdos", b"exfat", b"ntfs3", b"hfsplus", b"iso9660", b"udf", b"minix",
        b"proc", b"sysfs", b"cgroup", b"cgroup2", b"configfs", b"securityfs", b"debugfs", b"tracefs",
    ];
    let mut buffer = [0; PATH_LENGTH];
    let Some(path) = without_dots(path, &mut buffer) else { return true };
    let mut longest = 0;
    let mut is_remote = false;
    for line in table.split(|&byte| byte == b'\n') {
        // ID PARENT DEVICE ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS (proc_pid_mountinfo(5))
        let mut words = line.split(|&byte| byte == b' ');
        let Some(point) = words.nth(4) else { continue };
        let Some(kind) = words.skip_while(|word| *word != b"-").nth(1) else { continue };
        let point = if point == b"/" { b"" } else { point };
        let length = unescaped(point).count();
        // The file itself may be a mount point.
        let is_below = path.len() >= length
            && unescaped(point).eq(path.iter().copied().take(length))
            && matches!(path.get(length), None | Some(b'/'));
        if is_below && length >= longest {
            longest = length;
            is_remote = !LOCAL.contains(&kind);
        }
    }
    is_remote
}

/// An absolute path without empty parts, `.` and `..`; `None` if it is too long.
fn without_dots<'a>(path: &[u8], buffer: &'a mut [u8; PATH_LENGTH]) -> Option<&'a [u8]> {
    let mut length = 0;
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let before = buffer.get(..length)?;
                length = before.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            }
            _ => {
                *buffer.get_mut(length)? = b'/';
                length += 1;
                buffer.get_mut(length..)?.get_mut(..part.len())?.copy_from_slice(part);
                length += part.len();
            }
        }
    }
    buffer.get(..length)
}

/// The bytes of a path in mountinfo, where white space and backslashes are written as octal numbers.
fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        if first == b'\\'
            && let Some((digits, after)) = after.split_at_checked(3)
            && let Some(byte) =
                str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            rest = after;
            return Some(byte);
        }
        rest = after;
        Some(first)
    })
}

/// The entries of the environment with a given prefix.
///
/// As with getenv(3), nobody may call setenv(3) meanwhile: for use at load, or in a call before that.
#[derive(Clone)]
pub struct Environment {
    next: *const *const c_char,
    start: &'static [u8],
}

impl Environment {
    /// libc's environ(7). `std::env` would take its lock, and a child forked meanwhile would wait for it forever.
    #[must_use]
    pub fn starting_with(start: &'static str) -> Self {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        // SAFETY: null or a null-terminated array.
        let next = unsafe { environ };
        let next = if next.is_null() { initial_environment() } else { next };
        Self { next, start: start.as_bytes() }
    }
}

impl Iterator for Environment {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: the walk does not pass the array's null. An entry is a C string, and is not read past the first byte
        // that differs.
        unsafe {
            loop {
                let entry = self.next.read();
                if entry.is_null() {
                    return None;
                }
                self.next = self.next.add(1);
                // The lengths of other variables are not computed: an environment may be large.
                if (0..)
                    .zip(self.start)
                    .all(|(index, byte)| entry.cast::<u8>().add(index).read() == *byte)
                {
                    return Some(CStr::from_ptr(entry).to_bytes());
                }
            }
        }
    }
}

/// The environment as the kernel put it on the stack, after the arguments (execve(2)); null if libc does not tell the
/// address.
///
/// glibc sets `environ` when libc itself is constructed (csu/init-first.c). The functions of the
/// program's `DT_PREINIT_ARRAY` run before that.
fn initial_environment() -> *const *const c_char {
    // SAFETY: glibc's loader has put the initial stack pointer in this variable (elf/dl-sysdep.c),
    // where the kernel has put the number of arguments, the arguments and a null.
    unsafe {
        let Some(end) = STACK_END else { return std::ptr::null() };
        let stack = *end;
        let arguments = stack.read();
        stack.add(1 + arguments + 1).cast()
    }
}

weak!(STACK_END: &'static *const usize = "__libc_stack_end", "egress_shim_stack_end");

/// A signal set of the kernel: 64 bits. On 32-bit machines it has two words, and the first has the lower signals.
#[derive(Clone, Copy, Debug)]
pub struct SignalSet(u64);

impl SignalSet {
    const SIZE: usize = size_of::<u64>();

    const fn of(signal: c_int) -> Self {
        Self(1 << (signal - 1))
    }

    /// Whether a signal is in the set.
    #[must_use]
    pub const fn has(self, signal: c_int) -> bool {
        self.0 & Self::of(signal).0 != 0
    }
}

/// Runs `f` with all signals of this thread but SIGSYS blocked, libc's own for cancellation included: a handler that leaves
/// by siglongjmp(3) or `pthread_exit(3)` must not leave `f` half done. `f` gets the set of signals that the
/// program itself blocks.
///
/// Bare system calls, here and below: libc's functions leave out its own signals, and are cancellation points.
pub fn without_signals<T>(f: impl FnOnce(SignalSet) -> T) -> T {
    // The kernel ends a process whose seccomp filter raises SIGSYS while it is blocked, although it has a handler.
    let (all, mut blocked) = (SignalSet(!SignalSet::of(libc::SIGSYS).0), SignalSet(0));
    let mask = |how: c_int, set: *const SignalSet, old: *mut SignalSet| {
        // SAFETY: each pointer is null or to a local of the size that the kernel is told.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, set, old, SignalSet::SIZE) };
    };
    // A SIGSYS that the program itself blocks stays blocked.
    mask(libc::SIG_BLOCK, &raw const all, &raw mut blocked);
    let value = f(blocked);
    mask(libc::SIG_SETMASK, &raw const blocked, std::ptr::null_mut());
    value
}

/// The given blocked signals that are pending for this thread or for the process.
#[must_use]
pub fn pending_signals(blocked: SignalSet) -> SignalSet {
    const RAISED: u64 = SignalSet::of(libc::SIGPIPE).0 | SignalSet::of(libc::SIGXFSZ).0;
    let mut pending = SignalSet(0);
    // Only these two signals matter here, and a signal that is not blocked is not pending.
    if blocked.0 & RAISED != 0 {
        // SAFETY: a local of the size that the kernel is told.
        unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, SignalSet::SIZE) };
    }
    SignalSet(pending.0 & blocked.0)
}

/// Takes back a signal that a system call of this thread has just raised, while it is blocked.
pub fn take_back(signal: c_int) {
    let set = SignalSet::of(signal);
    let (now, nothing) =
        (libc::timespec { tv_sec: 0, tv_nsec: 0 }, std::ptr::null::<libc::siginfo_t>());
    // SAFETY: each pointer is null or to a local of the size that the kernel is told; the call does not wait.
    unsafe {
        let (set, most) = (&raw const set, &raw const now);
        libc::syscall(libc::SYS_rt_sigtimedwait, set, nothing, most, SignalSet::SIZE);
    }
}

/// The longest path that the kernel takes, with its end (`PATH_MAX` in the kernel's limits.h).
pub const PATH_LENGTH: usize = 4096;

/// A path as a C string in the buffer.
///
/// # Errors
/// It is too long, or has a zero byte.
pub fn c_path<'a>(path: &[u8], buffer: &'a mut [u8; PATH_LENGTH]) -> Result<&'a CStr, Errno> {
    let too_long = Errno(libc::ENAMETOOLONG);
    // The rest of the buffer is zeros.
    let room = buffer.get_mut(..path.len()).filter(|_| path.len() < PATH_LENGTH).ok_or(too_long)?;
    room.copy_from_slice(path);
    CStr::from_bytes_until_nul(buffer).map_err(|_| too_long)
}

/// An open file that is closed when it is dropped. By bare system calls: libc's functions are cancellation points.
#[derive(Debug)]
pub struct File(c_int);

impl File {
    /// Opens a file to read. `O_NONBLOCK`, for a named pipe must not hold up the program.
    ///
    /// The system call is the one that libc's own loader makes, open(2) or openat(2), so a seccomp filter that lets the
    /// program start lets it pass.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &CStr) -> Result<Self, Errno> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_LARGEFILE;
        // SAFETY: a C string and flags that take no mode.
        let opened = unsafe {
            match OLD_OPEN {
                Some(open) if opens_by_old_call() => libc::syscall(open, path.as_ptr(), flags),
                _ => libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags),
            }
        };
        c_int::try_from(opened).ok().and_then(Self::new).ok_or_else(|| Errno(errno()))
    }

    /// The file of a descriptor, if the descriptor is not negative.
    fn new(descriptor: c_int) -> Option<Self> {
        // Not then_some: a File that is made and dropped would be closed.
        (descriptor >= 0).then(|| Self(descriptor))
    }

    /// The file of a descriptor that nobody else closes; `None` if it is negative.
    ///
    /// # Safety
    /// The descriptor is negative, or its owner gives it up.
    pub unsafe fn of(descriptor: c_int) -> Option<Self> {
        Self::new(descriptor)
    }

    /// Its descriptor.
    #[must_use]
    pub fn descriptor(&self) -> c_int {
        self.0
    }

    /// The file's status (fstat(2)).
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn status(&self) -> Result<Status, Errno> {
        status(self.0).ok_or_else(|| Errno(errno()))
    }

    /// Reads into the buffer until it is full or the file ends, and returns the number of bytes.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut length = 0;
        while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            // SAFETY: the pointer and the length are those of one slice.
            let count =
                unsafe { libc::syscall(libc::SYS_read, self.0, rest.as_mut_ptr(), rest.len()) };
            match usize::try_from(count) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(_) if errno() == libc::EINTR => {}
                Err(_) => return Err(Errno(errno())),
            }
        }
        Ok(length)
    }

    /// Reads a file to its end. The memory has room for `room` bytes at first and grows: the size of files such as those
    /// of /proc is not known, and any file may grow meanwhile. `note` gets the address and the size of the memory each time
    /// that it changes, and null before it is freed.
    ///
    /// # Errors
    /// Those of read(2); `ENOMEM` if memory runs out; `EFBIG` if there are more than `most` bytes.
    pub fn read_whole(
        &self,
        mut room: usize,
        most: usize,
        mut note: impl FnMut(*mut u8, usize),
    ) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let result = loop {
            let start = text.len();
            note(std::ptr::null_mut(), 0);
            if text.try_reserve_exact(room).is_err() {
                break Err(Errno(libc::ENOMEM));
            }
            note(text.as_mut_ptr(), text.capacity());
            text.resize(start + room, 0);
            match self.read(text.get_mut(start..).unwrap_or_default()) {
                Ok(count) => text.truncate(start + count),
                Err(error) => break Err(error),
            }
            if text.len() > most {
                break Err(Errno(libc::EFBIG));
            }
            if text.len() < start + room {
                break Ok(());
            }
            room = text.len();
        };
        if result.is_err() {
            note(std::ptr::null_mut(), 0);
        }
        result.map(|()| text)
    }
}

/// The number of open(2), on the architectures that have it.
const OLD_OPEN: Option<libc::c_long> = {
    #[cfg(not(any(
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64"
    )))]
    {
        Some(libc::SYS_open)
    }
    #[cfg(any(target_arch = "aarch64", target_arch = "riscv64", target_arch = "loongarch64"))]
    {
        None
    }
};

/// Whether this libc opens files by open(2) on architectures that have it: musl does, and glibc did before 2.26
/// (sysdeps/unix/sysv/linux/open.c).
fn opens_by_old_call() -> bool {
    // SAFETY: the loader has filled the slot; gnu_get_libc_version(3) gives a C string that stays.
    let version = unsafe { GLIBC_VERSION.map(|version| CStr::from_ptr(version())) };
    let Some(version) = version else { return true };
    let minor = version.to_bytes().strip_prefix(b"2.").unwrap_or_default();
    let minor = minor
        .split(|byte| !byte.is_ascii_digit())
        .next()
        .and_then(|digits| str::from_utf8(digits).ok());
    minor.and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|minor| minor < 26)
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor opened above, which nobody else knows.
        keeping_errno(|| unsafe { libc::syscall(libc::SYS_close, self.0) });
    }
}

/// The status of a file (stat(2)). In this structure the size of a file has 64 bits on every architecture.
pub type Status = libc::stat64;

/// `_STAT_VER_LINUX` of glibc (bits/stat.h), the version of this structure.
const STAT_VERSION: c_int = match () {
    () if cfg!(target_pointer_width = "32") => 3,
    () if cfg!(any(target_arch = "aarch64", target_arch = "riscv64")) => 0,
    () => 1,
};

/// fstat(2), by whatever function this libc has for it, which makes the very call that its loader makes.
/// The function named so is in glibc since 2.33 and in musl; before that glibc has one with the version
/// of the structure as first argument (sysdeps/unix/sysv/linux/fxstat64.c).
#[must_use]
pub fn status(descriptor: c_int) -> Option<Status> {
    // SAFETY: all zeros are a valid stat.
    let mut status: Status = unsafe { std::mem::zeroed() };
    // SAFETY: a local for the result; fstat(2) takes any descriptor. The slots are the loader's.
    let result = unsafe {
        match (FSTAT, FXSTAT) {
            (Some(fstat), _) => fstat(descriptor, &raw mut status),
            (None, Some(fxstat)) => fxstat(STAT_VERSION, descriptor, &raw mut status),
            (None, None) => -1,
        }
    };
    (result == 0).then_some(status)
}

/// stat(2), as [`status`].
///
/// # Errors
/// Those of stat(2).
pub fn status_of_path(path: &CStr) -> Result<Status, Errno> {
    // SAFETY: all zeros are a valid stat.
    let mut status: Status = unsafe { std::mem::zeroed() };
    // SAFETY: a C string and a local for the result. The slots are the loader's.
    let result = unsafe {
        match (STAT, XSTAT) {
            (Some(stat), _) => stat(path.as_ptr(), &raw mut status),
            (None, Some(xstat)) => xstat(STAT_VERSION, path.as_ptr(), &raw mut status),
            (None, None) => return Err(Errno(libc::ENOSYS)),
        }
    };
    if result == 0 { Ok(status) } else { Err(Errno(errno())) }
}

weak!(STAT: unsafe extern "C" fn(*const c_char, *mut Status) -> c_int = "stat64", "egress_shim_stat");
weak!(XSTAT: unsafe extern "C" fn(c_int, *const c_char, *mut Status) -> c_int = "__xstat64", "egress_shim_xstat");
weak!(FSTAT: unsafe extern "C" fn(c_int, *mut Status) -> c_int = "fstat64", "egress_shim_fstat");
weak!(FXSTAT: unsafe extern "C" fn(c_int, c_int, *mut Status) -> c_int = "__fxstat64", "egress_shim_fxstat");

/// Tells which memory can be read. Remembers the page that it has checked last.
#[derive(Debug)]
pub struct Readable {
    page: usize,
}

impl Readable {
    /// No page is smaller, on any machine that Linux runs on.
    const PAGE: usize = 4096;

    /// Begins with a page of the stack as known, because structures for the kernel are usually there.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it is made of where it is made")]
    pub fn new() -> Self {
        let here = 0_u8;
        Self { page: (&raw const here).addr() & !(Self::PAGE - 1) }
    }

    /// Whether `size` bytes at `address` can be read. Costs one system call for each page, except the one seen last.
    pub fn has(&mut self, address: usize, size: usize) -> bool {
        let Some(last) = size.checked_sub(1) else { return true };
        let Some(last) = address.checked_add(last) else { return false };
        let mut page = address & !(Self::PAGE - 1);
        while page <= last {
            if page != self.page && !is_page_readable(page) {
                return false;
            }
            self.page = page;
            let Some(next) = page.checked_add(Self::PAGE) else { break };
            page = next;
        }
        true
    }
}

/// Whether a page can be read: the kernel reads a signal set from it, for a change that it then refuses
/// (`rt_sigprocmask`(2)).
fn is_page_readable(page: usize) -> bool {
    const NO_CHANGE: c_int = -1;
    /// The bytes of the kernel's signal set.
    const SIZE: usize = 8;
    let nowhere = std::ptr::null_mut::<u8>();
    // SAFETY: the kernel reads what it can read, and writes nothing.
    keeping_errno(|| unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, NO_CHANGE, page, nowhere, SIZE);
        errno() == libc::EINVAL
    })
}

/// A random number that the kernel has drawn for this process (`AT_RANDOM`, getauxval(3)).
#[must_use]
pub fn random() -> u64 {
    // SAFETY: getauxval(3) takes a number, and gives 0 or the address of 16 bytes.
    unsafe {
        let bytes = libc::getauxval(libc::AT_RANDOM) as *const u64;
        if bytes.is_null() { 0 } else { bytes.add(1).read_unaligned() }
    }
}

/// Copies bytes of the program's memory if the kernel can read them. The pointer may be any; `SIZE` is a multiple of
/// eight.
#[must_use]
pub fn copy_foreign<const SIZE: usize>(from: *const u8) -> Option<[u8; SIZE]> {
    let is_readable = (0..SIZE).step_by(8).all(|offset| can_read_eight(from.wrapping_add(offset)));
    // SAFETY: the kernel has just read these bytes, and the program has passed them to a system call that is about to
    // read them. Volatile, because another thread may write there.
    is_readable.then(|| unsafe { from.cast::<[u8; SIZE]>().read_volatile() })
}

/// Whether the kernel can read eight bytes. It copies a signal set (EFAULT if it cannot) before it finds that the
/// operation is not one of sigprocmask(2) (EINVAL).
fn can_read_eight(bytes: *const u8) -> bool {
    const NO_OPERATION: c_int = c_int::MAX;
    // SAFETY: a pointer for the kernel to read eight bytes of, if it can; nothing is done with them.
    let status = unsafe {
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(libc::SYS_rt_sigprocmask, NO_OPERATION, bytes, none, size_of::<u64>())
    };
    // The kernel reads nothing from a null pointer, and succeeds.
    status == -1 && errno() == libc::EINVAL
}

/// Waits while the word at the address has this value; may return earlier (futex(2)). A bare system
/// call is not a cancellation point.
pub fn wait_while(word: &std::sync::atomic::AtomicU32, value: u32) {
    // With the time limit, a lost wake-up costs a moment instead of a hang.
    let most = libc::timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    // SAFETY: the word lives as long as the reference; futex(2) reads it and the local.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            value,
            &raw const most,
        );
    }
}

/// Wakes every thread of this process that waits at the word.
pub fn wake_all(word: &std::sync::atomic::AtomicU32) {
    // SAFETY: futex(2) takes the address as a key here and reads nothing.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            c_int::MAX,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of mounts, of (mount point, type).
    fn table(mounts: &[(&str, &str)]) -> String {
        let line = |(point, kind): &(&str, &str)| {
            format!("36 35 98:0 /root {point} rw,noatime master:1 shared:2 - {kind} source rw\n")
        };
        mounts.iter().map(line).collect()
    }

    #[test]
    fn only_a_file_system_that_is_known_to_be_local_is_not_remote() {
        for kind in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "squashfs", "vfat", "proc", "zfs"]
        {
            assert!(!is_remote_in(table(&[("/", kind)]).as_bytes(), b"/etc/list"), "{kind}");
        }
        for kind in [
            "nfs4",
            "cifs",
            "fuse",
            "fuse.sshfs",
            "fuseblk",
            "9p",
            "virtiofs",
            "gpfs",
            "ocfs2",
            "gfs2",
            "davfs",
            "afs",
            "ceph",
            "lustre",
            "autofs",
            "new",
            "ext",
            "ext44",
        ] {
            assert!(is_remote_in(table(&[("/", kind)]).as_bytes(), b"/etc/list"), "{kind}");
        }
    }

    #[test]
    fn the_mount_that_a_path_leads_to_is_found_however_it_is_written() {
        let table = table(&[
            ("/", "ext4"),
            ("/mnt", "nfs"),
            ("/mnt/local", "ext4"),
            ("/etc/list", "fuse"),
            (r"/with\040blank", "nfs"),
            (r"/a\011\134b", "nfs"),
            ("/over", "nfs"),
            ("/over", "tmpfs"),
            ("/under", "tmpfs"),
            ("/under", "nfs"),
        ]);
        for (path, wanted) in [
            ("/list", false),
            ("/mnt/list", true),
            ("/mnt/local/list", false),
            ("/mntx/list", false),
            ("/mnt", true),
            ("/etc/list", true),
            ("/etc/list2", false),
            ("/with blank/list", true),
            ("/with/list", false),
            ("/a\t\\b/list", true),
            ("//mnt//list", true),
            ("/mnt//local/./list", false),
            ("/./mnt/list", true),
            ("/etc/../mnt/list", true),
            ("/mnt/../etc/hosts", false),
            ("/mnt/local/../list", true),
            ("/../../mnt/list", true),
            ("/over/list", false),
            ("/under/list", true),
        ] {
            assert_eq!(is_remote_in(table.as_bytes(), path.as_bytes()), wanted, "{path}");
        }
    }
}
