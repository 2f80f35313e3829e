//! The allowlist: host patterns and their matching. It knows names, not settings or sockets.
//!
//! A lookup looks at the name and at each domain above it, so its cost grows with the number of labels in
//! the name and not with the number of patterns. The list refers to the texts that it was made of and has
//! eight bytes or so for each pattern; where these are not to be had, that is an error and no panic.

use std::fmt;
use std::hash::Hasher;
use std::net::Ipv6Addr;

/// The longest name: 255 octets on the wire are 253 characters (RFC 1035, section 2.3.4).
pub const LONGEST_NAME: usize = 253;
/// The longest label (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// Which hosts are to be reached over IPv4 only.
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
pub struct Allowlist<'a> {
    /// The texts of the variable and of the file.
    texts: [&'a [u8]; 2],
    /// A hash table of the patterns' domains, with linear probing. Its size is a power of two, or none.
    slots: Vec<Slot>,
    /// What `*` and `!*` say.
    every: Verdict,
}

/// Which of its two texts a pattern of the list is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The value of the variable.
    Variable,
    /// The text of the file.
    File,
}

/// A domain name in one of the texts, and what the patterns say of it and of the names below it.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Where the name starts in its text.
    start: u32,
    /// Its length; 0 in a slot that is free.
    length: u8,
    in_file: bool,
    name: Verdict,
    below: Verdict,
}

/// What the patterns say of one name. Listed and exempt at once is exempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verdict {
    #[default]
    Nothing,
    Listed,
    Exempt,
}

impl Verdict {
    fn of(exempt: bool) -> Self {
        if exempt { Self::Exempt } else { Self::Listed }
    }

    fn add(&mut self, other: Self) {
        if *self != Self::Exempt && other != Self::Nothing {
            *self = other;
        }
    }
}

/// There is not enough memory for the list.
#[derive(Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// The pattern that decided about a name.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Whether the name is listed; otherwise it is exempt.
    pub listed: bool,
    prefix: &'static str,
    domain: &'a [u8],
}

/// As the pattern would be written: `*.example.com` and `example.com` together are `.example.com`.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exempt = if self.listed { "" } else { "!" };
        write!(f, "{exempt}{}{}", self.prefix, self.domain.escape_ascii())
    }
}

/// Why a pattern is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// There is no name after `!`, `.` or `*.`.
    NoName,
    /// Two dots in a row.
    EmptyLabel,
    /// A label of more than 63 bytes.
    LongLabel,
    /// A name of more than 253 bytes.
    LongName,
    /// A byte that is not a letter, a digit, `-` or `_`.
    BadByte,
    /// A `*` that is neither the whole pattern nor the whole first label.
    Star,
    /// An IP address.
    Numeric,
    /// A name with more around it: a URL.
    Url,
    /// A name with a port.
    Port,
}

impl PatternError {
    /// The message about the pattern: what would be valid.
    #[must_use]
    pub fn about(self, pattern: &[u8]) -> impl fmt::Display {
        Explained { error: self, pattern }
    }
}

struct Explained<'a> {
    error: PatternError,
    pattern: &'a [u8],
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = self.pattern.strip_prefix(b"!").unwrap_or(self.pattern);
        f.write_str(match self.error {
            PatternError::NoName => match pattern {
                b"" => "must have a name after the !, as in !www.example.com",
                b"*." => "must have a name after *., as in *.example.com",
                b".." => "must not begin with two dots",
                _ => "must have a name after the dot, as in .example.com",
            },
            PatternError::EmptyLabel if pattern.starts_with(b"..") => {
                "must not begin with two dots"
            }
            PatternError::EmptyLabel => "must be a name without an empty label (two dots in a row)",
            PatternError::LongLabel => "must have labels of at most 63 bytes",
            PatternError::LongName => "must be a name of at most 253 bytes",
            PatternError::BadByte => {
                "must be letters, digits, -, _ and dots, without scheme, port or path (other \
                 scripts as xn--...)"
            }
            PatternError::Star => {
                "may use * only as the whole pattern or as the first label, as in *.example.com"
            }
            PatternError::Numeric => "must be a name, not an address",
            PatternError::Url => {
                let host = host_of_url(pattern).unwrap_or_default();
                return write!(f, "is a URL; its host is {}", host.escape_ascii());
            }
            PatternError::Port => {
                let host = pattern.split(|&byte| byte == b':').next().unwrap_or_default();
                return write!(f, "must be a name without the port: {}", host.escape_ascii());
            }
        })
    }
}

