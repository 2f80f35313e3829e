//! The settings: whatever the environment holds, the settings are in their ranges and each problem
//! is one line.
//!
//! Input: environment entries, separated by NUL, each without its `EGRESS_SHIM`.

#![no_main]
#![allow(dead_code, reason = "the target uses its part")]

#[path = "../../../src/allowlist.rs"]
mod allowlist;
#[path = "../../../src/config.rs"]
mod config;
#[path = "../../../src/keepalive.rs"]
mod keepalive;
#[path = "../../../src/logging.rs"]
mod logging;
#[path = "../../../src/resolver.rs"]
mod resolver;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let entries: Vec<Vec<u8>> =
        input.split(|&byte| byte == 0).map(|entry| [b"EGRESS_SHIM", entry].concat()).collect();
    let (settings, problems) = config::parse(entries.iter().map(Vec::as_slice));
    if let Some(timings) = settings.keepalive {
        assert!((1..=32767).contains(&timings.idle));
        assert!((1..=32767).contains(&timings.interval));
        assert!((1..=127).contains(&timings.count));
    }
    if let Some(log) = &settings.log {
        // env_logger would complain on standard error about a filter that it does not understand.
        assert!(!log.filter.contains('/'));
        env_logger::Builder::new().parse_filters(&log.filter).build();
    }
    for problem in problems {
        let line = problem.to_string();
        assert!(line.starts_with("EGRESS_SHIM"), "{line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
    }
});
