//! The allowlist: host patterns and their matching. It knows names, not settings or sockets.
//!
//! A lookup looks at the name and at each domain above it, so its cost grows with the number of
//! labels in the name and not with the number of patterns.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::net::Ipv6Addr;

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
            Self::EmptyLabel => "there is no name, or an empty label in it (two dots in a row)",
            Self::LongLabel => "a label has at most 63 bytes",
            Self::LongName => "a name has at most 253 bytes",
            Self::BadByte => {
                "a host name is letters, digits, -, _ and dots, without scheme, port or path (other \
                 scripts as xn--...)"
            }
            Self::Star => "a * stands alone or is the whole first label, as in *.example.com",
            Self::Numeric => "it is an address, and only names are matched",
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
        // glibc takes the node `*` for none at all.
        if name.is_empty() || name == b"*" || is_numeric(name) {
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
    // With a colon it may also be a name with a port, or a URL.
    let is_ipv6 = || str::from_utf8(name).is_ok_and(|name| name.parse::<Ipv6Addr>().is_ok());
    if is_numeric(name) && (!name.contains(&b':') || is_ipv6()) {
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
    fn allowlist(patterns: &str) -> Allowlist {
        let mut allowlist = Allowlist::default();
        for pattern in patterns.split(' ').filter(|pattern| !pattern.is_empty()) {
            assert_eq!(allowlist.add(pattern.as_bytes()), Ok(()), "adding {pattern:?}");
        }
        allowlist
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
        let add = |pattern: String| Allowlist::default().add(pattern.as_bytes());
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
            assert_eq!(add(pattern.clone()), wanted, "{} bytes: {pattern}", pattern.len());
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
    fn each_wrong_pattern_gives_its_error_and_changes_nothing() {
        use PatternError::{BadByte, EmptyLabel, LongLabel, Numeric, Star};
        let long = "a".repeat(64);
        let table: &[(&[&str], PatternError)] = &[
            (
                &["!", ".", "!.", "*.", "!*.", "..", "a..b", "..a", "*..a", "a..", "a.b.."],
                EmptyLabel,
            ),
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
                let mut list = allowlist("a.b");
                let before = format!("{list:?}");
                assert_eq!(list.add(pattern.as_bytes()), Err(*wanted), "{pattern:?}");
                assert_eq!(format!("{list:?}"), before, "the list after {pattern:?}");
            }
        }
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_alphanumeric()) {
            let right = matches!(byte, b'-' | b'_' | b'.');
            let seen = Allowlist::default().add(&[b'a', byte, b'b']).is_ok();
            assert_eq!(seen, right, "a{}b is right", char::from(byte).escape_default());
        }
    }

    /// Whether libc takes a name for an address: it then answers without asking anybody.
    fn is_numeric_to_libc(name: &str) -> bool {
        let name = std::ffi::CString::new(name).expect("no NUL");
        // SAFETY: all zeros are valid hints; the pointers are to locals and the list is freed once.
        unsafe {
            let mut hints: libc::addrinfo = std::mem::zeroed();
            hints.ai_flags = libc::AI_NUMERICHOST;
            let mut list = std::ptr::null_mut();
            let hints = &raw const hints;
            if libc::getaddrinfo(name.as_ptr(), std::ptr::null(), hints, &raw mut list) != 0 {
                return false;
            }
            libc::freeaddrinfo(list);
            true
        }
    }

    #[test]
    fn what_libc_takes_for_an_address_is_never_listed() {
        let known = "127.0.0.1 127.0.1 127.1 1 0 00 017.1 0x7f.1 0X7F000001 0x7F.0.0.0x1 \
                     4294967295 0xffffffff 037777777777 1.16777215 255.255.255.255 \
                     :: ::1 fe80::1%lo fe80::1%1 2001:db8::192.0.2.1 ::ffff:192.0.2.1 0:0:0:0:0:0:0:1";
        let list = allowlist("* a");
        for name in known.split(' ') {
            assert!(is_numeric_to_libc(name), "libc takes {name} for an address");
            assert!(!list.contains(name.as_bytes()), "{name} is not listed");
        }
        let parts =
            ["0", "1", "9", "010", "0x1f", "0XA", "255", "256", "65536", "x", "0x", "1a", ""];
        let (mut numeric, mut random) = (0, Random(1));
        for _ in 0..20_000 {
            let count = 1 + random.below(5);
            let name = (0..count).map(|_| random.of(&parts)).collect::<Vec<_>>().join(".");
            let wanted = is_numeric_to_libc(&name);
            assert_eq!(is_numeric(name.as_bytes()), wanted, "{name} is an address");
            numeric += i32::from(wanted);
        }
        assert!(numeric > 1_000, "only {numeric} of the names were addresses");
    }

    #[test]
    fn a_name_that_only_looks_like_an_address_is_a_name() {
        // Docker's swarm names tasks web.1; a container's host name may be twelve digits.
        let names = "web.1 a.0x1 1.2.3.4.5 256.1.1.1 123456789012 08 0x 1.2.3.4.example";
        for name in names.split(' ') {
            assert!(!is_numeric_to_libc(name), "libc takes {name} for a name");
            assert_eq!(Allowlist::default().add(name.as_bytes()), Ok(()), "pattern {name}");
            assert_eq!(listed("*", name), [name]);
        }
    }

    #[test]
    fn patterns_are_what_stands_between_separators_with_the_numbers_of_their_lines() {
        type Row<'a> = (&'a str, bool, &'a [(usize, &'a str)]);
        let table: &[Row<'_>] = &[
            ("", true, &[]),
            (" ,\t,\n\r\n\u{b}\u{c}, ", true, &[]),
            ("a", true, &[(1, "a")]),
            ("a,b", true, &[(1, "a"), (1, "b")]),
            (",a,,b,", true, &[(1, "a"), (1, "b")]),
            ("a b\tc\u{b}d\u{c}e", true, &[(1, "a"), (1, "b"), (1, "c"), (1, "d"), (1, "e")]),
            ("a\nb\n", true, &[(1, "a"), (2, "b")]),
            ("a\r\n\r\nb\r\n", true, &[(1, "a"), (3, "b")]),
            ("# a\nb # c\n#\n d#e", true, &[(2, "b"), (4, "d")]),
            ("# a\nb#c", false, &[(1, "#"), (1, "a"), (2, "b#c")]),
        ];
        for (text, comments, wanted) in table {
            let seen: Vec<_> = patterns(text.as_bytes(), *comments)
                .map(|(line, pattern)| (line, str::from_utf8(pattern).unwrap()))
                .collect();
            assert_eq!(seen, *wanted, "{text:?}, comments {comments}");
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
            let mut allowlist = Allowlist::default();
            for pattern in &patterns {
                let (wanted, seen) = (model::is_right(pattern), allowlist.add(pattern.as_bytes()));
                assert_eq!(seen.is_ok(), wanted, "pattern {pattern:?} is right: {seen:?}");
                *(if wanted { &mut right } else { &mut wrong }) += 1;
            }
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
