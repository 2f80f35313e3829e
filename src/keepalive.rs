//! What becomes of a socket: before it connects, a TCP socket gets keepalive and, where the program
//! has not set them itself, the configured timings.
//!
//! This runs in signal handlers and in children forked while other threads hold locks: no lock, no
//! allocation, no panic, `errno` kept. It never looks at the caller's address.

use std::fmt;
use std::mem::size_of;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};

use libc::{c_int, socklen_t};

use crate::{config, logging};

/// The three keepalive timings of a TCP socket (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// `TCP_KEEPIDLE`: seconds of silence before the first probe.
    pub idle: c_int,
    /// `TCP_KEEPINTVL`: seconds between probes.
    pub interval: c_int,
    /// `TCP_KEEPCNT`: unanswered probes after which the connection is dropped.
    pub count: c_int,
}

impl Timings {
    /// What a new socket has where nobody has changed the sysctls (`TCP_KEEPALIVE_TIME`,
    /// `TCP_KEEPALIVE_INTVL` and `TCP_KEEPALIVE_PROBES` in the kernel's include/net/tcp.h).
    pub const KERNEL: Self = Self { idle: 7200, interval: 75, count: 9 };

    /// The timings of a socket.
    ///
    /// # Errors
    /// The errno of getsockopt(2). That `TCP_KEEPIDLE` can be read is itself the test for TCP: of all
    /// protocols only TCP and MPTCP know it, so no call to ask for `SO_PROTOCOL` is needed.
    fn of(socket: c_int) -> Result<Self, c_int> {
        Ok(Self {
            idle: get_option(socket, libc::TCP_KEEPIDLE)?,
            interval: get_option(socket, libc::TCP_KEEPINTVL)?,
            count: get_option(socket, libc::TCP_KEEPCNT)?,
        })
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idle={},interval={},count={}", self.idle, self.interval, self.count)
    }
}

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not a TCP socket: left alone.
    NotTcp,
    /// Connected or on the way to it, by an earlier `connect`: left alone, so that a program which
    /// asks `connect` how it goes keeps what it has set meanwhile.
    InUse,
    /// Keepalive is on. Each timing that the program had not set is as configured.
    Set,
    /// The kernel (or a seccomp filter) refused an option with this errno.
    Refused(c_int),
}

/// The policy of `connect`, to be called before libc's own: applies the configured timings to the
/// socket and keeps `errno`. Never inlined, so that the hook's frame holds nothing and its call of
/// the real function can be a jump.
#[inline(never)]
pub fn before_connect(socket: c_int) {
    let errno = logging::errno();
    if let Some(wanted) = config::settings().keepalive {
        report(socket, apply(socket, wanted), wanted);
    }
    logging::set_errno(errno);
}

/// Switches keepalive on for a TCP socket and sets each timing that still is the default of its
/// network namespace. What differs from that default the program has set itself: it stays.
#[must_use]
pub fn apply(socket: c_int, wanted: Timings) -> Outcome {
    let current = match Timings::of(socket) {
        Ok(current) => current,
        // What a filter says; of a socket that is not TCP the kernel says something else.
        Err(errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS)) => return Outcome::Refused(errno),
        Err(_) => return Outcome::NotTcp,
    };
    let mut default = DEFAULT.load();
    if current != default || wanted == default {
        // Not what every new socket shows: the first connect of this process, another namespace
        // (setns(2)), a timing of the program's own, or one of ours from an earlier connect.
        if is_in_use(socket) {
            return Outcome::InUse;
        }
        match of_new_socket() {
            Some(fresh) => {
                DEFAULT.store(fresh);
                default = fresh;
            }
            // No descriptor is free, say. Asked again at the next connect.
            None if default.idle == 0 => default = Timings::KERNEL,
            None => {}
        }
    }
    let mut outcome = Outcome::Set;
    let mut set = |level, option, value| {
        if let Err(errno) = set_option(socket, level, option, value) {
            outcome = Outcome::Refused(errno);
        }
    };
    let mut set_timing = |option, current, default, wanted| {
        if current == default && current != wanted {
            set(libc::IPPROTO_TCP, option, wanted);
        }
    };
    set_timing(libc::TCP_KEEPIDLE, current.idle, default.idle, wanted.idle);
    set_timing(libc::TCP_KEEPINTVL, current.interval, default.interval, wanted.interval);
    set_timing(libc::TCP_KEEPCNT, current.count, default.count, wanted.count);
    set(libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    outcome
}

