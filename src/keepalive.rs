//! What becomes of a socket: before it connects, a TCP socket gets keepalive and, where the program
//! has not set them itself, the configured timings.
//!
//! This runs in signal handlers and in children forked while other threads hold locks: no lock, no
//! allocation, no panic, `errno` kept. All system calls are bare ones: libc's `setsockopt` is interposed,
//! by this library and perhaps by another. The caller's address is never read but by the kernel.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use libc::{c_int, c_void, sockaddr, socklen_t};
use log::Level;

use crate::logging::{self, log_once};
use crate::process::{self, get_option, get_option_bytes, keeping_errno, set_option};
use crate::state;
use egress_shim_core::settings::{Keepalive, Timings};

/// The timings of a socket.
///
/// # Errors
/// The errno of getsockopt(2). That `TCP_KEEPIDLE` can be read is itself the test for TCP: of all
/// protocols only TCP and MPTCP know it, so no call to ask for `SO_PROTOCOL` is needed.
fn timings_of(socket: c_int) -> Result<Timings, c_int> {
    let get = |option| get_option(socket, libc::IPPROTO_TCP, option);
    Ok(Timings {
        idle: get(libc::TCP_KEEPIDLE)?,
        interval: get(libc::TCP_KEEPINTVL)?,
        count: get(libc::TCP_KEEPCNT)?,
    })
}

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Not a TCP socket: left alone.
    NotTcp,
    /// Connected or on the way to it, by an earlier `connect`: left alone, so that a program which
    /// asks `connect` how it goes keeps what it has set meanwhile.
    InUse,
    /// Keepalive is on.
    Set(Effective),
    /// The kernel (or a seccomp filter) refused an option with this errno.
    Refused(c_int),
}

/// What a socket now has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Effective {
    timings: Timings,
    /// Which of the timings, in their order, the program has set itself.
    of_program: [bool; 3],
    /// `TCP_USER_TIMEOUT` in milliseconds, and whether the program has set it; `None` if nobody asks for one.
    user_timeout: Option<(c_int, bool)>,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timings { idle, interval, count } = self.timings;
        let whose = |own: bool| if own { "the program's" } else { "the settings'" };
        let [of_idle, of_interval, of_count] = self.of_program.map(whose);
        write!(
            f,
            "idle={idle} ({of_idle}), interval={interval} ({of_interval}), count={count} ({of_count})"
        )?;
        match self.user_timeout {
            Some((milliseconds, own)) if milliseconds % 1000 == 0 => {
                write!(f, ", user-timeout={} ({})", milliseconds / 1000, whose(own))
            }
            Some((milliseconds, own)) => {
                write!(f, ", user-timeout={milliseconds} ms ({})", whose(own))
            }
            None => Ok(()),
        }
    }
}

/// The policy of `connect`, to be called before libc's own: applies the configured timings to the
/// socket and keeps `errno`. Never inlined, so that the hook's frame holds nothing and its call of
/// the real function can be a jump. The address is only for the log.
#[inline(never)]
pub fn before_connect(socket: c_int, address: *const sockaddr, length: socklen_t) {
    keeping_errno(|| {
        if let Some(wanted) = state::keepalive() {
            report(socket, apply(socket, wanted), Peer { address, length });
        }
    });
}

