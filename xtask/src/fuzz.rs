//! `cargo xtask fuzz`: the fuzz targets under LLVM's fuzzer, one after the other, for a time each or a number of
//! executions.
//!
//! What was found stays in `target/fuzz/NAME`, so that a second run goes on from there. An input that breaks a target is
//! kept in `target/fuzz/broken`; it belongs into `tests/fuzz/corpus/NAME`, where the tests on stable call it, too.

mod tally;

use crate::child::{self, End, Interruption};
use crate::need::Need;
use crate::workspace::Workspace;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};
use tally::Tally;

/// Where the shims and the kept inputs lie, from the workspace's root.
const FOLDER: &str = "tests/fuzz";
/// One input may take so long, and so much memory.
const INPUT_LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];
/// For building with a sanitizer.
const BUILD: Duration = Duration::from_secs(1800);
/// For a target to end, on top of its time.
const AROUND: Duration = Duration::from_secs(60);

/// For one run of so many executions, on top of which the fuzzer limits each.
const SLICE: Duration = Duration::from_secs(86_400);
/// So many executions are counted at once: if the machine goes down, no more are done again.
const SLICE_EXECUTIONS: u64 = 50_000;

/// How much of each target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    Seconds(u64),
    /// In all, those of earlier runs included.
    Executions(u64),
}

/// What the developer asked for.
#[derive(Clone, Debug)]
pub struct Options {
    only: Vec<String>,
    amount: Amount,
    list: bool,
}

/// The subcommand.
pub fn command() -> Command {
    Command::new("fuzz")
        .about("The fuzz targets under LLVM's fuzzer with AddressSanitizer, on nightly; goes on where it ended")
        .arg(Arg::new("list").long("list").action(ArgAction::SetTrue).help("Print the targets"))
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("NAME,..")
                .value_delimiter(',')
                .action(ArgAction::Append)
                .help("These targets only"),
        )
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=86_400))
                .default_value("60")
                .help("For each target"),
        )
        .arg(
            Arg::new("executions")
                .long("executions")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .conflicts_with("seconds")
                .help("For each target, in all: what an earlier run of the same program did is counted"),
        )
}

/// Reads the subcommand's arguments.
pub fn options(matches: &ArgMatches) -> Options {
    Options {
        only: matches.get_many::<String>("only").into_iter().flatten().cloned().collect(),
        amount: match matches.get_one("executions") {
            Some(executions) => Amount::Executions(*executions),
            None => Amount::Seconds(matches.get_one("seconds").copied().unwrap_or(60)),
        },
        list: matches.get_flag("list"),
    }
}

/// Runs what was asked for; an error is a mistake on the command line, or of the machine.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let workspace = Workspace::load()?;
    let targets = chosen(targets(&workspace.root.join(FOLDER))?, &options.only)?;
    if options.list {
        targets.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = Need::CargoFuzz.missing(&workspace) {
        return Err(format!("{why}; get it with `{}`", crate::need::CARGO_FUZZ_LINE));
    }
    let interruption = Interruption::watch().map_err(|error| format!("signals: {error}"))?;
    let fuzzer = Fuzzer { workspace: &workspace, interruption: &interruption };
    fuzzer.build()?;
    let mut broken = 0;
    for (index, name) in targets.iter().enumerate() {
        let place = format!("{} of {}", index + 1, targets.len());
        let held = match options.amount {
            Amount::Seconds(seconds) => {
                println!("{name} ({place}), {seconds} s");
                fuzzer.for_seconds(name, seconds)?
            }
            Amount::Executions(executions) => {
                let held = fuzzer.executions(name, executions)?;
                println!("{name} ({place}): {}", Tally::read(&fuzzer.tally(name), &fuzzer.program(name)));
                held
            }
        };
        if let Err(why) = held {
            broken += 1;
            println!("FAILED: {name}: {why}");
        }
    }
    println!("{} passed, {broken} failed", targets.len() - broken);
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// By their shims, in the alphabet's order.
fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let shims = folder.join("fuzz_targets");
    let fault = |error: std::io::Error| format!("{}: {error}", shims.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&shims).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn chosen(all: Vec<String>, only: &[String]) -> Result<Vec<String>, String> {
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        return Err(format!("no target `{unknown}`; the targets are {}", all.join(", ")));
    }
    Ok(all.into_iter().filter(|name| only.is_empty() || only.contains(name)).collect())
}

struct Fuzzer<'all> {
    workspace: &'all Workspace,
    interruption: &'all Interruption,
}

