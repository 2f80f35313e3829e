//! The allowlist: host patterns and their matching. It knows names, not settings or sockets.
//!
//! A lookup tries the name and each domain above it, so its cost grows with the number of labels in
//! the name and not with the number of patterns. The list is one block of atomic words, without
//! references to the texts that it was made of. So the library can write a new list over an old one while
//! another thread reads that. The reader may then get a wrong answer, which it throws away, but never makes an
//! invalid access.

use std::fmt;
use std::hash::Hasher;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
///
/// The words are, in this order: the header; the slots of a hash table of the patterns' domains, with linear
/// probing; the domains in lower case, eight bytes a word.
#[derive(Debug, Default)]
pub struct Allowlist<W = Vec<AtomicU64>> {
    words: W,
}

/// The text that a pattern comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The value of the variable.
    Variable,
    /// The text of the file.
    File,
}

fn low_half(word: u64) -> usize {
    usize::try_from(word & u64::from(u32::MAX)).unwrap_or_default()
}

/// The first word of a list: the number of slots, which is zero or a power of two, and the verdicts of `*` and `!*`.
#[derive(Clone, Copy)]
struct Header(u64);

impl Header {
    fn new(slots: u32, every: Verdict) -> Self {
        Self(u64::from(slots) | every.bits() << 32)
    }

    fn slots(self) -> usize {
        low_half(self.0)
    }

    fn every(self) -> Verdict {
        Verdict::from_bits(self.0 >> 32)
    }
}

/// A domain, with the patterns' verdicts on it and on the names below it. A zero slot is free.
#[derive(Clone, Copy)]
struct Slot(u64);

impl Slot {
    /// The part of the domain's hash that its slot holds.
    const TAG_SHIFT: u32 = 44;

    fn new(start: u32, length: u8, hash: u64) -> Self {
        Self(
            u64::from(start) | u64::from(length) << 32 | hash >> Self::TAG_SHIFT << Self::TAG_SHIFT,
        )
    }

    fn is_free(self) -> bool {
        self.0 == 0
    }

    /// The start of the domain, in bytes from the start of the first domain.
    fn start(self) -> usize {
        low_half(self.0)
    }

    fn length(self) -> usize {
        (self.0 >> 32 & 0xff) as usize
    }

    /// The verdict on the domain itself.
    fn name(self) -> Verdict {
        Verdict::from_bits(self.0 >> 40)
    }

    /// The verdict on the names below it.
    fn below(self) -> Verdict {
        Verdict::from_bits(self.0 >> 42)
    }

    fn has_tag_of(self, hash: u64) -> bool {
        self.0 >> Self::TAG_SHIFT == hash >> Self::TAG_SHIFT
    }

    /// The slot after one more pattern has been added.
    fn with(self, name: Verdict, below: Verdict) -> Self {
        let (name, below) = (self.name().with(name), self.below().with(below));
        let others = self.0 & !(0b1111 << 40);
        Self(others | name.bits() << 40 | below.bits() << 42)
    }
}

/// The verdict of the patterns on one name. A name that is both listed and exempt is exempt.
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

    /// The verdict of two patterns together.
    fn with(self, other: Self) -> Self {
        if self == Self::Exempt || other == Self::Nothing { self } else { other }
    }

    fn bits(self) -> u64 {
        self as u64
    }

    /// The verdict in the lowest two bits.
    fn from_bits(bits: u64) -> Self {
        match bits & 0b11 {
            0 => Self::Nothing,
            1 => Self::Listed,
            _ => Self::Exempt,
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

/// As the pattern would be written, in lower case: `*.example.com` and `example.com` together are
/// `.example.com`.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.listed { "" } else { "!" }, self.prefix)?;
        self.domain
            .iter()
            .try_for_each(|byte| write!(f, "{}", byte.to_ascii_lowercase().escape_ascii()))
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
    /// A URL instead of a name.
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

/// The host in a URL (RFC 3986, section 3.2): the part after `://` or a user's `@`, and before a port or a path.
fn host_of_url(text: &[u8]) -> Option<&[u8]> {
    let start = text.windows(3).position(|window| window == b"://")? + 3;
    let rest = text.get(start..)?;
    let authority = rest.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()?;
    let host = authority.rsplit(|&byte| byte == b'@').next()?;
    host.split(|&byte| byte == b':').next()
}

impl Allowlist {
    /// The list of the patterns in two texts. Each invalid pattern is left out and given to `invalid`, with its
    /// text and line.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn of(
        variable: &[u8],
        file: &[u8],
        invalid: impl FnMut(Source, usize, &[u8], PatternError),
    ) -> Result<Self, OutOfMemory> {
        let list = Self::with_room_for(variable, file)?;
        list.fill(variable, file, invalid);
        Ok(list)
    }

    /// An empty list with room for the patterns in two texts.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn with_room_for(variable: &[u8], file: &[u8]) -> Result<Self, OutOfMemory> {
        let count = words_for(variable, file);
        let mut words = Vec::new();
        words.try_reserve_exact(count).map_err(|_| OutOfMemory)?;
        words.resize_with(count, AtomicU64::default);
        Ok(Self { words })
    }
}

