//! One run: choose the lanes, install what is missing if asked, run them in order, count, and end with the last line.

use crate::child::{self, End, Interruption};
use crate::choice::{Lack, choose, is_required, lack};
use crate::cli::Selection;
use crate::execution::Execution;
use crate::gist::gist;
use crate::install;
use crate::judgement::Remarks;
use crate::lane::Lane;
use crate::need::{Probes, Remedy};
use crate::summary::{Summary, Verdict};
use crate::workspace::Workspace;
use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
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
    /// Lanes that failed, and what tells why.
    failures: Vec<(&'static str, Vec<String>)>,
}

impl Session {
    /// Chooses the lanes; a name that is none is a mistake of the caller.
    pub fn new(workspace: Workspace, selection: Selection) -> Result<Self, String> {
        let lanes = choose(&selection)?;
        let logs = workspace.target.join("xtask");
        fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
        let interruption = Interruption::watch().map_err(|error| format!("signals cannot be watched: {error}"))?;
        Ok(Self { workspace, selection, lanes, probes: Probes::default(), interruption, logs, failures: Vec::new() })
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
        for (name, gist) in &self.failures {
            println!("what failed in {name}, once more:");
            gist.iter().for_each(|line| println!("  {line}"));
        }
        println!("{summary}");
        if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn list(mut self) -> ExitCode {
        for lane in &self.lanes {
            println!("{:<20} {}", lane.name, lane.protects);
            if let Some(lack) = lack(lane, &mut self.probes, &self.workspace) {
                println!("{:<20} cannot run here: {}", "", lack.why);
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
        let news = |elapsed: Duration| println!("  ... {} s", elapsed.as_secs());
        let end = child::run(&mut install::command(line), &log, deadline, &self.interruption, news);
        if !matches!(&end, Ok(End::Exited(status)) if status.success()) {
            print!("{}", fs::read_to_string(&log).unwrap_or_default());
            println!("installing failed: {line}");
        }
    }

    fn lane(&mut self, lane: &'static Lane) -> Verdict {
        if self.interruption.came() {
            println!("skipped: {}: interrupted", lane.name);
            return Verdict::Skipped;
        }
        match lack(lane, &mut self.probes, &self.workspace) {
            Some(lack) => self.cannot_run(lane, &lack),
            None => self.execute(lane),
        }
    }

    fn cannot_run(&self, lane: &Lane, lack: &Lack) -> Verdict {
        if is_required(lane, lack, &self.selection) {
            println!("FAILED: {}: required, but cannot run: {}", lane.name, lack.why);
            Verdict::Failed
        } else {
            println!("skipped: {}: {}", lane.name, lack.why);
            Verdict::Skipped
        }
    }

    fn execute(&mut self, lane: &'static Lane) -> Verdict {
        print!("{}: {} ", lane.name, lane.protects);
        // The line is completed when the lane ends; that it shows at once is a courtesy only.
        let _ = std::io::stdout().flush();
        let log = self.fresh_log(lane.name);
        let execution = Execution {
            workspace: &self.workspace,
            interruption: &self.interruption,
            log: &log,
            told_news: Cell::new(false),
        };
        let started = Instant::now();
        let outcome = execution.run(lane, self.selection.full);
        let lead = if execution.told_news.get() { format!("{}: ", lane.name) } else { String::new() };
        report(&lead, lane, started.elapsed(), &outcome);
        if let Err(why) = &outcome {
            self.failures.push((lane.name, gist(why)));
        }
        if outcome.is_ok() { Verdict::Passed } else { Verdict::Failed }
    }

    fn fresh_log(&self, name: &str) -> PathBuf {
        let log = self.logs.join(name).with_extension("log");
        // A log that is not there needs no removal; any other trouble shows when it is opened.
        let _ = fs::remove_file(&log);
        log
    }
}

fn report(lead: &str, lane: &Lane, took: Duration, outcome: &Result<Remarks, String>) {
    let took = took.as_secs_f64();
    match outcome {
        Ok(remarks) => {
            println!("{lead}ok, {took:.1} s{}", remarks.in_words());
            remarks.notes.iter().for_each(|note| println!("  note: {note}"));
        }
        Err(why) => println!("{lead}FAILED, {took:.1} s\n{why}\nFAILED: {}", lane.name),
    }
}