impl Fuzzer<'_> {
    fn folder(&self) -> PathBuf {
        self.workspace.target.join("fuzz")
    }

    /// With its sanitizer, in a target folder of its own.
    fn build(&self) -> Result<(), String> {
        println!("building with AddressSanitizer");
        let mut command = process::Command::new("cargo");
        command.args(["+nightly", "fuzz", "build", "--fuzz-dir", FOLDER, "--target-dir"]);
        command.arg(self.folder().join("build")).current_dir(&self.workspace.root);
        let log = self.log("build")?;
        match self.wait(command, &log, BUILD)? {
            None => Ok(()),
            Some(why) => Err(format!("cargo fuzz build {why}:\n{}", tail(&log))),
        }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder().join("build/x86_64-unknown-linux-gnu/release").join(name)
    }

    fn tally(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.executions"))
    }

    /// One target for a time; the inner error is what it found.
    fn for_seconds(&self, name: &str, seconds: u64) -> Result<Result<(), String>, String> {
        let limit = Duration::from_secs(seconds) + AROUND;
        let held = self.target(name, &format!("-max_total_time={seconds}"), limit)?;
        let text = fs::read_to_string(self.log_of(name)).unwrap_or_default();
        if let Some(done) = text.lines().rev().find(|line| line.contains("DONE")) {
            println!("  {}", done.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        Ok(held)
    }

    /// One target until so many executions are counted, slice by slice; an interrupted slice counts as far as it tells.
    fn executions(&self, name: &str, wanted: u64) -> Result<Result<(), String>, String> {
        loop {
            let mut tally = Tally::read(&self.tally(name), &self.program(name));
            let left = wanted.saturating_sub(tally.executions).min(SLICE_EXECUTIONS);
            if left == 0 {
                return Ok(Ok(()));
            }
            let started = Instant::now();
            let held = self.target(name, &format!("-runs={left}"), SLICE);
            let text = fs::read_to_string(self.log_of(name)).unwrap_or_default();
            let whole = matches!(held, Ok(Ok(())));
            // A slice that loads more inputs than it may execute does load them all.
            tally.add(tally::executed(&text).max(if whole { left } else { 0 }), started.elapsed());
            tally.write(&self.tally(name)).map_err(|error| format!("{name}.executions: {error}"))?;
            if !whole {
                return held;
            }
        }
    }

    /// One run of a target; the inner error is what it found.
    fn target(&self, name: &str, amount: &str, limit: Duration) -> Result<Result<(), String>, String> {
        let corpus = self.folder().join(name);
        let broken = self.folder().join("broken");
        for folder in [&corpus, &broken] {
            fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        let mut command = process::Command::new(self.program(name));
        command.arg(amount).args(INPUT_LIMITS);
        command.arg(format!("-artifact_prefix={}/{name}-", broken.display())).arg(&corpus);
        let kept = self.workspace.root.join(FOLDER).join("corpus").join(name);
        command.args(kept.is_dir().then_some(kept)).current_dir(self.folder());
        let log = self.log(name)?;
        Ok(match self.wait(command, &log, limit)? {
            None => Ok(()),
            Some(why) => Err(format!("{why}; the input is in {}, the output:\n{}", broken.display(), tail(&log))),
        })
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.log"))
    }

    fn log(&self, name: &str) -> Result<PathBuf, String> {
        let log = self.log_of(name);
        fs::create_dir_all(self.folder()).map_err(|error| format!("{}: {error}", self.folder().display()))?;
        fs::write(&log, "").map_err(|error| format!("{}: {error}", log.display()))?;
        Ok(log)
    }

    /// `None` if it ended well, else how it ended.
    fn wait(&self, mut command: process::Command, log: &Path, limit: Duration) -> Result<Option<String>, String> {
        let deadline = Instant::now() + limit;
        let ended = child::run(&mut command, log, deadline, self.interruption, |_| {});
        match ended.map_err(|error| format!("{}: {error}", log.display()))? {
            End::Exited(status) if status.success() => Ok(None),
            End::Exited(status) => Ok(Some(format!("ended with {status}"))),
            End::TimedOut => Ok(Some(format!("did not end within {} s", limit.as_secs()))),
            End::Interrupted => Err("interrupted".into()),
        }
    }
}

/// The end of what a program said.
fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_are_not_there_are_named() {
        let all = || vec!["a".into(), "b".into()];
        assert_eq!(chosen(all(), &[]), Ok(all()));
        assert_eq!(chosen(all(), &["b".into()]), Ok(vec!["b".into()]));
        assert!(chosen(all(), &["c".into()]).is_err_and(|why| why.contains("`c`") && why.contains("a, b")));
    }
}
