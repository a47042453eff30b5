//! What a lane is: a named proof with the needs, the steps and the limit of time that belong to it.

use crate::need::Need;
use crate::workspace::Workspace;
use std::time::Duration;

/// When a lane runs: the quick ones first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `cargo xtask check`: the quick minute.
    Check,
    /// `cargo xtask test`: everything.
    #[default]
    Test,
}

/// One lane.
pub struct Lane {
    /// Short and unique; `--only` takes it.
    pub name: &'static str,
    /// One sentence: what would be lost without it.
    pub protects: &'static str,
    /// Which command runs it.
    pub stage: Stage,
    /// Without any of these it is skipped.
    pub needs: &'static [Need],
    /// What is done, in order; the first failure ends the lane.
    pub steps: &'static [Step],
    /// Hard limit for all steps together.
    pub limit: Duration,
    /// The long form, for `--full`.
    pub full: Option<Full>,
}

/// The long form of a lane.
pub struct Full {
    /// Stands in for the lane's steps.
    pub steps: &'static [Step],
    /// Stands in for the lane's limit.
    pub limit: Duration,
}

impl Lane {
    /// Steps and limit of the form that was asked for.
    pub fn form(&self, full: bool) -> (&'static [Step], Duration) {
        match &self.full {
            Some(long) if full => (long.steps, long.limit),
            _ => (self.steps, self.limit),
        }
    }
}

/// One step of a lane.
pub enum Step {
    /// A program.
    Command(Invocation),
    /// A rule of the tree, judged inside xtask. `Ok` carries remarks, `Err` the reason of the failure.
    Rule(fn(&Workspace) -> Result<Vec<String>, String>),
}

/// A program and what must come of it.
pub struct Invocation {
    /// Program and arguments, separated by single spaces.
    pub line: &'static str,
    /// Variables on top of the environment; `{target}` in a value is the workspace's target folder.
    pub environment: &'static [(&'static str, &'static str)],
    /// What counts as success.
    pub expect: Expect,
}

/// What counts as success of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Exit status 0.
    Success,
    /// Exit status 0, and at least one test ran: a filter that matches nothing must not look like a proof.
    Tests,
    /// Exit status 0, and this text: a program that may do its job in a lesser way must say that it did not.
    Saying(&'static str),
}

/// A program that must end with status 0.
pub const fn run(line: &'static str) -> Step {
    run_with(line, &[])
}

/// The same, with variables of its own.
pub const fn run_with(line: &'static str, environment: &'static [(&'static str, &'static str)]) -> Step {
    Step::Command(Invocation { line, environment, expect: Expect::Success })
}

/// A program that must end with status 0 and say this.
pub const fn run_saying(line: &'static str, words: &'static str) -> Step {
    Step::Command(Invocation { line, environment: &[], expect: Expect::Saying(words) })
}

/// A test run: status 0 and at least one test.
pub const fn tests(line: &'static str) -> Step {
    tests_with(line, &[])
}

/// A test run with variables of its own.
pub const fn tests_with(line: &'static str, environment: &'static [(&'static str, &'static str)]) -> Step {
    Step::Command(Invocation { line, environment, expect: Expect::Tests })
}

/// Whole seconds, for the table.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
