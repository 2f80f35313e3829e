//! The policy for sockets: before it connects, a TCP socket gets keepalive and the configured timings, except those
//! that the program has set itself.
//!
//! This runs in signal handlers and in children forked while other threads hold locks: no lock, no
//! allocation, no panic, `errno` kept. All system calls are bare ones: libc's `setsockopt` is interposed,
//! by this library and perhaps by another. The caller's memory is only read for a debug line, and only if the kernel can
//! read it.

use std::fmt;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::ptr::{null, with_exposed_provenance};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use libc::{c_int, c_void, msghdr, sockaddr, socklen_t};
use log::{Level, LevelFilter};

use crate::calls::{self, get_option, get_option_bytes, set_option};
use crate::logging::{self, OnceLine, log_once};
use crate::process::{self, copy_foreign, keeping_errno};
use crate::state;
use egress_shim_core::settings::{Keepalive, Timings};

/// The timings of a socket.
///
/// # Errors
/// The errno of getsockopt(2). Reading `TCP_KEEPIDLE` is itself the test for TCP: only TCP and MPTCP have
/// that option, so the library need not ask for `SO_PROTOCOL`.
fn timings_of(socket: c_int) -> Result<Timings, c_int> {
    let get = |option| get_option(socket, libc::IPPROTO_TCP, option);
    Ok(Timings {
        idle: get(libc::TCP_KEEPIDLE)?,
        interval: get(libc::TCP_KEEPINTVL)?,
        count: get(libc::TCP_KEEPCNT)?,
    })
}

/// The outcome for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Not a TCP socket: left alone.
    NotTcp,
    /// Connected or connecting since an earlier `connect`: left alone, so that a program which calls
    /// `connect` again to learn the outcome keeps the options that it has set meanwhile.
    InUse,
    /// Keepalive is on.
    Set(Effective),
    /// The kernel (or a seccomp filter) refused an option with this errno.
    Refused(c_int),
}

/// The keepalive that a socket now has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Effective {
    idle: Timing,
    interval: Timing,
    count: Timing,
    /// `TCP_USER_TIMEOUT` in milliseconds; `None` if the settings have none.
    user_timeout: Option<Timing>,
}

/// The value of a timing option and who has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timing {
    value: c_int,
    whose: Whose,
}

/// Who has set an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Program,
    Settings,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { idle, interval, count, user_timeout } = self;
        write!(f, "idle={idle}, interval={interval}, count={count}")?;
        match *user_timeout {
            Some(Timing { value, whose }) if value % 1000 == 0 => {
                write!(f, ", user-timeout={}", Timing { value: value / 1000, whose })
            }
            Some(Timing { value, whose }) => write!(f, ", user-timeout={value} ms ({whose})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.value, self.whose)
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Program => "from the program",
            Self::Settings => "from settings",
        })
    }
}

/// The type of connect(2).
#[cfg(not(test))]
pub type Connect = unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int;

/// The policy of `connect`, to be called before libc's own: applies the configured timings to the
/// socket and keeps `errno`. Never inlined, so that the hook's frame holds nothing and its call of
/// the real function can be a jump. The address is only for the log.
#[inline(never)]
pub fn before_connect(socket: c_int, address: *const sockaddr, length: socklen_t) {
    keeping_errno(|| {
        if let Some(wanted) = state::keepalive() {
            let outcome = apply(socket, wanted);
            if is_reported(outcome) {
                report(socket, outcome, Peer { address, length });
            }
        }
    });
}

/// The policy of `sendmsg` and `sendmmsg` that connect (`MSG_FASTOPEN`), to be called before libc's own: as
/// [`before_connect`]. The header is only for the log.
#[inline(never)]
pub fn before_message(socket: c_int, header: *const msghdr) {
    const LENGTH_AT: usize = offset_of!(msghdr, msg_namelen);
    let name = || {
        // The header begins with the address and its length.
        let bytes = copy_foreign::<16>(header.cast())?;
        let address = usize::from_ne_bytes(*bytes.first_chunk()?);
        let length = socklen_t::from_ne_bytes(*bytes.get(LENGTH_AT..)?.first_chunk()?);
        Some((with_exposed_provenance(address), length))
    };
    let is_logged = state::keepalive().is_some() && is_debugged();
    let name = if is_logged { keeping_errno(name) } else { None };
    let (address, length) = name.unwrap_or((null(), 0));
    before_connect(socket, address, length);
}

