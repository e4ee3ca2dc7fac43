//! Findings as text for people and as JSON for programs. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Finding, Severity};
use crate::status::clean;

/// A line for each finding, below its subject; what is not as it should be with why it matters and what to do. What is quoted,
/// of processes and certificates of others above all, reaches the terminal without control characters.
pub(super) fn text(findings: &[Finding], colour: bool) -> String {
    let mut text = String::new();
    let mut subject = None;
    for finding in findings {
        if subject != Some(&finding.subject) {
            let gap = if subject.is_some() { "\n" } else { "" };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{gap}{}", clean(&finding.subject.to_string()));
            subject = Some(&finding.subject);
        }
        let label = painted(finding.severity, colour);
        let _ = writeln!(text, "  {label}  {}", clean(&finding.seen));
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "           why: {}\n           do:  {}", finding.why, clean(remedy));
        }
    }
    let _ = writeln!(text, "\n{}", summary(findings));
    text
}

/// The label in its column.
fn painted(severity: Severity, colour: bool) -> String {
    let code = match severity {
        Severity::Ok => "32",
        Severity::Note => "36",
        Severity::Warning => "33",
        Severity::Problem => "31",
    };
    match colour {
        true => format!("\x1b[{code}m{:<7}\x1b[0m", severity.label()),
        false => format!("{:<7}", severity.label()),
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn summary(findings: &[Finding]) -> String {
    let many = |severity: Severity| {
        let count = count(findings, severity);
        format!("{count} {}{}", severity.label(), if count == 1 { "" } else { "s" })
    };
    let [problems, warnings, notes] = [Severity::Problem, Severity::Warning, Severity::Note].map(many);
    format!("{problems}, {warnings}, {notes}, {} ok", count(findings, Severity::Ok))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'f> {
    problems: usize,
    warnings: usize,
    notes: usize,
    findings: &'f [Finding],
}

pub(super) fn json(findings: &[Finding]) -> String {
    let report = Report {
        problems: count(findings, Severity::Problem),
        warnings: count(findings, Severity::Warning),
        notes: count(findings, Severity::Note),
        findings,
    };
    // Strings and numbers always become JSON.
    let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::super::finding::{About, Check, Subject};
    use super::*;

    fn findings() -> Vec<Finding> {
        let mut findings = Vec::new();
        About::new(Subject::Host, &mut findings).ok(Check::Kernel, "Linux 6.18.0");
        let mut about = About::new(Subject::Interface("eth0".into()), &mut findings);
        about.problem(Check::Vip, "it is taken", "take it back");
        about.note(Check::Jit, "it is off", "switch it on");
        findings
    }

    #[test]
    fn as_text() {
        let expected = "host
  ok       Linux 6.18.0

interface eth0
  problem  it is taken
           why: An address that two hosts have is reached now on one, now on the other.
           do:  take it back
  note     it is off
           why: Without the compiler each packet is handled by an interpreter several times slower.
           do:  switch it on

1 problem, 0 warnings, 1 note, 1 ok
";
        assert_eq!(text(&findings(), false), expected);
        assert!(text(&findings(), true).contains("\x1b[31mproblem\x1b[0m"));
    }

    #[test]
    fn nothing_that_is_quoted_commands_the_terminal() {
        let mut findings = Vec::new();
        let evil = "a\x1b]0;b\x07\u{9b}2J\nproblem";
        About::new(Subject::Interface(evil.into()), &mut findings).problem(Check::Listeners, evil, evil);
        let text = text(&findings, false);
        assert_eq!(text.matches("a\u{fffd}]0;b\u{fffd}\u{fffd}2J\u{fffd}problem").count(), 3, "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn as_json() {
        let value: serde_json::Value = serde_json::from_str(&json(&findings())).unwrap();
        assert_eq!((&value["problems"], &value["warnings"], &value["notes"]), (&1.into(), &0.into(), &1.into()));
        let finding = &value["findings"][1];
        assert_eq!(finding["subject"], "interface eth0");
        assert_eq!(finding["check"], "vip");
        assert_eq!(finding["severity"], "problem");
        assert_eq!(finding["seen"], "it is taken");
        assert_eq!(finding["remedy"], "take it back");
        assert!(value["findings"][0]["remedy"].is_null());
    }
}
