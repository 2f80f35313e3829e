//! Attempts to connect to the addresses of hosts: all at the same time, with the outcome of each.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::output::{reason, say};

/// An address that has not answered by then counts as silent.
const LIMIT: Duration = Duration::from_secs(3);
/// At most this many addresses of each family are tried, of one host.
pub const MOST: usize = 16;
/// A thread here does no more than one connect(2).
const STACK: usize = 64 << 10;

/// One address that was tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its outcome.
    pub outcome: Outcome,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Connected after this time.
    Connected(Duration),
    /// No answer within the limit.
    Silent,
    /// The port is closed.
    Refused,
    /// The reason why no packet gets there.
    Unreachable(String),
}

impl Outcome {
    fn of(address: IpAddr, port: u16) -> Self {
        let start = Instant::now();
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), LIMIT) {
            Ok(_) => Self::Connected(start.elapsed()),
            Err(error) => match error.kind() {
                io::ErrorKind::TimedOut => Self::Silent,
                io::ErrorKind::ConnectionRefused => Self::Refused,
                _ => Self::Unreachable(reason(&error)),
            },
        }
    }

    /// The word for it in a JSON document.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connected(_) => "connected",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl Attempt {
    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        if self.address.is_ipv4() { "IPv4" } else { "IPv6" }
    }
}

impl Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, port, outcome } = self;
        write!(f, "{address} port {port}: ")?;
        match outcome {
            Outcome::Connected(time) => write!(f, "connected in {} ms", time.as_millis()),
            // A silent IPv4 address has other causes.
            Outcome::Silent if address.is_ipv6() => {
                write!(f, "no answer in {} s: a black hole", LIMIT.as_secs())
            }
            Outcome::Silent => write!(f, "no answer in {} s", LIMIT.as_secs()),
            Outcome::Refused => f.write_str("refused"),
            Outcome::Unreachable(why) => write!(f, "unreachable: {why}"),
        }
    }
}

/// The addresses of a host to try, in order, and the number of addresses left out of each family, IPv4 first.
pub fn choose<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> (Vec<IpAddr>, [usize; 2]) {
    let mut chosen: Vec<IpAddr> = Vec::new();
    let mut left_out: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if chosen.contains(address) || left_out.contains(address) {
            continue;
        }
        let family = chosen.iter().filter(|known| known.is_ipv4() == address.is_ipv4());
        if family.count() < MOST { chosen.push(*address) } else { left_out.push(*address) }
    }
    let count = |is_ipv4| left_out.iter().filter(|address| address.is_ipv4() == is_ipv4).count();
    (chosen, [count(true), count(false)])
}

/// Tries all of these at the same time. The outcomes are in their order.
pub fn try_all(places: Vec<(IpAddr, u16)>) -> Vec<Attempt> {
    let mut waiting = Waiting::new("answers to connections", LIMIT);
    let (done, results) = mpsc::channel();
    let mut attempts: Vec<_> = places
        .into_iter()
        .map(|(address, port)| Attempt { address, port, outcome: Outcome::Silent })
        .collect();
    for (index, attempt) in attempts.iter_mut().enumerate() {
        let (done, address, port) = (done.clone(), attempt.address, attempt.port);
        let run = move || done.send((index, Outcome::of(address, port)));
        if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(run) {
            attempt.outcome = Outcome::Unreachable(format!("no thread: {}", reason(&error)));
        }
    }
    drop(done);
    loop {
        match results.recv_timeout(Duration::from_millis(100)) {
            Ok((index, outcome)) => attempts[index].outcome = outcome,
            Err(mpsc::RecvTimeoutError::Timeout) => waiting.tick(),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    attempts
}

/// The best outcome of the attempts over one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    None,
    Unreachable,
    Silent,
    Refused,
    Connected,
}

impl Family {
    /// The best outcome over IPv4, or over IPv6.
    pub fn of(tried: &[Attempt], is_ipv4: bool) -> Self {
        let of_family = tried.iter().filter(|attempt| attempt.address.is_ipv4() == is_ipv4);
        let outcomes = of_family.map(|attempt| match attempt.outcome {
            Outcome::Connected(_) => Self::Connected,
            Outcome::Silent => Self::Silent,
            Outcome::Refused => Self::Refused,
            Outcome::Unreachable(_) => Self::Unreachable,
        });
        outcomes.max().unwrap_or(Self::None)
    }
}

/// A message of progress, once, for a person at a terminal who has waited for more than a second.
pub struct Waiting {
    what: &'static str,
    limit: Duration,
    since: Instant,
    is_said: bool,
}

impl Waiting {
    /// Begins to wait, at most for `limit`.
    pub fn new(what: &'static str, limit: Duration) -> Self {
        Self { what, limit, since: Instant::now(), is_said: !io::stderr().is_terminal() }
    }

    /// Prints the message if it is time.
    pub fn tick(&mut self) {
        if !self.is_said && self.since.elapsed() > Duration::from_secs(1) {
            self.is_said = true;
            say(format_args!("waiting for {}, at most {} s", self.what, self.limit.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_addresses_of_each_family_are_tried_and_the_others_are_counted() {
        let ipv4: Vec<IpAddr> = (0..20).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let ipv6: Vec<IpAddr> =
            (0..17).map(|last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])).collect();
        let (chosen, left_out) = choose(ipv4.iter().chain(&ipv6).chain(&ipv4));
        assert_eq!((chosen.len(), left_out), (32, [4, 1]));
        assert_eq!(chosen[..16], ipv4[..16]);
        assert_eq!(chosen[16..], ipv6[..16]);
    }

    #[test]
    fn only_a_silent_ipv6_address_is_called_a_black_hole() {
        let text = |address: &str, outcome| {
            Attempt { address: address.parse().unwrap(), port: 1, outcome }.to_string()
        };
        assert_eq!(
            text("2001:db8::1", Outcome::Silent),
            "2001:db8::1 port 1: no answer in 3 s: a black hole"
        );
        assert_eq!(text("192.0.2.1", Outcome::Silent), "192.0.2.1 port 1: no answer in 3 s");
        let connected = Outcome::Connected(Duration::from_millis(12));
        assert_eq!(text("192.0.2.1", connected), "192.0.2.1 port 1: connected in 12 ms");
    }
}