/// Switches keepalive on for a TCP socket and sets each timing that is still the default of its network
/// namespace. A timing that differs from the default was set by the program: it stays, unless the settings are
/// enforced and it is longer than theirs.
#[inline]
fn apply(socket: c_int, wanted: &Keepalive) -> Outcome {
    let current = match timings_of(socket) {
        Ok(current) => current,
        // The errors of a seccomp filter. For a socket that is not TCP the kernel has other errors.
        Err(errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS)) => return Outcome::Refused(errno),
        Err(_) => return Outcome::NotTcp,
    };
    let Keepalive { ref timings, user_timeout, enforce } = *wanted;
    // A socket with the kernel's defaults is probably a new one. Otherwise the namespace has other defaults, or the
    // program or an earlier connect has set a timing.
    if (current != Timings::KERNEL || *timings == Timings::KERNEL) && is_in_use(socket) {
        return Outcome::InUse;
    }
    let default = default_timings(socket, &current, timings);
    let set = |option, current, default, wanted| {
        set_unless_own(socket, option, current, default, wanted, enforce)
    };
    // If the kernel refuses one option, the others are still set.
    let idle = set(libc::TCP_KEEPIDLE, current.idle, default.idle, timings.idle);
    let interval = set(libc::TCP_KEEPINTVL, current.interval, default.interval, timings.interval);
    let count = set(libc::TCP_KEEPCNT, current.count, default.count, timings.count);
    let user_timeout = user_timeout.map(|seconds| set_user_timeout(socket, seconds)).transpose();
    let on = set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    if enforce {
        mark_outbound(socket);
    }
    let effective = || {
        on?;
        let user_timeout = user_timeout?.flatten();
        Ok(Effective { idle: idle?, interval: interval?, count: count?, user_timeout })
    };
    effective().map_or_else(Outcome::Refused, Outcome::Set)
}

/// Sets a timing to the wanted value, unless the program has set one itself.
///
/// # Errors
/// The errno of setsockopt(2).
fn set_unless_own(
    socket: c_int,
    option: c_int,
    current: c_int,
    default: c_int,
    wanted: c_int,
    enforce: bool,
) -> Result<Timing, c_int> {
    if current != default && current != wanted && !(enforce && current > wanted) {
        return Ok(Timing { value: current, whose: Whose::Program });
    }
    if current != wanted {
        set_option(socket, libc::IPPROTO_TCP, option, wanted)?;
    }
    Ok(Timing { value: wanted, whose: Whose::Settings })
}

/// Sets `TCP_USER_TIMEOUT`, unless the program has set one itself. `None` if the kernel has no such option.
///
/// # Errors
/// The errno of setsockopt(2).
fn set_user_timeout(socket: c_int, seconds: c_int) -> Result<Option<Timing>, c_int> {
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
    Ok(match get_option(socket, level, option) {
        Err(_) => None,
        Ok(0) => {
            let value = seconds.saturating_mul(1000);
            set_option(socket, level, option, value)?;
            Some(Timing { value, whose: Whose::Settings })
        }
        Ok(value) => Some(Timing { value, whose: Whose::Program }),
    })
}

// --- Who set a timing ----------------------------------------------------------------------------------

/// The default timings of the socket's network namespace, to tell whether the program has set the current ones. They are
/// taken for the kernel's if each current timing is the kernel's default or the settings', and no namespace with other
/// defaults was met.
fn default_timings(socket: c_int, current: &Timings, wanted: &Timings) -> Timings {
    // A timing that is the kernel's default is not set, and one that is the settings' need not be.
    let is_clear = (current.idle == Timings::KERNEL.idle || current.idle == wanted.idle)
        && (current.interval == Timings::KERNEL.interval || current.interval == wanted.interval)
        && (current.count == Timings::KERNEL.count || current.count == wanted.count);
    if is_clear && !CHANGED.load(Relaxed) {
        return Timings::KERNEL;
    }
    namespace_timings(socket, is_clear)
}

/// The default timings of the socket's network namespace, if they are known or can be found out.
#[cold]
#[inline(never)]
fn namespace_timings(socket: c_int, is_clear: bool) -> Timings {
    let cookie = namespace_of(socket);
    if let Some(known) = cookie.and_then(known_namespace) {
        return known;
    }
    // A program that sets timings also switches keepalive on, so if keepalive is on, these timings are the program's. If
    // it is off, the sysctls of the namespace were changed. Then a new socket shows the defaults, once per namespace.
    if is_clear || !is_off(socket) {
        return Timings::KERNEL;
    }
    thread_namespace_timings(cookie)
}

