//! Reports of `--check`, `--inspect` and `--rescue`: text for people, or one JSON document for scripts, of the
//! same findings. The last line of the text is the most serious finding and what to do.
//!
//! Text that a foreign process, file or name server controls goes through [`escape`] first.

use std::ffi::c_int;
use std::fmt::{Display, Write as _};
use std::io::IsTerminal;

use serde_json::{Value, json};

use crate::finding::{self, Finding, Severity};
use crate::output::{Failure, print};

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON document.
    Json,
}

/// A report that is being made.
pub struct Report {
    task: &'static str,
    format: Format,
}

/// The width of the labels.
const LABEL: usize = 12;

impl Report {
    /// Begins a report of a task: `check`, `inspect`, `rescue`.
    pub fn new(task: &'static str, format: Format) -> Self {
        Self { task, format }
    }

    /// Prints a line of the text. In a JSON document the facts of [`Report::end`] have its content.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn line(&self, label: &str, value: impl Display) -> Result<(), Failure> {
        match self.format {
            Format::Text => print(&format!("{label:<LABEL$}{value}\n")),
            Format::Json => Ok(()),
        }
    }

    /// Prints an empty line of the text.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn gap(&self) -> Result<(), Failure> {
        if self.format == Format::Text { print("\n") } else { Ok(()) }
    }

    /// Ends the report. A text ends with the other findings, most serious first, and the verdict as the last line. A JSON
    /// document gets the members of `facts`. Returns the exit status: 1 if something is wrong.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn end(
        &self,
        findings: Vec<Finding>,
        nothing: &str,
        facts: Value,
    ) -> Result<c_int, Failure> {
        self.end_with(None, findings, nothing, facts)
    }

    /// The same, with its own exit status.
    ///
    /// # Errors
    /// Standard output cannot be written to.
    pub fn end_with(
        &self,
        status: Option<c_int>,
        mut findings: Vec<Finding>,
        nothing: &str,
        facts: Value,
    ) -> Result<c_int, Failure> {
        finding::sort(&mut findings);
        let is_wrong = findings.first().is_some_and(Finding::is_wrong);
        let status = status.unwrap_or(c_int::from(is_wrong));
        let verdict = verdict(&findings, nothing);
        if self.format == Format::Json {
            let mut document = json!({
                "egress_shim": env!("CARGO_PKG_VERSION"),
                "task": self.task,
                "status": status,
                "verdict": verdict,
                "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
            });
            if let (Value::Object(document), Value::Object(facts)) = (&mut document, facts) {
                document.extend(facts);
            }
            print(&format!("{document:#}\n"))?;
            return Ok(status);
        }
        for finding in findings.iter().skip(1) {
            self.line(finding.severity.name(), finding.line())?;
        }
        let severity = findings.first().map(|finding| finding.severity);
        print(&format!("{}\n", colored(&verdict, severity, is_colorful())))?;
        Ok(status)
    }
}

/// The last line.
fn verdict(findings: &[Finding], nothing: &str) -> String {
    match findings.first() {
        None => nothing.to_owned(),
        Some(finding) if finding.is_wrong() => finding.line(),
        Some(finding) => format!("{nothing}, but {}", finding.line()),
    }
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "code": finding.code,
        "severity": finding.severity.name(),
        "subject": finding.subject,
        "sentence": finding.sentence,
        "action": finding.action,
    })
}

/// Whether standard output is a terminal that is to have colours: <https://no-color.org>.
fn is_colorful() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

fn colored(line: &str, severity: Option<Severity>, is_colorful: bool) -> String {
    let color = match severity {
        _ if !is_colorful => return line.to_owned(),
        Some(Severity::Error) => 31,
        Some(Severity::Warning) => 33,
        Some(Severity::Note) | None => 32,
    };
    format!("\x1b[1;{color}m{line}\x1b[0m")
}

/// Foreign bytes as text that cannot forge a line, move the cursor or turn the reading direction. Each byte that is not
/// part of a printable character of valid UTF-8 becomes `\xNN`; a new line, a tab and a backslash become `\n`, `\t` and
/// `\\`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                _ if is_printable(character) => text.push(character),
                _ => {
                    let mut buffer = [0; 4];
                    escape_bytes(character.encode_utf8(&mut buffer).as_bytes(), &mut text);
                }
            }
        }
        escape_bytes(chunk.invalid(), &mut text);
    }
    text
}

/// The same, cut to `most` bytes. A cut text ends with a mark and its length.
pub fn escape_short(bytes: &[u8], most: usize) -> String {
    match bytes.get(..most) {
        Some(start) if bytes.len() > most => {
            format!("{}... ({} bytes)", escape(start), bytes.len())
        }
        _ => escape(bytes),
    }
}

fn escape_bytes(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Whether a terminal shows a character in place, with no other effect.
pub fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            // Marks of the reading direction, joiners and other characters without a width, line separators,
            // variation selectors, tags, private use.
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity) -> Finding {
        let [subject, sentence, action] = ["7 (app)", "it hangs", "wake it"].map(str::to_owned);
        Finding { code: "hangs", severity, subject, sentence, action }
    }

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        for (bytes, text) in [
            (&b"plain text"[..], "plain text"),
            ("caf\u{e9} \u{2713}".as_bytes(), "caf\u{e9} \u{2713}"),
            (b"\x1b[31m", "\\x1b[31m"),
            (b"a\nlibrary  b\r\t\x07\x7f", "a\\nlibrary  b\\x0d\\t\\x07\\x7f"),
            ("\u{9b}31m".as_bytes(), "\\xc2\\x9b31m"),
            ("\u{202e}cod".as_bytes(), "\\xe2\\x80\\xaecod"),
            ("\u{2066}\u{200f}".as_bytes(), "\\xe2\\x81\\xa6\\xe2\\x80\\x8f"),
            (b"\xff\xc3", "\\xff\\xc3"),
            (b"\\x1b", "\\\\x1b"),
        ] {
            assert_eq!(escape(bytes), text);
        }
    }

    #[test]
    fn what_is_long_is_cut_and_that_is_said() {
        assert_eq!(escape_short(b"abcdef", 6), "abcdef");
        assert_eq!(escape_short(b"abcdef", 3), "abc... (6 bytes)");
        // In the middle of a character.
        assert_eq!(escape_short("a\u{e9}".as_bytes(), 2), "a\\xc3... (3 bytes)");
    }

    #[test]
    fn a_verdict_stands_out_on_a_terminal_alone() {
        assert_eq!(colored("line", Some(Severity::Error), true), "\x1b[1;31mline\x1b[0m");
        assert_eq!(colored("line", Some(Severity::Warning), true), "\x1b[1;33mline\x1b[0m");
        assert_eq!(colored("line", None, true), "\x1b[1;32mline\x1b[0m");
        assert_eq!(colored("line", Some(Severity::Error), false), "line");
    }

    #[test]
    fn a_note_alone_does_not_make_it_wrong() {
        assert_eq!(verdict(&[], "nothing is wrong"), "nothing is wrong");
        assert_eq!(verdict(&[finding(Severity::Error)], "fine"), "7 (app): it hangs; wake it");
        let line = verdict(&[finding(Severity::Note)], "nothing is wrong");
        assert_eq!(line, "nothing is wrong, but 7 (app): it hangs; wake it");
    }
}
