//! One lane at work: its steps in order, under one deadline, with news now and then.

use crate::child::{self, End, Interruption};
use crate::judgement::{Remarks, judge};
use crate::lane::{Invocation, Lane, Step};
use crate::workspace::{Workspace, as_from_a_shell};
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A lane that runs.
pub struct Execution<'session> {
    /// What it runs on.
    pub workspace: &'session Workspace,
    /// The developer's Ctrl-C.
    pub interruption: &'session Interruption,
    /// Where the output of its programs goes.
    pub log: &'session Path,
    /// Whether something was printed below the lane's line.
    pub told_news: Cell<bool>,
}

impl Execution<'_> {
    /// Runs the steps of the form that was asked for; the first failure ends it.
    pub fn run(&self, lane: &Lane, full: bool) -> Result<Remarks, String> {
        let (steps, limit) = lane.form(full);
        let deadline = Instant::now() + limit;
        let mut remarks = Remarks::default();
        for step in steps {
            match step {
                Step::Rule(rule) => remarks.notes.extend(rule(self.workspace)?),
                Step::Command(invocation) => {
                    let output = self.invoke(invocation, deadline, limit)?;
                    let judged = judge(lane, invocation.expect, &output);
                    remarks.add(judged.map_err(|why| failure(invocation, &output, &why))?);
                }
            }
        }
        Ok(remarks)
    }

    /// The output of a program that ended with status 0.
    fn invoke(&self, invocation: &Invocation, deadline: Instant, limit: Duration) -> Result<String, String> {
        let before = fs::metadata(self.log).map_or(0, |data| data.len());
        let mut command = command(invocation, self.workspace);
        let end = child::run(&mut command, self.log, deadline, self.interruption, |elapsed| self.news(elapsed));
        let output = read_from(self.log, before);
        let why = match end {
            Ok(End::Exited(status)) if status.success() => return Ok(output),
            Ok(End::Exited(status)) => format!("failed ({status})"),
            Ok(End::TimedOut) => format!("not done after {} s", limit.as_secs()),
            Ok(End::Interrupted) => "interrupted".into(),
            Err(error) => error.to_string(),
        };
        Err(failure(invocation, &output, &why))
    }

    fn news(&self, elapsed: Duration) {
        if !self.told_news.replace(true) {
            println!();
        }
        println!("  ... {} s: {}", elapsed.as_secs(), last_line(&read_from(self.log, 0)));
    }
}

fn command(invocation: &Invocation, workspace: &Workspace) -> Command {
    let mut words = invocation.line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
    as_from_a_shell(&mut command);
    let target = workspace.target.to_string_lossy();
    command.envs(invocation.environment.iter().map(|(name, value)| (name, value.replace("{target}", &target))));
    command
}

/// Everything the developer needs: the whole output, the line to repeat, the reason.
fn failure(invocation: &Invocation, output: &str, why: &str) -> String {
    let variables: String = invocation.environment.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    format!("{output}\n{variables}{}: {why}", invocation.line)
}

fn read_from(log: &Path, start: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(0);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}

fn last_line(output: &str) -> String {
    output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Expect, Stage, run, seconds, tests};

    fn workspace() -> Workspace {
        Workspace { root: "/".into(), target: "/w/target".into(), packages: vec![] }
    }

    fn lane(steps: &'static [Step]) -> Lane {
        Lane { name: "lane", protects: "", stage: Stage::Test, needs: &[], steps, limit: seconds(60), full: None }
    }

    fn outcome(name: &str, steps: &'static [Step]) -> Result<Remarks, String> {
        let log = std::env::temp_dir().join(format!("xtask-execution-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&log);
        let (workspace, interruption) = (workspace(), Interruption::none());
        let execution =
            Execution { workspace: &workspace, interruption: &interruption, log: &log, told_news: Cell::new(false) };
        let outcome = execution.run(&lane(steps), false);
        fs::remove_file(log).expect("the log was written");
        outcome
    }

    #[test]
    fn the_first_step_that_fails_ends_the_lane_with_its_output_and_its_line() {
        const STEPS: &[Step] = &[run("echo first"), run("ls /no-such-file"), run("echo third")];
        let why = outcome("first", STEPS).expect_err("the second fails");
        assert!(why.contains("No such file") && why.contains("ls /no-such-file: failed"), "{why}");
        assert!(!why.contains("third") && !why.contains("first"), "{why}");
    }

    #[test]
    fn a_program_that_is_not_there_fails_the_lane() {
        const STEPS: &[Step] = &[run("echo first"), run("no-such-program now")];
        assert!(outcome("absent", STEPS).is_err_and(|why| why.contains("no-such-program now")));
    }

    #[test]
    fn a_test_step_is_judged_by_its_output() {
        const STEPS: &[Step] = &[tests("echo test result: ok. 0 passed; 0 failed; 0 ignored")];
        assert!(outcome("judged", STEPS).is_err_and(|why| why.contains("ran no test")));
    }

    #[test]
    fn the_target_folder_is_filled_into_variables() {
        let environment = &[("CARGO_TARGET_DIR", "{target}/loom")];
        let invocation = Invocation { line: "cargo test", environment, expect: Expect::Tests };
        let command = command(&invocation, &workspace());
        let value = command.get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR").and_then(|(_, value)| value);
        assert_eq!(value.and_then(|value| value.to_str()), Some("/w/target/loom"));
    }

    #[test]
    fn a_lane_does_not_see_what_cargo_told_xtask_about_itself() {
        let invocation = Invocation { line: "true", environment: &[], expect: Expect::Success };
        let command = command(&invocation, &workspace());
        assert!(command.get_envs().any(|(name, value)| name == "CARGO_MANIFEST_DIR" && value.is_none()));
    }
}
