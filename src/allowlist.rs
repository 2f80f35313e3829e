//! The allowlist: host patterns and their matching. It knows names, not settings or sockets.
//!
//! A lookup looks at the name and at each domain above it, so its cost grows with the number of
//! labels in the name and not with the number of patterns.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};

/// The longest name: 255 octets on the wire are 253 characters (RFC 1035, section 2.3.4).
pub const LONGEST_NAME: usize = 253;
/// The longest label (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Which hosts are to be reached over IPv4 alone.
///
/// | pattern | names |
/// |---|---|
/// | `api.openai.com` | that name |
/// | `*.openai.com` | any name below it |
/// | `.openai.com` | the name and all below it |
/// | `*` | every name but `localhost` and `*.localhost` |
/// | `!pattern` | none of the pattern's names, whatever the other patterns say |
///
/// ASCII case and one trailing dot do not matter.
#[derive(Debug, Default)]
pub struct Allowlist {
    /// What the patterns say of a name and of those below it. Hashed with fixed keys: the patterns
    /// come from whoever runs the program, and a start must not wait for the kernel's randomness.
    domains: HashMap<Box<[u8]>, Verdicts, BuildHasherDefault<DefaultHasher>>,
    /// What `*` and `!*` say.
    every: Verdict,
}

/// What the patterns say of a domain name and of the names below it.
#[derive(Clone, Copy, Debug, Default)]
struct Verdicts {
    name: Verdict,
    below: Verdict,
}

/// What the patterns say of one name. Listed and exempt at once is exempt.
#[derive(Clone, Copy, Debug, Default)]
struct Verdict {
    listed: bool,
    exempt: bool,
}

impl Verdict {
    fn add(&mut self, exempt: bool) {
        if exempt {
            self.exempt = true;
        } else {
            self.listed = true;
        }
    }

    fn or(self, other: Self) -> Self {
        Self { listed: self.listed || other.listed, exempt: self.exempt || other.exempt }
    }
}

/// Why a pattern is wrong. `Display` says what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// There is nothing but `!`, `.` or `*.`, or two dots in a row.
    EmptyLabel,
    /// A label of more than 63 bytes.
    LongLabel,
    /// A name of more than 253 bytes.
    LongName,
    /// A byte that is no letter, digit, `-` or `_`.
    BadByte,
    /// A `*` that is neither alone nor the whole first label.
    Star,
    /// An IP address.
    Numeric,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyLabel => "a pattern has no empty label",
            Self::LongLabel => "a label has at most 63 bytes",
            Self::LongName => "a name has at most 253 bytes",
            Self::BadByte => {
                "a label is made of letters, digits, - and _ (other scripts as xn--...)"
            }
            Self::Star => "* stands alone or as the whole first label",
            Self::Numeric => "an address is no name and is never matched",
        })
    }
}

impl Allowlist {
    /// Adds one pattern.
    ///
    /// # Errors
    /// Why the pattern is wrong; the list is then as before.
    pub fn add(&mut self, pattern: &[u8]) -> Result<(), PatternError> {
        let (exempt, pattern) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if pattern == b"*" {
            self.every.add(exempt);
            return Ok(());
        }
        let (name, itself, below) = if let Some(name) = pattern.strip_prefix(b"*.") {
            (name, false, true)
        } else if let Some(name) = pattern.strip_prefix(b".") {
            (name, true, true)
        } else {
            (pattern, true, false)
        };
        let name = without_trailing_dot(name);
        check_name(name)?;
        let verdicts = self.domains.entry(name.to_ascii_lowercase().into()).or_default();
        if itself {
            verdicts.name.add(exempt);
        }
        if below {
            verdicts.below.add(exempt);
        }
        Ok(())
    }

    /// Whether the patterns list a node, as the program passed it to getaddrinfo(3). Numeric
    /// addresses are never listed.
    #[must_use]
    pub fn contains(&self, node: &[u8]) -> bool {
        let mut buffer = [0; LONGEST_NAME];
        let node = without_trailing_dot(node);
        let Some(name) = buffer.get_mut(..node.len()) else { return false };
        name.copy_from_slice(node);
        name.make_ascii_lowercase();
        let name = &*name;
        if name.is_empty() || is_numeric(name) {
            return false;
        }
        let mut verdict = self.domains.get(name).map_or(Verdict::default(), |found| found.name);
        if name != b"localhost" && !name.ends_with(b".localhost") {
            verdict = verdict.or(self.every);
        }
        let mut rest = name;
        while let Some(dot) = rest.iter().position(|&byte| byte == b'.') {
            rest = rest.get(dot + 1..).unwrap_or_default();
            if let Some(found) = self.domains.get(rest) {
                verdict = verdict.or(found.below);
            }
        }
        verdict.listed && !verdict.exempt
    }

    /// Whether no name at all is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.every.listed && self.domains.is_empty()
    }
}

/// The patterns in a text: separated by commas or white space, `#` comments out the rest of a line
/// where `comments` says so. Each comes with the number of its line, from 1.
pub fn patterns(text: &[u8], comments: bool) -> impl Iterator<Item = (usize, &[u8])> {
    text.split(|&byte| byte == b'\n').zip(1..).flat_map(move |(line, number)| {
        let line = match line.iter().position(|&byte| comments && byte == b'#') {
            Some(start) => line.get(..start).unwrap_or_default(),
            None => line,
        };
        line.split(|byte| *byte == b',' || byte.is_ascii_whitespace() || *byte == 0x0b)
            .filter(|pattern| !pattern.is_empty())
            .map(move |pattern| (number, pattern))
    })
}

fn without_trailing_dot(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

fn check_name(name: &[u8]) -> Result<(), PatternError> {
    if name.contains(&b'*') {
        return Err(PatternError::Star);
    }
    if is_numeric(name) {
        return Err(PatternError::Numeric);
    }
    if name.len() > LONGEST_NAME {
        return Err(PatternError::LongName);
    }
    for label in name.split(|&byte| byte == b'.') {
        if label.is_empty() {
            return Err(PatternError::EmptyLabel);
        }
        if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(PatternError::BadByte);
        }
        if label.len() > LONGEST_LABEL {
            return Err(PatternError::LongLabel);
        }
    }
    Ok(())
}

/// Whether libc takes the name for an address: IPv6 has a colon, and whatever `inet_aton(3)` accepts
/// (`127.0.0.1`, `127.1`, `0x7f000001`) ends in a number, as no host name does (RFC 3696,
/// section 2: the top label is never all digits).
fn is_numeric(name: &[u8]) -> bool {
    let last = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    let number = match last {
        [b'0', b'x' | b'X', hex @ ..] => hex.iter().all(u8::is_ascii_hexdigit),
        [] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    number || name.contains(&b':')
}