/// Switches keepalive on for a TCP socket and sets each timing that still is the default of its network
/// namespace. What differs from that default the program has set itself: it stays, unless the settings are
/// enforced and it is more than they say.
// Out of line: what it has on the stack is gone when a log line needs room there.
#[inline(never)]
fn apply(socket: c_int, wanted: Keepalive) -> Outcome {
    let current = match timings_of(socket) {
        Ok(current) => current,
        // What a filter says; of a socket that is not TCP the kernel says something else.
        Err(errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS)) => return Outcome::Refused(errno),
        Err(_) => return Outcome::NotTcp,
    };
    let Keepalive { timings, user_timeout, enforce } = wanted;
    // A socket that shows the kernel's defaults is a new one, in all likelihood. Otherwise the namespace has
    // others, the program has set some, or an earlier connect has.
    if (current != Timings::KERNEL || timings == Timings::KERNEL) && is_in_use(socket) {
        return Outcome::InUse;
    }
    let default = default_timings(socket, current, timings);
    let Timings { mut idle, mut interval, mut count } = current;
    let mut refused = None;
    // Whether a timing stays as the program has set it; another one is set.
    let mut stays = |option, value: &mut c_int, default, wanted| {
        if *value == wanted {
            return false;
        }
        if *value != default && !(enforce && *value > wanted) {
            return true;
        }
        match set_option(socket, libc::IPPROTO_TCP, option, wanted) {
            Ok(()) => *value = wanted,
            Err(errno) => refused = Some(errno),
        }
        false
    };
    let of_program = [
        stays(libc::TCP_KEEPIDLE, &mut idle, default.idle, timings.idle),
        stays(libc::TCP_KEEPINTVL, &mut interval, default.interval, timings.interval),
        stays(libc::TCP_KEEPCNT, &mut count, default.count, timings.count),
    ];
    let user_timeout = user_timeout.and_then(|seconds| {
        let wanted = seconds.saturating_mul(1000);
        match get_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT).ok()? {
            0 => match set_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, wanted) {
                Ok(()) => Some((wanted, false)),
                Err(errno) => {
                    refused = Some(errno);
                    None
                }
            },
            own => Some((own, true)),
        }
    });
    let timings = Timings { idle, interval, count };
    let effective = Effective { timings, of_program, user_timeout };
    if let Err(errno) = set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1) {
        refused = Some(errno);
    }
    if enforce {
        remember_outbound(socket);
    }
    refused.map_or(Outcome::Set(effective), Outcome::Refused)
}

// --- Whose a timing is ---------------------------------------------------------------------------------

/// The timings that a new socket has in the socket's network namespace, as far as needed to tell whose its
/// current ones are.
fn default_timings(socket: c_int, current: Timings, wanted: Timings) -> Timings {
    // A value of the kernel's or of ours needs no question: it is not set, or need not be.
    let is_clear = (current.idle == Timings::KERNEL.idle || current.idle == wanted.idle)
        && (current.interval == Timings::KERNEL.interval || current.interval == wanted.interval)
        && (current.count == Timings::KERNEL.count || current.count == wanted.count);
    if is_clear && !CHANGED.load(Relaxed) {
        return Timings::KERNEL;
    }
    let cookie = get_cookie(socket, libc::SO_NETNS_COOKIE);
    if let Some(known) = cookie.and_then(known_namespace) {
        return known;
    }
    // A program that sets timings switches keepalive on as well: they are its own. In a namespace whose sysctls
    // are changed, a socket without keepalive shows them; then a new socket tells, once per namespace.
    if is_clear || get_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE) != Ok(0) {
        return Timings::KERNEL;
    }
    let Some(default) = of_new_socket() else { return Timings::KERNEL };
    if let Some(cookie) = cookie {
        remember_namespace(cookie, default);
    }
    default
}

/// Whether a namespace was met whose default timings are not the kernel's.
static CHANGED: AtomicBool = AtomicBool::new(false);
/// The default timings of the network namespaces that were asked for them: each a word of a part of the
/// namespace's cookie and the three timings. 0 is none.
static NAMESPACES: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// The bits of the timings in such a word: 15 for idle, 15 for interval, 7 for count.
const TIMING_BITS: u32 = 37;

fn namespace_slot(cookie: u64) -> Option<&'static AtomicU64> {
    NAMESPACES.get(usize::try_from(cookie % NAMESPACES.len() as u64).ok()?)
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

/// Whether a TCP socket is past `TCP_CLOSE`, the state of those that may connect.
fn is_in_use(socket: c_int) -> bool {
    /// `TCP_CLOSE` in the kernel's `include/net/tcp_states.h`.
    const CLOSE: u8 = 7;
    // The state is the first byte of struct tcp_info.
    matches!(get_option_bytes(socket, libc::IPPROTO_TCP, libc::TCP_INFO), Ok(state) if state != [CLOSE])
}

