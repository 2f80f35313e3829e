//! `HOST[:PORT]`, as it is typed behind `--check`.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

use egress_shim_core::allowlist::LONGEST_NAME;

use crate::output::{Failure, status};
use crate::report::escape_short;

/// A host and a port to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// The port of a target that has none: https.
const PORT: u16 = 443;

impl Target {
    /// Reads `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
    ///
    /// # Errors
    /// The mistake, and what would be right.
    pub fn parse(text: &OsStr) -> Result<Self, Failure> {
        let wrong = |why: String| {
            let text = escape_short(text.as_bytes(), 300);
            Err(Failure::new(status::FAILED, format!("--check {text}: {why}")))
        };
        let Some(text) = text.to_str() else {
            return wrong("HOST must be a host name".to_owned());
        };
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
            let port = if scheme == "http" && !has_port { ":80" } else { "" };
            return wrong(format!("is a URL; give its host: --check {host}{port}"));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: address.to_canonical().to_string(), port: PORT });
        }
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(None) => return wrong("the bracket is not closed: [ADDRESS]:PORT".to_owned()),
            Some(Some((host, rest))) => {
                let is_ipv6 = host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
                if !is_ipv6 {
                    return wrong("only an IPv6 address stands in brackets".to_owned());
                }
                match rest {
                    "" => (host, None),
                    _ => match rest.strip_prefix(':') {
                        Some(port) => (host, Some(port)),
                        None => return wrong("after the bracket goes :PORT".to_owned()),
                    },
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) if port.contains(':') => {
                    let is_port = |part: &str| part.parse::<u16>().is_ok();
                    return wrong(if is_port(port.split(':').next().unwrap_or_default()) {
                        format!(
                            "one port at a time: {host}:{}",
                            port.split(':').next().unwrap_or_default()
                        )
                    } else {
                        "is neither HOST:PORT nor an IPv6 address; [ADDRESS]:PORT for one with a port".to_owned()
                    });
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port.map(|port| (port, port.parse::<u16>())) {
            None => PORT,
            Some((digits, Ok(port))) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                port
            }
            Some(_) => return wrong("PORT must be a number from 1 to 65535".to_owned()),
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self { host: address.to_canonical().to_string(), port });
        }
        match why_no_name(host) {
            Some(why) => wrong(why),
            None => Ok(Self { host: host.to_owned(), port }),
        }
    }

    /// Whether the host is an address, which is never looked up.
    pub fn is_numeric(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }
}

/// Why a text is not a host name, by the same rules as for patterns.
fn why_no_name(host: &str) -> Option<String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let name = host.strip_suffix('.').unwrap_or(host);
    let why = if host.is_empty() {
        "HOST must be a name or an address".to_owned()
    } else if !host.bytes().all(|byte| is_letter(byte) || byte == b'.') {
        "HOST must be letters, digits, -, _ and dots, without scheme or path (other scripts as xn--...)"
            .to_owned()
    } else if host.starts_with("..") {
        "HOST must not begin with two dots".to_owned()
    } else if host.starts_with('.') {
        "HOST must not begin with a dot".to_owned()
    } else if name.is_empty() || name.split('.').any(str::is_empty) {
        "HOST must have no empty label (two dots in a row)".to_owned()
    } else if name.len() > LONGEST_NAME {
        format!("HOST has {} bytes; a name has at most {LONGEST_NAME}", name.len())
    } else if let Some(label) = name.split('.').find(|label| label.len() > 63) {
        format!("a label has at most 63 bytes; one here has {}", label.len())
    } else {
        return None;
    };
    Some(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("a.test", "a.test", 443),
            ("a.test.", "a.test.", 443),
            ("a.test:80", "a.test", 80),
            ("192.0.2.1:65535", "192.0.2.1", 65535),
            ("::1", "::1", 443),
            ("[::1]", "::1", 443),
            ("[2001:db8::1]:8080", "2001:db8::1", 8080),
            ("::ffff:192.0.2.1", "192.0.2.1", 443),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1", 80),
        ] {
            let target = Target::parse(OsStr::new(text)).expect(text);
            assert_eq!((target.host.as_str(), target.port), (host, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_would_be_right() {
        let (long, label) = ("a.".repeat(150), "a".repeat(64));
        for (text, words) in [
            ("https://api.test/v1", "is a URL; give its host: --check api.test"),
            ("http://me@a.test?x", "give its host: --check a.test:80"),
            ("https://[::1]/x", "give its host: --check [::1]"),
            ("http://[::1]/x", "give its host: --check [::1]:80"),
            ("a.test/v1", "HOST must be letters"),
            ("b\u{fc}cher.test", "(other scripts as xn--...)"),
            ("a.test:0", "PORT must be a number from 1 to 65535"),
            ("a.test:+5", "PORT must be a number from 1 to 65535"),
            ("a.test:65536", "PORT must be a number from 1 to 65535"),
            ("a.test:http", "PORT must be a number from 1 to 65535"),
            ("a.test:", "PORT must be a number from 1 to 65535"),
            ("host.test:443:80", "one port at a time: host.test:443"),
            ("fe80::g", "[ADDRESS]:PORT"),
            ("[::1", "the bracket is not closed"),
            ("[a.test]:80", "only an IPv6 address stands in brackets"),
            ("[::1]80", "after the bracket goes :PORT"),
            (":80", "HOST must be"),
            ("", "HOST must be"),
            (".test", "must not begin with a dot"),
            ("..test", "must not begin with two dots"),
            ("a..test", "no empty label"),
            (".", "must not begin with a dot"),
            (&long, "HOST has 299 bytes; a name has at most 253"),
            (&label, "a label has at most 63 bytes; one here has 64"),
        ] {
            let failure = Target::parse(OsStr::new(text)).expect_err(text);
            assert!(failure.message.contains(words), "{text}: {}", failure.message);
            assert_eq!(failure.status, status::FAILED);
        }
    }
}
