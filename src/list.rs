//! The list of hosts in force: loaded once, by one thread, at the first lookup that could need it; and again
//! when its file has changed.
//!
//! **Readers** take no lock and leave no trace, so a reader may be a signal handler, a child forked at any
//! moment, or a thread that never comes back. A list is held by a [`Block`], whose memory is never freed.
//! There are two blocks: one in force, and a spare one that the next list is written to. After reading, a reader
//! checks that nobody has written to its block meanwhile.
//!
//! **The loader** is one thread at a time ([`Loader`]). While it loads, its signals except SIGSYS are blocked, so no
//! handler jumps out of the load or asks for the list in the middle of it. Only while it reads a file that may hang,
//! handlers can run. If one jumps out there, [`LEFT_FILE`] and [`LEFT_TEXT`] record what the thread has left open.
//!
//! **A look** at the file is one stat(2), at most once a second, in a lookup. A reply never looks: recv(2) makes
//! no such system calls.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ptr::{self, null_mut};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence,
};

use egress_shim_core::allowlist::{self, Allowlist};
use egress_shim_core::settings::{self, Escaped, LARGEST_FILE, Problem, Report, Settings};
use once_cell::race::OnceRef;

use crate::complaints::Complaints;
use crate::logging;
use crate::memory::leak;
use crate::process::{self, Errno, File, PATH_LENGTH, Status, c_path};

/// A list file up to this size is read at load, so that a daemon which drops its rights, changes its root
/// or restricts itself afterwards has it.
const SMALL_FILE: usize = 64 << 10;
/// The time between two looks at the file or two tries to load it, and the age at which a changed file counts as
/// written to its end; in milliseconds.
const SECOND: i64 = 1000;
/// In milliseconds. A thread that reads a file for longer waits for a file system that hangs, or has left the load by
/// siglongjmp(3).
const LONGEST_READ: i64 = 10 * SECOND;

// --- Who asks -----------------------------------------------------------------------------------------

/// Who asks for the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// getaddrinfo(3) and the like, which may open files.
    Lookup,
    /// recv(2) and the like, which a signal handler may call.
    Reply,
}

/// Whether a name is on the list of these settings. The first call for a name that could be listed loads the list.
pub fn is_listed(name: &[u8], asker: Asker, settings: &Settings<'static>) -> bool {
    if !settings.has_allowlist() || !allowlist::can_be_listed(name) {
        return false;
    }
    // Programs ask for localhost so often that no file is read for it.
    let is_localhost = allowlist::is_localhost(name);
    if !LOADED.load(Acquire) {
        if is_localhost && !may_list_localhost(settings) {
            return false;
        }
        load_once(settings);
    }
    if asker == Asker::Lookup && !is_localhost && is_time_to_look() {
        process::keeping_errno(|| look(settings));
    }
    lists(name)
}

/// Whether a text in memory has the pattern `localhost`. No other pattern lists that name.
fn may_list_localhost(settings: &Settings<'_>) -> bool {
    const LOCALHOST: &[u8] = b"localhost";
    [settings.ipv4_only, EARLY_TEXT.get().map_or(&[], Vec::as_slice)].into_iter().any(|text| {
        text.windows(LOCALHOST.len()).any(|window| window.eq_ignore_ascii_case(LOCALHOST))
    })
}

// --- The list in force --------------------------------------------------------------------------------

/// Memory for a list, which lasts as long as the process.
struct Block {
    /// Odd while somebody writes to the words.
    version: AtomicUsize,
    words: &'static [AtomicU64],
}

/// The block of the list in force; null before the first one.
static IN_FORCE: AtomicPtr<Block> = AtomicPtr::new(null_mut());
/// The block that the next list is written to. Only the loader uses it.
static SPARE: AtomicPtr<Block> = AtomicPtr::new(null_mut());

/// Whether the list in force has the name.
fn lists(name: &[u8]) -> bool {
    loop {
        // SAFETY: null, or a block that lasts as long as the process.
        let Some(block) = (unsafe { IN_FORCE.load(Acquire).as_ref() }) else { return false };
        let version = block.version.load(Acquire);
        let listed = Allowlist::in_words(block.words).contains(name);
        // The words that were read come before the version that is read now (a seqlock).
        fence(Acquire);
        if version.is_multiple_of(2) && block.version.load(Relaxed) == version {
            return listed;
        }
    }
}

/// Makes a list of the texts and puts it in force if `is_good` then returns true. Only the loader calls it.
///
/// # Errors
/// There is no memory for it.
fn make(
    variable: &'static [u8],
    file: Option<(&[u8], &[u8])>,
    report: Report<'_>,
    is_good: impl FnOnce() -> bool,
) -> Result<(), Errno> {
    let text = file.map(|(_, text)| text).unwrap_or_default();
    let block = spare(allowlist::words_for(variable, text)).ok_or(Errno(libc::ENOMEM))?;
    let version = block.version.load(Relaxed) | 1;
    block.version.store(version, Relaxed);
    // The odd version comes before the words that are written now.
    fence(Release);
    settings::fill_allowlist(&Allowlist::in_words(block.words), variable, file, report);
    block.version.store(version.wrapping_add(1), Release);
    if is_good() {
        SPARE.store(IN_FORCE.swap(ptr::from_ref(block).cast_mut(), AcqRel), Relaxed);
    }
    Ok(())
}