/// The number of words that a list of two texts needs.
#[must_use]
pub fn words_for(variable: &[u8], file: &[u8]) -> usize {
    let (mut count, mut length) = (0, 0);
    for (source, text) in [(Source::Variable, variable), (Source::File, file)] {
        for (_, pattern) in patterns(text, source) {
            count += 1;
            length += pattern.len();
        }
    }
    1 + slots_for(count) + length.div_ceil(size_of::<u64>())
}

/// The number of slots for this many patterns. About half of them are free, so that probing ends soon.
fn slots_for(patterns: usize) -> usize {
    if patterns == 0 { 0 } else { (patterns + patterns / 2 + 1).next_power_of_two() }
}

impl<W: AsRef<[AtomicU64]>> Allowlist<W> {
    /// The list that these words hold. No words are the empty list.
    pub fn in_words(words: W) -> Self {
        Self { words }
    }

    /// Writes the list of two texts over the contents of the words. There must be at least as many words as
    /// [`words_for`] returns. Nobody else may write meanwhile. Each invalid pattern is left out and given to
    /// `invalid`, with its text and line.
    pub fn fill(
        &self,
        variable: &[u8],
        file: &[u8],
        mut invalid: impl FnMut(Source, usize, &[u8], PatternError),
    ) {
        let needed = words_for(variable, file);
        for word in self.words.as_ref().iter().take(needed) {
            word.store(0, Relaxed);
        }
        let texts = [(Source::Variable, variable), (Source::File, file)];
        let count = texts.iter().map(|(source, text)| patterns(text, *source).count()).sum();
        // The texts fit into memory, and 16 bytes of text need no more than two slots.
        let slots = u32::try_from(slots_for(count)).unwrap_or(0);
        self.store(0, Header::new(slots, Verdict::Nothing).0);
        let mut used = 0;
        for (source, text) in texts {
            for (line, pattern) in patterns(text, source) {
                if let Err(error) = self.add(pattern, &mut used) {
                    invalid(source, line, pattern, error);
                }
            }
        }
    }

