//! The kernel's own critics on the modules in C: `checkpatch.pl --strict` and sparse.
//!
//! checkpatch comes with Debian's kernel source, of which three files are unpacked; sparse is a program of the machine.
//! What checkpatch is wrong about stands in `checkpatch.txt` beside the sources, with a reason.

use super::checkpatch::checkpatch;
use super::debian::answer;
use super::driver::Driver;
use super::kernels::KERNELS;
use super::stocks::Stocks;
use crate::child::Interruption;
use crate::workspace::Workspace;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sources, from the workspace's root.
const SOURCES: &str = "guest-drivers/linux";
const EXCEPTIONS: &str = "checkpatch.txt";

/// Both critics; the first complaint of either is an error.
pub fn run(workspace: &Workspace, interruption: &Interruption) -> Result<(), String> {
    let folder = workspace.root.join(SOURCES);
    style(&folder, interruption)?;
    println!("checkpatch: {SOURCES}: nothing but what {EXCEPTIONS} lists");
    let stocks = Stocks::new(workspace, interruption);
    for kernel in KERNELS {
        let headers = stocks.headers(kernel)?;
        let build = workspace.target.join("xtask/linux-sparse").join(kernel.name);
        // It looks at what is compiled; what was built before would not be.
        let _ = fs::remove_dir_all(&build);
        Driver { source: &folder, root: &workspace.root, headers: &headers, folder: &build }.critic()?;
        println!("sparse: {SOURCES} for {}: nothing", kernel.name);
    }
    Ok(())
}

fn style(folder: &Path, interruption: &Interruption) -> Result<(), String> {
    let mut files = sources(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    files.sort();
    let said = checkpatch(&["-f"], &files, folder, interruption)?;
    let list = folder.join(EXCEPTIONS);
    let list = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    compare(&said, &list)
}

fn sources(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("Kbuild")];
    for entry in fs::read_dir(folder)? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|extension| extension == "c" || extension == "h") {
            files.push(name);
        }
    }
    Ok(files)
}

/// Each complaint has its exception, each exception its reason and a complaint.
fn compare(said: &str, list: &str) -> Result<(), String> {
    let mut left = BTreeSet::new();
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.splitn(3, ' ');
        let (Some(file), Some(kind), Some(_reason)) = (words.next(), words.next(), words.next()) else {
            return Err(format!("{EXCEPTIONS}: no reason: {line}"));
        };
        left.insert((file, kind));
    }
    let allowed = left.clone();
    let mut faults = Vec::new();
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        match parse(line) {
            Some(complaint) if allowed.contains(&complaint) => {
                left.remove(&complaint);
            }
            _ => faults.push(line.to_owned()),
        }
    }
    faults.extend(left.iter().map(|(file, kind)| format!("{EXCEPTIONS}: {file} {kind} is not needed any more")));
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// `blk.c:61: CHECK:LONG_LINE: line length ..` is about `blk.c` and `LONG_LINE`.
fn parse(line: &str) -> Option<(&str, &str)> {
    let (file, rest) = line.split_once(':')?;
    let (_, rest) = rest.split_once(": ")?;
    let mut words = rest.split(':');
    Some((file, words.nth(1)?))
}

/// Whether sparse says something.
pub fn complains(said: &str) -> bool {
    said.lines().any(|line| [": warning: ", ": error: "].iter().any(|word| line.contains(word)))
}

/// The modules once more, with sparse for a compiler beside the real one.
impl Driver<'_> {
    fn critic(&self) -> Result<(), String> {
        self.copy()?;
        let mut make = self.make();
        make.args(["C=2", "CHECK=sparse", "modules"]);
        let said = answer(Command::new("sh").args(["-c", "exec \"$@\" 2>&1", "sh"]).arg("make").args(make.get_args()))?;
        if !said.contains("CHECK") {
            return Err(format!("sparse was not called:\n{said}"));
        }
        if complains(&said) { Err(format!("sparse:\n{said}")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaint_without_an_exception_and_exception_without_a_complaint_are_faults() {
        let said = "a.c:1: WARNING:X: text: more\na.c:9: CHECK:X: text\n";
        assert_eq!(compare(said, "# why\na.c X for a reason\n"), Ok(()));
        assert!(compare(said, "").expect_err("none allowed").contains("a.c:9"));
        assert!(compare(said, "b.c X for a reason\na.c X too\n").expect_err("stale").contains("b.c X is not needed"));
        assert!(compare(said, "a.c X\n").expect_err("no reason").contains("no reason"));
        assert!(compare("checkpatch.pl: a.c does not exist\n", "").is_err());
    }

    #[test]
    fn what_sparse_says_is_noticed() {
        assert!(complains("/w/a.c:3:5: warning: symbol 'x' was not declared. Should it be static?\n"));
        assert!(!complains("  CHECK   /w/a.c\n  CC [M]  /w/a.o\n"));
    }
}