/// The timings last seen on a new socket; zeros before the first connect.
struct LastSeen {
    idle: AtomicI32,
    interval: AtomicI32,
    count: AtomicI32,
}

static DEFAULT: LastSeen =
    LastSeen { idle: AtomicI32::new(0), interval: AtomicI32::new(0), count: AtomicI32::new(0) };

/// Each timing is judged by itself, so the three need not be read or written as one.
impl LastSeen {
    fn load(&self) -> Timings {
        Timings {
            idle: self.idle.load(Relaxed),
            interval: self.interval.load(Relaxed),
            count: self.count.load(Relaxed),
        }
    }

    fn store(&self, timings: Timings) {
        self.idle.store(timings.idle, Relaxed);
        self.interval.store(timings.interval, Relaxed);
        self.count.store(timings.count, Relaxed);
    }
}

/// Whether a TCP socket is past `TCP_CLOSE`, the state of those that may connect.
fn is_in_use(socket: c_int) -> bool {
    /// `TCP_CLOSE` in the kernel's `include/net/tcp_states.h`.
    const CLOSE: u8 = 7;
    let mut state: u8 = CLOSE;
    let mut length: socklen_t = 1;
    // SAFETY: the state is the first byte of struct tcp_info, and the kernel writes no more than the
    // one byte of the local that `length` allows.
    let status = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut length,
        )
    };
    status == 0 && state != CLOSE
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
        let timings = Timings::of(socket);
        // SAFETY: the descriptor made above, which nobody else knows.
        unsafe { libc::syscall(libc::SYS_close, socket) };
        timings.ok()
    })
}

/// Tells what became of the socket: a refusal once per process, all else to those who ask for it.
fn report(socket: c_int, outcome: Outcome, wanted: Timings) {
    static REFUSAL_TOLD: AtomicBool = AtomicBool::new(false);
    match outcome {
        Outcome::NotTcp => log::trace!("connect: descriptor {socket} is not TCP: left alone"),
        Outcome::InUse => log::trace!("connect: descriptor {socket} is in use: left alone"),
        Outcome::Set => {
            log::debug!("connect: descriptor {socket}: keepalive on ({wanted} where unset)");
        }
        Outcome::Refused(errno) => {
            if !REFUSAL_TOLD.swap(true, Relaxed) {
                log::warn!(
                    "connect: descriptor {socket}: keepalive could not be set (errno {errno}); \
                     long silent connections may be dropped by a NAT (told once per process)"
                );
            }
        }
    }
}

/// Reads a socket option of `IPPROTO_TCP` and of type int.
///
/// # Errors
/// The errno of getsockopt(2).
fn get_option(socket: c_int, option: c_int) -> Result<c_int, c_int> {
    let mut value: c_int = 0;
    let mut length = INT_LENGTH;
    // SAFETY: the two pointers are to locals of the size that `length` says; getsockopt(2) bears
    // any descriptor.
    let status = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if status == 0 { Ok(value) } else { Err(logging::errno()) }
}

/// Sets a socket option of type int.
///
/// # Errors
/// The errno of setsockopt(2).
fn set_option(socket: c_int, level: c_int, option: c_int, value: c_int) -> Result<(), c_int> {
    // SAFETY: the pointer is to a local int and the length is that of an int; setsockopt(2) bears
    // any descriptor.
    let status =
        unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), INT_LENGTH) };
    if status == 0 { Ok(()) } else { Err(logging::errno()) }
}

