//! Debian's kernel source in the cache: the archive, and what was taken out of it.

use super::debian::answer;
use super::newest::newest;
use crate::child::Interruption;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The package, whose name is the folder's and the archive's.
pub const PACKAGE: &str = "linux-source-6.1";

/// A kernel's root with these files of it; unpacked once for each version.
pub fn files(names: &[&str], interruption: &Interruption) -> Result<PathBuf, String> {
    let found = newest(PACKAGE, || Ok(vec![PACKAGE.into()]), interruption)?;
    let folder = found.root.join("taken");
    let place = folder.join(PACKAGE);
    let missing: Vec<_> = names.iter().filter(|name| !place.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(place);
    }
    println!("  taking {} files out of {PACKAGE}", missing.len());
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = Command::new("tar");
    command.arg("-xJf").arg(found.root.join(format!("usr/src/{PACKAGE}.tar.xz"))).arg("-C").arg(&folder);
    answer(command.args(missing.iter().map(|name| format!("{PACKAGE}/{name}"))))?;
    Ok(place)
}

/// Every file that the source has, from the kernel's root, a line each.
pub fn names(interruption: &Interruption) -> Result<String, String> {
    let found = newest(PACKAGE, || Ok(vec![PACKAGE.into()]), interruption)?;
    let list = found.root.join("names");
    if let Ok(names) = fs::read_to_string(&list) {
        return Ok(names);
    }
    let archive = found.root.join(format!("usr/src/{PACKAGE}.tar.xz"));
    let names = answer(Command::new("tar").arg("-tJf").arg(archive))?;
    let names: String = names
        .lines()
        .filter_map(|name| name.strip_prefix(PACKAGE)?.strip_prefix('/'))
        .filter(|name| !name.is_empty() && !name.ends_with('/'))
        .fold(String::new(), |all, name| all + name + "\n");
    fs::write(&list, &names).map_err(|error| format!("{}: {error}", list.display()))?;
    Ok(names)
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
