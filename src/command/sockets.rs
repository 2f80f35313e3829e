//! The sockets of processes: the descriptors that are sockets, and the kernel's facts about them. Most come from
//! `sock_diag`(7). If a network namespace cannot be entered, /proc/PID/net/tcp and tcp6 give fewer facts.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use egress_shim_core::kernel::{
    self, ESTABLISHED, Info, LISTEN, Message, SOCK_DIAG_BY_FAMILY, SYN_SENT, Socket, Timer,
};
use libc::c_int;

/// A TCP connection of a process.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The kernel's facts about it.
    pub socket: Socket,
    /// The descriptor, or the lowest of several.
    pub descriptor: u32,
    /// Whether the connection was accepted, by this process or by the one that passed the socket on.
    pub is_accepted: bool,
}

impl Connection {
    /// Whether this end made the connection, and a NAT or a firewall may be between the ends.
    pub fn is_outbound(&self) -> bool {
        !self.is_accepted && !self.socket.peer.ip().is_loopback() && !self.is_to_itself()
    }

    fn is_to_itself(&self) -> bool {
        self.socket.local.ip() == self.socket.peer.ip()
    }

    /// Whether nothing has answered a connect yet.
    pub fn is_connecting(&self) -> bool {
        self.is_outbound() && self.socket.state == SYN_SENT
    }

    /// Whether data was sent again and is still not acknowledged.
    pub fn is_unacknowledged(&self) -> bool {
        let waits = matches!(self.socket.timer, Timer::Retransmission | Timer::ZeroWindow);
        self.is_outbound() && self.socket.state != SYN_SENT && waits && self.socket.retries > 0
    }

    /// Whether the connection has no keepalive, so that a NAT may forget it.
    pub fn lacks_keepalive(&self) -> bool {
        self.is_outbound() && self.socket.state == ESTABLISHED && self.socket.timer == Timer::None
    }

    /// The lower bound of the keepalive's idle time, in seconds. The kernel does not report the idle time, but the pending
    /// timer was set to at most that time, and started no later than the peer's last packet.
    pub fn least_idle(&self) -> Option<u64> {
        let Socket { timer, retries, until, info, .. } = self.socket;
        (timer == Timer::Keepalive && retries == 0 && self.is_outbound())
            .then(|| (until + info.map_or(Duration::ZERO, |info| info.silence())).as_secs())
    }
}

/// A question to a name server that is not answered yet.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name server.
    pub server: SocketAddr,
    /// The socket's number.
    pub inode: u64,
    /// The descriptor.
    pub descriptor: u32,
}

/// The descriptors of a process that are sockets, by the socket's number.
#[derive(Default)]
pub struct Descriptors {
    /// Number and descriptor, in order.
    sockets: Vec<(u64, u32)>,
    /// Whether there are more than were looked at.
    pub is_cut: bool,
}

impl Descriptors {
    /// Lists them, looking at no more descriptors than `budget` has left.
    ///
    /// # Errors
    /// They cannot be seen, mostly for lack of a privilege.
    pub fn of(process: u32, budget: &mut usize) -> io::Result<Self> {
        let mut descriptors = Self::default();
        for entry in fs::read_dir(format!("/proc/{process}/fd"))?.flatten() {
            if *budget == 0 {
                descriptors.is_cut = true;
                break;
            }
            *budget -= 1;
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let inode = target.to_str().and_then(|target| {
                target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            });
            let descriptor = entry.file_name().to_str().and_then(|name| name.parse().ok());
            descriptors.sockets.extend(inode.zip(descriptor));
        }
        descriptors.sockets.sort_unstable();
        descriptors.sockets.dedup_by_key(|(inode, _)| *inode);
        Ok(descriptors)
    }

    fn get(&self, inode: u64) -> Option<u32> {
        let place = self.sockets.binary_search_by_key(&inode, |(inode, _)| *inode).ok()?;
        self.sockets.get(place).map(|(_, descriptor)| *descriptor)
    }

    /// The numbers of the sockets, each with its descriptor.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.sockets.iter().copied()
    }

    /// The numbers of the sockets.
    pub fn inodes(&self) -> impl Iterator<Item = u64> {
        self.sockets.iter().map(|(inode, _)| *inode)
    }
}

/// The sockets of a network namespace.
#[derive(Default)]
pub struct Table {
    tcp: Vec<Socket>,
    /// UDP sockets that are connected to port 53.
    dns: Vec<Socket>,
    listening: HashSet<u16>,
    /// Whether there are more than were looked at.
    pub is_cut: bool,
}

/// The port of name servers.
const DNS: u16 = 53;
/// At most this many bytes of a table of /proc are read.
const LONGEST_TABLE: u64 = 16 << 20;

impl Table {
    /// Lists the sockets of a process's network namespace, and keeps only the wanted ones.
    pub fn of(process: u32, wanted: &HashSet<u64>) -> Self {
        let mut table = Self::default();
        let keep = |listening: &mut HashSet<u16>, tcp: &mut Vec<Socket>, socket: Socket| {
            if socket.state == LISTEN {
                listening.insert(socket.local.port());
            } else if socket.inode != 0 && wanted.contains(&socket.inode) {
                tcp.push(socket);
            }
        };
        let Self { tcp, listening, .. } = &mut table;
        let asked = in_network_of(process, || ask(|socket| keep(listening, tcp, socket)));
        let mut is_cut = false;
        if !matches!(asked, Ok(Ok(()))) {
            tcp.clear();
            for name in ["tcp", "tcp6"] {
                is_cut |= read(process, name, |socket| keep(listening, tcp, socket));
            }
        }
        for name in ["udp", "udp6"] {
            is_cut |= read(process, name, |socket| {
                if socket.peer.port() == DNS && wanted.contains(&socket.inode) {
                    table.dns.push(socket);
                }
            });
        }
        table.tcp.sort_unstable_by_key(|socket| socket.inode);
        table.is_cut = is_cut;
        table
    }

