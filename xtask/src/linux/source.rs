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

/// The whole source, as a tree that kernels are built from.
pub fn tree(interruption: &Interruption) -> Result<PathBuf, String> {
    let found = newest(PACKAGE, || Ok(vec![PACKAGE.into()]), interruption)?;
    let folder = found.root.join("tree");
    let place = folder.join(PACKAGE);
    if !place.is_dir() {
        println!("  unpacking all of {PACKAGE}");
        // Under its name only when it is whole.
        let unfinished = found.root.join("unfinished");
        let fault = |error: std::io::Error| format!("{}: {error}", unfinished.display());
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished).map_err(fault)?;
        let archive = found.root.join(format!("usr/src/{PACKAGE}.tar.xz"));
        answer(Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(&unfinished))?;
        fs::rename(&unfinished, &folder).map_err(fault)?;
    }
    Ok(place)
}