/// The host in a URL (RFC 3986, section 3.2): what stands between `://` or a user's `@`, and a port or a path.
fn host_of_url(text: &[u8]) -> Option<&[u8]> {
    let start = text.windows(3).position(|window| window == b"://")? + 3;
    let rest = text.get(start..)?;
    let authority = rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()?;
    let host = authority.rsplit(|&byte| byte == b'@').next()?;
    host.split(|&byte| byte == b':').next()
}

impl<'a> Allowlist<'a> {
    /// The list of the patterns in two texts. Each wrong pattern is left out and given to `wrong`, with its
    /// text and line.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn of(
        variable: &'a [u8],
        file: &'a [u8],
        mut wrong: impl FnMut(Source, usize, &[u8], PatternError),
    ) -> Result<Self, OutOfMemory> {
        let texts = [(Source::Variable, variable), (Source::File, file)];
        let count = texts.iter().map(|(source, text)| patterns(text, *source).count()).sum();
        let mut list = Self::with_room_for(count, [variable, file])?;
        for (source, text) in texts {
            for (line, pattern) in patterns(text, source) {
                if let Err(error) = list.add(source, text, pattern) {
                    wrong(source, line, pattern, error);
                }
            }
        }
        Ok(list)
    }

    fn with_room_for(count: usize, texts: [&'a [u8]; 2]) -> Result<Self, OutOfMemory> {
        let mut slots = Vec::new();
        if count > 0 {
            // Always a free slot, and about half of them on average: probing ends soon.
            let size = (count + count / 2 + 1).next_power_of_two();
            slots.try_reserve_exact(size).map_err(|_| OutOfMemory)?;
            slots.resize(size, Slot::default());
        }
        Ok(Self { texts, slots, every: Verdict::Nothing })
    }

    /// Adds one pattern, a part of its text.
    fn add(&mut self, source: Source, text: &[u8], pattern: &[u8]) -> Result<(), PatternError> {
        let (exempt, rest) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let verdict = Verdict::of(exempt);
        if rest == b"*" {
            self.every.add(verdict);
            return Ok(());
        }
        let (name, itself, below) = if let Some(name) = rest.strip_prefix(b"*.") {
            (name, false, true)
        } else if let Some(name) = rest.strip_prefix(b".") {
            (name, true, true)
        } else {
            (rest, true, false)
        };
        let name = without_trailing_dot(name);
        check_name(name)?;
        let start = name.as_ptr().addr() - text.as_ptr().addr();
        let (Ok(start), Ok(length)) = (u32::try_from(start), u8::try_from(name.len())) else {
            return Err(PatternError::LongName);
        };
        let Some(slot) = self.position(name).and_then(|index| self.slots.get_mut(index)) else {
            return Ok(());
        };
        if slot.length == 0 {
            *slot = Slot { start, length, in_file: source == Source::File, ..Slot::default() };
        }
        if itself {
            slot.name.add(verdict);
        }
        if below {
            slot.below.add(verdict);
        }
        Ok(())
    }

    /// Where the slot of a domain is, or the free one that it would have; `None` in a list without any.
    fn position(&self, domain: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        // The patterns come from whoever runs the program, so the hash needs no secret key.
        let mut hasher = std::hash::DefaultHasher::new();
        let mut lower = [0; LONGEST_NAME];
        let lower = lower.get_mut(..domain.len())?;
        lower.copy_from_slice(domain);
        lower.make_ascii_lowercase();
        hasher.write(lower);
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let mut index = hasher.finish() as usize & mask;
        loop {
            let slot = self.slots.get(index)?;
            if slot.length == 0 || self.domain(*slot).eq_ignore_ascii_case(domain) {
                return Some(index);
            }
            index = (index + 1) & mask;
        }
    }

    fn domain(&self, slot: Slot) -> &'a [u8] {
        let [variable, file] = self.texts;
        let text = if slot.in_file { file } else { variable };
        let start = slot.start as usize;
        text.get(start..start + usize::from(slot.length)).unwrap_or_default()
    }

    /// The slot of a domain, or a free one, which says nothing of it.
    fn find(&self, domain: &[u8]) -> Option<Slot> {
        self.slots.get(self.position(domain)?).copied()
    }

    /// Whether the patterns list a node, as the program passed it to getaddrinfo(3). Numeric addresses are
    /// never listed.
    #[must_use]
    pub fn contains(&self, node: &[u8]) -> bool {
        self.deciding(node).is_some_and(|rule| rule.listed)
    }

    /// The pattern that decides about a node: one that exempts it, or else one that lists it; `None` if no
    /// pattern matches.
    #[must_use]
    pub fn deciding(&self, node: &[u8]) -> Option<Rule<'a>> {
        let name = without_trailing_dot(node);
        if !can_be_listed(name) {
            return None;
        }
        let mut decided = None;
        let mut consider = |verdict, prefix, domain| {
            if verdict == Verdict::Exempt || verdict == Verdict::Listed && decided.is_none() {
                decided = Some(Rule { listed: verdict == Verdict::Listed, prefix, domain });
            }
        };
        if let Some(slot) = self.find(name) {
            let prefix = if slot.below == slot.name { "." } else { "" };
            consider(slot.name, prefix, self.domain(slot));
        }
        if !is_localhost(name) {
            consider(self.every, "", b"*");
        }
        let mut rest = name;
        while let Some(dot) = rest.iter().position(|&byte| byte == b'.') {
            rest = rest.get(dot + 1..).unwrap_or_default();
            if let Some(slot) = self.find(rest) {
                let prefix = if slot.below == slot.name { "." } else { "*." };
                consider(slot.below, prefix, self.domain(slot));
            }
        }
        decided
    }
}