/// A block that is not in force, with room for this many words. A block that is too small is left in memory, because a
/// thread may still read it. Each new block is at least twice as large as the one before, so the abandoned ones together
/// are smaller than the last.
fn spare(words: usize) -> Option<&'static Block> {
    // SAFETY: null, or a block that lasts as long as the process.
    let spare = unsafe { SPARE.load(Relaxed).as_ref() };
    // In a child forked while the two were exchanged, the spare one may be the one in force.
    let spare = spare.filter(|block| !ptr::eq(*block, IN_FORCE.load(Relaxed)));
    if let Some(block) = spare.filter(|block| block.words.len() >= words) {
        return Some(block);
    }
    let size = words.max(spare.map_or(0, |block| 2 * block.words.len()));
    let mut room = Vec::new();
    room.try_reserve_exact(size).ok()?;
    room.resize_with(size, AtomicU64::default);
    let block = leak(Block { version: AtomicUsize::new(0), words: room.leak() })?;
    SPARE.store(ptr::from_ref(block).cast_mut(), Relaxed);
    Some(block)
}

// --- The loader ---------------------------------------------------------------------------------------

/// The thread that loads the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    Nobody,
    Thread {
        process: u32,
        thread: u32,
        /// It reads a file that may hang, so its signals are not blocked, and a handler may jump out of the load.
        may_leave: bool,
    },
}

/// The current [`Loader`], packed.
static LOADER: AtomicU64 = AtomicU64::new(0);
/// The start of the current load, in milliseconds of the monotonic clock.
static SINCE: AtomicI64 = AtomicI64::new(0);
/// The number of loads that have ended. Other threads wait for it to change.
static LOADS: AtomicU32 = AtomicU32::new(0);
/// The descriptor that the loader has open, and would leave open if a handler jumped out; -1 if no file is open.
static LEFT_FILE: AtomicI32 = AtomicI32::new(-1);
/// The same for the memory of the text, with its size.
static LEFT_TEXT: AtomicPtr<u8> = AtomicPtr::new(null_mut());
static LEFT_SIZE: AtomicUsize = AtomicUsize::new(0);

impl Loader {
    /// No thread id is as large (`FUTEX_TID_MASK` in the kernel's futex.h).
    const MAY_LEAVE: u64 = 1 << 31;

    /// The calling thread.
    fn own(may_leave: bool) -> Self {
        let (process, thread) = (process::id(), process::thread_id());
        Self::Thread { process: process.cast_unsigned(), thread: thread.cast_unsigned(), may_leave }
    }

    fn pack(self) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Thread { process, thread, may_leave } => {
                let flag = if may_leave { Self::MAY_LEAVE } else { 0 };
                u64::from(process) << 32 | u64::from(thread) | flag
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "each half by itself")]
    fn unpack(packed: u64) -> Self {
        if packed == 0 {
            return Self::Nobody;
        }
        Self::Thread {
            process: (packed >> 32) as u32,
            thread: (packed & !Self::MAY_LEAVE) as u32,
            may_leave: packed & Self::MAY_LEAVE != 0,
        }
    }
}

/// The task of a thread that finds the list not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It loads the list. There is no other loader, or the other is gone and what it left open is freed.
    Load,
    /// It loads the list, but the earlier loader may still come back, so its open file and memory stay.
    LoadToo,
    /// It waits for the loader.
    Wait,
    /// It takes the list that is in force.
    Pass,
}

impl Loader {
    /// The task of the thread `own`, if the loader is `self`.
    fn turn_of(
        self,
        own: Self,
        is_alive: impl FnOnce(u32) -> bool,
        has_list: bool,
        is_late: bool,
    ) -> Turn {
        let (
            Self::Thread { process, thread, may_leave },
            Self::Thread { process: here, thread: me, .. },
        ) = (self, own)
        else {
            return Turn::Load;
        };
        // In a child forked meanwhile the loader's thread does not exist. In a new PID namespace the child may have its
        // parent's id.
        if process != here || (thread != me && !is_alive(thread)) {
            return Turn::Load;
        }
        match () {
            () if is_late && (may_leave || thread == me) => Turn::LoadToo,
            // In a signal handler that has interrupted the load, or after a jump out of one.
            () if thread == me || has_list => Turn::Pass,
            () => Turn::Wait,
        }
    }
}

