//! One run: choose the lanes, install what is missing if asked, run them in order, count, and end with the last line.

use crate::child::{self, End, Interruption};
use crate::cli::Selection;
use crate::install;
use crate::lane::{Expect, Invocation, Lane, Step};
use crate::lanes::LANES;
use crate::need::{Need, Probes, Remedy};
use crate::summary::{Summary, Verdict};
use crate::test_counts::{TestCounts, self_skipped};
use crate::workspace::Workspace;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Installing may compile a tool from source.
const INSTALL_LIMIT: Duration = Duration::from_secs(1800);

/// A run of the chosen lanes.
pub struct Session {
    workspace: Workspace,
    selection: Selection,
    lanes: Vec<&'static Lane>,
    probes: Probes,
    interruption: Interruption,
    logs: PathBuf,
}

impl Session {
    /// Chooses the lanes; a name that is none is a mistake of the caller.
    pub fn new(workspace: Workspace, selection: Selection) -> Result<Self, String> {
        let lanes = choose(&selection)?;
        let logs = workspace.target.join("xtask");
        fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
        let interruption = Interruption::watch().map_err(|error| format!("signals cannot be watched: {error}"))?;
        Ok(Self { workspace, selection, lanes, probes: Probes::default(), interruption, logs })
    }

    /// Runs to the last line.
    pub fn run(mut self) -> ExitCode {
        if self.selection.list {
            return self.list();
        }
        self.get_what_is_missing();
        let mut summary = Summary::default();
        for lane in std::mem::take(&mut self.lanes) {
            summary.add(&self.lane(lane));
        }
        println!("{summary}");
        if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn list(mut self) -> ExitCode {
        for lane in &self.lanes {
            println!("{:<16} {}", lane.name, lane.protects);
            if let Some((_, why)) = missing(lane, &mut self.probes, &self.workspace) {
                println!("{:<16} cannot run here: {why}", "");
            }
        }
        ExitCode::SUCCESS
    }

    /// Prints the lines that would help; runs them if asked.
    fn get_what_is_missing(&mut self) {
        let lines = install::lines(self.missing_remedies());
        for line in &lines {
            if !self.selection.install {
                println!("to run every lane: {line}");
            } else if install::needs_root(line) && !rustix::process::geteuid().is_root() {
                println!("not installed, it needs root: {line}");
            } else {
                self.install(line);
            }
        }
        if self.selection.install && !lines.is_empty() {
            self.probes.forget();
        }
    }

    fn missing_remedies(&mut self) -> Vec<Remedy> {
        let needs = self.lanes.iter().flat_map(|lane| lane.needs);
        let missing = needs.filter(|need| self.probes.missing(**need, &self.workspace).is_some());
        missing.map(|need| need.remedy(&self.workspace)).collect()
    }

    fn install(&self, line: &str) {
        println!("installing: {line}");
        let log = self.fresh_log("install");
        let deadline = Instant::now() + INSTALL_LIMIT;
        let end = child::run(&mut install::command(line), &log, deadline, &self.interruption, |elapsed| {
            println!("  ... {} s", elapsed.as_secs());
        });
        if !matches!(&end, Ok(End::Exited(status)) if status.success()) {
            print!("{}", fs::read_to_string(&log).unwrap_or_default());
            println!("installing failed: {line}");
        }
    }

    fn lane(&mut self, lane: &Lane) -> Verdict {
        if self.interruption.came() {
            println!("skipped: {}: interrupted", lane.name);
            return Verdict::Skipped;
        }
        if let Some((need, why)) = missing(lane, &mut self.probes, &self.workspace) {
            return self.cannot_run(lane, need, &why);
        }
        print!("{}: {} ", lane.name, lane.protects);
        // The line is completed when the lane ends; that it shows at once is a courtesy only.
        let _ = std::io::stdout().flush();
        let started = Instant::now();
        let outcome = self.steps(lane);
        report(lane, started.elapsed(), &outcome);
        if outcome.is_ok() { Verdict::Passed } else { Verdict::Failed }
    }

    fn cannot_run(&self, lane: &Lane, need: Need, why: &str) -> Verdict {
        let could_be_installed = need.remedy(&self.workspace) != Remedy::ByHand;
        if is_required(lane, could_be_installed, &self.selection) {
            println!("FAILED: {}: required, but cannot run: {why}", lane.name);
            Verdict::Failed
        } else {
            println!("skipped: {}: {why}", lane.name);
            Verdict::Skipped
        }
    }

    fn steps(&self, lane: &Lane) -> Result<Remarks, String> {
        let (steps, limit) = lane.form(self.selection.full);
        let deadline = Instant::now() + limit;
        let log = self.fresh_log(lane.name);
        let mut remarks = Remarks::default();
        for step in steps {
            match step {
                Step::Rule(rule) => remarks.notes.extend(rule(&self.workspace)?),
                Step::Command(invocation) => remarks.add(self.invoke(lane, invocation, &log, deadline)?),
            }
        }
        Ok(remarks)
    }

    fn invoke(&self, lane: &Lane, invocation: &Invocation, log: &Path, deadline: Instant) -> Result<Remarks, String> {
        let before = fs::metadata(log).map_or(0, |data| data.len());
        let news = |elapsed: Duration| println!("\n  ... {} s: {}", elapsed.as_secs(), last_line(log));
        let mut command = command(invocation, &self.workspace);
        let end = child::run(&mut command, log, deadline, &self.interruption, news);
        let output = read_from(log, before);
        let outcome = match end {
            Err(error) => Err(error.to_string()),
            Ok(End::TimedOut) => Err(format!("not done after {} s", lane.form(self.selection.full).1.as_secs())),
            Ok(End::Interrupted) => Err("interrupted".into()),
            Ok(End::Exited(status)) if !status.success() => Err(format!("failed ({status})")),
            Ok(End::Exited(_)) => judge(lane, invocation.expect, &output),
        };
        outcome.map_err(|why| format!("{output}\n{}{}: {why}", environment(invocation), invocation.line))
    }

    fn fresh_log(&self, name: &str) -> PathBuf {
        let log = self.logs.join(name).with_extension("log");
        // A log that is not there needs no removal; any other trouble shows when it is opened.
        let _ = fs::remove_file(&log);
        log
    }
}

/// What a lane that passed has to say.
#[derive(Debug, Default)]
struct Remarks {
    counts: TestCounts,
    notes: Vec<String>,
}

impl Remarks {
    fn add(&mut self, more: Self) {
        self.counts.passed += more.counts.passed;
        self.counts.ignored += more.counts.ignored;
        self.notes.extend(more.notes);
    }

