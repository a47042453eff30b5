//! What a program's output says about a lane, beyond its exit status.

use crate::lane::{Expect, Lane};
use crate::test_counts::{TestCounts, self_skipped};

/// What a lane that passed has to say.
#[derive(Debug, Default)]
pub struct Remarks {
    /// Tests that its programs report.
    pub counts: TestCounts,
    /// For the reader, a line each.
    pub notes: Vec<String>,
}

impl Remarks {
    /// Adds what a further step said.
    pub fn add(&mut self, more: Self) {
        self.counts.passed += more.counts.passed;
        self.counts.ignored += more.counts.ignored;
        self.notes.extend(more.notes);
    }

    /// The tests, in words for the lane's line.
    pub fn in_words(&self) -> String {
        match self.counts {
            TestCounts { passed: 0, .. } => String::new(),
            TestCounts { passed, ignored: 0 } => format!(", {passed} tests"),
            TestCounts { passed, ignored } => format!(", {passed} tests ({ignored} not asked for)"),
        }
    }
}

/// Whether a program that ended with status 0 did what was expected of it.
pub fn judge(lane: &Lane, expect: Expect, output: &str) -> Result<Remarks, String> {
    let remarks = Remarks { counts: TestCounts::parse(output), notes: left_out(lane, output)? };
    match expect {
        Expect::Tests if remarks.counts.passed == 0 => Err("ended well, but ran no test".into()),
        Expect::Saying(words) if !output.contains(words) => Err(format!("ended well, but did not say `{words}`")),
        _ => Ok(remarks),
    }
}

/// What tests left out, as notes. It is a failure if they lack what the probes found, or do not say what they lack.
fn left_out(lane: &Lane, output: &str) -> Result<Vec<String>, String> {
    let is_met = |what: &str| what == lane.name || lane.needs.iter().any(|need| need.name() == what);
    let is_sound = |words: &&str| words.split_once(": ").is_some_and(|(what, _)| !what.contains(' ') && !is_met(what));
    let mut skipped: Vec<_> = self_skipped(output).collect();
    skipped.sort_unstable();
    skipped.dedup();
    match skipped.iter().find(|words| !is_sound(words)) {
        Some(words) => Err(format!("a test skipped itself, though this lane's probes found what it needs: {words}")),
        None => Ok(skipped.iter().map(|words| format!("a test skipped itself: {words}")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Stage, seconds};
    use crate::need::Need;

    const KVM_LANE: Lane = Lane {
        name: "boot",
        protects: "",
        stage: Stage::Test,
        needs: &[Need::Kvm],
        steps: &[],
        limit: seconds(1),
        full: None,
    };

    #[test]
    fn a_test_run_without_a_test_is_a_failure() {
        let nothing = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s";
        assert!(judge(&KVM_LANE, Expect::Tests, nothing).is_err());
        assert!(judge(&KVM_LANE, Expect::Success, nothing).is_ok());
    }

    #[test]
    fn a_program_that_did_a_lesser_job_fails_the_lane() {
        let expect = Expect::Saying("on the KVM machine");
        assert!(judge(&KVM_LANE, expect, "demo passed on the in-process machine").is_err());
        assert!(judge(&KVM_LANE, expect, "demo passed on the KVM machine").is_ok());
    }

    #[test]
    fn a_test_that_lacks_what_the_probe_found_fails_the_lane() {
        for words in ["kvm: no right", "boot: why not", "something is not right"] {
            let output = format!("skipped: {words}\ntest result: ok. 3 passed; 0 failed; 0 ignored");
            let why = judge(&KVM_LANE, Expect::Tests, &output).expect_err(words);
            assert!(why.contains(words), "{why}");
        }
    }

    #[test]
    fn a_test_that_lacks_what_no_probe_looks_for_is_a_note() {
        let output = "skipped: kvm-stats: no such statistic\ntest result: ok. 3 passed; 0 failed; 0 ignored";
        let remarks = judge(&KVM_LANE, Expect::Tests, output).expect("legal");
        assert_eq!(remarks.notes, ["a test skipped itself: kvm-stats: no such statistic"]);
    }

    #[test]
    fn counts_of_several_steps_are_added_up() {
        let output = "test result: ok. 3 passed; 0 failed; 1 ignored";
        let mut remarks = Remarks::default();
        for _ in 0..2 {
            remarks.add(judge(&KVM_LANE, Expect::Tests, output).expect("legal"));
        }
        assert_eq!(remarks.in_words(), ", 6 tests (2 not asked for)");
    }
}
