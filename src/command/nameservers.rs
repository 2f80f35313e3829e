//! Questions to the name servers of /etc/resolv.conf, if a lookup has failed or taken long. The replies distinguish a
//! name that does not exist from a server that does not answer.

use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::output::reason;

/// A server that has not answered by then counts as silent.
const LIMIT: Duration = Duration::from_secs(2);
/// libc asks at most this many name servers (`MAXNS` in resolv.h).
const MOST: usize = 3;

/// A name server and its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its address.
    pub address: IpAddr,
    /// Its reply.
    pub reply: Reply,
}

/// The reply of a name server to a question for IPv4 addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The code (RFC 1035, section 4.1.1), the number of answers, and the time.
    Answer {
        /// `RCODE`, 0 to 15.
        code: u8,
        /// `ANCOUNT`.
        answers: u16,
        /// The time that it took.
        time: Duration,
    },
    /// No answer within the limit.
    Silent,
    /// Nothing listens on its port 53.
    Refused,
    /// The reason why no packet gets there.
    Unreachable(String),
}

impl Reply {
    /// The word for it in a JSON document.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answered",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.address)?;
        match &self.reply {
            Reply::Answer { code, answers, time } => {
                match (code, answers) {
                    (0, 0) => f.write_str("knows the name, but no IPv4 address of it")?,
                    (0, _) => f.write_str("knows the name and its IPv4 addresses")?,
                    (2, _) => f.write_str("cannot look the name up (SERVFAIL)")?,
                    (3, _) => f.write_str("knows no such name (NXDOMAIN)")?,
                    (5, _) => f.write_str("refuses to look names up for this machine (REFUSED)")?,
                    (code, _) => write!(f, "answers with code {code}")?,
                }
                write!(f, ", in {} ms", time.as_millis())
            }
            Reply::Silent => write!(f, "did not answer within {} s", LIMIT.as_secs()),
            Reply::Refused => f.write_str("refuses: nothing listens on its port 53"),
            Reply::Unreachable(why) => write!(f, "cannot be reached: {why}"),
        }
    }
}

/// The name servers that libc asks.
pub fn configured(resolv_conf: &str) -> Vec<IpAddr> {
    let lines = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(words.next()?.parse().ok()?)
    });
    let servers: Vec<_> = lines.take(MOST).collect();
    // resolv.conf(5): without such a line, libc asks the name server on this machine.
    if servers.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { servers }
}

/// Asks each name server of this machine for a host's IPv4 addresses, all at the same time.
pub fn ask(host: &str) -> Vec<NameServer> {
    let servers = configured(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let question = question(host);
    let threads = servers.into_iter().map(|address| {
        let question = question.clone();
        let thread = thread::Builder::new().stack_size(64 << 10);
        (address, thread.spawn(move || exchange(address, &question)))
    });
    let threads: Vec<_> = threads.collect();
    let replies = threads.into_iter().map(|(address, thread)| {
        let reply = thread.ok().and_then(|thread| thread.join().ok());
        let reply = reply.unwrap_or_else(|| Reply::Unreachable("no thread".to_owned()));
        NameServer { address, reply }
    });
    replies.collect()
}

/// A question for A (RFC 1035, section 4.1), recursion desired.
fn question(host: &str) -> Vec<u8> {
    let id = std::process::id().to_ne_bytes();
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.').filter(|label| !label.is_empty()) {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn exchange(server: IpAddr, question: &[u8]) -> Reply {
    exchange_within(server, question, LIMIT).unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Reply::Silent,
        io::ErrorKind::ConnectionRefused => Reply::Refused,
        _ => Reply::Unreachable(reason(&error)),
    })
}

fn exchange_within(server: IpAddr, question: &[u8], limit: Duration) -> io::Result<Reply> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(SocketAddr::new(server, 53))?;
    let start = Instant::now();
    socket.send(question)?;
    let mut reply = [0; 512];
    loop {
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(Reply::Silent);
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut reply)?;
        if let Some((code, answers)) = read(&reply[..length], question) {
            return Ok(Reply::Answer { code, answers, time: start.elapsed() });
        }
    }
}

/// The code and the number of answers of a reply to this question.
fn read(reply: &[u8], question: &[u8]) -> Option<(u8, u16)> {
    let &[first, second, flags, code, _, _, high, low, ..] = reply else { return None };
    let is_reply = question.starts_with(&[first, second]) && flags & 0x80 != 0;
    is_reply.then_some((code & 0x0f, u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_those_that_libc_asks() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(configured(""), [address("127.0.0.1")]);
        assert_eq!(configured("# nameserver 192.0.2.9\nsearch a\n"), [address("127.0.0.1")]);
        let text = "nameserver 192.0.2.1\nnameserver\t2001:db8::53 # two\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        assert_eq!(configured(text), ["192.0.2.1", "2001:db8::53", "192.0.2.3"].map(address));
    }

    #[test]
    fn a_reply_is_taken_for_the_question_that_it_answers() {
        let question = question("a.test.");
        assert_eq!(question[12..], *b"\x01a\x04test\0\0\x01\0\x01");
        let mut reply = question.clone();
        assert_eq!(read(&reply, &question), None, "the question itself");
        reply[2] |= 0x80;
        reply[3] = 0x83;
        reply[7] = 2;
        assert_eq!(read(&reply, &question), Some((3, 2)));
        reply[0] ^= 1;
        assert_eq!(read(&reply, &question), None, "another question's");
        assert_eq!(read(&reply[..7], &question), None, "too short");
    }
}
