//! A finding of `--check`, `--inspect` or `--rescue`, for people and for scripts.

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong, but something is worth knowing, for instance what could not be seen.
    Note,
    /// Something will go wrong later, or does not work as intended.
    Warning,
    /// Something hangs or fails now.
    Error,
}

impl Severity {
    /// The word for it, in the text and in the JSON document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A problem, and what to do. All texts are escaped ([`crate::report::escape`]) where they hold foreign bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A stable name, in lower case with hyphens; the manual page lists them.
    pub code: &'static str,
    /// Its severity.
    pub severity: Severity,
    /// What it is about: a host, or a process as `PID (NAME)`. It begins the sentence; empty if the sentence has its
    /// own.
    pub subject: String,
    /// The diagnosis.
    pub sentence: String,
    /// What to do; empty if there is nothing to do. If it has a command to type, the command is at its end.
    pub action: String,
}

impl Finding {
    /// Whether the exit status says that something is wrong.
    pub fn is_wrong(&self) -> bool {
        self.severity > Severity::Note
    }

    /// The finding without its subject.
    pub fn diagnosis(&self) -> String {
        let join = if self.action.is_empty() { "" } else { "; " };
        format!("{}{join}{}", self.sentence, self.action)
    }

    /// The whole line.
    pub fn line(&self) -> String {
        let join = if self.subject.is_empty() { "" } else { ": " };
        format!("{}{join}{}", self.subject, self.diagnosis())
    }
}

/// Puts the most serious finding first; equals stay in their order.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, code: &'static str) -> Finding {
        let [subject, sentence, action] = ["7 (app)", "it hangs", "wake it"].map(str::to_owned);
        Finding { code, severity, subject, sentence, action }
    }

    #[test]
    fn the_most_serious_finding_comes_first_and_equals_keep_their_order() {
        let mut findings = [
            finding(Severity::Note, "a"),
            finding(Severity::Warning, "b"),
            finding(Severity::Error, "c"),
            finding(Severity::Warning, "d"),
        ];
        sort(&mut findings);
        assert_eq!(findings.map(|finding| finding.code), ["c", "b", "d", "a"]);
    }

    #[test]
    fn a_line_has_subject_sentence_and_action() {
        let mut finding = finding(Severity::Error, "a");
        assert_eq!(finding.line(), "7 (app): it hangs; wake it");
        finding.action.clear();
        finding.subject.clear();
        assert_eq!(finding.line(), "it hangs");
    }
}