    /// Whether a socket listens on a port. Connections with that port at this end were accepted.
    pub fn has_listener(&self, port: u16) -> bool {
        self.listening.contains(&port)
    }

    /// The connections among a process's descriptors.
    pub fn connections(&self, descriptors: &Descriptors) -> Vec<Connection> {
        let of_process = self.tcp.iter().filter_map(|socket| {
            let descriptor = descriptors.get(socket.inode)?;
            let is_accepted = self.listening.contains(&socket.local.port());
            Some(Connection { socket: *socket, descriptor, is_accepted })
        });
        of_process.collect()
    }

    /// The unanswered questions to name servers among a process's descriptors, as far as one look can tell.
    pub fn questions(&self, descriptors: &Descriptors) -> Vec<Question> {
        let over_tcp = self.tcp.iter().filter(|socket| {
            let waits = |info: Info| info.last_received > info.last_sent;
            socket.peer.port() == DNS
                && socket.state == ESTABLISHED
                && socket.info.is_some_and(waits)
        });
        let of_process = self.dns.iter().chain(over_tcp).filter_map(|socket| {
            let descriptor = descriptors.get(socket.inode)?;
            let question = Question { server: socket.peer, inode: socket.inode, descriptor };
            // Data that has arrived is the answer, even if it is not read yet.
            (socket.unread == 0).then_some(question)
        });
        of_process.collect()
    }
}

/// Reads a table of /proc. Returns whether the table is longer than the part that is read.
fn read(process: u32, name: &str, mut keep: impl FnMut(Socket)) -> bool {
    // SAFETY: sysconf(3) takes a number.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100);
    // Without IPv6 there is no tcp6.
    let Ok(file) = File::open(format!("/proc/{process}/net/{name}")) else { return false };
    let mut lines = BufReader::new(file.take(LONGEST_TABLE));
    let mut line = String::new();
    let mut length = 0;
    while let Ok(read @ 1..) = lines.read_line(&mut line) {
        length += read as u64;
        if let Some(socket) = Socket::of_line(&line, ticks) {
            keep(socket);
        }
        line.clear();
    }
    length >= LONGEST_TABLE
}

/// The number of a process's network namespace.
pub fn network_of(process: impl std::fmt::Display) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{process}/ns/net"))?.ino())
}

/// Runs a function in the network namespace of a process, and returns to this one.
///
/// # Errors
/// The namespace cannot be entered, or cannot be seen.
pub fn in_network_of<T>(process: u32, task: impl FnOnce() -> T) -> io::Result<T> {
    if network_of(process)? == network_of("self")? {
        return Ok(task());
    }
    let here = File::open("/proc/self/ns/net")?;
    let there = File::open(format!("/proc/{process}/ns/net"))?;
    let enter = |namespace: &File| {
        // SAFETY: setns(2) on a descriptor.
        match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    enter(&there)?;
    let result = task();
    enter(&here)?;
    Ok(result)
}

/// Asks `sock_diag`(7) for the TCP sockets of this network namespace.
fn ask(mut keep: impl FnMut(Socket)) -> io::Result<()> {
    /// `NLM_F_REQUEST` and `NLM_F_DUMP` in `linux/netlink.h`.
    const DUMP: u16 = 0x301;
    /// `INET_DIAG_INFO` in `linux/inet_diag.h`: `struct tcp_info`.
    const INFO: u8 = 2;
    /// All states but `TCP_SYN_RECV`, `TCP_TIME_WAIT` and `TCP_NEW_SYN_RECV`: no process has such sockets.
    const STATES: u32 = !(1 << 3 | 1 << 6 | 1 << 12);
    // SAFETY: socket(2) takes numbers; the descriptor is owned at once.
    let mut netlink = unsafe {
        match libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            libc::NETLINK_SOCK_DIAG,
        ) {
            -1 => return Err(io::Error::last_os_error()),
            descriptor => File::from_raw_fd(descriptor),
        }
    };
    let byte = |number: c_int| u8::try_from(number).unwrap_or_default();
    let mut buffer = vec![0; 64 << 10];
    for family in [libc::AF_INET, libc::AF_INET6] {
        // struct nlmsghdr, then struct inet_diag_req_v2: family, protocol, the attributes wanted, padding, the
        // states wanted, and a socket that is not named.
        let mut request = [0_u8; 72];
        request[..4].copy_from_slice(&72_u32.to_ne_bytes());
        request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
        request[16] = byte(family);
        request[17] = byte(libc::IPPROTO_TCP);
        request[18] = 1 << (INFO - 1);
        request[20..24].copy_from_slice(&STATES.to_ne_bytes());
        netlink.write_all(&request)?;
        'dump: loop {
            let length = netlink.read(&mut buffer)?;
            for message in kernel::messages(&buffer[..length]) {
                match message {
                    Message::Socket(message) => {
                        Socket::of_message(message).into_iter().for_each(&mut keep);
                    }
                    Message::Done => break 'dump,
                    Message::Error => return Err(io::Error::other("sock_diag(7) refuses")),
                }
            }
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

/// The name of an address's family, for messages.
pub fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
