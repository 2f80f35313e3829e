//! Trying the addresses of a host: all at the same time, and what came of each.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::output::{reason, say};

/// An address that has not answered by then is taken for a black hole.
const LIMIT: Duration = Duration::from_secs(3);
/// So many addresses of a family are tried.
const MOST: usize = 4;

/// One address that was tried.
pub struct Attempt {
    /// Where to, with the port.
    pub address: IpAddr,
    port: u16,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of it.
pub enum Outcome {
    Connected(Duration),
    /// No answer within the limit.
    Silent,
    Refused,
    Unreachable(io::Error),
}

impl Attempt {
    fn new(address: IpAddr, port: u16) -> Self {
        let start = Instant::now();
        let outcome = match TcpStream::connect_timeout(&SocketAddr::new(address, port), LIMIT) {
            Ok(_) => Outcome::Connected(start.elapsed()),
            Err(error) => match error.kind() {
                io::ErrorKind::TimedOut => Outcome::Silent,
                io::ErrorKind::ConnectionRefused => Outcome::Refused,
                _ => Outcome::Unreachable(error),
            },
        };
        Self { address, port, outcome }
    }

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
            Outcome::Silent => {
                write!(f, "no answer in {} s: a black hole", LIMIT.as_secs())
            }
            Outcome::Refused => f.write_str("refused"),
            Outcome::Unreachable(error) => write!(f, "unreachable: {}", reason(error)),
        }
    }
}

/// Tries all addresses at the same time, some of each family. In their order.
pub fn try_all<'a>(addresses: impl Iterator<Item = &'a IpAddr>, port: u16) -> Vec<Attempt> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    for address in addresses {
        let family = chosen.iter().filter(|known| known.is_ipv4() == address.is_ipv4());
        if family.count() < MOST && !chosen.contains(address) {
            chosen.push(*address);
        }
    }
    let mut waiting = Waiting::new("answers to connections", LIMIT);
    let (done, results) = mpsc::channel();
    for (index, &address) in chosen.iter().enumerate() {
        let done = done.clone();
        thread::spawn(move || done.send((index, Attempt::new(address, port))));
    }
    drop(done);
    let mut attempts: Vec<Option<Attempt>> = chosen.iter().map(|_| None).collect();
    loop {
        match results.recv_timeout(Duration::from_millis(100)) {
            Ok((index, attempt)) => attempts[index] = Some(attempt),
            Err(mpsc::RecvTimeoutError::Timeout) => waiting.tick(),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    attempts.into_iter().flatten().collect()
}

/// The best that came of the attempts over one family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    None,
    Unreachable,
    Silent,
    Refused,
    Connected,
}

impl Family {
    /// That of IPv4, or of IPv6.
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

/// A word of progress, once, for somebody at a terminal who waits for more than a second.
pub struct Waiting {
    what: &'static str,
    limit: Duration,
    since: Instant,
    is_said: bool,
}

impl Waiting {
    /// Begins to wait, as long as `limit` says.
    pub fn new(what: &'static str, limit: Duration) -> Self {
        Self { what, limit, since: Instant::now(), is_said: !io::stderr().is_terminal() }
    }

    /// Says the word if it is time.
    pub fn tick(&mut self) {
        if !self.is_said && self.since.elapsed() > Duration::from_secs(1) {
            self.is_said = true;
            say(format_args!("waiting for {}, at most {} s", self.what, self.limit.as_secs()));
        }
    }
}