#[allow(clippy::cast_possible_truncation, reason = "an int has four bytes")]
const INT_LENGTH: socklen_t = size_of::<c_int>() as socklen_t;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::sync::Mutex;

    /// What the tests ask for: no system has it by default, and the values set by "programs" below
    /// differ from it.
    const WANTED: Timings = Timings { idle: 61, interval: 62, count: 6 };

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
        let (mut value, mut length) = (-1, INT_LENGTH);
        let (level, option) = (libc::SOL_SOCKET, libc::SO_KEEPALIVE);
        // SAFETY: the pointers are to locals of the size that `length` says.
        let status = unsafe {
            let value = (&raw mut value).cast();
            libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut length)
        };
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
        value
    }

    /// A socket's keepalive switch and timings.
    fn state(socket: &OwnedFd) -> (c_int, Timings) {
        (keepalive(socket), Timings::of(socket.as_raw_fd()).expect("it is TCP"))
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
            assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set, "{name}");
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
            assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::NotTcp, "{name}");
            assert_eq!(keepalive(&socket), 0, "{name}: keepalive");
        }
        let (reader, _writer) = io::pipe().expect("pipe(2)");
        for (name, descriptor) in
            [("a pipe", reader.as_raw_fd()), ("none", -1), ("one never open", c_int::MAX)]
        {
            assert_eq!(apply(descriptor, WANTED), Outcome::NotTcp, "{name}");
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
            assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set);
            assert_eq!(state(&socket), (1, wanted), "the program had set choice {choice:03b}");
        }
    }

    #[test]
    fn keepalive_that_the_program_has_switched_on_gets_the_timings_that_it_has_not_set() {
        let socket = tcp();
        set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
        assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set);
        assert_eq!(state(&socket), (1, WANTED));
    }

    #[test]
    fn what_the_program_sets_after_the_first_connect_outlives_the_second() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let socket: OwnedFd = std::net::TcpStream::connect(address).expect("it listens").into();
        set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, WANTED.idle);
        let before = state(&socket);
        assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::InUse);
        assert_eq!(state(&socket), before);
    }

    #[test]
    fn a_socket_whose_connect_failed_may_connect_again() {
        let socket = tcp();
        assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set);
        set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 0);
        assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set);
        assert_eq!(state(&socket), (1, WANTED));
    }

    #[test]
    fn timings_that_are_the_default_of_the_system_need_no_call_but_keepalive_does() {
        let _turn = NAMESPACES.lock();
        // The default last seen may be that of the namespace of another test.
        assert_eq!(apply(tcp().as_raw_fd(), WANTED), Outcome::Set);
        let socket = tcp();
        let (_, default) = state(&socket);
        assert_eq!(apply(socket.as_raw_fd(), default), Outcome::Set);
        assert_eq!(state(&socket), (1, default));
    }

    #[test]
    fn a_timing_that_the_kernel_refuses_keeps_back_no_other() {
        let socket = tcp();
        let (_, default) = state(&socket);
        let wanted = Timings { interval: 32768, ..WANTED };
        assert_eq!(apply(socket.as_raw_fd(), wanted), Outcome::Refused(libc::EINVAL));
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
    fn the_default_is_that_of_the_network_namespace_which_the_thread_has_entered() {
        let _turn = NAMESPACES.lock();
        assert_eq!(apply(tcp().as_raw_fd(), WANTED), Outcome::Set);
        let (_, before) = state(&tcp());
        let within = Timings { idle: 100, interval: 30, count: 3 };
        in_namespace(within, || {
            let socket = tcp();
            assert_eq!(state(&socket), (0, within), "the namespace's default");
            assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set);
            assert_eq!(state(&socket), (1, WANTED));
            // The default outside is a choice of the program's in here.
            let socket = tcp();
            set(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, before.idle);
            assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set);
            assert_eq!(state(&socket), (1, Timings { idle: before.idle, ..WANTED }));
        });
    }

    #[test]
    fn keepalive_goes_on_in_a_namespace_whose_default_timings_are_the_wanted_ones() {
        let _turn = NAMESPACES.lock();
        assert_eq!(apply(tcp().as_raw_fd(), WANTED), Outcome::Set);
        in_namespace(WANTED, || {
            let socket = tcp();
            assert_eq!(apply(socket.as_raw_fd(), WANTED), Outcome::Set);
            assert_eq!(state(&socket), (1, WANTED));
        });
    }

    #[test]
    fn errno_is_kept_whatever_becomes_of_the_socket() {
        for descriptor in [-1, tcp().as_raw_fd()] {
            logging::set_errno(77);
            before_connect(descriptor);
            assert_eq!(logging::errno(), 77, "after descriptor {descriptor}");
        }
    }
}