/// The default timings of the thread's network namespace, read from a new socket. The kernel's defaults if the namespace
/// with this cookie is another one: a socket can come from a namespace whose defaults cannot be read here.
#[inline(never)]
fn thread_namespace_timings(cookie: Option<u64>) -> Timings {
    let Some((namespace, default)) = of_new_socket() else { return Timings::KERNEL };
    if let Some(namespace) = namespace {
        remember_namespace(namespace, default);
    }
    if namespace == cookie { default } else { Timings::KERNEL }
}

/// Whether a namespace was met whose default timings are not the kernel's.
static CHANGED: AtomicBool = AtomicBool::new(false);
/// The known default timings of network namespaces. Each word holds a part of the namespace's cookie and the three
/// timings; 0 marks a free slot.
static NAMESPACES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// The bits of the timings in such a word: 15 for idle, 15 for interval, 7 for count.
const TIMING_BITS: u32 = 37;

fn namespace_slot(cookie: u64) -> Option<&'static AtomicU64> {
    /// The fraction of the golden ratio. Cookies are handed out per processor in batches of a power of two, so their
    /// low bits are alike.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    NAMESPACES.get(usize::try_from(cookie.wrapping_mul(FACTOR) >> 61).ok()?)
}

fn known_namespace(cookie: u64) -> Option<Timings> {
    let word = namespace_slot(cookie)?.load(Relaxed);
    if word == 0 || word >> TIMING_BITS != cookie << TIMING_BITS >> TIMING_BITS {
        return None;
    }
    let bits = |shift: u32, count: u32| c_int::try_from(word >> shift & ((1 << count) - 1)).ok();
    Some(Timings { idle: bits(22, 15)?, interval: bits(7, 15)?, count: bits(0, 7)? })
}

fn remember_namespace(cookie: u64, timings: Timings) {
    let Timings { idle, interval, count } = timings;
    let word = [(idle, 22), (interval, 7), (count, 0)]
        .into_iter()
        .try_fold(cookie << TIMING_BITS, |word, (value, shift)| {
            Some(word | u64::try_from(value).ok()? << shift)
        });
    if let Some((slot, word)) = namespace_slot(cookie).zip(word) {
        slot.store(word, Relaxed);
        CHANGED.fetch_or(timings != Timings::KERNEL, Relaxed);
    }
}

// States of a TCP socket: the kernel's `include/net/tcp_states.h`.
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// The state of a TCP socket: the first byte of `struct tcp_info`.
fn state_of(socket: c_int) -> Option<u8> {
    let [state] = get_option_bytes(socket, libc::IPPROTO_TCP, libc::TCP_INFO).ok()?;
    Some(state)
}

/// Whether a TCP socket is past `TCP_CLOSE`, the state in which it may connect.
fn is_in_use(socket: c_int) -> bool {
    state_of(socket).is_some_and(|state| state != CLOSE)
}

/// The cookie of this thread's network namespace and the timings that a new socket has there. /proc/sys/net has
/// them too, but is missing in many chroots. A program that is about to connect may surely make a socket.
fn of_new_socket() -> Option<(Option<u64>, Timings)> {
    let of_family = |family| {
        // Bare system calls: another preload, such as libkeepalive, may set its own timings on every socket that
        // socket(3) makes, and libc's close is a cancellation point.
        let socket = calls::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC)?;
        let namespace = namespace_of(socket);
        let timings = timings_of(socket);
        // SAFETY: the descriptor was made above, and nobody else knows it.
        unsafe { libc::syscall(libc::SYS_close, socket) };
        Some((namespace, timings.ok()?))
    };
    // A signal handler that left by siglongjmp(3) would leave the descriptor open.
    process::without_signals(|_| [libc::AF_INET, libc::AF_INET6].into_iter().find_map(of_family))
}

// --- Options that the program sets later -----------------------------------------------------------------

/// Marks a socket that is about to connect as outbound, for later calls. The mark stays after exec(2), in any process
/// that gets the socket, and on any number of sockets.
///
/// The mark is the length of the socket's queue of Fast Open requests, which only a listening socket uses. The kernel
/// accepts the length before the connect, returns it later, and does not copy it to accepted sockets
/// (`inet_csk_clone_lock` in `net/ipv4/inet_connection_sock.c`). MPTCP has it as well.
fn mark_outbound(socket: c_int) {
    let _ = set_option(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 1);
}

