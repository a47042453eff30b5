//! `cargo xtask patches`: the series of patches for a modified kernel, applied to Debian's source.
//!
//! The drivers are not in the series: they are the sources of the modules, copied to where the series expects them.

use super::checkpatch::checkpatch;
use super::debian::answer;
use super::driver::copy_changed;
use super::source;
use crate::child::Interruption;
use crate::workspace::Workspace;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The series, from the workspace's root.
const FOLDER: &str = "guest-kernel-patches/linux-6.1";
/// The drivers' sources, from the workspace's root, and their place in a kernel.
const DRIVERS: &str = "guest-drivers/linux";
const PLACE: &str = "drivers/pvkit";
/// The header of the ABI, which stands beside them there.
const HEADER: &str = "abi/include/pvkit.h";

/// The patches in their order, and where they and the drivers come from.
pub struct Series {
    root: PathBuf,
    patches: Vec<(String, String)>,
}

impl Series {
    /// Reads `series` and every patch that it names; a patch that it does not name is an error.
    pub fn read(workspace: &Workspace) -> Result<Self, String> {
        let folder = workspace.root.join(FOLDER);
        let text = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        let names: Vec<String> = text(&folder.join("series"))?
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Into::into)
            .collect();
        let listed: BTreeSet<_> = names.iter().cloned().collect();
        let there = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let there: BTreeSet<_> = there
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "patch"))
            .collect();
        if let Some(name) = there.difference(&listed).next() {
            return Err(format!("{FOLDER}/series does not name {name}"));
        }
        let patches = names.into_iter().map(|name| Ok::<_, String>((text(&folder.join(&name))?, name)));
        let patches = patches.map(|patch| patch.map(|(text, name)| (name, text))).collect::<Result<_, _>>()?;
        Ok(Self { root: workspace.root.clone(), patches })
    }

    /// What it consists of, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.patches.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// Applies them to the tree, in order, none of them with fuzz.
    pub fn apply(&self, tree: &Path) -> Result<(), String> {
        for (name, _) in &self.patches {
            let mut patch = Command::new("patch");
            patch.args(["--strip=1", "--fuzz=0", "--forward", "--batch", "--reject-file=-", "--no-backup-if-mismatch"]);
            patch.arg("--directory").arg(tree).arg("--input").arg(self.root.join(FOLDER).join(name));
            let output = patch.output().map_err(|error| format!("patch cannot be started: {error}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout);
                let first: Vec<_> = said.lines().take(20).collect();
                return Err(format!("{name} does not apply:\n{}", first.join("\n")));
            }
        }
        Ok(())
    }

    /// A copy of `pristine` below `root` with the series applied; made once.
    pub fn tree(&self, pristine: &Path, root: &Path) -> Result<PathBuf, String> {
        let tree = root.join("tree");
        if !tree.is_dir() {
            println!("  applying {} patches", self.patches.len());
            let unfinished = root.join("unfinished");
            let fault = |error: std::io::Error| format!("{}: {error}", unfinished.display());
            // Left by a run that was interrupted; one that is not there needs no removal.
            let _ = fs::remove_dir_all(&unfinished);
            fs::create_dir_all(root).map_err(fault)?;
            // Links to the same files: patch makes new ones of those that it changes.
            answer(Command::new("cp").args(["-al"]).arg(pristine).arg(&unfinished))?;
            self.apply(&unfinished)?;
            fs::rename(&unfinished, &tree).map_err(fault)?;
        }
        Ok(tree)
    }

    /// Puts the drivers where the series expects them; what is the same keeps its time.
    pub fn copy_drivers(&self, tree: &Path) -> Result<(), String> {
        let place = tree.join(PLACE);
        let fault = |error: std::io::Error| format!("{}: {error}", place.display());
        copy_changed(&self.root.join(DRIVERS), &place, &[&self.root.join(HEADER)]).map_err(fault)
    }

    /// The files that the series changes or adds to, and which the source must have.
    fn touched(&self) -> BTreeSet<String> {
        let lines = self.patches.iter().flat_map(|(_, text)| text.lines());
        lines.filter_map(|line| line.strip_prefix("--- a/")).map(Into::into).collect()
    }

    fn added(&self) -> BTreeSet<String> {
        let lines: Vec<_> = self.patches.iter().flat_map(|(_, text)| text.lines()).collect();
        let pairs = lines.iter().zip(lines.iter().skip(1));
        pairs
            .filter(|(old, _)| **old == "--- /dev/null")
            .filter_map(|(_, new)| new.strip_prefix("+++ b/"))
            .map(Into::into)
            .collect()
    }
}

