//! The kernel's `checkpatch.pl --strict`, out of Debian's source.

use super::source;
use crate::child::Interruption;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What it consists of.
const SCRIPTS: [&str; 3] = ["scripts/checkpatch.pl", "scripts/spelling.txt", "scripts/const_structs.checkpatch"];

/// What it has to say of `files`, a line each; `folder` is where it is started.
pub fn checkpatch(
    options: &[&str],
    files: &[PathBuf],
    folder: &Path,
    interruption: &Interruption,
) -> Result<String, String> {
    let kernel = source::files(&SCRIPTS, interruption)?;
    let mut command = Command::new("perl");
    command.arg(kernel.join(SCRIPTS[0])).args(["--no-tree", "--strict", "--terse", "--show-types", "--no-summary"]);
    command.args(options).args(files).current_dir(folder);
    // Its status is 1 when it has something to say.
    let output = command.output().map_err(|error| format!("perl cannot be started: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !errors.trim().is_empty() {
        return Err(format!("checkpatch.pl: {errors}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
