//! The TCP connections of a process: /proc/PID/net/tcp and tcp6 list them, and `sock_diag`(7) knows since when each
//! has been silent.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use libc::c_int;

// The states of a connection: `include/net/tcp_states.h` in the kernel.
/// `TCP_ESTABLISHED`.
pub const ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`: nothing has answered yet.
pub const SYN_SENT: u8 = 2;
const LISTEN: u8 = 10;

/// The timer that is pending (`get_tcp4_sock` in the kernel's `net/ipv4/tcp_ipv4.c`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    None,
    /// Something is not acknowledged yet. It hides a keepalive timer.
    Retransmission,
    Keepalive,
    Other,
}

/// One connection.
pub struct Connection {
    /// The other end; IPv4 for an IPv4-mapped address.
    pub peer: SocketAddr,
    /// `TCP_ESTABLISHED` and so on, 1 to 12.
    pub state: u8,
    /// What the kernel waits for.
    pub timer: Timer,
    /// Until the timer runs out.
    pub until: Duration,
    /// How often the kernel has sent the same again.
    pub retries: u32,
    /// Whether the process has accepted it.
    pub is_accepted: bool,
    /// Since something was sent or received.
    pub silence: Option<Duration>,
}

/// A line of /proc/PID/net/tcp.
struct Row {
    local: SocketAddr,
    inode: u64,
    connection: Connection,
}

/// The connections of a process.
///
/// # Errors
/// What cannot be seen, mostly for lack of a privilege.
pub fn of_process(process: &str) -> io::Result<Vec<Connection>> {
    let mut rows = Vec::new();
    for table in ["tcp", "tcp6"] {
        // Without IPv6 there is no tcp6.
        let text = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        rows.extend(text.lines().skip(1).filter_map(row));
    }
    let of_process = inodes(process)?;
    let listening: HashSet<u16> = rows
        .iter()
        .filter(|row| row.connection.state == LISTEN)
        .map(|row| row.local.port())
        .collect();
    let silences = silences(process).unwrap_or_default();
    let connections = rows.into_iter().filter(|row| {
        row.connection.state != LISTEN && row.inode != 0 && of_process.contains(&row.inode)
    });
    Ok(connections
        .map(|row| Connection {
            is_accepted: listening.contains(&row.local.port()),
            silence: silences.get(&row.inode).copied(),
            ..row.connection
        })
        .collect())
}

/// The sockets that the process has open.
fn inodes(process: &str) -> io::Result<HashSet<u64>> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"))?;
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(targets
        .filter_map(|target| {
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect())
}

fn row(line: &str) -> Option<Row> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, local, peer, state, _, timer, retries, _, _, inode, ..] = fields[..] else {
        return None;
    };
    let (kind, until) = timer.split_once(':')?;
    // SAFETY: sysconf(3) takes a number.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?.max(1);
    let connection = Connection {
        peer: address(peer)?,
        state: u8::from_str_radix(state, 16).ok()?,
        timer: match kind {
            "00" => Timer::None,
            "01" => Timer::Retransmission,
            "02" => Timer::Keepalive,
            _ => Timer::Other,
        },
        until: Duration::from_millis(u64::from_str_radix(until, 16).ok()? * 1000 / ticks),
        retries: u32::from_str_radix(retries, 16).ok()?,
        is_accepted: false,
        silence: None,
    };
    Some(Row { local: address(local)?, inode: inode.parse().ok()?, connection })
}

/// `0100007F:01BB`: the words of the address as they lie in memory, each in this machine's order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let word = u32::from_str_radix(address.get(8 * index..8 * (index + 1))?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let words = [word(0)?, word(1)?, word(2)?, word(3)?];
        let mut octets = [0; 16];
        octets.copy_from_slice(words.as_flattened());
        // What goes over the wire of ::ffff:192.0.2.1 is IPv4.
        Ipv6Addr::from(octets).to_canonical()
    };
    Some(SocketAddr::new(address, port))
}

// ------------------------------------------------------------------------------------------- sock_diag(7)

/// Since when the TCP sockets in the process's network namespace have been silent, by inode.
fn silences(process: &str) -> io::Result<HashMap<u64, Duration>> {
    let namespace = format!("/proc/{process}/ns/net");
    if fs::metadata(&namespace)?.ino() != fs::metadata("/proc/self/ns/net")?.ino() {
        let namespace = File::open(namespace)?;
        // SAFETY: setns(2) on a descriptor; nothing else here is about the network.
        if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut silences = HashMap::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        ask(family, &mut silences)?;
    }
    Ok(silences)
}

/// `SOCK_DIAG_BY_FAMILY` in `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` and `NLM_F_DUMP` in `linux/netlink.h`.
const DUMP: u16 = 0x301;
/// `INET_DIAG_INFO` in `linux/inet_diag.h`: `struct tcp_info`.
const INET_DIAG_INFO: u16 = 2;
/// struct nlmsghdr, and struct `inet_diag_msg` with its place of the inode.
const HEADER: usize = 16;
const MESSAGE: usize = 72;
const INODE: usize = 68;

/// Asks for all TCP sockets of a family.
fn ask(family: c_int, silences: &mut HashMap<u64, Duration>) -> io::Result<()> {
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
    // struct nlmsghdr, then struct inet_diag_req_v2: family, protocol, the attributes wanted, padding, the
    // states wanted, and a socket that is not named.
    let mut request = [0_u8; 72];
    request[..4].copy_from_slice(&72_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request[16] = u8::try_from(family).unwrap_or_default();
    request[17] = u8::try_from(libc::IPPROTO_TCP).unwrap_or_default();
    request[18] = 1 << (INET_DIAG_INFO - 1);
    request[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    netlink.write_all(&request)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = netlink.read(&mut buffer)?;
        let mut rest = &buffer[..length];
        while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            let Some(message) = rest.get(HEADER..length) else { return Ok(()) };
            if kind != SOCK_DIAG_BY_FAMILY {
                return Ok(()); // NLMSG_DONE or NLMSG_ERROR
            }
            silences.extend(silence(message));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// A socket's inode, and since when nothing was sent or received.
fn silence(message: &[u8]) -> Option<(u64, Duration)> {
    let (message, mut attributes) = message.split_at_checked(MESSAGE)?;
    let inode = word(message, INODE)?;
    while let Some((&[a, b, c, d], rest)) = attributes.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
        if u16::from_ne_bytes([c, d]) == INET_DIAG_INFO {
            // tcpi_last_data_sent and tcpi_last_data_recv in struct tcp_info.
            let milliseconds = word(rest, 44)?.min(word(rest, 52)?);
            return Some((inode.into(), Duration::from_millis(milliseconds.into())));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