    /// Adds one pattern. `used` counts the bytes of the domains.
    fn add(&self, pattern: &[u8], used: &mut usize) -> Result<(), PatternError> {
        let (exempt, rest) = match pattern.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let verdict = Verdict::of(exempt);
        let header = self.header();
        if rest == b"*" {
            let slots = u32::try_from(header.slots()).unwrap_or_default();
            self.store(0, Header::new(slots, header.every().with(verdict)).0);
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
        let mut lower = LowerCase::new();
        let (Some(domain), Ok(start), Ok(length)) =
            (lower.of(name), u32::try_from(*used), u8::try_from(name.len()))
        else {
            return Err(PatternError::LongName);
        };
        let hash = hash_of(domain);
        let Some((index, mut slot)) = self.position(domain, hash) else { return Ok(()) };
        if slot.is_free() {
            slot = Slot::new(start, length, hash);
            for byte in domain {
                self.store_byte(1 + header.slots(), *used, *byte);
                *used += 1;
            }
        }
        let of = |applies| if applies { verdict } else { Verdict::Nothing };
        self.store(1 + index, slot.with(of(itself), of(below)).0);
        Ok(())
    }

    fn word(&self, index: usize) -> Option<u64> {
        Some(self.words.as_ref().get(index)?.load(Relaxed))
    }

    fn store(&self, index: usize, value: u64) {
        if let Some(word) = self.words.as_ref().get(index) {
            word.store(value, Relaxed);
        }
    }

    fn store_byte(&self, first_word: usize, index: usize, byte: u8) {
        let (word, shift) = (first_word + index / 8, index % 8 * 8);
        self.store(word, self.word(word).unwrap_or_default() | u64::from(byte) << shift);
    }

    fn header(&self) -> Header {
        Header(self.word(0).unwrap_or_default())
    }

    /// The slot of a domain in lower case and its index, or the free slot that the domain would get; `None` in a list
    /// without slots.
    fn position(&self, domain: &[u8], hash: u64) -> Option<(usize, Slot)> {
        let slots = self.header().slots();
        let mask = slots.checked_sub(1)?;
        #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let start = hash as usize;
        // There is always a free slot, unless another thread writes meanwhile.
        (0..slots).find_map(|step| {
            let index = start.wrapping_add(step) & mask;
            let slot = Slot(self.word(1 + index).unwrap_or_default());
            let is_it = slot.is_free()
                || slot.has_tag_of(hash) && self.is_domain_of(slot, 1 + slots, domain);
            is_it.then_some((index, slot))
        })
    }

    fn is_domain_of(&self, slot: Slot, first_word: usize, domain: &[u8]) -> bool {
        let bytes = slot.start()..slot.start() + slot.length();
        let byte = |index: usize| {
            #[allow(clippy::cast_possible_truncation, reason = "one byte of the word")]
            self.word(first_word + index / 8).map(|word| (word >> (index % 8 * 8)) as u8)
        };
        slot.length() == domain.len()
            && bytes.zip(domain).all(|(index, wanted)| byte(index) == Some(*wanted))
    }

    /// The slot of a domain, which is in lower case.
    fn find(&self, domain: &[u8]) -> Option<Slot> {
        let (_, slot) = self.position(domain, hash_of(domain))?;
        Some(slot).filter(|slot| !slot.is_free())
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
    pub fn deciding<'a>(&self, node: &'a [u8]) -> Option<Rule<'a>> {
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
        let mut lower = LowerCase::new();
        let mut lower = lower.of(name)?;
        if let Some(slot) = self.find(lower) {
            let prefix = if slot.below() == slot.name() { "." } else { "" };
            consider(slot.name(), prefix, name);
        }
        if !is_localhost(name) {
            consider(self.header().every(), "", b"*");
        }
        while let Some(dot) = lower.iter().position(|&byte| byte == b'.') {
            lower = lower.get(dot + 1..).unwrap_or_default();
            if let Some(slot) = self.find(lower) {
                let prefix = if slot.below() == slot.name() { "." } else { "*." };
                let domain = name.get(name.len() - lower.len()..).unwrap_or_default();
                consider(slot.below(), prefix, domain);
            }
        }
        decided
    }
}

/// Room for a name in lower case.
struct LowerCase([u8; LONGEST_NAME]);

impl LowerCase {
    fn new() -> Self {
        Self([0; LONGEST_NAME])
    }

    /// The name in lower case; `None` if it is longer than a name may be.
    fn of(&mut self, name: &[u8]) -> Option<&[u8]> {
        let room = self.0.get_mut(..name.len())?;
        room.copy_from_slice(name);
        room.make_ascii_lowercase();
        Some(room)
    }
}

/// A hash without a secret key: the patterns come from the person who runs the program.
fn hash_of(domain: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(domain);
    hasher.finish()
}

/// Whether any pattern could list a node: whether it is a name of at most 253 bytes and not an address. glibc takes the
/// node `*` for a missing node.
#[must_use]
pub fn can_be_listed(node: &[u8]) -> bool {
    let name = without_trailing_dot(node);
    !name.is_empty() && name.len() <= LONGEST_NAME && name != b"*" && !is_numeric(name)
}

/// Whether a name is `localhost` or below it. Such a name is listed only by a pattern that names it.
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

/// Checks that a text is a host's name: labels of 1-63 letters, digits, `-` and `_`, at most 253 bytes, and not an
/// address.
///
/// # Errors
/// The reason why it is not a host's name.
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

