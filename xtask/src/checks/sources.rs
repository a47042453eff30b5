//! Every hand-written Rust file of the tree, as a path relative to the root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The first line of a generated file has this word.
const GENERATED: &str = "@generated";

/// One Rust source.
pub struct Source {
    /// Relative to the root.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Whether a program wrote it.
    pub fn is_generated(&self) -> bool {
        self.text.lines().next().is_some_and(|line| line.contains(GENERATED))
    }
}

/// All `.rs` files below `root` outside build folders and hidden folders, sorted by path.
pub fn rust_files(root: &Path) -> Result<Vec<Source>, String> {
    let mut files = Vec::new();
    collect(root, root, &mut files).map_err(|error| format!("{}: {error}", root.display()))?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(folder: &Path, root: &Path, files: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                collect(&path, root, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            files.push(Source { path: path.strip_prefix(root).unwrap_or(&path).to_path_buf(), text });
        }
    }
    Ok(())
}
