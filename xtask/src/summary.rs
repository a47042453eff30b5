//! What became of the lanes, and the last line.

use std::fmt;

/// What became of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// It could not run, and nobody required it.
    Skipped,
}

/// The count of lanes by verdict.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Summary {
    /// Counts one lane.
    pub fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Failed => self.failed += 1,
            Verdict::Skipped => self.skipped += 1,
        }
    }

    /// Whether the whole run is good.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_lanes_by_verdict() {
        let mut summary = Summary::default();
        for verdict in [Verdict::Passed, Verdict::Skipped, Verdict::Passed] {
            summary.add(&verdict);
        }
        assert_eq!(summary.to_string(), "2 passed, 0 failed, 1 skipped");
        assert!(summary.is_good());
    }

    #[test]
    fn one_failed_lane_makes_the_run_bad() {
        let mut summary = Summary::default();
        summary.add(&Verdict::Passed);
        summary.add(&Verdict::Failed);
        assert!(!summary.is_good());
    }
}