/// The timings that a new socket has in this thread's network namespace. /proc/sys/net would tell
/// too, but is missing in many a chroot; a program that is about to connect may surely make a socket.
fn of_new_socket() -> Option<Timings> {
    [libc::AF_INET, libc::AF_INET6].into_iter().find_map(|family| {
        // Bare system calls: another preload, libkeepalive for one, may give the timings of its own to
        // whatever socket(3) makes, and libc's close is a cancellation point.
        // SAFETY: socket(2) takes three numbers; the descriptor is closed below.
        let socket = unsafe {
            libc::syscall(libc::SYS_socket, family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
        };
        let socket = c_int::try_from(socket).ok().filter(|socket| *socket >= 0)?;
        let timings = timings_of(socket);
        // SAFETY: the descriptor made above, which nobody else knows.
        unsafe { libc::syscall(libc::SYS_close, socket) };
        timings.ok()
    })
}

// --- Enforced timings ----------------------------------------------------------------------------------

/// The cookies of the sockets that connected last: what is set on them later is brought back.
static OUTBOUND: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];

fn outbound_slot(cookie: u64) -> &'static AtomicU64 {
    // The remainder is an index of the array.
    static NONE: AtomicU64 = AtomicU64::new(0);
    let index = usize::try_from(cookie % OUTBOUND.len() as u64);
    index.ok().and_then(|index| OUTBOUND.get(index)).unwrap_or(&NONE)
}

fn remember_outbound(socket: c_int) {
    if let Some(cookie) = get_cookie(socket, libc::SO_COOKIE) {
        outbound_slot(cookie).store(cookie, Relaxed);
    }
}

/// The type of setsockopt(2).
pub type SetSockOpt = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;

/// The policy of `setsockopt`: libc's own, after which enforced timings are brought back.
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
    // SAFETY: the caller's own arguments, unread, to the function that they were meant for.
    let ask = move || unsafe { real(socket, level, option, value, length) };
    let Some(keepalive) = state::settings().keepalive.filter(|keepalive| keepalive.enforce) else {
        return ask();
    };
    process::in_own_frame(move || {
        let status = ask();
        if status == 0 {
            bring_back(keepalive, socket, level, option);
        }
        status
    })
}

/// Brings a longer idle or interval, a larger count and keepalive that is off back to the settings, on a
/// socket that has connected. Before it has, `connect` sees to it.
fn bring_back(Keepalive { timings, .. }: Keepalive, socket: c_int, level: c_int, option: c_int) {
    let (name, most) = match (level, option) {
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => ("SO_KEEPALIVE", 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => ("TCP_KEEPIDLE", timings.idle),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => ("TCP_KEEPINTVL", timings.interval),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => ("TCP_KEEPCNT", timings.count),
        _ => return,
    };
    keeping_errno(|| {
        let is_outbound = get_cookie(socket, libc::SO_COOKIE)
            .is_some_and(|cookie| outbound_slot(cookie).load(Relaxed) == cookie);
        let Ok(value) = get_option(socket, level, option) else { return };
        let is_right = if level == libc::SOL_SOCKET { value != 0 } else { value <= most };
        if is_outbound && !is_right && set_option(socket, level, option, most).is_ok() {
            logging::debug!(
                "setsockopt: descriptor {socket}: {name} {value} brought back to {most}"
            );
        }
    });
}

// --- The log -------------------------------------------------------------------------------------------

/// Logs what became of the socket: a refusal once per process, all else for those who ask for it.
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
    /// Has the kernel copy the address from this very process (`process_vm_readv(2)`): the pointer may be any.
    fn read(self) -> Option<SocketAddr> {
        let mut copy = [0_u8; size_of::<libc::sockaddr_in6>()];
        let length = copy.len().min(usize::try_from(self.length).ok()?);
        let local = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: self.address.cast_mut().cast(), iov_len: length };
        // SAFETY: the kernel writes no more than `length` bytes of the local, and checks the other address.
        let count = unsafe {
            let (local, remote) = (&raw const local, &raw const remote);
            // Words for the kernel: of an int that is passed on the stack half would be whatever was there.
            let (one, no_flags) = (1_usize, 0_usize);
            let process = process::id();
            libc::syscall(libc::SYS_process_vm_readv, process, local, one, remote, one, no_flags)
        };
        // sa_family, port and address as in ip(7) and ipv6(7).
        let [family @ .., _, _] = *copy.first_chunk::<4>()?;
        let port = u16::from_be_bytes([*copy.get(2)?, *copy.get(3)?]);
        match (c_int::from(u16::from_ne_bytes(family)), usize::try_from(count).ok()?) {
            (libc::AF_INET, 8..) => {
                let address: [u8; 4] = copy.get(4..8)?.try_into().ok()?;
                Some(SocketAddr::from((address, port)))
            }
            (libc::AF_INET6, 24..) => {
                let address: [u8; 16] = copy.get(8..24)?.try_into().ok()?;
                Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, 0).into())
            }
            _ => None,
        }
    }
}