/// Whether a socket has the mark and is connected or connecting.
fn is_outbound(socket: c_int) -> bool {
    // A listening socket may have such a queue, but it has no peer. A socket that was disconnected and may listen now has
    // no peer either.
    matches!(get_option(socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN), Ok(1..))
        && match get_option_bytes::<4>(socket, libc::SOL_SOCKET, libc::SO_PEERNAME) {
            Ok(_) => true,
            // Under qemu's emulation of a single program.
            Err(libc::EOPNOTSUPP) => !matches!(state_of(socket), None | Some(CLOSE | LISTEN)),
            Err(_) => false,
        }
}

/// The type of setsockopt(2).
pub type SetSockOpt = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;

/// Whether the policy concerns an option. It concerns the timings only if they are enforced.
#[inline]
pub fn is_watched(level: c_int, option: c_int) -> bool {
    match level {
        libc::SOL_SOCKET => option == libc::SO_KEEPALIVE,
        libc::IPPROTO_TCP => {
            matches!(option, libc::TCP_KEEPIDLE | libc::TCP_KEEPINTVL | libc::TCP_KEEPCNT)
                && state::is_enforced()
        }
        _ => false,
    }
}

/// The policy of `setsockopt`: libc's own call, after which enforced timings are clamped. Without `enforce` the program's
/// values stay, and keepalive that it switches off is reported.
///
/// # Safety
/// `real` is a setsockopt(2). The other arguments may be any.
#[inline]
pub unsafe fn setsockopt(
    real: SetSockOpt,
    socket: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    // SAFETY: the caller's own arguments, unread, go to the function that they were meant for.
    let status = unsafe { real(socket, level, option, value, length) };
    if status == 0
        && is_watched(level, option)
        && let Some(keepalive) = &state::settings().keepalive
    {
        if state::is_enforced() {
            keeping_errno(|| clamp(keepalive, socket, level, option));
        } else if is_off_reported() && keeping_errno(|| is_off(socket)) {
            keeping_errno(|| report_if_ours(keepalive, socket));
        }
    }
    status
}

fn is_off(socket: c_int) -> bool {
    get_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE) == Ok(0)
}

/// Clamps an option of an outbound socket to the settings: a longer idle time or interval, a larger count, and keepalive
/// that is off. Before a socket connects, `connect` does that.
#[inline(never)]
fn clamp(Keepalive { timings, .. }: &Keepalive, socket: c_int, level: c_int, option: c_int) {
    let (name, most) = match option {
        libc::TCP_KEEPIDLE if level == libc::IPPROTO_TCP => ("TCP_KEEPIDLE", timings.idle),
        libc::TCP_KEEPINTVL if level == libc::IPPROTO_TCP => ("TCP_KEEPINTVL", timings.interval),
        libc::TCP_KEEPCNT if level == libc::IPPROTO_TCP => ("TCP_KEEPCNT", timings.count),
        _ => ("SO_KEEPALIVE", 1),
    };
    let Ok(value) = get_option(socket, level, option) else { return };
    let is_right = if level == libc::SOL_SOCKET { value != 0 } else { value <= most };
    if !is_right && is_outbound(socket) && set_option(socket, level, option, most).is_ok() {
        report_clamped(socket, name, value, most);
    }
}

/// Reports that keepalive is off now, if the socket is outbound. Without a line to write it takes little stack, and makes no
/// socket.
#[cold]
#[inline(never)]
fn report_if_ours(keepalive: &Keepalive, socket: c_int) {
    let Some(peer) = peer_of(socket) else { return };
    if (is_debugged() || !is_of_this_machine(peer)) && is_ours(keepalive, socket) {
        report_off(socket, peer);
    }
}

/// Whether a socket that has a peer went through the connect hook.
#[inline(never)]
fn is_ours(Keepalive { timings, .. }: &Keepalive, socket: c_int) -> bool {
    // Without `enforce` the socket has no mark. But after the connect hook a timing is the namespace's default only if the
    // settings have the same value, and at least one timing is that of the settings.
    let Ok(current) = timings_of(socket) else { return false };
    let has_ours = |default: Timings| {
        let timings = [
            (current.idle, timings.idle, default.idle),
            (current.interval, timings.interval, default.interval),
            (current.count, timings.count, default.count),
        ];
        timings.iter().all(|(current, wanted, default)| current == wanted || current != default)
            && timings
                .iter()
                .any(|(current, wanted, default)| current == wanted && wanted != default)
    };
    has_ours(Timings::KERNEL) && of_new_socket().is_none_or(|(_, default)| has_ours(default))
}

