//! The kernel's reports about processes and their sockets: the texts of proc(5) and the messages of `sock_diag`(7).
//!
//! The process that a report describes controls much of it: names, environments, paths.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

// ----------------------------------------------------------------------------------------------- processes

/// The parent of a process, from /proc/PID/stat. The program's name comes before it in parentheses, and may contain
/// any characters, including parentheses and new lines.
#[must_use]
pub fn parent(stat: &[u8]) -> Option<u32> {
    let after = stat.get(stat.iter().rposition(|&byte| byte == b')')? + 1..)?;
    let mut fields = after.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    number(fields.nth(1)?, 10)
}

/// A line of /proc/PID/maps about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// The first address.
    pub start: u64,
    /// Whether the bytes can be executed.
    pub is_executable: bool,
    /// The first byte of the file that is mapped.
    pub offset: u64,
    /// The device, `MAJOR:MINOR` in hexadecimal digits.
    pub device: &'a [u8],
    /// The file's number on the device.
    pub inode: u64,
    /// The path. The kernel writes a new line in it as `\012`, and adds ` (deleted)` if the file is gone.
    pub path: &'a [u8],
}

impl<'a> Mapping<'a> {
    /// Reads a line.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let start = fields.next()?.split(|&byte| byte == b'-').next()?;
        let rights = fields.next()?;
        let (offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?);
        let path = fields.next()?.trim_ascii_start();
        let mapping = Self {
            start: number(start, 16)?,
            is_executable: rights.get(2) == Some(&b'x'),
            offset: number(offset, 16)?,
            device,
            inode: number(inode, 10)?,
            path,
        };
        (mapping.inode != 0 && path.first() == Some(&b'/')).then_some(mapping)
    }
}

/// Whether a program has written something else, usually a title, over its environment, as nginx, postgres, sshd and
/// programs with setproctitle(3) do. /proc/PID/environ shows that memory, and a real environment does not begin like it.
#[must_use]
pub fn is_overwritten(environment: &[u8]) -> bool {
    let first = environment.split(|&byte| byte == 0).next().unwrap_or_default();
    !environment.is_empty() && !first.get(1..).is_some_and(|rest| rest.contains(&b'='))
}

/// The key of the program's entry point, for [`auxiliary`].
pub const AT_ENTRY: u64 = 9;
/// The key of the flag that the program has gained privileges at its start.
pub const AT_SECURE: u64 = 23;

/// An entry of /proc/PID/auxv, the auxiliary vector of getauxval(3).
#[must_use]
pub fn auxiliary(vector: &[u8], is_wide: bool, kind: u64) -> Option<u64> {
    let words: Vec<u64> = if is_wide {
        let (words, _) = vector.as_chunks::<8>();
        words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    } else {
        let (words, _) = vector.as_chunks::<4>();
        words.iter().map(|word| u32::from_ne_bytes(*word).into()).collect()
    };
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().find(|[key, _]| *key == kind).map(|[_, value]| *value)
}

fn number<T: TryFrom<u64>>(digits: &[u8], base: u32) -> Option<T> {
    let digits = str::from_utf8(digits).ok()?;
    T::try_from(u64::from_str_radix(digits, base).ok()?).ok()
}

// ------------------------------------------------------------------------------------------------- sockets

// The states of a connection: `include/net/tcp_states.h` in the kernel.
/// `TCP_ESTABLISHED`.
pub const ESTABLISHED: u8 = 1;
/// `TCP_SYN_SENT`: nothing has answered yet.
pub const SYN_SENT: u8 = 2;
/// `TCP_CLOSE`; of a UDP socket: without a peer.
pub const CLOSE: u8 = 7;
/// `TCP_LISTEN`.
pub const LISTEN: u8 = 10;

const STATES: [&str; 13] = [
    "UNKNOWN",
    "ESTABLISHED",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "CLOSE",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "NEW-SYN-RECV",
];

/// The timer that is pending (`get_tcp4_sock` in the kernel's `net/ipv4/tcp_ipv4.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// No timer: nothing is unacknowledged, and there is no keepalive.
    None,
    /// Data or a SYN is not acknowledged yet. This timer hides a keepalive timer.
    Retransmission,
    /// Keepalive is on.
    Keepalive,
    /// The peer has no room for data: the kernel asks again and again whether that has changed.
    ZeroWindow,
    /// Another timer.
    Other,
}

impl Timer {
    fn of(kind: u64) -> Self {
        match kind {
            0 => Self::None,
            1 => Self::Retransmission,
            2 => Self::Keepalive,
            4 => Self::ZeroWindow,
            _ => Self::Other,
        }
    }
}