/// Runs `load` in the calling thread as the loader. If another thread is the loader and there is no list yet, waits for
/// that thread. `load` gets the loader's identity.
fn as_loader(mut load: impl FnMut(Loader)) {
    let may_leave = IS_REMOTE.load(Relaxed);
    let own = Loader::own(may_leave);
    loop {
        let loads = LOADS.load(Acquire);
        let seen = LOADER.load(Acquire);
        let is_alive = |thread| process::has_thread(process::id(), thread);
        let is_late = process::milliseconds() - SINCE.load(Relaxed) >= LONGEST_READ;
        let has_list = !IN_FORCE.load(Acquire).is_null();
        let turn = Loader::unpack(seen).turn_of(own, is_alive, has_list, is_late);
        match turn {
            Turn::Pass => return,
            Turn::Wait => process::keeping_errno(|| process::wait_while(&LOADS, loads)),
            Turn::Load | Turn::LoadToo => {
                let done = unless(may_leave, || {
                    if LOADER.compare_exchange(seen, own.pack(), AcqRel, Relaxed).is_err() {
                        return false;
                    }
                    SINCE.store(process::milliseconds(), Relaxed);
                    let (file, text) = take_left();
                    if turn == Turn::Load {
                        drop((file, text));
                    } else {
                        std::mem::forget((file, text));
                    }
                    load(own);
                    // If another thread has taken over, the exchange fails, as it should.
                    for own in [own, building(own)] {
                        let _ = LOADER.compare_exchange(own.pack(), 0, Release, Relaxed);
                    }
                    LOADS.fetch_add(1, AcqRel);
                    process::wake_all(&LOADS);
                    true
                });
                if done {
                    return;
                }
            }
        }
    }
}

/// The same loader once it has read its file.
fn building(own: Loader) -> Loader {
    match own {
        Loader::Nobody => own,
        Loader::Thread { process, thread, .. } => {
            Loader::Thread { process, thread, may_leave: false }
        }
    }
}

/// Runs `f` with the thread's signals blocked, unless `signals` lets them through.
fn unless<T>(signals: bool, f: impl FnOnce() -> T) -> T {
    if signals { f() } else { process::without_signals(|_| f()) }
}

/// Runs `f`, which makes a list, unless another thread has taken the load over meanwhile.
fn build(own: Loader, f: impl FnOnce()) {
    let next = building(own);
    // The signals of a loader that no handler interrupts are blocked already.
    unless(own == next, || {
        if LOADER.compare_exchange(own.pack(), next.pack(), AcqRel, Relaxed).is_ok() {
            f();
        }
    });
}

/// Takes over the file and the memory of a loader that has gone.
fn take_left() -> (Option<File>, Vec<u8>) {
    // SAFETY: the descriptor and the memory were recorded by a loader that owned them, and each is taken once.
    unsafe {
        let file = File::of(LEFT_FILE.swap(-1, AcqRel));
        let text = LEFT_TEXT.swap(null_mut(), AcqRel);
        let size = LEFT_SIZE.load(Relaxed);
        let text = if text.is_null() { Vec::new() } else { Vec::from_raw_parts(text, 0, size) };
        (file, text)
    }
}

// --- Loading ------------------------------------------------------------------------------------------

/// The text of a small list file, read at load.
static EARLY_TEXT: OnceRef<'static, Vec<u8>> = OnceRef::new();
/// Whether the file is on a file system that may hang.
static IS_REMOTE: AtomicBool = AtomicBool::new(false);
/// Whether the list is loaded. It is then loaded again only if its file changes.
static LOADED: AtomicBool = AtomicBool::new(false);
/// The time of the next load, or of the next look at the file, in milliseconds of the monotonic clock.
static NEXT: AtomicI64 = AtomicI64::new(0);
const NEVER: i64 = i64::MAX;