// --- The log -------------------------------------------------------------------------------------------

/// Whether the outcome for a socket is worth a line. The smallest stacks have no room for one.
fn is_reported(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Refused(_)) || is_debugged()
}

/// Logs the outcome for a socket: a refusal once per process, everything else at the debug and trace levels.
#[cold]
#[inline(never)]
fn report(socket: c_int, outcome: Outcome, peer: Peer) {
    match outcome {
        Outcome::NotTcp => {
            logging::trace!("connect: descriptor {socket}{peer} is not TCP: left alone");
        }
        Outcome::InUse => {
            logging::trace!("connect: descriptor {socket}{peer} is in use: left alone");
        }
        Outcome::Set(effective) => {
            logging::debug!("connect: descriptor {socket}{peer}: keepalive on, {effective}");
        }
        Outcome::Refused(errno) => {
            log_once!(
                Level::Warn,
                "connect: descriptor {socket}: keepalive could not be set (errno {errno}: {}); a NAT may \
                 drop its connection when it is silent for long (logged once per process)",
                process::Errno(errno)
            );
        }
    }
}

#[cold]
#[inline(never)]
fn report_clamped(socket: c_int, name: &str, value: c_int, most: c_int) {
    if is_debugged()
        && let Some(peer) = peer_of(socket)
    {
        logging::debug!(
            "setsockopt: descriptor {socket} to {peer}: {name} {value} reset to {most}"
        );
    }
}

/// The warning that the program has switched keepalive off, once per process.
static SWITCHED_OFF: OnceLine = OnceLine::new();

/// Whether a line can be logged about keepalive that the program switches off: the warning, or later a debug line.
fn is_off_reported() -> bool {
    is_debugged() || (SWITCHED_OFF.is_owed() && log::max_level() >= LevelFilter::Warn)
}

/// Warns once per process that keepalive is off. Connections within this machine pass no NAT, so they cause no warning.
#[cold]
#[inline(never)]
fn report_off(socket: c_int, peer: SocketAddr) {
    if is_of_this_machine(peer) || !SWITCHED_OFF.is_owed() {
        logging::debug!(
            "setsockopt: descriptor {socket} to {peer}: the program has switched keepalive off"
        );
    } else {
        SWITCHED_OFF.write(
            Level::Warn,
            module_path!(),
            format_args!(
                "setsockopt: descriptor {socket} to {peer}: the program has switched keepalive off; a NAT may drop \
                 this connection when it is silent for long; EGRESS_SHIM_KEEPALIVE=enforce keeps it on (logged \
                 once per process)"
            ),
        );
    }
}

fn is_of_this_machine(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

fn is_debugged() -> bool {
    log::max_level() >= LevelFilter::Debug
}

/// The address that a socket is to connect to, for the log: ` to ADDRESS:PORT` if it can be read.
#[derive(Clone, Copy)]
struct Peer {
    address: *const sockaddr,
    length: socklen_t,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.read() {
            Some(peer) => write!(f, " to {peer}"),
            None => Ok(()),
        }
    }
}

impl Peer {
    /// The pointer may be any.
    fn read(self) -> Option<SocketAddr> {
        let (address, length) = (self.address.cast(), usize::try_from(self.length).ok()?);
        let short = if length >= SHORT { copy_foreign::<SHORT>(address)? } else { return None };
        socket_address(&short).or_else(|| {
            let long = if length >= LONG { copy_foreign::<LONG>(address)? } else { return None };
            socket_address(&long)
        })
    }
}

/// The peer of a connected or connecting socket.
fn peer_of(socket: c_int) -> Option<SocketAddr> {
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERNAME);
    let short = get_option_bytes::<SHORT>(socket, level, option).ok()?;
    socket_address(&short)
        .or_else(|| socket_address(&get_option_bytes::<LONG>(socket, level, option).ok()?))
}

/// The bytes of a `sockaddr_in` with family, port and address (ip(7)).
const SHORT: usize = 8;
/// The bytes of a `sockaddr_in6` with family, port and address (ipv6(7)).
const LONG: usize = 24;

