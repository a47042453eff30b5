//! `pvkit doctor`: what this machine has for guests, line by line, and what to do about what it lacks.
//!
//! *Invariants.* It looks and changes nothing. Only what keeps guests from running at all is called missing, and decides
//! the exit status; what makes them slower, or the demo smaller, is a warning.

mod checks;

use crate::cli::DoctorOptions;
use crate::failure::{EXIT_RUN, Failure};
use serde_json::{Value, json};
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Ok,
    /// Guests run, with less than there could be.
    Warn,
    /// Guests do not run.
    Missing,
}

impl Health {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Missing => "missing",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub health: Health,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing is to be done.
    pub remedy: String,
}

impl Finding {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, health: Health::Ok, found: found.into(), remedy: String::new() }
    }

    fn warn(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, health: Health::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn missing(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, health: Health::Missing, found: found.into(), remedy: remedy.into() }
    }

    fn to_json(&self) -> Value {
        json!({ "what": self.what, "health": self.health.word(), "found": self.found, "remedy": self.remedy })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} {:13} {}", self.health.word(), self.what, self.found)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n{:22} to do: {}", "", self.remedy) }
    }
}

/// Looks at everything and says it.
///
/// # Errors
/// Standard output is closed.
pub fn run(options: &DoctorOptions) -> Result<ExitCode, Failure> {
    let findings = checks::all();
    let text = if options.json { as_json(&findings) } else { as_text(&findings) };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::run)?;
    Ok(if is_healthy(&findings) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_RUN) })
}

fn is_healthy(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.health != Health::Missing)
}

fn as_text(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

fn as_json(findings: &[Finding]) -> String {
    let list: Vec<Value> = findings.iter().map(Finding::to_json).collect();
    format!("{}\n", json!({ "healthy": is_healthy(findings), "findings": list }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_decides() {
        let (ok, warn) = (Finding::ok("a", "fine"), Finding::warn("b", "slow", "add one"));
        assert!(is_healthy(&[ok.clone(), warn.clone()]));
        assert!(!is_healthy(&[ok, warn, Finding::missing("c", "gone", "bring it")]));
    }

    #[test]
    fn a_line_says_what_to_do() {
        let line = Finding::missing("kvm", "no /dev/kvm", "load it").to_string();
        for part in ["missing", "kvm", "no /dev/kvm", "to do: load it"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!Finding::ok("kvm", "there").to_string().contains("to do"));
    }

    #[test]
    fn json_holds_every_finding() {
        let value: Value = serde_json::from_str(&as_json(&[Finding::missing("kvm", "gone", "load it")])).unwrap();
        assert_eq!(value["healthy"], false);
        assert_eq!(value["findings"][0]["remedy"], "load it");
    }

    #[test]
    fn everything_but_the_good_has_a_remedy() {
        for finding in checks::all() {
            assert_eq!(finding.health == Health::Ok, finding.remedy.is_empty(), "{finding}");
        }
    }
}
