//! Debian's kernel source in the cache: the archive, and what was taken out of it.

use super::debian::answer;
use super::newest::newest;
use crate::child::Interruption;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The package, whose name is the folder's and the archive's.
const PACKAGE: &str = "linux-source-6.1";

/// A folder with these files of `below`, from the kernel's root; unpacked once for each version.
pub fn files(below: &str, names: &[&str], interruption: &Interruption) -> Result<PathBuf, String> {
    let found = newest(PACKAGE, || Ok(vec![PACKAGE.into()]), interruption)?;
    let folder = found.root.join("taken");
    let place = folder.join(PACKAGE).join(below);
    if names.iter().all(|name| place.join(name).is_file()) {
        return Ok(place);
    }
    println!("  taking {} out of {PACKAGE}", names.join(", "));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = Command::new("tar");
    command.arg("-xJf").arg(found.root.join(format!("usr/src/{PACKAGE}.tar.xz"))).arg("-C").arg(&folder);
    answer(command.args(names.iter().map(|name| format!("{PACKAGE}/{below}/{name}"))))?;
    Ok(place)
}