/// Reads a small list file at load. The first lookup reports problems. Returns the path for that lookup, which stays
/// right if the program changes its directory.
///
/// Not inlined: the buffers would cost a start without a list file a page of the stack.
#[inline(never)]
pub fn read_at_load(path: &'static [u8]) -> &'static [u8] {
    let path = absolute(path);
    IS_REMOTE.store(process::is_on_remote_fs(path), Relaxed);
    ROOT.store(
        File::open(c"/").and_then(|root| root.status()).map_or(0, |root| place_of(&root)),
        Relaxed,
    );
    if !IS_REMOTE.load(Relaxed)
        && let Ok(text) = read(path, SMALL_FILE, false)
    {
        keep(text);
    }
    path
}

/// Keeps a text that was read at load for the first lookup.
fn keep(text: Text) {
    if let Some(bytes) = leak(text.bytes) {
        let _ = EARLY_TEXT.set(bytes);
        SEEN.store(text.version, Relaxed);
    }
}

/// For a strict program: reads the list at load whatever its size, and reports its problems. The first lookup puts the
/// list in force, because loading makes system calls that a start must not make.
pub fn check_at_load(settings: &Settings<'static>, report: Report<'_>) {
    let path = settings.ipv4_only_file;
    let mut failure = None;
    if let Some(path) = path.filter(|_| EARLY_TEXT.get().is_none()) {
        match read(path, LARGEST_FILE, false) {
            Ok(text) => keep(text),
            Err(error) => failure = Some(error),
        }
    }
    let text = path.zip(EARLY_TEXT.get().map(Vec::as_slice));
    if settings::load_allowlist(settings.ipv4_only, text, report).is_err() {
        failure = Some(Failure::System(Errno(libc::ENOMEM)));
    }
    if let Some(failure) = failure {
        settings::report_no_list(path, &failure, failure.is_passing(), report);
    }
}

fn absolute(path: &'static [u8]) -> &'static [u8] {
    let mut buffer = [0; PATH_LENGTH];
    let directory = if path.starts_with(b"/") { &[] } else { process::directory(&mut buffer) };
    let mut absolute = Vec::new();
    let size = directory.len() + 1 + path.len();
    if directory.is_empty() || absolute.try_reserve_exact(size).is_err() {
        return path;
    }
    for part in [directory, b"/", path] {
        absolute.extend_from_slice(part);
    }
    absolute.leak()
}

/// Loads the list, and reports its problems.
#[cold]
fn load_once(settings: &Settings<'static>) {
    if process::milliseconds() < NEXT.load(Acquire) {
        return;
    }
    process::keeping_errno(|| {
        let mut complaints = Complaints::new(false);
        as_loader(|own| {
            // Another thread may have loaded the list since this one looked.
            if !LOADED.load(Acquire) && process::milliseconds() >= NEXT.load(Acquire) {
                load_now(settings, own, &mut |problem| complaints.add(problem));
            }
        });
        complaints.end();
    });
}

/// If the list cannot be loaded now but perhaps later, the patterns of the variable apply meanwhile.
fn load_now(settings: &Settings<'static>, own: Loader, report: Report<'_>) {
    /// Whether an earlier try has reported what was wrong.
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let path = settings.ipv4_only_file;
    let early = EARLY_TEXT.get();
    let read = path.filter(|_| early.is_none()).map(|path| read(path, LARGEST_FILE, true));
    build(own, || {
        let again = REPORTED.swap(true, Relaxed);
        let (text, mut failure) = match &read {
            None => (early.map(Vec::as_slice), None),
            Some(Ok(text)) => {
                SEEN.store(text.version, Relaxed);
                (Some(text.bytes.as_slice()), None)
            }
            Some(Err(failure)) => (None, Some(*failure)),
        };
        let is_passing = |failure: &Option<Failure>| failure.is_some_and(Failure::is_passing);
        if IN_FORCE.load(Acquire).is_null() || !is_passing(&failure) {
            let mut report = |problem: &Problem<'_>| {
                if !(again && problem.variable == settings::IPV4_ONLY.variable.as_bytes()) {
                    report(problem);
                }
            };
            let made = make(settings.ipv4_only, path.zip(text), &mut report, || true);
            failure = failure.or(made.err().map(Failure::System));
        }
        let passing = is_passing(&failure);
        if let Some(failure) = failure.filter(|_| !again || !passing) {
            WARNED.store(true, Relaxed);
            settings::report_no_list(path, &failure, passing, report);
        }
        let now = process::milliseconds();
        let next = match (path, early) {
            _ if passing => now + SECOND,
            (None, _) => NEVER,
            // It may have changed since the start.
            (_, Some(_)) => now,
            (_, None) => now + SECOND,
        };
        NEXT.store(next, Release);
        LOADED.store(!passing, Release);
    });
    if let Some(Ok(text)) = read {
        free(text);
    }
}

/// The text of a list file.
struct Text {
    bytes: Vec<u8>,
    /// The version of the file when it was opened.
    version: u64,
    /// Whether nobody has written to the file meanwhile.
    is_whole: bool,
}

/// Reads a regular file of at most `most` bytes. The loader records what it has open, for the thread that finds it gone.
fn read(path: &[u8], most: usize, is_loader: bool) -> Result<Text, Failure> {
    let mut buffer = [0; PATH_LENGTH];
    let file = File::open(c_path(path, &mut buffer)?)?;
    if is_loader {
        LEFT_FILE.store(file.descriptor(), Release);
    }
    let text = read_open(&file, most, is_loader);
    if is_loader {
        LEFT_FILE.store(-1, Release);
    }
    text
}

fn read_open(file: &File, most: usize, is_loader: bool) -> Result<Text, Failure> {
    let status = file.status()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Failure::NotRegular);
    }
    let size = usize::try_from(status.st_size).unwrap_or(usize::MAX);
    if size > most {
        return Err(Failure::TooLarge);
    }
    let bytes = file.read_whole(size.max(1000) + 1, most, |text, size| {
        if is_loader {
            LEFT_SIZE.store(size, Relaxed);
            LEFT_TEXT.store(text, Release);
        }
    })?;
    let version = version_of(&status);
    let after = file.status().map_or(0, |status| version_of(&status));
    // Files such as those of /proc have an unknown size, 0.
    let is_whole = version == after && (size == 0 || bytes.len() == size);
    Ok(Text { bytes, version, is_whole })
}

/// Frees a text of the loader's.
fn free(text: Text) {
    LEFT_TEXT.store(null_mut(), Release);
    drop(text);
}

/// Why the list file cannot be read.
#[derive(Clone, Copy, Debug)]
enum Failure {
    System(Errno),
    NotRegular,
    TooLarge,
}

