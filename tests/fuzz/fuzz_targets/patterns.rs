//! Patterns and matching against a model that is slow and plain.
//!
//! Input: patterns, a line feed, a name.

#![no_main]


use egress_shim_core::allowlist::{Allowlist, Source, patterns};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (text, name) = input.split_at(end);
    let name = name.get(1..).unwrap_or_default();
    let mut wrong = Vec::new();
    let list = Allowlist::of(text, b"", |_, _, pattern, _| wrong.push(pattern.to_vec()));
    let allowlist = list.expect("there is memory");
    let right: Vec<&[u8]> = patterns(text, Source::Variable)
        .map(|(_, pattern)| pattern)
        .filter(|pattern| !wrong.iter().any(|wrong| wrong == pattern))
        .collect();
    assert_eq!(allowlist.contains(name), model(&right, name), "{right:?} {name:?}");
});

/// Whether right patterns list a name, word for word as the README says it.
fn model(patterns: &[&[u8]], name: &[u8]) -> bool {
    let name = normal(name);
    let numeric = name.contains(':') || is_ipv4(&name);
    if name.is_empty() || name == "*" || name.chars().count() > 253 || numeric {
        return false;
    }
    let any = |exempt: bool| {
        patterns.iter().any(|pattern| {
            let pattern = normal(pattern);
            let (this_exempts, pattern) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, pattern.as_str()),
            };
            this_exempts == exempt && matches(pattern, &name)
        })
    };
    any(false) && !any(true)
}

fn matches(pattern: &str, name: &str) -> bool {
    if pattern == "*" {
        return name != "localhost" && !name.ends_with(".localhost");
    }
    if let Some(domain) = pattern.strip_prefix("*.") {
        return name.ends_with(&format!(".{domain}"));
    }
    if let Some(domain) = pattern.strip_prefix('.') {
        return name == domain || name.ends_with(&format!(".{domain}"));
    }
    name == pattern
}

/// Lower case, one trailing dot less, each byte as one character.
fn normal(name: &[u8]) -> String {
    let name = name.strip_suffix(b".").unwrap_or(name);
    name.to_ascii_lowercase().into_iter().map(char::from).collect()
}

/// Whether libc takes the name for an IPv4 address.
fn is_ipv4(name: &str) -> bool {
    unsafe extern "C" {
        fn inet_aton(text: *const std::ffi::c_char, address: *mut u32) -> std::ffi::c_int;
    }
    let Ok(text) = std::ffi::CString::new(name) else { return false };
    let mut address = 0;
    // It also takes an address with white space and anything behind it, which no lookup does.
    // SAFETY: a C string and a local of the size of a struct in_addr.
    !name.contains(|byte: char| byte.is_ascii_whitespace() || byte == '\x0b')
        && unsafe { inet_aton(text.as_ptr(), &raw mut address) } != 0
}
