//! One run: the scenarios in order, each in a machine of its own; the results below `target/xtask/linux`; the last line.

use super::emulated::{Emulated, Outcome};
use super::kernels::{CLOUD, Kernel};
use super::native;
use super::options::Options;
use super::payload::{Packer, Part};
use super::scenario::Scenario;
use super::scenarios::{GUESTS, SCENARIOS};
use super::stocks::Stocks;
use super::tools::TOOLS;
use super::{style, system};
use crate::child::Interruption;
use crate::summary::{Summary, Verdict};
use crate::workspace::Workspace;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// MiB of the machine; guests take theirs from it.
const MEMORY: u32 = 3072;
/// Lines of the console that a failure shows.
const LAST_WORDS: usize = 60;

/// What the machine is to run.
struct Task<'all> {
    name: &'all str,
    script: &'all str,
    parts: Vec<Part>,
    extras: &'all [PathBuf],
    modules: &'all [&'all str],
    kernel: &'all Kernel,
    limit: Duration,
    natively: bool,
}

/// Runs what was asked for, to the last line.
pub fn run(options: &Options) -> Result<ExitCode, String> {
    let chosen = choose(options)?;
    if options.list {
        chosen.iter().for_each(|scenario| println!("{:<20} {}", scenario.name, scenario.protects));
        return Ok(ExitCode::SUCCESS);
    }
    let workspace = Workspace::load()?;
    let interruption = Interruption::watch().map_err(|error| format!("signals cannot be watched: {error}"))?;
    if options.style {
        return style::run(&workspace, &interruption).map(|()| ExitCode::SUCCESS);
    }
    let rig = Rig {
        workspace: &workspace,
        interruption: &interruption,
        stocks: Stocks::new(&workspace, &interruption),
        options,
    };
    if let Some(script) = &options.script {
        return rig.script(script);
    }
    let mut summary = Summary::default();
    for scenario in chosen {
        summary.add(&rig.scenario(scenario));
    }
    println!("{summary}");
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(options: &Options) -> Result<Vec<&'static Scenario>, String> {
    for name in &options.only {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            return Err(format!("`{name}` is no scenario; `cargo xtask linux --list --full` prints them"));
        }
    }
    let named = |scenario: &&Scenario| match options.only.is_empty() {
        true => options.full || !scenario.full,
        false => options.only.iter().any(|name| name == scenario.name),
    };
    Ok(SCENARIOS.iter().filter(named).collect())
}

struct Rig<'run> {
    workspace: &'run Workspace,
    interruption: &'run Interruption,
    stocks: Stocks<'run>,
    options: &'run Options,
}

impl Rig<'_> {
    fn scenario(&self, scenario: &'static Scenario) -> Verdict {
        if self.interruption.came() {
            println!("skipped: {}: interrupted", scenario.name);
            return Verdict::Skipped;
        }
        println!("{}: {}", scenario.name, scenario.protects);
        let started = Instant::now();
        let outcome = self.folder(scenario.name).and_then(|folder| {
            let outcome = self.machine(&Task::of(scenario), &folder)?;
            for line in said(&folder) {
                println!("  {line}");
            }
            if outcome.status != 0 {
                return Err(format!("the script ended with status {}", outcome.status));
            }
            if !self.options.keep {
                let _ = fs::remove_dir_all(folder.join("home"));
            }
            Ok(())
        });
        let took = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                println!("{}: ok, {took:.1} s", scenario.name);
                Verdict::Passed
            }
            Err(why) => {
                println!("{}\nFAILED: {}, {took:.1} s: {why}", self.last_words(scenario.name), scenario.name);
                Verdict::Failed
            }
        }
    }

    /// The developer's own script, with everything that any scenario wants.
    fn script(&self, file: &Path) -> Result<ExitCode, String> {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut parts = vec![Part::Pvkit, Part::Qemu, Part::Tools(TOOLS)];
        parts.extend(
            SCENARIOS.iter().flat_map(|scenario| scenario.parts).filter(|part| matches!(part, Part::Guests(_))),
        );
        let task = Task {
            name: "script",
            script: &text,
            parts,
            extras: &self.options.with,
            modules: GUESTS,
            kernel: CLOUD,
            limit: Duration::from_secs(self.options.limit),
            natively: self.options.natively,
        };
        let folder = self.folder(task.name)?;
        let outcome = self.machine(&task, &folder);
        println!("{}", console(&folder));
        let status = outcome?.status;
        println!("status {status}; what it left in $RESULTS is in {}", folder.join("home").display());
        Ok(if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn machine(&self, task: &Task<'_>, folder: &Path) -> Result<Outcome, String> {
        let stock = self.stocks.get(task.kernel)?;
        let mut tree = system::small(stock, task.modules, task.script)?;
        let packer = Packer { workspace: self.workspace, stocks: &self.stocks, kernel: task.kernel, folder };
        packer.add(&task.parts, &mut tree)?;
        task.extras.iter().try_for_each(|file| Packer::extra(file, &mut tree))?;
        let news = |elapsed: Duration| println!("  ... {} s: {}", elapsed.as_secs(), last_line(&console(folder)));
        let place = self.workspace.target.join("xtask/linux");
        let outcome = if task.natively && native::boots(stock, &place, self.interruption)? {
            native::run(&tree, task.limit, folder, self.interruption, news)?
        } else {
            Emulated { stock, tree, memory: MEMORY, limit: task.limit, folder }.run(self.interruption, news)?
        };
        bring_home(&outcome, &folder.join("home"))?;
        Ok(outcome)
    }

    /// An empty folder for one machine.
    fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.workspace.target.join("xtask/linux").join(name);
        // One that is not there needs no removal; any other trouble shows below.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    fn last_words(&self, name: &str) -> String {
        let folder = self.workspace.target.join("xtask/linux").join(name);
        let console = console(&folder);
        let lines: Vec<_> = console.lines().collect();
        let shown = lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n");
        let qemu = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
        let qemu: Vec<_> = qemu.lines().filter(|line| !line.contains("TCG doesn't support")).collect();
        format!("{shown}\n{}", qemu.join("\n"))
    }
}

impl<'all> Task<'all> {
    fn of(scenario: &'all Scenario) -> Self {
        let Scenario { name, script, parts, modules, kernel, limit, natively, .. } = scenario;
        Self { name, script, parts: parts.to_vec(), extras: &[], modules, kernel, limit: *limit, natively: *natively }
    }
}

/// The machine's console so far.
fn console(folder: &Path) -> String {
    let bytes = fs::read(folder.join("console.log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

/// What the script had to say for the reader.
fn said(folder: &Path) -> Vec<String> {
    console(folder).lines().filter_map(|line| line.strip_prefix("scenario: ")).map(Into::into).collect()
}

fn last_line(text: &str) -> String {
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(100).collect()
}

/// Names are the guest's: only plain ones, so that nothing lands outside.
fn bring_home(outcome: &Outcome, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, content) in &outcome.files {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain || name.starts_with('.') {
            println!("  left behind, its name is not plain: {name:?}");
            continue;
        }
        let file = folder.join(name);
        fs::write(&file, content).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    std::io::stdout().flush().map_err(|error| error.to_string())
}