impl Failure {
    /// Whether the problem may be gone at a later lookup.
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

// --- A file that changes ------------------------------------------------------------------------------

/// The version of the file that was last loaded, or was last tried without success; 0 means no file.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// The version that the last look found, if it was so new that somebody may still be writing it.
static FRESH: AtomicU64 = AtomicU64::new(0);
/// The root directory at load; 0 is unknown.
static ROOT: AtomicU64 = AtomicU64::new(0);
/// Whether the current problem of the file has been logged.
static WARNED: AtomicBool = AtomicBool::new(false);

/// Whether a second has passed since the last look. If so, the caller must look.
fn is_time_to_look() -> bool {
    let next = NEXT.load(Relaxed);
    if next == NEVER {
        return false;
    }
    let now = process::milliseconds();
    // If the file system hangs, the next lookups must not wait for it too.
    let later = now + if IS_REMOTE.load(Relaxed) { LONGEST_READ } else { SECOND };
    now >= next && NEXT.compare_exchange(next, later, Relaxed, Relaxed).is_ok()
}

/// A number that differs between two states of a file.
fn version_of(status: &Status) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (place_of(status), status.st_size, status.st_mtime, status.st_mtime_nsec).hash(&mut hasher);
    (status.st_ctime, status.st_ctime_nsec).hash(&mut hasher);
    hasher.finish() | 1
}

/// A number that differs between two files.
fn place_of(status: &Status) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (status.st_dev, status.st_ino).hash(&mut hasher);
    hasher.finish() | 1
}

/// Looks at the file, and loads it if it has changed.
#[cold]
fn look(settings: &Settings<'static>) {
    let mut buffer = [0; PATH_LENGTH];
    let Some(path) = settings.ipv4_only_file else { return };
    let Ok(c_path) = c_path(path, &mut buffer) else { return };
    let root = process::status_of_path(c"/").map_or(0, |root| place_of(&root));
    if ![0, root].contains(&ROOT.load(Relaxed)) {
        // The path now names another file, perhaps in a container.
        logging::debug!("the root directory has changed: the list stays as it is");
        return NEXT.store(NEVER, Relaxed);
    }
    let status = process::status_of_path(c_path);
    NEXT.store(process::milliseconds() + SECOND, Relaxed);
    let status = match status {
        Ok(status) => status,
        // A daemon that has dropped its rights cannot see the file. That is no change of the file.
        Err(Errno(libc::EACCES | libc::EPERM)) => return,
        Err(error) => return warn(path, error.into()),
    };
    let version = version_of(&status);
    if version == SEEN.load(Relaxed) {
        return;
    }
    // A program that rewrites the file in place may not have finished.
    let age = process::age(&status);
    if age < SECOND && FRESH.swap(version, Relaxed) != version {
        return;
    }
    as_loader(|own| load_changed(settings, path, version, own));
}

/// Loads this version of the file if it is a list without mistakes. Otherwise the list stays as it is.
fn load_changed(settings: &Settings<'static>, path: &[u8], version: u64, own: Loader) {
    let read = read(path, LARGEST_FILE, true);
    build(own, || match &read {
        // The file has changed again or is being written. The next look will see that.
        Ok(text) if text.version != version || !text.is_whole => {}
        Ok(text) => {
            let is_good = Cell::new(true);
            let mut report = |problem: &Problem<'_>| {
                // Problems of the variable's patterns have been reported already.
                if problem.variable == settings::IPV4_ONLY_FILE.variable.as_bytes() {
                    is_good.set(false);
                    if !WARNED.swap(true, Relaxed) {
                        logging::warning!("{}", Problem { instead: &KEEPING, ..*problem });
                    }
                }
            };
            let file = Some((path, text.bytes.as_slice()));
            match make(settings.ipv4_only, file, &mut report, || is_good.get()) {
                Ok(()) if is_good.get() => {
                    SEEN.store(version, Relaxed);
                    LOADED.store(true, Release);
                    WARNED.store(false, Relaxed);
                    logging::info!("{}: the list has changed and is in force", Escaped(path));
                }
                Ok(()) => SEEN.store(version, Relaxed),
                // There may be enough memory later.
                Err(_) => {}
            }
        }
        Err(failure) => {
            if !failure.is_passing() {
                // The file is not opened again before it changes.
                SEEN.store(version, Relaxed);
            }
            warn(path, *failure);
        }
    });
    if let Ok(text) = read {
        free(text);
    }
}

/// What happens to the list if its file is no longer valid.
const KEEPING: &str = "keeping the list as it was";