/// What the developer asked for.
#[derive(Clone, Debug)]
pub enum PatchesOrder {
    /// Whether they apply to pristine source.
    Check,
    /// Apply them to this tree.
    Apply(PathBuf),
}

/// The subcommand.
pub fn patches_command() -> clap::Command {
    clap::Command::new("patches")
        .about("The patches for a modified Linux 6.1")
        .arg(Arg::new("check").long("check").action(ArgAction::SetTrue).help(
            "Apply them to Debian's pristine source in a folder of their own, and run checkpatch (without --apply: this)",
        ))
        .arg(
            Arg::new("apply")
                .long("apply")
                .value_name("TREE")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("check")
                .help("Apply them to this kernel's source, and put the drivers into it; the second time, the drivers alone"),
        )
}

/// Reads the subcommand's arguments.
pub fn patches_order(matches: &ArgMatches) -> PatchesOrder {
    matches.get_one("apply").cloned().map_or(PatchesOrder::Check, PatchesOrder::Apply)
}

/// Does what was asked for.
pub fn run_patches(order: &PatchesOrder) -> Result<ExitCode, String> {
    let workspace = Workspace::load()?;
    match order {
        PatchesOrder::Check => {
            let interruption = Interruption::watch().map_err(|error| format!("signals cannot be watched: {error}"))?;
            check(&workspace, &interruption)?;
        }
        PatchesOrder::Apply(tree) => apply(&workspace, tree)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Applies the series to pristine source in a folder of its own, and has checkpatch look at each patch.
fn check(workspace: &Workspace, interruption: &Interruption) -> Result<(), String> {
    let series = Series::read(workspace)?;
    let added = series.added();
    let wanted: Vec<_> = series.touched().into_iter().filter(|file| !added.contains(file)).collect();
    let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
    // What the source has already shows only if it is there.
    if let Some(name) = source::names(interruption)?.lines().find(|name| added.contains(*name)) {
        return Err(format!("the series adds {name}, which {} has", source::PACKAGE));
    }
    let pristine = source::files(&wanted, interruption)?;
    let tree = workspace.target.join("xtask/linux-patches");
    let fault = |error: std::io::Error| format!("{}: {error}", tree.display());
    let _ = fs::remove_dir_all(&tree);
    for name in &wanted {
        let copy = tree.join(name);
        fs::create_dir_all(copy.parent().unwrap_or(&tree)).map_err(fault)?;
        fs::copy(pristine.join(name), copy).map_err(fault)?;
    }
    series.apply(&tree)?;
    println!("patches: {} apply to {} without fuzz", series.patches.len(), source::PACKAGE);
    let files: Vec<_> = series.patches.iter().map(|(name, _)| workspace.root.join(FOLDER).join(name)).collect();
    // The list of maintainers is the kernel's own, of which these are no part.
    let said = checkpatch(&["--ignore", "FILE_PATH_CHANGES"], &files, &workspace.root, interruption)?;
    if !said.trim().is_empty() {
        return Err(said);
    }
    println!("patches: checkpatch has nothing to say");
    Ok(())
}

/// Applies the series to a tree of the developer's and puts the drivers into it.
fn apply(workspace: &Workspace, tree: &Path) -> Result<(), String> {
    if !tree.join("Kbuild").is_file() {
        return Err(format!("{} is no kernel's source", tree.display()));
    }
    let series = Series::read(workspace)?;
    if !tree.join(PLACE).is_dir() {
        series.apply(tree)?;
        println!("patches: {} applied to {}", series.patches.len(), tree.display());
    }
    series.copy_drivers(tree)?;
    println!("patches: the drivers of this checkout are in {PLACE}");
    Ok(())
}
