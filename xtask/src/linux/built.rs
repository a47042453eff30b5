//! What cargo builds for the machines: the program, the guest images, tests. The folders are those of the other lanes, so
//! that nothing is built twice.

use super::debian::answer;
use crate::workspace::{Workspace, as_from_a_shell};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const GUEST_TARGET: &str = "x86_64-unknown-none";

/// The `pvkit` program.
pub fn pvkit(workspace: &Workspace) -> Result<PathBuf, String> {
    cargo(workspace, &["build", "--quiet", "--release", "-p", "pvkit"])?;
    Ok(workspace.target.join("release/pvkit"))
}

/// The program that can lie to its guest; in a folder of its own, so that no other lane takes it for the true one.
pub fn mutants(workspace: &Workspace) -> Result<PathBuf, String> {
    let folder = workspace.target.join("mutants");
    let line = ["build", "--quiet", "--release", "-p", "pvkit", "--features", "mutants", "--target-dir"];
    cargo(workspace, &[&line[..], &[&folder.to_string_lossy()]].concat())?;
    Ok(folder.join("release/pvkit"))
}

/// The folder of the guest images, for both privilege levels.
pub fn guests(workspace: &Workspace) -> Result<PathBuf, String> {
    // As `tests/src/images.rs` has it.
    let folder = workspace.root.join("target/guest");
    let line = ["build", "--quiet", "-p", "unikernel-image", "--profile", "guest", "--target", GUEST_TARGET];
    cargo(workspace, &[&line[..], &["--target-dir", &folder.to_string_lossy()]].concat())?;
    Ok(folder.join(GUEST_TARGET).join("guest"))
}

/// A test program of `pvkit-tests`, without its debug information, which is 25 MB.
pub fn test(workspace: &Workspace, name: &str, folder: &Path) -> Result<PathBuf, String> {
    let line = ["test", "--quiet", "-p", "pvkit-tests", "--test", name, "--no-run", "--message-format", "json"];
    let said = cargo(workspace, &line)?;
    let built = said.lines().filter_map(executable).next_back().ok_or_else(|| format!("cargo built no test {name}"))?;
    let small = folder.join(name);
    answer(Command::new("objcopy").arg("--strip-debug").args([&built, &small]))?;
    Ok(small)
}

fn executable(line: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    message.get("executable")?.as_str().map(Into::into)
}

fn cargo(workspace: &Workspace, line: &[&str]) -> Result<String, String> {
    let mut command = Command::new("cargo");
    command.args(line).current_dir(&workspace.root);
    as_from_a_shell(&mut command);
    answer(&mut command)
}
