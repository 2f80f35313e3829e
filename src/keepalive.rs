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

    /// The timings of a socket; none when it is not TCP (or no socket at all).
    ///
    /// That `TCP_KEEPIDLE` can be read is itself the test: of all protocols only TCP and MPTCP know
    /// it, so no call to ask for `SO_PROTOCOL` is needed.
    fn of(socket: c_int) -> Option<Self> {
        Some(Self {
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
    /// It has just these timings from an earlier `connect` on it: left alone, so that a program
    /// which switched keepalive off meanwhile and asks `connect` how it goes keeps its choice.
    AlreadySet,
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
    let Some(current) = Timings::of(socket) else { return Outcome::NotTcp };
    let default = default_for(current, wanted);
    if current == wanted && current != default {
        return Outcome::AlreadySet;
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

/// The timings that a new socket has in this thread's network namespace.
///
/// They are asked for once and again whenever a socket shows a timing that is neither the default
/// last seen nor the wanted one: either its program has set it or the thread has entered another
/// namespace (setns(2)).
fn default_for(current: Timings, wanted: Timings) -> Timings {
    static IDLE: AtomicI32 = AtomicI32::new(0);
    static INTERVAL: AtomicI32 = AtomicI32::new(0);
    static COUNT: AtomicI32 = AtomicI32::new(0);
    // Each timing is judged by itself, so the three need not be read or written as one.
    let seen = Timings {
        idle: IDLE.load(Relaxed),
        interval: INTERVAL.load(Relaxed),
        count: COUNT.load(Relaxed),
    };
    let explains = |seen, current, wanted| seen != 0 && (current == seen || current == wanted);
    if explains(seen.idle, current.idle, wanted.idle)
        && explains(seen.interval, current.interval, wanted.interval)
        && explains(seen.count, current.count, wanted.count)
    {
        return seen;
    }
    let Some(fresh) = of_new_socket() else {
        return if seen.idle == 0 { Timings::KERNEL } else { seen };
    };
    IDLE.store(fresh.idle, Relaxed);
    INTERVAL.store(fresh.interval, Relaxed);
    COUNT.store(fresh.count, Relaxed);
    fresh
}

/// The timings of a socket made for this question. /proc/sys/net would tell too, but is missing in
/// many a chroot; a program that is about to connect may surely make a socket.
fn of_new_socket() -> Option<Timings> {
    [libc::AF_INET, libc::AF_INET6].into_iter().find_map(|family| {
        // SAFETY: socket(2) takes three numbers; the descriptor is closed below.
        let socket = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return None;
        }
        let timings = Timings::of(socket);
        // SAFETY: the descriptor made above, which nobody else knows. The bare system call: libc's
        // close is a cancellation point.
        unsafe { libc::syscall(libc::SYS_close, socket) };
        timings
    })
}

/// Tells what became of the socket: a refusal once per process, all else to those who ask for it.
fn report(socket: c_int, outcome: Outcome, wanted: Timings) {
    static REFUSAL_TOLD: AtomicBool = AtomicBool::new(false);
    match outcome {
        Outcome::NotTcp => log::trace!("connect: descriptor {socket} is not TCP: left alone"),
        Outcome::AlreadySet => log::trace!("connect: descriptor {socket} has {wanted} already"),
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

/// Reads a socket option of `IPPROTO_TCP`; none when the socket does not know it.
fn get_option(socket: c_int, option: c_int) -> Option<c_int> {
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
    (status == 0).then_some(value)
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
