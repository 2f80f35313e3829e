//! The lines of the library's log: `2026-11-21T03:10:57Z egress-shim[PID] LEVEL: MESSAGE`.

use std::fs;
use std::path::Path;

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub level: &'a str,
    pub message: &'a str,
}

impl<'a> Line<'a> {
    /// A whole line; `None` if it is anything else, two lines in one for instance.
    fn of(line: &'a str) -> Option<Self> {
        let (time, rest) = line.split_at_checked(20)?;
        let shape: Vec<u8> =
            time.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte }).collect();
        let (process, rest) = rest.strip_prefix(" egress-shim[")?.split_once("] ")?;
        let (level, message) = rest.split_once(": ")?;
        let whole = shape == b"0000-00-00T00:00:00Z"
            && process.parse::<u32>().is_ok()
            && ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level)
            && !message.is_empty()
            && !message.contains("egress-shim[");
        whole.then_some(Self { level, message })
    }

    /// Its level and the first word of its message.
    pub fn kind(&self) -> String {
        format!("{} {}", self.level, self.message.split(' ').next().unwrap_or_default())
    }
}

/// The lines of a log, each of which must be whole.
#[track_caller]
pub fn lines(log: &str) -> Vec<Line<'_>> {
    assert!(log.is_empty() || log.ends_with('\n'), "the log's last line is whole: {log:?}");
    let line = |line| Line::of(line).unwrap_or_else(|| panic!("a whole line of the log: {line:?}"));
    log.lines().map(line).collect()
}

/// Asserts that a log file has at least `least` lines, each of them whole.
#[track_caller]
pub fn expect_lines(log: &Path, least: usize) {
    let bytes = fs::read(log).unwrap_or_default();
    let seen = lines(&String::from_utf8_lossy(&bytes)).len();
    assert!(seen >= least, "lines in the log\n  wanted {least} or more\n  seen   {seen}");
}