/// A socket, as a line of /proc/net/tcp or a message of `sock_diag`(7) describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// This end.
    pub local: SocketAddr,
    /// The other end; IPv4 for an IPv4-mapped address.
    pub peer: SocketAddr,
    /// `TCP_ESTABLISHED` and so on, 1 to 12.
    pub state: u8,
    /// The kind of the pending timer.
    pub timer: Timer,
    /// The time until the timer expires.
    pub until: Duration,
    /// The number of retransmissions; with keepalive, the number of unanswered probes.
    pub retries: u32,
    /// The bytes that are written and not acknowledged.
    pub unacknowledged: u32,
    /// The bytes that have arrived and are not read.
    pub unread: u32,
    /// The owner.
    pub user: u32,
    /// The socket's number; 0 if no process has it.
    pub inode: u64,
    /// The facts that only `sock_diag`(7) has.
    pub info: Option<Info>,
}

/// The part of `struct tcp_info` that is of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// `TCP_ESTABLISHED` and so on.
    pub state: u8,
    /// The number of retransmissions in a row.
    pub retransmits: u8,
    /// The number of times that the timeout has been doubled.
    pub backoff: u8,
    /// The timeout of a retransmission, as it is now.
    pub timeout: Duration,
    /// The time since data was sent, again or for the first time.
    pub last_sent: Duration,
    /// The time since data was received.
    pub last_received: Duration,
    /// The time since an acknowledgement was received.
    pub last_acknowledged: Duration,
    /// Whether data is sent and not acknowledged, or not sent yet. (Linux before 4.6 does not report unsent bytes.)
    pub has_unacknowledged: bool,
}

impl Info {
    /// Reads `struct tcp_info`: linux/tcp.h.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let milliseconds = |at| Some(Duration::from_millis(word(bytes, at)?.into()));
        Some(Self {
            state: *bytes.first()?,
            retransmits: *bytes.get(2)?,
            backoff: *bytes.get(4)?,
            timeout: Duration::from_micros(word(bytes, 8)?.into()),
            last_sent: milliseconds(44)?,
            last_received: milliseconds(52)?,
            last_acknowledged: milliseconds(56)?,
            // tcpi_unacked and tcpi_notsent_bytes
            has_unacknowledged: word(bytes, 24)? > 0 || word(bytes, 144).unwrap_or(0) > 0,
        })
    }

    /// The time since the peer's last packet.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.last_received.min(self.last_acknowledged)
    }
}

impl Socket {
    /// The name of the state, as in ss(8).
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        STATES.get(usize::from(self.state)).copied().unwrap_or("UNKNOWN")
    }

    /// Reads a line of /proc/net/tcp, tcp6, udp or udp6, whose times are in ticks; `ticks` is their number in a second.
    #[must_use]
    pub fn of_line(line: &str, ticks: u64) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (unacknowledged, unread) = fields.next()?.split_once(':')?;
        let (timer, until) = fields.next()?.split_once(':')?;
        let (retries, user) = (fields.next()?, fields.next()?);
        let inode = fields.nth(1)?;
        let hexadecimal = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let until = hexadecimal(until)?.saturating_mul(1000) / ticks.max(1);
        Some(Self {
            local: address(local)?,
            peer: address(peer)?,
            state: u8::try_from(hexadecimal(state)?).ok()?,
            timer: Timer::of(hexadecimal(timer)?),
            until: Duration::from_millis(until),
            retries: u32::try_from(hexadecimal(retries)?).ok()?,
            unacknowledged: u32::try_from(hexadecimal(unacknowledged)?).ok()?,
            unread: u32::try_from(hexadecimal(unread)?).ok()?,
            user: user.parse().ok()?,
            inode: inode.parse().ok()?,
            info: None,
        })
    }

    /// Reads `struct inet_diag_msg` with its attributes: `linux/inet_diag.h`.
    #[must_use]
    pub fn of_message(message: &[u8]) -> Option<Self> {
        const MESSAGE: usize = 72;
        /// `INET_DIAG_INFO`: `struct tcp_info`.
        const INFO: u16 = 2;
        let (message, mut attributes) = message.split_at_checked(MESSAGE)?;
        let &[family, state, timer, retries, ..] = message else { return None };
        let end = |port: usize, at: usize| {
            let port = u16::from_be_bytes(*message.get(port..)?.first_chunk()?);
            let octets: [u8; 16] = *message.get(at..)?.first_chunk()?;
            let address = match (i32::from(family), octets) {
                // AF_INET and AF_INET6 on every architecture.
                (2, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::from([a, b, c, d])),
                (10, octets) => Ipv6Addr::from(octets).to_canonical(),
                _ => return None,
            };
            Some(SocketAddr::new(address, port))
        };
        let mut socket = Self {
            local: end(4, 8)?,
            peer: end(6, 24)?,
            state,
            timer: Timer::of(timer.into()),
            until: Duration::from_millis(word(message, 52)?.into()),
            retries: retries.into(),
            unread: word(message, 56)?,
            unacknowledged: word(message, 60)?,
            user: word(message, 64)?,
            inode: word(message, 68)?.into(),
            info: None,
        };
        while let Some((&[a, b, c, d], rest)) = attributes.split_first_chunk() {
            let length = usize::from(u16::from_ne_bytes([a, b])).max(4);
            if u16::from_ne_bytes([c, d]) == INFO {
                socket.info = Info::of(rest);
            }
            attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(socket)
    }
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
        // Connections to ::ffff:192.0.2.1 use IPv4 on the wire.
        Ipv6Addr::from(octets).to_canonical()
    };
    Some(SocketAddr::new(address, port))
}