    fn in_line(&self) -> String {
        match self.counts {
            TestCounts { passed: 0, .. } => String::new(),
            TestCounts { passed, ignored: 0 } => format!(", {passed} tests"),
            TestCounts { passed, ignored } => format!(", {passed} tests ({ignored} not asked for)"),
        }
    }
}

fn report(lane: &Lane, took: Duration, outcome: &Result<Remarks, String>) {
    let took = took.as_secs_f64();
    match outcome {
        Ok(remarks) => {
            println!("ok, {took:.1} s{}", remarks.in_line());
            remarks.notes.iter().for_each(|note| println!("  note: {note}"));
        }
        Err(why) => println!("FAILED, {took:.1} s\n{why}\nFAILED: {}", lane.name),
    }
}

fn choose(selection: &Selection) -> Result<Vec<&'static Lane>, String> {
    let is_lane = |name: &str| LANES.iter().any(|lane| lane.name == name);
    let is_later = |name: &str| LANES.iter().any(|lane| lane.name == name && lane.stage > selection.last_stage);
    let is_need = |name: &str| LANES.iter().flat_map(|lane| lane.needs).any(|need| need.name() == name);
    if let Some(name) = selection.only.iter().find(|name| !is_lane(name)) {
        return Err(format!("`{name}` is no lane; `cargo xtask test --list` prints them"));
    }
    if let Some(name) = selection.only.iter().find(|name| is_later(name)) {
        return Err(format!("`{name}` is a lane of `cargo xtask test`"));
    }
    if let Some(name) = selection.require.iter().find(|name| !is_lane(name) && !is_need(name)) {
        return Err(format!("`{name}` is neither a lane nor something that a lane needs"));
    }
    let wanted = |lane: &&Lane| {
        lane.stage <= selection.last_stage
            && (selection.only.is_empty() || selection.only.iter().any(|name| name == lane.name))
    };
    Ok(LANES.iter().filter(wanted).collect())
}

/// The first need that is not met, and why.
fn missing(lane: &Lane, probes: &mut Probes, workspace: &Workspace) -> Option<(Need, String)> {
    lane.needs.iter().find_map(|need| Some((*need, probes.missing(*need, workspace)?)))
}

/// Whether a lane that cannot run is a failure: named by the caller (it or any of its needs), or in CI and installable.
fn is_required(lane: &Lane, could_be_installed: bool, selection: &Selection) -> bool {
    let named = |name: &String| name == lane.name || lane.needs.iter().any(|need| need.name() == name);
    selection.require.iter().any(named) || selection.require_possible && could_be_installed
}

fn command(invocation: &Invocation, workspace: &Workspace) -> Command {
    let mut words = invocation.line.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
    // A lane runs as from a shell: what cargo told xtask about xtask is not for it.
    let of_xtask = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_xtask)) {
        command.env_remove(name);
    }
    let target = workspace.target.to_string_lossy();
    command.envs(invocation.environment.iter().map(|(name, value)| (name, value.replace("{target}", &target))));
    command
}

/// Whether a program that ended with status 0 did what was expected of it.
fn judge(lane: &Lane, expect: Expect, output: &str) -> Result<Remarks, String> {
    let remarks = Remarks { counts: TestCounts::parse(output), notes: left_out(lane, output)? };
    if expect == Expect::Tests && remarks.counts.passed == 0 {
        return Err("ended well, but ran no test".into());
    }
    Ok(remarks)
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

fn environment(invocation: &Invocation) -> String {
    invocation.environment.iter().map(|(name, value)| format!("{name}='{value}' ")).collect()
}

fn read_from(log: &Path, start: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(0);
    String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
}

fn last_line(log: &Path) -> String {
    let output = read_from(log, 0);
    output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(100).collect()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
