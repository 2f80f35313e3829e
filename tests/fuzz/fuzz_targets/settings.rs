//! The settings: whatever the environment holds, the settings are in their ranges and each problem
//! is one line.
//!
//! Input: environment entries, separated by NUL, each without its `EGRESS_SHIM`.

#![no_main]

use egress_shim_core::settings::{Problem, Values, load_allowlist, log_directives, report_unknown};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let entries: Vec<Vec<u8>> =
        input.split(|&byte| byte == 0).map(|entry| [b"EGRESS_SHIM", entry].concat()).collect();
    let entries = || entries.iter().map(Vec::as_slice);
    let mut lines = Vec::new();
    let report = &mut |problem: &Problem<'_>| lines.push(problem.to_string());
    let values = Values::of(entries());
    report_unknown(entries(), report);
    let settings = values.parse(report);
    if let Some(keepalive) = settings.keepalive {
        assert!((1..=32767).contains(&keepalive.timings.idle));
        assert!((1..=32767).contains(&keepalive.timings.interval));
        assert!((1..=127).contains(&keepalive.timings.count));
        assert!(keepalive.user_timeout.is_none_or(|seconds| (1..=2_147_483).contains(&seconds)));
    }
    if let Some(log) = &settings.log {
        let mut builder = env_logger::Builder::new();
        for (module, level) in log_directives(log.filter).filter_map(Result::ok) {
            builder.filter(module, level);
        }
        builder.build();
    }
    let file = Some((&b"/list"[..], settings.ipv4_only));
    load_allowlist(settings.ipv4_only, file, report).expect("there is memory");
    for line in lines {
        assert!(line.starts_with("EGRESS_SHIM"), "{line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
    }
});
