//! The TCP sockets of other processes, each seen and changed through a duplicate (`pidfd_getfd`(2)).
//!
//! A duplicate is closed as soon as it has been used: while one is open, the program's own close(2) sends no FIN.
//! The duplicate gives access to all facts about the socket, even if it is in another network namespace.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use egress_shim_core::kernel::Info;
use egress_shim_core::settings::Timings;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// A process, held by a descriptor, so that a later process with the same PID is not mistaken for it.
pub struct Process {
    /// The PID in this PID namespace.
    pub id: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// Opens a process.
    ///
    /// # Errors
    /// Those of `pidfd_open`(2).
    pub fn open(id: u32) -> Result<Self, Errno> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        Ok(Self { id, pidfd: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Whether descriptors of the process may be duplicated. The kernel asks for the right before it looks for the
    /// descriptor.
    ///
    /// # Errors
    /// The refusal, or `ESRCH` where the process has ended.
    pub fn may_duplicate(&self) -> Result<(), Errno> {
        match self.duplicate(i32::MAX.unsigned_abs()) {
            Ok(_) | Err(Errno::BADF) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A duplicate of a descriptor of the process.
    ///
    /// # Errors
    /// Those of `pidfd_getfd`(2): `EBADF` and `ESRCH` where the program has closed it or has ended.
    pub fn duplicate(&self, descriptor: u32) -> Result<Socket, Errno> {
        let descriptor = RawFd::try_from(descriptor).map_err(|_| Errno::BADF)?;
        pidfd_getfd(&self.pidfd, descriptor, PidfdGetfdFlags::empty()).map(Socket)
    }
}

/// Whether this process may call `pidfd_getfd`(2) at all. The kernel never refuses a process its own descriptors, so
/// a refusal here comes from a seccomp filter, or from a kernel that lacks the call.
///
/// # Errors
/// The refusal.
pub fn may_duplicate() -> Result<(), Errno> {
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    match pidfd_getfd(&own, own.as_raw_fd(), PidfdGetfdFlags::empty()) {
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A duplicate of a socket.
pub struct Socket(OwnedFd);

/// The figures of a TCP socket.
#[derive(Clone)]
pub struct Figures {
    /// `SO_COOKIE`: no other socket has it as long as the machine runs.
    pub cookie: u64,
    /// This end.
    pub local: SocketAddr,
    /// The other end; IPv4 for an IPv4-mapped address.
    pub peer: SocketAddr,
    /// Whether it is a Multipath TCP socket, which may hold several connections.
    pub is_multipath: bool,
    /// State, timers, silence.
    pub info: Info,
    /// Whether `SO_KEEPALIVE` is on.
    pub has_keepalive: bool,
    /// The keepalive timings, whether on or off.
    pub timings: Timings,
    /// `TCP_USER_TIMEOUT`.
    pub user_timeout: Option<Duration>,
}

impl Socket {
    /// The figures of a TCP socket that has a peer; `None` for any other.
    pub fn figures(&self) -> Option<Figures> {
        let protocol = self.number(libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
        if !matches!(protocol, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) {
            return None;
        }
        let peer = self.peer()?;
        // A kernel that lacks the last fields leaves zeros.
        let info = self.option::<192>(libc::IPPROTO_TCP, libc::TCP_INFO).unwrap_or([0; 192]);
        let seconds = |name| self.number(libc::IPPROTO_TCP, name);
        let user_timeout = self.number(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)?;
        Some(Figures {
            cookie: sockopt::socket_cookie(&self.0).ok()?,
            local: rustix::net::getsockname(&self.0).ok()?.try_into().ok().map(canonical)?,
            peer,
            is_multipath: protocol == libc::IPPROTO_MPTCP,
            info: Info::of(&info)?,
            has_keepalive: self.number(libc::SOL_SOCKET, libc::SO_KEEPALIVE)? != 0,
            timings: Timings {
                idle: seconds(libc::TCP_KEEPIDLE)?,
                interval: seconds(libc::TCP_KEEPINTVL)?,
                count: seconds(libc::TCP_KEEPCNT)?,
            },
            user_timeout: u64::try_from(user_timeout)
                .ok()
                .filter(|&milliseconds| milliseconds > 0)
                .map(Duration::from_millis),
        })
    }

    /// The other end. getpeername(2) refuses while a connect is under way; `SO_PEERNAME` does not.
    fn peer(&self) -> Option<SocketAddr> {
        let name = libc::SO_PEERNAME;
        let port = |bytes: &[u8]| Some(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?));
        // The kernel requires the exact size of the address.
        if let Some(bytes) = self.option::<28>(libc::SOL_SOCKET, name) {
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            return Some(canonical(SocketAddr::new(Ipv6Addr::from(octets).into(), port(&bytes)?)));
        }
        let bytes = self.option::<16>(libc::SOL_SOCKET, name)?;
        let octets: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), port(&bytes)?))
    }

    /// An option that is a number.
    pub fn number(&self, level: c_int, name: c_int) -> Option<c_int> {
        self.option(level, name).map(c_int::from_ne_bytes)
    }

    /// The first bytes of an option. Those that the kernel does not write are zero.
    fn option<const SIZE: usize>(&self, level: c_int, name: c_int) -> Option<[u8; SIZE]> {
        let mut value = MaybeUninit::<[u8; SIZE]>::zeroed();
        let mut length = libc::socklen_t::try_from(SIZE).ok()?;
        // SAFETY: getsockopt(2) writes at most `length` bytes, the size of `value`. Any bytes, including zeros, are a
        // valid value of its type.
        unsafe {
            let status = libc::getsockopt(
                self.0.as_raw_fd(),
                level,
                name,
                value.as_mut_ptr().cast(),
                &raw mut length,
            );
            (status == 0).then(|| value.assume_init())
        }
    }

    /// Sets an option that is a number.
    ///
    /// # Errors
    /// The error of setsockopt(2).
    pub fn set(&self, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
        self.set_bytes(level, name, &value.to_ne_bytes())
    }

    /// Whether a filter (`SO_ATTACH_FILTER`) is attached; `true` where that cannot be seen.
    pub fn has_filter(&self) -> bool {
        let mut length = 0;
        let none = std::ptr::null_mut();
        // SAFETY: getsockopt(2) writes nothing for a length of 0: `SO_GET_FILTER` then only puts the number of the
        // filter's instructions into it.
        let status = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_GET_FILTER,
                none,
                &raw mut length,
            )
        };
        status != 0 || length != 0
    }

    /// Drops every packet from the peer, by a socket filter, until the filter is detached.
    ///
    /// # Errors
    /// The error of setsockopt(2).
    pub fn drop_all(&self) -> io::Result<()> {
        // BPF_RET | BPF_K of 0 bytes.
        let mut code = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &raw mut code };
        let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
        // SAFETY: setsockopt(2) reads `length` bytes of `program` and the one instruction that it points to.
        let status = unsafe {
            let program = (&raw const program).cast();
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                program,
                length,
            )
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Detaches the filter.
    ///
    /// # Errors
    /// The error of setsockopt(2).
    pub fn detach_filter(&self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
    }

    fn set_bytes(&self, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
        let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
        // SAFETY: setsockopt(2) reads `length` bytes.
        let status = unsafe {
            libc::setsockopt(self.0.as_raw_fd(), level, name, value.as_ptr().cast(), length)
        };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// IPv4 for an IPv4-mapped address: that is what goes over the wire.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