/// The content of a datagram of netlink(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A message of `sock_diag`(7).
    Socket(&'a [u8]),
    /// The last message.
    Done,
    /// An error, or a message that cannot be read. Nothing follows.
    Error,
}

/// The type of a message about a socket: `SOCK_DIAG_BY_FAMILY` in `linux/sock_diag.h`.
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLMSG_DONE` in `linux/netlink.h`.
const DONE: u16 = 3;

/// The messages of a datagram.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    const HEADER: usize = 16;
    let mut has_ended = false;
    std::iter::from_fn(move || {
        if has_ended {
            return None;
        }
        let header = datagram.get(..HEADER)?;
        let length = word(header, 0)? as usize;
        let kind = u16::from_ne_bytes(*header.get(4..)?.first_chunk()?);
        let message = match (datagram.get(HEADER..length), kind) {
            (Some(message), SOCK_DIAG_BY_FAMILY) => Message::Socket(message),
            (Some(_), DONE) => Message::Done,
            _ => Message::Error,
        };
        has_ended = !matches!(message, Message::Socket(_));
        let rest = length.checked_next_multiple_of(4).and_then(|next| datagram.get(next..));
        datagram = rest.unwrap_or_default();
        Some(message)
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent(b"7 (sh) S 3 7 7 0"), Some(3));
        assert_eq!(parent(b"7 (a) R 1 (\n) S) T 42 7"), Some(42));
        assert_eq!(parent(b"7 (sh"), None);
        assert_eq!(parent(b""), None);
    }

    #[test]
    fn a_mapping_of_a_file_is_read() {
        let line =
            b"7f01000-7f02000 r-xp 00001000 fe:01 4242                       /a b/lib.so (deleted)";
        let mapping = Mapping::of(line).expect("it is a mapping of a file");
        let wanted = Mapping {
            start: 0x07f0_1000,
            is_executable: true,
            offset: 0x1000,
            device: b"fe:01",
            inode: 4242,
            path: b"/a b/lib.so (deleted)",
        };
        assert_eq!(mapping, wanted);
        let data = Mapping::of(b"1-2 r--p 0 fe:01 1 /x").expect("it is a mapping of a file");
        assert!(!data.is_executable);
        for line in [&b"1-2 rw-p 0 00:00 0 "[..], b"1-2 rw-p 0 00:00 0 [heap]", b"x", b""] {
            assert_eq!(Mapping::of(line), None);
        }
    }

    #[test]
    fn a_title_over_the_environment_is_known() {
        for environment in
            [&b"\0\0\0"[..], b"worker: idle\0\0\0", b"  \0PATH=/bin\0", b"=x\0", b"x\0"]
        {
            assert!(is_overwritten(environment), "{environment:?}");
        }
        for environment in [&b""[..], b"A=\0", b"PATH=/bin\0B=2\0"] {
            assert!(!is_overwritten(environment), "{environment:?}");
        }
    }

    #[test]
    fn the_auxiliary_vector_has_either_word_size() {
        let wide: Vec<u8> =
            [6_u64, 4096, 23, 1, 0, 0].into_iter().flat_map(u64::to_ne_bytes).collect();
        assert_eq!(auxiliary(&wide, true, 23), Some(1));
        assert_eq!(auxiliary(&wide, true, 7), None);
        let narrow: Vec<u8> = [6_u32, 4096, 23, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        assert_eq!(auxiliary(&narrow, false, 23), Some(0));
        assert_eq!(auxiliary(&wide[..20], true, 23), None);
    }

    #[test]
    fn a_line_of_the_table_is_read_column_by_column() {
        let word = |octets| format!("{:08X}", u32::from_ne_bytes(octets));
        let (local, peer) = (word([127, 0, 0, 2]), word([198, 51, 100, 10]));
        let line = format!(
            "   0: {local}:1F90 {peer}:01BB 02 00000007:00000009 01:000001F4 00000005  1000        3 12345 2 0000"
        );
        let socket = Socket::of_line(&line, 100).expect("it is a line");
        let wanted = Socket {
            local: "127.0.0.2:8080".parse().expect("it is an address"),
            peer: "198.51.100.10:443".parse().expect("it is an address"),
            state: SYN_SENT,
            timer: Timer::Retransmission,
            until: Duration::from_secs(5),
            retries: 5,
            unacknowledged: 7,
            unread: 9,
            user: 1000,
            inode: 12345,
            info: None,
        };
        assert_eq!(socket, wanted);
        assert_eq!(socket.state_name(), "SYN-SENT");
        let mapped = line.replace(
            &peer,
            &[&word([0; 4]), &word([0; 4]), &word([0, 0, 255, 255]), &*peer].concat(),
        );
        let socket = Socket::of_line(&mapped, 100).expect("it is a line");
        assert!(socket.peer.is_ipv4(), "what goes over the wire of {} is IPv4", socket.peer);
        assert_eq!(Socket::of_line("  sl  local_address rem_address", 100), None);
    }

    fn message(family: u8) -> Vec<u8> {
        let mut message = vec![family, ESTABLISHED, 2, 3];
        message.extend(40000_u16.to_be_bytes());
        message.extend(443_u16.to_be_bytes());
        message.extend([192, 0, 2, 1]);
        message.resize(24, 0);
        message.extend([198, 51, 100, 2]);
        message.resize(52, 0);
        for word in [4000_u32, 1, 2, 1000, 77] {
            message.extend(word.to_ne_bytes());
        }
        // An attribute that is not wanted, of 5 bytes, and struct tcp_info.
        message.extend(9_u16.to_ne_bytes());
        message.extend(7_u16.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(108_u16.to_ne_bytes());
        message.extend(2_u16.to_ne_bytes());
        let mut info = [0_u8; 104];
        info[4] = 6;
        for (at, value) in [(8, 200_000_u32), (44, 1), (52, 40_000), (56, 33_000)] {
            info[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        message.extend(info);
        message
    }

    #[test]
    fn the_silence_of_a_peer_is_told_by_its_packets_not_ours() {
        let socket = Socket::of_message(&message(2)).expect("it is a message");
        assert_eq!(socket.peer.to_string(), "198.51.100.2:443");
        assert_eq!(socket.local.to_string(), "192.0.2.1:40000");
        assert_eq!((socket.timer, socket.retries), (Timer::Keepalive, 3));
        assert_eq!((socket.unread, socket.unacknowledged), (1, 2));
        assert_eq!((socket.user, socket.inode), (1000, 77));
        let info = socket.info.expect("it has struct tcp_info");
        assert_eq!(info.silence(), Duration::from_secs(33));
        assert_eq!((info.last_sent.as_millis(), info.backoff), (1, 6));
    }

    #[test]
    fn a_message_that_is_cut_off_tells_nothing_wrong() {
        let whole = message(2);
        for length in 0..whole.len() {
            let socket = Socket::of_message(&whole[..length]);
            assert_eq!(socket.is_some(), length >= 72, "{length} bytes");
        }
        assert_eq!(Socket::of_message(&message(1)), None, "another family");
    }

    #[test]
    fn each_message_of_a_datagram_is_read() {
        let one = |kind: u16, body: &[u8]| {
            let length = u32::try_from(16 + body.len()).expect("short");
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(16, 0);
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let datagram =
            [one(20, b"first"), one(20, b"second"), one(3, b""), one(20, b"no")].concat();
        let seen: Vec<_> = messages(&datagram).collect();
        assert_eq!(seen, [Message::Socket(b"first"), Message::Socket(b"second"), Message::Done]);
        assert_eq!(messages(&[0; 15]).count(), 0);
        assert_eq!(messages(&[0; 16]).collect::<Vec<_>>(), [Message::Error]);
        assert_eq!(messages(&[0xff; 40]).collect::<Vec<_>>(), [Message::Error]);
    }
}