/// Whether libc takes the name for an address. An IPv6 address has a colon. An IPv4 address is any text that
/// `inet_aton(3)` accepts: up to four numbers, of which the last fills the remaining bytes
/// (`127.0.0.1`, `127.1`, `0x7f000001`).
fn is_numeric(name: &[u8]) -> bool {
    if is_dotted_quad(name) || name.contains(&b':') {
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

/// Whether a name is an IPv4 address in the usual form. Most numeric lookups are, and so cost one walk.
fn is_dotted_quad(name: &[u8]) -> bool {
    let (mut dots, mut digits, mut number) = (0, 0, 0);
    for &byte in name {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit <= 9 {
            // A second digit after 0 makes the number octal, which the general way handles.
            if digits > 0 && number == 0 {
                return false;
            }
            digits += 1;
            number = number * 10 + digit;
            if number > 255 {
                return false;
            }
        } else if byte == b'.' && digits > 0 && dots < 3 {
            (dots, digits, number) = (dots + 1, 0, 0);
        } else {
            return false;
        }
    }
    dots == 3 && digits > 0
}

/// A number as strtoul(3) reads it in base 0: decimal, octal after `0`, hexadecimal after `0x`.
fn number(text: &[u8]) -> Option<u64> {
    let (digits, radix) = match text {
        [b'0', b'x' | b'X', hex @ ..] => (hex, 16),
        [b'0', _, ..] => (text, 8),
        _ => (text, 10),
    };
    if digits.is_empty() {
        return None;
    }
    // Each lookup of a numeric address comes here, and this loop costs a third of std's parser.
    digits.iter().try_fold(0_u64, |value, &byte| {
        let digit = char::from(byte).to_digit(radix)?;
        value.checked_mul(radix.into())?.checked_add(digit.into())
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The list of patterns between spaces, all of them right.
    fn allowlist(patterns: &str) -> Allowlist {
        Allowlist::of(patterns.as_bytes(), b"", |_, _, pattern, error| {
            panic!("{}: {error:?}", pattern.escape_ascii())
        })
        .expect("there is memory")
    }

    /// What is said of one pattern, whatever bytes it has.
    fn add(pattern: &[u8]) -> Result<(), PatternError> {
        let words: Vec<_> = (0..5 + pattern.len()).map(|_| AtomicU64::default()).collect();
        let list = Allowlist::in_words(words);
        list.store(0, Header::new(4, Verdict::Nothing).0);
        let result = list.add(pattern, &mut 0);
        if result.is_err() {
            let free = (1..=4).all(|slot| list.word(slot) == Some(0));
            assert!(free && list.header().every() == Verdict::Nothing, "it changes the list");
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

    /// As a reader finds it while another thread writes.
    #[test]
    fn words_that_are_no_list_give_some_answer() {
        let mut random = Random(7);
        for round in 0..20_000 {
            let count = random.below(40);
            let words = (0..count).map(|_| AtomicU64::new(random.next() >> random.below(64)));
            let list = Allowlist::in_words(words.collect::<Vec<_>>());
            let _ = list.contains(random.name().as_bytes());
            // A header that fits, before slots that do not.
            if count > 0 {
                let slots = if round % 2 == 0 { 16 } else { u32::MAX };
                list.store(0, Header::new(slots, Verdict::Exempt).0);
                let _ = list.contains(random.name().as_bytes());
            }
        }
    }

    #[test]
    fn a_list_written_over_another_is_as_if_it_had_been_first() {
        let mut random = Random(11);
        let texts: Vec<_> = (0..40)
            .map(|_| (0..random.below(9)).map(|_| random.pattern() + " ").collect::<String>())
            .collect();
        let list = Allowlist::with_room_for(&[b'a', b' '].repeat(500), b"").expect("memory");
        for _ in 0..2_000 {
            let text = random.of(&texts.iter().map(String::as_str).collect::<Vec<_>>()).as_bytes();
            list.fill(text, b"", |_, _, _, _| ());
            let fresh = Allowlist::of(text, b"", |_, _, _, _| ()).expect("memory");
            let name = random.name();
            let name = name.as_bytes();
            assert_eq!(list.contains(name), fresh.contains(name), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn about_half_of_the_slots_are_free_and_no_pattern_needs_none() {
        for (count, size) in [(0, 0), (1, 2), (2, 4), (682, 1024), (683, 2048), (1365, 2048)] {
            assert_eq!(slots_for(count), size, "slots for {count} patterns");
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
            ("api.f", Some("api.f")),
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