/// Logs the problem of the file, once.
fn warn(path: &[u8], failure: Failure) {
    if !failure.is_passing() && !WARNED.swap(true, Relaxed) {
        logging::warning!(
            "{}: {}: {failure}; {KEEPING}",
            settings::IPV4_ONLY_FILE.variable,
            Escaped(path)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::c_int;
    use std::io::Write;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Tests that make lists take turns.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn text(patterns: &str) -> &'static [u8] {
        patterns.as_bytes().to_vec().leak()
    }

    fn make_list(patterns: &'static [u8]) {
        let made = make(patterns, None, &mut |problem| panic!("{problem}"), || true);
        assert_eq!(made, Ok(()));
    }

    #[test]
    fn readers_of_lists_that_follow_each_other_see_one_or_the_other() {
        let _turn = TURN.lock();
        let hosts = |start| {
            let hosts = (start..start + 200).map(|host| format!("host-{host}.test"));
            hosts.collect::<Vec<_>>().join(" ")
        };
        let lists = [
            text(&format!("both.test {}", hosts(0))),
            text(&format!("{} *.x.test both.test !z.x.test", hosts(1000))),
        ];
        make_list(lists[0]);
        let blocks = || [IN_FORCE.load(Acquire), SPARE.load(Acquire)];
        let end = Instant::now() + Duration::from_millis(600);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while Instant::now() < end {
                        assert!(lists_name("both.test"), "it is on both lists");
                        assert!(!lists_name("neither.test") && !lists_name("z.x.test"));
                        let _ = (lists_name("host-7.test"), lists_name("a.x.test"));
                    }
                });
            }
            make_list(lists[1]);
            make_list(lists[0]);
            let seen = blocks();
            for round in 0.. {
                make_list(lists[round % 2]);
                if Instant::now() > end {
                    break;
                }
            }
            let mut now = blocks();
            now.sort();
            let mut seen = seen;
            seen.sort();
            assert_eq!(now, seen, "two blocks are enough for all of them");
        });
    }

    fn lists_name(name: &str) -> bool {
        super::lists(name.as_bytes())
    }

    /// The writer has the list in force half written for as long as it likes.
    #[test]
    fn a_reader_whose_block_is_written_to_meanwhile_reads_again() {
        let _turn = TURN.lock();
        make_list(text("both.test"));
        // SAFETY: a block that lasts as long as the process.
        let block = unsafe { IN_FORCE.load(Acquire).as_ref() }.expect("it has just been made");
        let words: Vec<_> = block.words.iter().map(|word| word.load(Relaxed)).collect();
        let end = Instant::now() + Duration::from_millis(200);
        thread::scope(|scope| {
            scope.spawn(|| {
                while Instant::now() < end {
                    block.version.fetch_add(1, Relaxed);
                    fence(Release);
                    block.words.iter().for_each(|word| word.store(0, Relaxed));
                    thread::yield_now();
                    block.words.iter().zip(&words).for_each(|(to, word)| to.store(*word, Relaxed));
                    block.version.fetch_add(1, Release);
                    thread::sleep(Duration::from_micros(20));
                }
            });
            while Instant::now() < end {
                assert!(lists_name("both.test"), "it is on the list whenever that is whole");
            }
        });
    }

    #[test]
    fn a_list_that_grows_by_a_name_at_a_time_leaves_little_memory_behind() {
        let _turn = TURN.lock();
        let mut last = spare(1).expect("there is memory");
        let mut left = 0;
        for words in last.words.len()..last.words.len() + 2000 {
            let next = spare(words).expect("there is memory");
            if !ptr::eq(last, next) {
                left += last.words.len();
                last = next;
            }
        }
        assert!(left < last.words.len(), "{left} words left, {} in use", last.words.len());
    }

    #[test]
    fn a_list_that_turns_out_bad_leaves_the_one_in_force() {
        let _turn = TURN.lock();
        make_list(text("good.test"));
        let own = SPARE.load(Relaxed);
        // In a child forked while the two were exchanged, both may be the same.
        for spare in [own, IN_FORCE.load(Relaxed)] {
            SPARE.store(spare, Relaxed);
            let mut problems = 0;
            let bad = make(text("other.test a..b"), None, &mut |_| problems += 1, || false);
            assert_eq!((bad, problems), (Ok(()), 1));
            assert!(lists_name("good.test") && !lists_name("other.test"));
        }
        SPARE.store(own, Relaxed);
    }

    /// The block is half written in the child, whose only thread is not the one that writes.
    #[test]
    fn a_child_forked_while_a_list_is_written_reads_and_writes_lists() {
        let _turn = TURN.lock();
        let hosts: Vec<_> = (0..500).map(|host| format!("host-{host}.test")).collect();
        let list = text(&(hosts.join(" ") + " both.test"));
        make_list(list);
        let end = Instant::now() + Duration::from_millis(500);
        thread::scope(|scope| {
            scope.spawn(|| {
                while Instant::now() < end {
                    make_list(list);
                }
            });
            while Instant::now() < end {
                // SAFETY: the child takes no lock and allocates nothing: there is room in the spare block.
                let child = unsafe { libc::fork() };
                if child == 0 {
                    // SAFETY: alarm(2) and _exit(2) take numbers.
                    unsafe {
                        libc::alarm(20);
                        let before = lists_name("both.test");
                        let made = make(b"new.test", None, &mut |_| (), || true).is_ok();
                        let after = lists_name("new.test") && !lists_name("both.test");
                        libc::_exit(c_int::from(!(before && made && after)));
                    }
                }
                let mut status = 0;
                // SAFETY: waitpid(2) with a local.
                assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                assert_eq!(status, 0, "the child's lists are right");
            }
        });
    }

    #[test]
    fn each_loader_is_unpacked_as_it_was_packed() {
        for loader in [
            Loader::Nobody,
            Loader::Thread { process: 1, thread: 1, may_leave: false },
            Loader::Thread { process: 1 << 22, thread: (1 << 22) - 1, may_leave: true },
        ] {
            assert_eq!(Loader::unpack(loader.pack()), loader);
        }
    }

    #[test]
    fn whose_turn_it_is() {
        const ALIVE: bool = true;
        let thread = |process, thread, may_leave| Loader::Thread { process, thread, may_leave };
        let own = thread(1, 1, false);
        // The loader, whether its thread lives, whether there is a list, whether it is late.
        #[rustfmt::skip]
        let table = [
            ("nobody loads", Loader::Nobody, false, false, false, Turn::Load),
            ("another thread", thread(1, 2, false), ALIVE, false, false, Turn::Wait),
            ("one that is slow", thread(1, 2, false), ALIVE, false, true, Turn::Wait),
            ("another thread, with a list meanwhile", thread(1, 2, false), ALIVE, true, false, Turn::Pass),
            ("a thread that is not in this child", thread(1, 2, false), false, false, false, Turn::Load),
            ("a thread of the parent", thread(9, 1, false), ALIVE, true, false, Turn::Load),
            ("a thread that reads", thread(1, 2, true), ALIVE, false, false, Turn::Wait),
            ("one that hangs, or has jumped out", thread(1, 2, true), ALIVE, false, true, Turn::LoadToo),
            ("a handler of this thread, or after a jump", thread(1, 1, true), ALIVE, false, false, Turn::Pass),
            ("long after a jump of this thread", thread(1, 1, true), ALIVE, false, true, Turn::LoadToo),
        ];
        for (what, loader, is_alive, has_list, is_late, wanted) in table {
            assert_eq!(loader.turn_of(own, |_| is_alive, has_list, is_late), wanted, "{what}");
        }
    }

    #[test]
    fn what_a_thread_that_is_gone_had_open_is_closed_and_freed_once() {
        let _turn = TURN.lock();
        let mut pipe = [0; 2];
        // SAFETY: an array of two.
        assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
        let mut text = Vec::with_capacity(100_000);
        LEFT_SIZE.store(text.capacity(), Relaxed);
        LEFT_TEXT.store(text.as_mut_ptr(), Release);
        std::mem::forget::<Vec<u8>>(text);
        LEFT_FILE.store(pipe[1], Release);
        drop(take_left());
        assert!(LEFT_TEXT.load(Relaxed).is_null() && LEFT_FILE.load(Relaxed) == -1);
        let mut byte = [0_u8];
        // SAFETY: a local of one byte; the other end of the pipe is closed now, so this does not wait.
        assert_eq!(unsafe { libc::read(pipe[0], byte.as_mut_ptr().cast(), 1) }, 0, "it is closed");
        let (file, text) = take_left();
        assert!(file.is_none() && text.capacity() == 0, "nothing is left");
        // SAFETY: this test's own.
        unsafe { libc::close(pipe[0]) };
    }

    /// Handlers run only while a file is read that may hang.
    #[test]
    fn who_has_loaded_the_list_does_not_stay_the_loader() {
        let _turn = TURN.lock();
        let are_blocked = || {
            // SAFETY: a set of zeros is valid; the pointers are null or to a local.
            unsafe {
                let mut blocked = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked);
                libc::sigismember(&raw const blocked, libc::SIGALRM) == 1
            }
        };
        for is_remote in [true, false] {
            IS_REMOTE.store(is_remote, Relaxed);
            let mut seen = Vec::new();
            as_loader(|own| {
                seen.push(are_blocked());
                build(own, || seen.push(are_blocked()));
            });
            assert_eq!(seen, [!is_remote, true], "signals are blocked, remote: {is_remote}");
            assert!(LOADER.load(Relaxed) == 0 && !are_blocked(), "remote: {is_remote}");
        }
    }

    #[test]
    fn what_a_late_thread_has_open_stays_until_the_thread_is_gone() {
        let _turn = TURN.lock();
        let mut pipe = [0; 2];
        // SAFETY: an array of two.
        assert_eq!(unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_NONBLOCK) }, 0);
        let mut byte = [0_u8];
        // SAFETY: a local of one byte.
        let mut is_open = || unsafe { libc::read(pipe[0], byte.as_mut_ptr().cast(), 1) } != 0;
        let load_after = |thread| {
            let process = process::id().cast_unsigned();
            LEFT_FILE.store(pipe[1], Release);
            SINCE.store(process::milliseconds() - LONGEST_READ, Relaxed);
            LOADER.store(Loader::Thread { process, thread, may_leave: true }.pack(), Release);
            let mut loads = 0;
            as_loader(|_| loads += 1);
            assert_eq!((loads, LOADER.load(Relaxed)), (1, 0), "it is loaded, and nobody loads");
        };
        let late = thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let _ = tell.send(process::thread_id().cast_unsigned());
                let _ = ended.recv();
            });
            let late = told.recv().expect("the thread lives");
            load_after(late);
            assert!(is_open(), "the late thread may still come back and close it");
            drop(end);
            late
        });
        while process::has_thread(process::id(), late) {
            thread::yield_now();
        }
        load_after(late);
        assert!(!is_open(), "nobody else will close it");
        // SAFETY: this test's own.
        unsafe { libc::close(pipe[0]) };
    }

    #[test]
    fn what_the_loader_has_read_and_freed_is_not_left_for_the_next() {
        let _turn = TURN.lock();
        let path = std::env::temp_dir().join(format!("egress-shim-read-{}", process::id()));
        std::fs::write(&path, "a.test").expect("there is room for a file");
        let text = read(path.to_str().expect("plain").as_bytes(), 100, true).expect("it is there");
        assert_eq!(text.bytes, b"a.test");
        assert_eq!(LEFT_FILE.load(Relaxed), -1, "the file is closed");
        assert_eq!(LEFT_TEXT.load(Relaxed).cast_const(), text.bytes.as_ptr(), "the text is not");
        free(text);
        assert!(LEFT_TEXT.load(Relaxed).is_null());
        std::fs::remove_file(&path).expect("it is this test's");
    }

    /// On a file system that hangs, the thread that looks is the only one that waits. If the file system answers, changes
    /// are seen as soon as on a local one.
    #[test]
    fn on_a_remote_file_system_nobody_looks_while_another_thread_may_wait() {
        let _turn = TURN.lock();
        let path = std::env::temp_dir().join(format!("egress-shim-look-{}", process::id()));
        std::fs::write(&path, "a.test").expect("there is room for a file");
        let path: &str = path.to_str().expect("plain").to_owned().leak();
        SEEN.store(read(path.as_bytes(), 100, false).expect("it is there").version, Relaxed);
        let settings = Settings { ipv4_only_file: Some(path.as_bytes()), ..Settings::DEFAULT };
        for (is_remote, most) in [(true, LONGEST_READ), (false, SECOND)] {
            IS_REMOTE.store(is_remote, Relaxed);
            NEXT.store(0, Relaxed);
            let start = process::milliseconds();
            assert!(is_time_to_look() && !is_time_to_look(), "one of two looks");
            let during = NEXT.load(Relaxed) - start;
            assert!(
                (most..most + SECOND / 2).contains(&during),
                "{during} ms, remote: {is_remote}"
            );
            look(&settings);
            let after = NEXT.load(Relaxed) - start;
            assert!((SECOND..2 * SECOND).contains(&after), "{after} ms, remote: {is_remote}");
        }
        std::fs::remove_file(path).expect("it is this test's");
    }

    #[test]
    fn of_a_file_that_has_not_been_read_whole_nothing_is_in_force() {
        // The kernel gives the size of a page for such a file, which then ends earlier.
        const PATH: &[u8] = b"/sys/devices/system/cpu/possible";
        let _turn = TURN.lock();
        let Ok(page) = read(PATH, LARGEST_FILE, false) else {
            return egress_shim_harness::skip("a file of sysfs", "no sysfs is mounted");
        };
        assert!(!page.is_whole, "{} bytes", page.bytes.len());
        make_list(text("good.test"));
        SEEN.store(1, Relaxed);
        let settings = Settings { ipv4_only_file: Some(PATH), ..Settings::DEFAULT };
        // A file that is new is left alone at the first look.
        for _ in 0..2 {
            look(&settings);
        }
        assert_eq!(SEEN.load(Relaxed), 1, "the next look reads it again");
        assert!(lists_name("good.test"));
    }

    #[test]
    fn a_version_tells_each_change_of_a_file() {
        let directory = std::env::temp_dir().join(format!("egress-shim-list-{}", process::id()));
        std::fs::create_dir_all(&directory).expect("there is room for a file");
        let path = directory.join("list");
        let version = || {
            let path = std::ffi::CString::new(path.to_str().expect("plain")).expect("no zero");
            version_of(&process::status_of_path(&path).expect("it is there"))
        };
        let mut seen = vec![];
        std::fs::write(&path, "a").expect("it can be written");
        seen.push(version());
        assert_eq!(version(), seen[0], "it has not changed");
        std::fs::write(&path, "ab").expect("it can be written");
        seen.push(version());
        std::fs::write(directory.join("new"), "cd").expect("it can be written");
        std::fs::rename(directory.join("new"), &path).expect("it can be renamed");
        seen.push(version());
        // As a tool that copies the time of a file too.
        thread::sleep(Duration::from_millis(50));
        let file = std::fs::File::options().write(true).open(&path).expect("it can be opened");
        let time = file.metadata().and_then(|status| status.modified()).expect("it has a time");
        (&file).write_all(b"ef").expect("it can be written");
        file.set_modified(time).expect("its time can be set");
        seen.push(version());
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 4);
        std::fs::remove_dir_all(&directory).expect("it is this test's");
    }
}
