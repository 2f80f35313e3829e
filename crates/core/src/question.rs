//! The question that `egress-shim --check` asks a process, and the answer: what each side writes, the other parses.
//!
//! The question is the value of the variable [`settings::CHECK`](crate::settings::CHECK). It names the process that it is
//! for, so no other process that inherits the variable answers. The answer is lines on a descriptor.

use std::fmt;
use std::net::IpAddr;
use std::os::raw::c_int;

use crate::allowlist::LONGEST_NAME;

/// The first line of an answer.
pub const LOADED: &str = concat!("loaded ", env!("CARGO_PKG_VERSION"), "\n");

/// A question to a process, `PID DESCRIPTOR with|without PORT HOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// The id of the process that is asked.
    pub process: c_int,
    /// The descriptor that the answer goes to.
    pub descriptor: c_int,
    /// Whether the question is about the lookup and the connection that the program would make, with the library.
    /// Otherwise it is about libc's own lookup.
    pub with_library: bool,
    /// The port of the connection.
    pub port: u16,
    /// A name or an address, of at most [`LONGEST_NAME`] bytes.
    pub host: &'a str,
}

impl<'a> Question<'a> {
    /// The question in the value of the variable; `None` if it is not one.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut words = str::from_utf8(value).ok()?.splitn(5, ' ');
        let process = words.next()?.parse().ok()?;
        let descriptor = words.next()?.parse().ok()?;
        let with_library = match words.next()? {
            "with" => true,
            "without" => false,
            _ => return None,
        };
        let port = words.next()?.parse().ok()?;
        let host = words.next().filter(|host| host.len() <= LONGEST_NAME)?;
        Some(Self { process, descriptor, with_library, port, host })
    }
}

impl fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, descriptor, port, host, .. } = self;
        let with = if self.with_library { "with" } else { "without" };
        write!(f, "{process} {descriptor} {with} {port} {host}")
    }
}

/// The keepalive of a socket after connect(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `SO_KEEPALIVE`.
    pub is_on: bool,
    /// `TCP_KEEPIDLE`, in seconds.
    pub idle: u32,
    /// `TCP_KEEPINTVL`, in seconds.
    pub interval: u32,
    /// `TCP_KEEPCNT`.
    pub count: u32,
    /// `TCP_USER_TIMEOUT`, in milliseconds; 0 means not set.
    pub milliseconds: u32,
}

/// As the setting would be written; a user timeout in whole seconds.
impl fmt::Display for Keepalive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_on {
            return f.write_str("off");
        }
        let Self { idle, interval, count, .. } = self;
        write!(f, "idle={idle},interval={interval},count={count}")?;
        if self.milliseconds > 0 {
            write!(f, ",user-timeout={}", self.milliseconds / 1000)?;
        }
        Ok(())
    }
}

/// A line of an answer. The first of them is [`LOADED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// `loaded VERSION`: the library is in the process, and asks libc now.
    Loaded(&'a str),
    /// `address ADDRESS`: an address of the host. Each comes once, in libc's order.
    Address(IpAddr),
    /// `error STATUS ERRNO`: the error of getaddrinfo(3).
    Error {
        /// The status, as `EAI_NONAME`.
        status: c_int,
        /// errno, which has the reason for `EAI_SYSTEM`.
        errno: c_int,
    },
    /// `resolved`: the lookup has ended.
    Resolved,
    /// `keepalive ON IDLE INTERVAL COUNT MILLISECONDS`: the keepalive of the socket.
    Keepalive(Keepalive),
}

impl<'a> Line<'a> {
    /// The line in a text without its end; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (key, value) = text.split_once(' ').unwrap_or((text, ""));
        let mut words = value.split(' ');
        Some(match key {
            "loaded" => Self::Loaded(value),
            "address" => Self::Address(value.parse().ok()?),
            "error" => {
                let mut number = || words.next()?.parse().ok();
                Self::Error { status: number()?, errno: number()? }
            }
            "resolved" => Self::Resolved,
            "keepalive" => {
                let mut number = || words.next()?.parse().ok();
                Self::Keepalive(Keepalive {
                    is_on: number()? != 0,
                    idle: number()?,
                    interval: number()?,
                    count: number()?,
                    milliseconds: number()?,
                })
            }
            _ => return None,
        })
    }
}

/// The line with its end.
impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loaded(version) => writeln!(f, "loaded {version}"),
            Self::Address(address) => writeln!(f, "address {address}"),
            Self::Error { status, errno } => writeln!(f, "error {status} {errno}"),
            Self::Resolved => f.write_str("resolved\n"),
            Self::Keepalive(Keepalive { is_on, idle, interval, count, milliseconds }) => {
                let is_on = u8::from(*is_on);
                writeln!(f, "keepalive {is_on} {idle} {interval} {count} {milliseconds}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_is_written_is_parsed_as_it_was() {
        for with_library in [true, false] {
            for host in ["api.example.com", "2001:db8::1", "a b", &"a".repeat(253)] {
                let question =
                    Question { process: 7, descriptor: 11, with_library, port: 65535, host };
                assert_eq!(Question::parse(question.to_string().as_bytes()), Some(question));
            }
        }
    }

    #[test]
    fn what_is_not_a_question_is_not_taken_for_one() {
        let long = format!("1 2 with 443 {}", "a".repeat(254));
        for value in [
            "",
            "1",
            "1 2 with 443",
            "1 2 maybe 443 a",
            "x 2 with 443 a",
            "1 2 with 65536 a",
            &long,
        ] {
            assert_eq!(Question::parse(value.as_bytes()), None, "{value:?}");
        }
        assert_eq!(Question::parse(b"1 2 with 443 \xff"), None);
    }

    #[test]
    fn each_line_of_an_answer_is_parsed_as_it_was() {
        let socket =
            Keepalive { is_on: true, idle: 60, interval: 61, count: 5, milliseconds: 360_000 };
        for line in [
            Line::Loaded("1.2.3"),
            Line::Address("192.0.2.1".parse().expect("an address")),
            Line::Address("2001:db8::1".parse().expect("an address")),
            Line::Error { status: -11, errno: 24 },
            Line::Resolved,
            Line::Keepalive(socket),
            Line::Keepalive(Keepalive { is_on: false, ..socket }),
        ] {
            let text = line.to_string();
            assert_eq!(text.strip_suffix('\n').and_then(Line::parse), Some(line), "{text:?}");
        }
        for text in ["", "x", "address", "error", "error 1", "keepalive 1 2 3 4", "resolve"] {
            assert_eq!(Line::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_first_line_has_this_version() {
        assert_eq!(LOADED, Line::Loaded(env!("CARGO_PKG_VERSION")).to_string());
    }
}
