//! A module of ours in C, built against unpacked headers: outside the source tree, with extra warnings, none allowed.

use super::debian::answer;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sources are found by these; anything else in the folder is left where it is.
const SOURCES: [&str; 2] = ["c", "h"];
const KBUILD: &str = "Kbuild";

/// Sources of a module, and where it is built for one kernel.
pub struct Driver<'all> {
    /// The folder with `Kbuild` and the sources; folders below it are not looked at.
    pub source: &'all Path,
    /// The root of the workspace: `Kbuild` finds it as `$(PVKIT_ROOT)`, for the ABI's header.
    pub root: &'all Path,
    /// For `make -C`.
    pub headers: &'all Path,
    /// Where it is built; stays, so that only what changed is built again.
    pub folder: &'all Path,
}

impl Driver<'_> {
    /// The module files.
    pub fn build(&self) -> Result<Vec<PathBuf>, String> {
        let shown = self.source.display();
        self.copy()?;
        let mut make = self.make();
        make.args(["W=1", "modules"]);
        // Warnings come on standard error.
        let said = answer(Command::new("sh").args(["-c", "exec \"$@\" 2>&1", "sh"]).arg("make").args(make.get_args()));
        let warned = said.as_ref().is_ok_and(|text| has_warning(text));
        match said {
            Ok(_) if !warned => files(self.folder, &["ko"]).map_err(|error| format!("{shown}: {error}")),
            Ok(text) => self.refuse(&format!("{shown} has warnings:\n{text}")),
            Err(text) => self.refuse(&format!("{shown} does not build: {text}")),
        }
    }

    /// Brings the sources to where they are built.
    pub fn copy(&self) -> Result<(), String> {
        copy_changed(self.source, self.folder, &[]).map_err(|error| format!("{}: {error}", self.source.display()))
    }

    /// `make`, but for what it is to make.
    pub fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.arg("-C").arg(self.headers).arg(format!("M={}", self.folder.display()));
        make.arg(format!("PVKIT_ROOT={}", self.root.display()));
        make
    }

    /// What was built is removed, so that the next run says the same.
    fn refuse(&self, why: &str) -> Result<Vec<PathBuf>, String> {
        let _ = fs::remove_dir_all(self.folder);
        Err(why.into())
    }
}

/// Compiler and objtool say `warning:`, modpost says `WARNING:`.
fn has_warning(text: &str) -> bool {
    text.lines().any(|line| line.to_ascii_lowercase().contains("warning:"))
}

/// The sources in `from`, and `others`. Keeps the time of what is the same, so that make sees what is not; a source that is
/// gone goes here, too.
pub fn copy_changed(from: &Path, to: &Path, others: &[&Path]) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    let mut sources = files(from, &SOURCES)?;
    sources.push(from.join(KBUILD));
    sources.extend(others.iter().map(|file| file.to_path_buf()));
    for stale in files(to, &SOURCES)? {
        let ours = sources.iter().any(|source| source.file_name() == stale.file_name());
        let generated = stale.to_string_lossy().ends_with(".mod.c");
        if !ours && !generated {
            fs::remove_file(stale)?;
        }
    }
    for source in sources {
        let content = fs::read(&source)?;
        let copy = to.join(source.file_name().unwrap_or_default());
        if fs::read(&copy).ok().as_ref() != Some(&content) {
            fs::write(copy, content)?;
        }
    }
    Ok(())
}

fn files(folder: &Path, extensions: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_of_compiler_and_modpost_are_noticed() {
        assert!(has_warning("x\n/w/a.c:3:5: warning: unused variable\n"));
        assert!(has_warning("WARNING: modpost: missing MODULE_DESCRIPTION() in a.o"));
        assert!(!has_warning("Skipping BTF generation for a.ko due to unavailability of vmlinux\n  LD [M] a.ko"));
    }

    #[test]
    fn source_that_is_gone_is_built_no_longer_and_what_make_made_stays() {
        let root = std::env::temp_dir().join(format!("xtask-driver-{}", std::process::id()));
        let (from, to) = (root.join("from"), root.join("to"));
        fs::create_dir_all(&from).expect("folder");
        for name in [KBUILD, "a.c", "b.c"] {
            fs::write(from.join(name), name).expect("written");
        }
        copy_changed(&from, &to, &[]).expect("copied");
        fs::write(to.join("m.mod.c"), "made").expect("written");
        fs::remove_file(from.join("b.c")).expect("removed");
        copy_changed(&from, &to, &[]).expect("copied");
        assert_eq!(files(&to, &SOURCES).expect("read"), [to.join("a.c"), to.join("m.mod.c")]);
        fs::remove_dir_all(root).expect("removed");
    }
}