/// The address in the first bytes of a `sockaddr`, if they hold the whole of it.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = *bytes else { return None };
    let port = u16::from_be_bytes([c, d]);
    match c_int::from(u16::from_ne_bytes([a, b])) {
        libc::AF_INET => Some(SocketAddr::from((*bytes.get(4..)?.first_chunk::<4>()?, port))),
        libc::AF_INET6 => Some(SocketAddr::from((*bytes.get(8..)?.first_chunk::<16>()?, port))),
        _ => None,
    }
}

/// The cookie of a socket's network namespace; `None` if the kernel has none (before Linux 5.14).
fn namespace_of(socket: c_int) -> Option<u64> {
    let cookie = get_option_bytes(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE);
    cookie.ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    /// What the tests ask for: no system has it by default, and the values set by "programs" below
    /// differ from it.
    const WANTED: Timings = Timings { idle: 61, interval: 62, count: 6 };

    /// What becomes of a socket with these timings.
    fn apply(socket: &OwnedFd, timings: Timings) -> Outcome {
        super::apply(socket.as_raw_fd(), &Keepalive { timings, ..Keepalive::DEFAULT })
    }

    fn tcp() -> OwnedFd {
        // SAFETY: socket(2) takes three numbers; the descriptor that it makes is owned at once.
        unsafe {
            match libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) {
                -1 => panic!("this machine has no TCP: {}", io::Error::last_os_error()),
                descriptor => OwnedFd::from_raw_fd(descriptor),
            }
        }
    }

    fn keepalive(socket: &OwnedFd) -> c_int {
        get_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE).expect("a socket")
    }

    /// A socket's keepalive switch and timings.
    fn state(socket: &OwnedFd) -> (c_int, Timings) {
        (keepalive(socket), timings_of(socket.as_raw_fd()).expect("it is TCP"))
    }

    fn set(socket: &OwnedFd, level: c_int, option: c_int, value: c_int) {
        assert_eq!(set_option(socket.as_raw_fd(), level, option, value), Ok(()), "option {option}");
    }

    #[test]
    fn a_timing_that_the_kernel_refuses_keeps_back_no_other() {
        let socket = tcp();
        let (_, default) = state(&socket);
        let wanted = Timings { interval: 32768, ..WANTED };
        assert_eq!(apply(&socket, wanted), Outcome::Refused(libc::EINVAL));
        assert_eq!(state(&socket), (1, Timings { interval: default.interval, ..WANTED }));
    }

    #[test]
    fn what_a_program_sets_after_connect_is_clamped_on_outbound_sockets() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let mut to = [0_u8; 16];
        to[..2].copy_from_slice(&libc::sa_family_t::try_from(libc::AF_INET).unwrap().to_ne_bytes());
        to[2..4].copy_from_slice(&address.port().to_be_bytes());
        to[4..8].copy_from_slice(&[127, 0, 0, 1]);
        let enforced = Keepalive { timings: WANTED, user_timeout: None, enforce: true };
        let more = Timings { idle: 600, interval: 601, count: 66 };
        for (outbound, seen) in [(true, (1, WANTED)), (false, (0, more))] {
            let socket = tcp();
            if outbound {
                assert!(matches!(super::apply(socket.as_raw_fd(), &enforced), Outcome::Set(_)));
            }
            // SAFETY: connect(2) with the bytes of a sockaddr_in and their number.
            let status = unsafe { libc::connect(socket.as_raw_fd(), to.as_ptr().cast(), 16) };
            assert_eq!(status, 0, "{}", io::Error::last_os_error());
            for (level, option, value) in [
                (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 0),
                (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, more.idle),
                (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, more.interval),
                (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, more.count),
            ] {
                set(&socket, level, option, value);
                clamp(&enforced, socket.as_raw_fd(), level, option);
            }
            assert_eq!(state(&socket), seen, "a socket that has connected: {outbound}");
            assert_eq!(peer_of(socket.as_raw_fd()), Some(address));
        }
    }

    #[test]
    fn an_address_is_read_where_the_kernel_can_read_it() {
        let bytes = [2, 0, 0x1f, 0x90, 192, 0, 2, 1];
        assert_eq!(copy_foreign::<8>(bytes.as_ptr()), Some(bytes));
        for bad in [null(), with_exposed_provenance(1 << 20), with_exposed_provenance(usize::MAX)] {
            assert_eq!(copy_foreign::<8>(bad), None, "{bad:?}");
        }
        let peer =
            |address: &[u8], length| Peer { address: address.as_ptr().cast(), length }.read();
        if cfg!(target_endian = "little") {
            assert_eq!(peer(&bytes, 8), "192.0.2.1:8080".parse().ok());
            assert_eq!(peer(&bytes, 7), None);
            let mut bytes = [0; 24];
            (bytes[0], bytes[23]) = (10, 1);
            assert_eq!(peer(&bytes, 24), "[::1]:0".parse().ok());
            assert_eq!(peer(&bytes, 23), None);
        }
        // It ends at a page that nobody can read.
        let page = 4096;
        // SAFETY: a mapping of our own, which is two pages long.
        let end = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(std::ptr::null_mut(), 2 * page, libc::PROT_READ, flags, -1, 0);
            libc::mprotect(memory.byte_add(page), page, libc::PROT_NONE);
            memory.cast::<u8>().cast_const().add(page)
        };
        assert_eq!(copy_foreign::<16>(end.wrapping_sub(16)), Some([0; 16]));
        assert_eq!(copy_foreign::<16>(end.wrapping_sub(15)), None);
    }

    #[test]
    fn settings_that_are_not_enforced_leave_setsockopt_to_libc() {
        unsafe extern "C" fn real(
            socket: c_int,
            level: c_int,
            option: c_int,
            value: *const c_void,
            length: socklen_t,
        ) -> c_int {
            assert_eq!((socket, level, option, value, length), (1, 2, 3, null(), 4));
            0
        }
        // SAFETY: the function above reads nothing.
        assert_eq!(unsafe { setsockopt(real, 1, 2, 3, null(), 4) }, 0);
    }

    #[test]
    fn enforced_settings_bring_down_what_is_more_and_keep_what_is_less() {
        let socket = tcp();
        set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 600);
        set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 5);
        let enforced = Keepalive { timings: WANTED, user_timeout: None, enforce: true };
        let outcome = super::apply(socket.as_raw_fd(), &enforced);
        let timings = Timings { interval: 5, ..WANTED };
        let ours = |value| Timing { value, whose: Whose::Settings };
        let effective = Effective {
            idle: ours(WANTED.idle),
            interval: Timing { value: 5, whose: Whose::Program },
            count: ours(WANTED.count),
            user_timeout: None,
        };
        assert_eq!(outcome, Outcome::Set(effective));
        assert_eq!(state(&socket), (1, timings));
    }

    #[test]
    fn a_user_timeout_is_set_where_the_program_has_set_none() {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
        let keepalive = Keepalive { user_timeout: Some(360), ..Keepalive::DEFAULT };
        for (own, wanted, said) in [
            (0, 360_000, "user-timeout=360 (from settings)"),
            (5_000, 5_000, "user-timeout=5 (from the program)"),
            (1_500, 1_500, "user-timeout=1500 ms (from the program)"),
        ] {
            let socket = tcp();
            set(&socket, level, option, own);
            let outcome = super::apply(socket.as_raw_fd(), &keepalive);
            assert_eq!(get_option(socket.as_raw_fd(), level, option), Ok(wanted));
            let Outcome::Set(effective) = outcome else { panic!("{outcome:?}") };
            assert!(effective.to_string().ends_with(said), "{effective}: {said}");
        }
    }

    #[test]
    fn a_namespaces_timings_are_remembered_whole() {
        for timings in [
            Timings { idle: 1, interval: 1, count: 1 },
            Timings { idle: 32767, interval: 32767, count: 127 },
            Timings::KERNEL,
        ] {
            for cookie in [0x7ff_ff01, 0x7ff_fff0, 1 << 60 | 0x7ff_fff1] {
                remember_namespace(cookie, timings);
                assert_eq!(known_namespace(cookie), Some(timings), "{cookie:x}");
                assert_eq!(known_namespace(cookie + 1), None, "another one");
            }
        }
        assert!(CHANGED.load(Relaxed), "some were changed, although not those of the last one");
    }

    #[test]
    fn errno_is_kept_whatever_becomes_of_the_socket() {
        for descriptor in [-1, tcp().as_raw_fd()] {
            process::set_errno(77);
            before_connect(descriptor, null(), 0);
            before_message(descriptor, null());
            assert_eq!(process::errno(), 77, "after descriptor {descriptor}");
        }
    }
}