/// The cookie of a socket or of its network namespace; `None` if the kernel has none (`SO_NETNS_COOKIE`
/// came with Linux 5.14).
fn get_cookie(socket: c_int, option: c_int) -> Option<u64> {
    get_option_bytes(socket, libc::SOL_SOCKET, option).ok().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::ptr::null;
    use std::sync::Mutex;

    /// What the tests ask for: no system has it by default, and the values set by "programs" below
    /// differ from it.
    const WANTED: Timings = Timings { idle: 61, interval: 62, count: 6 };

    /// What becomes of a socket with these timings.
    fn apply(socket: &OwnedFd, timings: Timings) -> Outcome {
        super::apply(socket.as_raw_fd(), Keepalive { timings, ..Keepalive::DEFAULT })
    }

    /// Applies timings, which must work.
    fn set_keepalive(socket: &OwnedFd, timings: Timings) {
        let outcome = apply(socket, timings);
        let (_, seen) = state(socket);
        let said = match outcome {
            Outcome::Set(effective) => effective.timings,
            other => panic!("{other:?}"),
        };
        assert_eq!(said, seen, "what is said of the socket is what it has");
    }

    fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
        // SAFETY: socket(2) takes three numbers; the descriptor it makes is owned at once.
        unsafe {
            match libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) {
                -1 => Err(io::Error::last_os_error()),
                descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
            }
        }
    }

    fn tcp() -> OwnedFd {
        socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("this machine has TCP")
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
    fn every_kind_of_tcp_socket_gets_keepalive_and_the_wanted_timings() {
        let kinds = [
            ("IPv4", libc::AF_INET, libc::SOCK_STREAM, 0),
            ("IPv6", libc::AF_INET6, libc::SOCK_STREAM, 0),
            ("non-blocking", libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0),
            ("TCP by name", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP),
            ("MPTCP", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        ];
        for (name, family, kind, protocol) in kinds {
            let socket = match socket(family, kind, protocol) {
                Ok(socket) => socket,
                Err(error) => {
                    eprintln!("{name}: not tried, for this kernel has none ({error})");
                    continue;
                }
            };
            assert_eq!(keepalive(&socket), 0, "{name}: keepalive before");
            set_keepalive(&socket, WANTED);
            assert_eq!(state(&socket), (1, WANTED), "{name}: keepalive and timings");
        }
    }

    #[test]
    fn what_is_not_tcp_is_left_alone() {
        let kinds = [
            ("UDP", libc::AF_INET, libc::SOCK_DGRAM),
            ("UDP over IPv6", libc::AF_INET6, libc::SOCK_DGRAM),
            ("AF_UNIX stream", libc::AF_UNIX, libc::SOCK_STREAM),
            ("AF_UNIX datagram", libc::AF_UNIX, libc::SOCK_DGRAM),
        ];
        for (name, family, kind) in kinds {
            let socket = socket(family, kind, 0).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(apply(&socket, WANTED), Outcome::NotTcp, "{name}");
            assert_eq!(keepalive(&socket), 0, "{name}: keepalive");
        }
        let (reader, _writer) = io::pipe().expect("pipe(2)");
        for (name, descriptor) in
            [("a pipe", reader.as_raw_fd()), ("none", -1), ("one never open", c_int::MAX)]
        {
            assert_eq!(super::apply(descriptor, Keepalive::DEFAULT), Outcome::NotTcp, "{name}");
        }
    }

    #[test]
    fn each_timing_that_the_program_has_set_itself_stays() {
        for choice in 0..8 {
            let socket = tcp();
            let mut wanted = WANTED;
            let timings = [
                (libc::TCP_KEEPIDLE, &mut wanted.idle, 600),
                (libc::TCP_KEEPINTVL, &mut wanted.interval, 601),
                (libc::TCP_KEEPCNT, &mut wanted.count, 66),
            ];
            for (bit, (option, timing, value)) in timings.into_iter().enumerate() {
                if choice & 1 << bit != 0 {
                    set(&socket, libc::IPPROTO_TCP, option, value);
                    *timing = value;
                }
            }
            set_keepalive(&socket, WANTED);
            assert_eq!(state(&socket), (1, wanted), "the program had set choice {choice:03b}");
        }
    }

    #[test]
    fn keepalive_that_the_program_switched_on_gets_the_timings_it_lacks() {
        let socket = tcp();
        set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
        set_keepalive(&socket, WANTED);
        assert_eq!(state(&socket), (1, WANTED));
    }

    #[test]
    fn what_the_program_sets_after_the_first_connect_outlives_the_second() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let socket: OwnedFd = std::net::TcpStream::connect(address).expect("it listens").into();
        set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, WANTED.idle);
        let before = state(&socket);
        assert_eq!(apply(&socket, WANTED), Outcome::InUse);
        assert_eq!(state(&socket), before);
    }

    #[test]
    fn a_socket_whose_connect_failed_may_connect_again() {
        let socket = tcp();
        set_keepalive(&socket, WANTED);
        set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 0);
        set_keepalive(&socket, WANTED);
        assert_eq!(state(&socket), (1, WANTED));
    }

    #[test]
    fn keepalive_goes_on_where_the_wanted_timings_are_those_of_the_system() {
        let _turn = NAMESPACES.lock();
        // The default last seen may be that of the namespace of another test.
        set_keepalive(&tcp(), WANTED);
        let socket = tcp();
        let (_, default) = state(&socket);
        set_keepalive(&socket, default);
        assert_eq!(state(&socket), (1, default));
    }

    #[test]
    fn a_timing_that_the_kernel_refuses_keeps_back_no_other() {
        let socket = tcp();
        let (_, default) = state(&socket);
        let wanted = Timings { interval: 32768, ..WANTED };
        assert_eq!(apply(&socket, wanted), Outcome::Refused(libc::EINVAL));
        assert_eq!(state(&socket), (1, Timings { interval: default.interval, ..WANTED }));
    }

    /// Held by tests that depend on which namespace's default was seen last.
    static NAMESPACES: Mutex<()> = Mutex::new(());

    /// Runs `f` in a thread with a network namespace of its own, in which new sockets have these
    /// timings, where this user may make one.
    fn in_namespace(default: Timings, f: impl FnOnce() + Send) {
        let enter = move || {
            // SAFETY: unshare(2) takes a number; only this thread leaves its namespace.
            if unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) } != 0 {
                return eprintln!("not tried: {}", io::Error::last_os_error());
            }
            for (name, value) in
                [("time", default.idle), ("intvl", default.interval), ("probes", default.count)]
            {
                let path = format!("/proc/sys/net/ipv4/tcp_keepalive_{name}");
                if let Err(error) = std::fs::write(&path, value.to_string()) {
                    return eprintln!("not tried: {path}: {error}");
                }
            }
            f();
        };
        std::thread::scope(|scope| scope.spawn(enter).join()).expect("what is above holds");
    }

    #[test]
    fn the_default_is_that_of_the_network_namespace_of_the_thread() {
        let _turn = NAMESPACES.lock();
        set_keepalive(&tcp(), WANTED);
        let (_, before) = state(&tcp());
        let within = Timings { idle: 100, interval: 30, count: 3 };
        in_namespace(within, || {
            let socket = tcp();
            assert_eq!(state(&socket), (0, within), "the namespace's default");
            set_keepalive(&socket, WANTED);
            assert_eq!(state(&socket), (1, WANTED));
            // The default outside is a choice of the program's in here.
            let socket = tcp();
            set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, before.idle);
            set_keepalive(&socket, WANTED);
            assert_eq!(state(&socket), (1, Timings { idle: before.idle, ..WANTED }));
        });
    }

    #[test]
    fn keepalive_goes_on_where_the_namespaces_timings_are_the_wanted_ones() {
        let _turn = NAMESPACES.lock();
        set_keepalive(&tcp(), WANTED);
        in_namespace(WANTED, || {
            let socket = tcp();
            set_keepalive(&socket, WANTED);
            assert_eq!(state(&socket), (1, WANTED));
        });
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
    fn what_a_program_sets_after_connect_is_brought_back_where_it_is_more() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let enforced = Keepalive { timings: WANTED, user_timeout: None, enforce: true };
        let more = Timings { idle: 600, interval: 601, count: 66 };
        for (outbound, seen) in [(true, (1, WANTED)), (false, (0, more))] {
            let socket: OwnedFd = std::net::TcpStream::connect(address).expect("it listens").into();
            if outbound {
                remember_outbound(socket.as_raw_fd());
                // The next one that connects leaves it remembered.
                remember_outbound(tcp().as_raw_fd());
            }
            for (level, option, value) in [
                (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 0),
                (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, more.idle),
                (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, more.interval),
                (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, more.count),
            ] {
                set(&socket, level, option, value);
                bring_back(enforced, socket.as_raw_fd(), level, option);
            }
            assert_eq!(state(&socket), seen, "a socket that has connected: {outbound}");
        }
    }

    #[test]
    fn enforced_settings_bring_down_what_is_more_and_keep_what_is_less() {
        let socket = tcp();
        set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 600);
        set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 5);
        let enforced = Keepalive { timings: WANTED, user_timeout: None, enforce: true };
        let outcome = super::apply(socket.as_raw_fd(), enforced);
        let timings = Timings { interval: 5, ..WANTED };
        let of_program = [false, true, false];
        assert_eq!(outcome, Outcome::Set(Effective { timings, of_program, user_timeout: None }));
        assert_eq!(state(&socket), (1, timings));
    }

    #[test]
    fn a_user_timeout_is_set_where_the_program_has_set_none() {
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
        let keepalive = Keepalive { user_timeout: Some(360), ..Keepalive::DEFAULT };
        for (own, wanted, said) in [
            (0, 360_000, "user-timeout=360 (the settings')"),
            (5_000, 5_000, "user-timeout=5 (the program's)"),
            (1_500, 1_500, "user-timeout=1500 ms (the program's)"),
        ] {
            let socket = tcp();
            set(&socket, level, option, own);
            let outcome = super::apply(socket.as_raw_fd(), keepalive);
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
                assert_eq!(known_namespace(cookie + 8), None, "another one with the same slot");
            }
        }
    }

    #[test]
    fn errno_is_kept_whatever_becomes_of_the_socket() {
        for descriptor in [-1, tcp().as_raw_fd()] {
            process::set_errno(77);
            before_connect(descriptor, null(), 0);
            assert_eq!(process::errno(), 77, "after descriptor {descriptor}");
        }
    }
}
