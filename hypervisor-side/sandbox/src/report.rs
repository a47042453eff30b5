//! What was really given up, for a log line and for `inspect`.

use crate::Mode;
use std::fmt;

/// What became of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In force; what of it, where there is more to say than that.
    Applied(String),
    /// Not to be had on this machine: why.
    Unavailable(String),
    /// Not asked for.
    Off,
}

/// One part of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name, in words of lower case joined by dashes; it stays the same from release to release.
    pub name: &'static str,
    /// What became of it.
    pub outcome: Outcome,
}

/// What was given up. As text it is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    mode: Mode,
    parts: Vec<Part>,
}

impl Report {
    pub(crate) fn new(mode: Mode) -> Self {
        Self { mode, parts: Vec::new() }
    }

    /// What was asked for.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Every part, in the order of application.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The part of that name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Whether every part is in force.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.parts.iter().all(|part| matches!(part.outcome, Outcome::Applied(_)))
    }

    /// Adds what a thread's filter answered.
    pub fn push(&mut self, part: Part) {
        self.parts.push(part);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied(what) if what.is_empty() => f.write_str("applied"),
            Self::Applied(what) => write!(f, "applied ({what})"),
            Self::Unavailable(why) => write!(f, "not available: {why}"),
            Self::Off => f.write_str("off"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sandbox {}", self.mode)?;
        for (index, part) in self.parts.iter().enumerate() {
            write!(f, "{} {}: {}", if index == 0 { ":" } else { ";" }, part.name, part.outcome)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_and_names_what_is_missing() {
        let mut report = Report::new(Mode::Strict);
        report.push(Part { name: "one", outcome: Outcome::Applied(String::new()) });
        assert!(report.is_complete());
        report.push(Part { name: "two", outcome: Outcome::Unavailable("no such thing".into()) });
        assert!(!report.is_complete());
        assert_eq!(report.to_string(), "sandbox strict: one: applied; two: not available: no such thing");
    }
}