/// Whether any pattern could list a node: it is a name of a sane length, and no address. glibc takes the
/// node `*` for none at all.
#[must_use]
pub fn can_be_listed(node: &[u8]) -> bool {
    let name = without_trailing_dot(node);
    !name.is_empty() && name.len() <= LONGEST_NAME && name != b"*" && !is_numeric(name)
}

/// Whether a name is `localhost` or below it, which only patterns that name it list.
#[must_use]
pub fn is_localhost(node: &[u8]) -> bool {
    const LOCALHOST: &[u8] = b"localhost";
    let name = without_trailing_dot(node);
    let Some(dot) = name.len().checked_sub(LOCALHOST.len()) else { return false };
    name.get(dot..).is_some_and(|end| end.eq_ignore_ascii_case(LOCALHOST))
        && (dot == 0 || name.get(dot - 1) == Some(&b'.'))
}

/// The patterns in a text, each with the number of its line, from 1. They are separated by commas or white space; in a
/// file, `#` starts a comment, and an editor on Windows may have put a byte order mark before the text.
pub fn patterns(text: &[u8], source: Source) -> impl Iterator<Item = (usize, &[u8])> {
    let in_file = source == Source::File;
    let mark = "\u{feff}".as_bytes();
    let text = text.strip_prefix(mark).filter(|_| in_file).unwrap_or(text);
    text.split(|&byte| byte == b'\n').zip(1..).flat_map(move |(line, number)| {
        let line = match line.iter().position(|&byte| in_file && byte == b'#') {
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

/// Whether a text is a host's name: labels of 1-63 letters, digits, `-` and `_`, 253 bytes at most, and no
/// address.
///
/// # Errors
/// What keeps it from being one.
pub fn check_name(name: &[u8]) -> Result<(), PatternError> {
    if name.is_empty() {
        return Err(PatternError::NoName);
    }
    if name.contains(&b'*') {
        return Err(PatternError::Star);
    }
    if host_of_url(name).is_some_and(|host| check_name(host).is_ok()) {
        return Err(PatternError::Url);
    }
    // With a colon it may also be a name with a port.
    let is_ipv6 = || str::from_utf8(name).is_ok_and(|name| name.parse::<Ipv6Addr>().is_ok());
    if is_numeric(name) && (!name.contains(&b':') || is_ipv6()) {
        return Err(PatternError::Numeric);
    }
    let mut sides = name.splitn(2, |&byte| byte == b':');
    if let (Some(host), Some(port)) = (sides.next(), sides.next())
        && port.iter().all(u8::is_ascii_digit)
        && check_name(host).is_ok()
    {
        return Err(PatternError::Port);
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

/// Whether libc takes the name for an address: IPv6 has a colon, IPv4 is what `inet_aton(3)`
/// accepts: up to four numbers, of which the last fills the bytes that the others leave
/// (`127.0.0.1`, `127.1`, `0x7f000001`).
fn is_numeric(name: &[u8]) -> bool {
    if name.contains(&b':') {
        return true;
    }
    let mut bits_left = 32_u32;
    let mut parts = name.split(|&byte| byte == b'.').peekable();
    while let Some(part) = parts.next() {
        let bits = if parts.peek().is_none() { bits_left } else { 8 };
        match number(part) {
            Some(value) if bits > 0 && value >> bits == 0 => {
                bits_left = bits_left.saturating_sub(8);
            }
            _ => return false,
        }
    }
    true
}

/// A number as strtoul(3) reads it in base 0: decimal, octal after `0`, hexadecimal after `0x`.
fn number(text: &[u8]) -> Option<u64> {
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', hex @ ..] => (hex, 16),
        [b'0', _, ..] => (text, 8),
        _ => (text, 10),
    };
    let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The list of patterns between spaces, all of them right.
    fn allowlist(patterns: &str) -> Allowlist<'_> {
        Allowlist::of(patterns.as_bytes(), b"", |_, _, pattern, error| {
            panic!("{}: {error:?}", pattern.escape_ascii())
        })
        .expect("there is memory")
    }

    /// What is said of one pattern, whatever bytes it has.
    fn add(pattern: &[u8]) -> Result<(), PatternError> {
        let mut list = Allowlist::with_room_for(1, [pattern, b""]).expect("there is memory");
        let result = list.add(Source::Variable, pattern, pattern);
        if result.is_err() {
            let free = list.slots.iter().all(|slot| slot.length == 0);
            assert!(free && list.every == Verdict::Nothing, "a wrong pattern changes the list");
        }
        result
    }

    /// Of names between spaces, those that are listed.
    fn listed<'a>(patterns: &str, names: &'a str) -> Vec<&'a str> {
        let allowlist = allowlist(patterns);
        names.split(' ').filter(|name| allowlist.contains(name.as_bytes())).collect()
    }

    /// Tries rows of (patterns, names that they list, names that they do not).
    fn assert_lists(table: &[(&str, &str, &str)]) {
        for (patterns, wanted, others) in table {
            let seen = listed(patterns, &format!("{wanted} {others}")).join(" ");
            assert_eq!(seen, *wanted, "listed by {patterns:?} of {wanted:?} and {others:?}");
        }
    }

    #[test]
    fn each_kind_of_pattern_lists_its_names_and_no_others() {
        assert_lists(&[
            ("", "", "api.openai.com localhost a"),
            (
                "api.openai.com",
                "api.openai.com",
                "openai.com com x.api.openai.com xapi.openai.com api.openai.com.x api.openai.co",
            ),
            ("*.openai.com", "api.openai.com a.b.openai.com", "openai.com xopenai.com com"),
            (".openai.com", "openai.com api.openai.com a.b.openai.com", "xopenai.com com"),
            ("*", "a a.b 1a.b xn--bcher-kva.example _srv._tcp.a", ""),
            ("api", "api", "api.openai.com x.api"),
            ("*.com", "openai.com a.b.com", "com net"),
            ("_a-b.c_d", "_a-b.c_d", "a-b.c_d"),
            ("a.b c.d", "a.b c.d", "a.d c.b"),
        ]);
    }

    #[test]
    fn an_exemption_wins_over_every_other_pattern_in_any_order() {
        assert_lists(&[
            ("* !a.b", "x.a.b b", "a.b"),
            ("!a.b *", "x.a.b b", "a.b"),
            ("a.b !a.b", "", "a.b"),
            ("!a.b a.b", "", "a.b"),
            ("a.b !*.b", "", "a.b x.b b"),
            ("a.b !.b", "", "a.b b"),
            (".b !*.b", "b", "a.b"),
            (".b !b", "a.b", "b"),
            ("*.b !*.a.b", "a.b c.b x.c.b", "x.a.b y.x.a.b"),
            ("*.x.a.b !*.a.b", "", "y.x.a.b x.a.b"),
            ("* a.b !*", "", "a.b c"),
            ("!a", "", "a b"),
            ("!*", "", "a b"),
        ]);
    }

    #[test]
    fn a_star_leaves_out_localhost_which_any_other_pattern_may_list() {
        let names = "localhost LOCALHOST localhost. a.localhost a.b.Localhost.";
        assert_lists(&[
            ("*", "alocalhost localhost.a a.localhost.b", names),
            ("localhost", "localhost LOCALHOST localhost.", "a.localhost"),
            ("*.localhost", "a.localhost a.b.Localhost.", "localhost"),
            ("* .localhost", names, ""),
            ("!* localhost", "localhost LOCALHOST localhost.", "a.localhost a"),
        ]);
    }

    #[test]
    fn ascii_case_and_one_trailing_dot_do_not_matter() {
        let forms = "api.openai.com API.OpenAI.cOM api.openai.com. API.OPENAI.COM.";
        for pattern in forms.split(' ') {
            assert_lists(&[(pattern, forms, "api.openai.com..")]);
        }
        assert_lists(&[("*.OpenAI.Com.", forms, "openai.com"), (".COM.", forms, "net")]);
    }

    #[test]
    fn an_empty_name_is_never_listed() {
        assert_eq!(listed("* .a", ""), Vec::<&str>::new());
        assert_eq!(listed("* .a", "."), Vec::<&str>::new());
    }

    #[test]
    fn lengths_are_right_up_to_the_limits_and_wrong_beyond() {
        let label = |length| "a".repeat(length);
        let name = |length: usize| {
            let mut name = format!("{0}.{0}.{0}.", label(62));
            name.push_str(&label(63)[..length - name.len()]);
            assert_eq!(name.len(), length);
            name
        };
        let table = [
            (label(63), Ok(())),
            (label(64), Err(PatternError::LongLabel)),
            (format!("a.{}.a", label(63)), Ok(())),
            (format!("a.{}.a", label(64)), Err(PatternError::LongLabel)),
            (name(252), Ok(())),
            (format!("{}a", name(252)), Err(PatternError::LongLabel)),
            (format!("a.{}", name(251)), Ok(())),
            (format!("a.{}.", name(251)), Ok(())),
            (format!("*.a.{}", name(251)), Ok(())),
            (format!("!.a.{}.", name(251)), Ok(())),
            (format!("a.{}", name(252)), Err(PatternError::LongName)),
            (format!(".a.{}", name(252)), Err(PatternError::LongName)),
            ("a.".repeat(5_000) + "a", Err(PatternError::LongName)),
        ];
        for (pattern, wanted) in table {
            assert_eq!(add(pattern.as_bytes()), wanted, "{} bytes: {pattern}", pattern.len());
        }
        // What a program asks for has no limit.
        let longest = format!("a.{}", name(251));
        let list = allowlist("*");
        assert!(list.contains(longest.as_bytes()), "a name of 253 bytes is listed");
        assert!(list.contains(format!("{longest}.").as_bytes()), "so it is with a dot behind");
        assert!(!list.contains(format!("{longest}a").as_bytes()), "one of 254 is no host's");
        assert!(!list.contains("a".repeat(100_000).as_bytes()), "nor is one of 100,000");
    }

    #[test]
    fn about_half_of_the_slots_are_free_and_no_pattern_needs_none() {
        for (count, size) in [(0, 0), (1, 2), (2, 4), (682, 1024), (683, 2048), (1365, 2048)] {
            let list = Allowlist::with_room_for(count, [b"", b""]).expect("there is memory");
            assert_eq!(list.slots.len(), size, "slots for {count} patterns");
        }
    }

    #[test]
    fn each_invalid_pattern_gives_its_error_and_changes_nothing() {
        use PatternError::{BadByte, EmptyLabel, LongLabel, NoName, Numeric, Port, Star, Url};
        let long = "a".repeat(64);
        let table: &[(&[&str], PatternError)] = &[
            (&["!", ".", "!.", "*.", "!*.", "..", "*.."], NoName),
            (&["a..b", "..a", "*..a", "a..", "a.b..", "..."], EmptyLabel),
            (&["https://a.b/v1", "http://user@a.b:80", "x://a", "!ftp://a?b#c"], Url),
            (&["a.b:443", "a:", "*.a.b:1", "!a.b:80"], Port),
            (&["https://", "https://a..b", "a:b", "a:1:2", "://"], BadByte),
            (
                &["**", "*a", "a*", "a.*", "*.*", "*.*.a", "a.*.b", ".*", "a.*b", "!*a", "*.a*"],
                Star,
            ),
            (
                &["a b", "a/b", "ä.b", "a!", "!!a", "a%b", "a\u{0}b", "a\u{7f}", "?.a", "a=b"],
                BadByte,
            ),
            (&[&long], LongLabel),
            (
                &["127.0.0.1", "!10.0.0.1", "0x7f000001", "127.1", "::1", "*.1", ".10", "1.2.3.4."],
                Numeric,
            ),
        ];
        for (patterns, wanted) in table {
            for pattern in *patterns {
                assert_eq!(add(pattern.as_bytes()), Err(*wanted), "{pattern:?}");
            }
        }
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_alphanumeric()) {
            let right = matches!(byte, b'-' | b'_' | b'.');
            let seen = add(&[b'a', byte, b'b']).is_ok();
            assert_eq!(seen, right, "a{}b is right", char::from(byte).escape_default());
        }
    }

    #[test]
    fn the_pattern_that_decides_is_named() {
        let list = allowlist("a.b *.c .d e *.e !x.c !*.y.c Api.F.");
        for (name, wanted) in [
            ("A.B.", Some("a.b")),
            ("z.c", Some("*.c")),
            ("c", None),
            ("d", Some(".d")),
            ("z.d", Some(".d")),
            ("e", Some(".e")),
            ("x.c", Some("!x.c")),
            ("z.y.c", Some("!*.y.c")),
            ("y.c", Some("*.c")),
            ("api.f", Some("Api.F")),
            ("127.0.0.1", None),
        ] {
            let seen = list.deciding(name.as_bytes()).map(|rule| rule.to_string());
            assert_eq!(seen.as_deref(), wanted, "{name}");
        }
        assert_eq!(
            allowlist("*").deciding(b"a").map(|rule| rule.to_string()).as_deref(),
            Some("*")
        );
    }

    #[test]
    fn patterns_stand_between_separators_and_have_line_numbers() {
        use Source::{File, Variable};
        type Row<'a> = (&'a str, Source, &'a [(usize, &'a str)]);
        let table: &[Row<'_>] = &[
            ("", File, &[]),
            (" ,\t,\n\r\n\u{b}\u{c}, ", File, &[]),
            ("a", File, &[(1, "a")]),
            ("a,b", File, &[(1, "a"), (1, "b")]),
            (",a,,b,", File, &[(1, "a"), (1, "b")]),
            ("a b\tc\u{b}d\u{c}e", File, &[(1, "a"), (1, "b"), (1, "c"), (1, "d"), (1, "e")]),
            ("a\nb\n", File, &[(1, "a"), (2, "b")]),
            ("a\r\n\r\nb\r\n", File, &[(1, "a"), (3, "b")]),
            ("# a\nb # c\n#\n d#e", File, &[(2, "b"), (4, "d")]),
            ("# a\nb#c", Variable, &[(1, "#"), (1, "a"), (2, "b#c")]),
            ("\u{feff}a\nb", File, &[(1, "a"), (2, "b")]),
            ("\u{feff}a", Variable, &[(1, "\u{feff}a")]),
        ];
        for (text, source, wanted) in table {
            let seen: Vec<_> = patterns(text.as_bytes(), *source)
                .map(|(line, pattern)| (line, str::from_utf8(pattern).unwrap()))
                .collect();
            assert_eq!(seen, *wanted, "{text:?}, {source:?}");
        }
    }

    #[test]
    fn the_message_about_a_pattern_names_what_would_be_valid() {
        for (pattern, wanted) in [
            ("!", "must have a name after the !, as in !www.example.com"),
            ("*.", "must have a name after *., as in *.example.com"),
            ("!*.", "must have a name after *., as in *.example.com"),
            (".", "must have a name after the dot, as in .example.com"),
            ("..x", "must not begin with two dots"),
            ("..", "must not begin with two dots"),
            ("a..b", "must be a name without an empty label (two dots in a row)"),
            ("https://u:p@host.test:8443/v1?q#f", "is a URL; its host is host.test"),
            ("!host.test:443", "must be a name without the port: host.test"),
            (
                "api.*.com",
                "may use * only as the whole pattern or as the first label, as in *.example.com",
            ),
        ] {
            let error = add(pattern.as_bytes()).expect_err("it is invalid");
            assert_eq!(error.about(pattern.as_bytes()).to_string(), wanted, "{pattern}");
        }
    }

    /// Pseudo-random numbers that are the same in each run (splitmix64).
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        pub(crate) fn below(&mut self, end: usize) -> usize {
            usize::try_from(self.next() % end as u64).expect("less than `end`")
        }

        pub(crate) fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
            choices[self.below(choices.len())]
        }

        /// A name of few labels, so that names and patterns meet.
        fn name(&mut self) -> String {
            let labels = ["a", "b", "A", "aa", "b-_1", "localhost", "LocalHost", "7"];
            let count = self.below(3);
            let mut name = String::new();
            for _ in 0..count {
                name += self.of(&labels);
                name += ".";
            }
            name += self.of(&labels[..7]);
            name + self.of(&["", "", "", "."])
        }

        /// A pattern, now and then a wrong one.
        fn pattern(&mut self) -> String {
            let exempt = self.of(&["", "", "!"]);
            let body = match self.below(16) {
                0 => "*".to_owned(),
                1 => {
                    self.of(&["", ".", "..", "*.", "**", "a*", "a.*", "ä", "a..b", "!a"]).to_owned()
                }
                2..6 => format!("*.{}", self.name()),
                6..9 => format!(".{}", self.name()),
                _ => self.name(),
            };
            format!("{exempt}{body}")
        }
    }

    /// The contract's words, the slow and plain way: names as lists of labels.
    mod model {
        fn labels(name: &str) -> Vec<String> {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.split('.').map(str::to_ascii_lowercase).collect()
        }

        pub fn is_right(pattern: &str) -> bool {
            let pattern = pattern.strip_prefix('!').unwrap_or(pattern);
            let name = pattern.strip_prefix("*.").or(pattern.strip_prefix('.')).unwrap_or(pattern);
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            pattern == "*" || labels(name).iter().all(|l| !l.is_empty() && l.chars().all(letter))
        }

        fn matches(pattern: &str, name: &str) -> bool {
            let name = labels(name);
            let is_below = |domain: &[String]| name.len() > domain.len() && name.ends_with(domain);
            if pattern == "*" {
                name.last().unwrap() != "localhost"
            } else if let Some(domain) = pattern.strip_prefix("*.") {
                is_below(&labels(domain))
            } else if let Some(domain) = pattern.strip_prefix('.') {
                name == labels(domain) || is_below(&labels(domain))
            } else {
                name == labels(pattern)
            }
        }

        pub fn lists(patterns: &[String], name: &str) -> bool {
            let mut right = patterns.iter().filter(|pattern| is_right(pattern));
            let exempt = right.clone().filter_map(|pattern| pattern.strip_prefix('!'));
            let listed = right.any(|pattern| !pattern.starts_with('!') && matches(pattern, name));
            listed && !exempt.into_iter().any(|pattern| matches(pattern, name))
        }
    }

    #[test]
    fn any_list_of_patterns_agrees_with_a_plain_model_on_any_name() {
        let mut random = Random(20_261_121);
        let (mut right, mut wrong, mut listed, mut unlisted) = (0, 0, 0, 0);
        let mut names_seen = HashSet::new();
        for _ in 0..30_000 {
            let count = 1 + random.below(5);
            let patterns: Vec<_> = (0..count).map(|_| random.pattern()).collect();
            for pattern in &patterns {
                let (wanted, seen) = (model::is_right(pattern), add(pattern.as_bytes()));
                assert_eq!(seen.is_ok(), wanted, "pattern {pattern:?} is right: {seen:?}");
                *(if wanted { &mut right } else { &mut wrong }) += 1;
            }
            // Some of the patterns are in the variable, the others in the file.
            let (first, second) = patterns.split_at(random.below(patterns.len() + 1));
            let (variable, file) = (first.join(","), second.join("\n"));
            let ignore = |_, _, _: &[u8], _| ();
            let allowlist = Allowlist::of(variable.as_bytes(), file.as_bytes(), ignore);
            let allowlist = allowlist.expect("there is memory");
            for _ in 0..4 {
                let name = random.name();
                let (wanted, seen) =
                    (model::lists(&patterns, &name), allowlist.contains(name.as_bytes()));
                assert_eq!(seen, wanted, "{patterns:?} lists {name:?}");
                *(if wanted { &mut listed } else { &mut unlisted }) += 1;
                names_seen.insert(name);
            }
        }
        // The model proves nothing if the random names and patterns never meet.
        assert!(listed > 10_000 && unlisted > 10_000, "{listed} listed, {unlisted} not");
        assert!(right > 20_000 && wrong > 2_000, "{right} right patterns, {wrong} wrong");
        assert!(names_seen.len() > 500, "{} names", names_seen.len());
    }
}
