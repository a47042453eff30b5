//! A root file system in the making: files of this machine, texts and links, packed into an archive in one go.
//!
//! Invariant: every entry's folders come before it; paths are absolute and unique, the last word counts.

use super::cpio::Writer;
use super::libraries;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The files of a small system.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug)]
enum Entry {
    Copy(PathBuf),
    Bytes(Vec<u8>, u32),
    Link(String),
    Device(u32, u32),
}

impl Tree {
    /// A file of this machine, with its permissions; it is read when the tree is packed.
    pub fn copy(&mut self, path: impl Into<PathBuf>, from: impl Into<PathBuf>) {
        self.0.insert(path.into(), Entry::Copy(from.into()));
    }

    /// A file with this content.
    pub fn bytes(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), Entry::Bytes(content.into(), 0o644));
    }

    /// A script.
    pub fn script(&mut self, path: impl Into<PathBuf>, text: &str) {
        self.0.insert(path.into(), Entry::Bytes(text.into(), 0o755));
    }

    /// A symbolic link.
    pub fn link(&mut self, path: impl Into<PathBuf>, target: &str) {
        self.0.insert(path.into(), Entry::Link(target.into()));
    }

    /// A character device.
    pub fn device(&mut self, path: impl Into<PathBuf>, major: u32, minor: u32) {
        self.0.insert(path.into(), Entry::Device(major, minor));
    }

    /// A program of this machine with every shared object it needs, each at its own place.
    pub fn program(&mut self, path: impl Into<PathBuf>, from: &Path) -> Result<(), String> {
        for object in libraries::of(from)? {
            self.copy(&object, &object);
        }
        self.copy(path, from);
        Ok(())
    }

    /// Writes all of it as a `newc` archive.
    pub fn pack(&self, out: impl Write) -> Result<(), String> {
        let mut writer = Writer::new(out);
        let mut folders = BTreeSet::new();
        for (path, entry) in &self.0 {
            let above: Vec<_> = path.ancestors().skip(1).filter(|folder| folder.parent().is_some()).collect();
            for folder in above.into_iter().rev().filter(|folder| folders.insert(folder.to_path_buf())) {
                writer.folder(&text(folder)).map_err(|error| format!("{}: {error}", folder.display()))?;
            }
            entry.write(&text(path), &mut writer)?;
        }
        writer.finish().map(drop).map_err(|error| format!("an archive: {error}"))
    }

    /// What lies at or below `parts`, below a folder of this machine: for programs that run without a machine of their own.
    pub fn lay_out(&self, parts: &[&str], root: &Path) -> Result<(), String> {
        let wanted = |path: &Path| parts.iter().any(|part| path.starts_with(part));
        for (path, entry) in self.0.iter().filter(|(path, _)| wanted(path)) {
            let inner = path.strip_prefix("/").unwrap_or(path);
            entry.lay_out(&root.join(inner)).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }
}

impl Entry {
    fn write(&self, path: &str, writer: &mut Writer<impl Write>) -> Result<(), String> {
        let written = match self {
            Self::Bytes(content, mode) => writer.file(path, *mode, content),
            Self::Link(target) => writer.link(path, target),
            Self::Device(major, minor) => writer.device(path, (*major, *minor)),
            Self::Copy(from) => {
                let read = || Ok::<_, std::io::Error>((std::fs::read(from)?, from.metadata()?.permissions().mode()));
                let (content, mode) = read().map_err(|error| format!("{}: {error}", from.display()))?;
                writer.file(path, mode & 0o777, &content)
            }
        };
        written.map_err(|error| format!("{path}: {error}"))
    }

    fn lay_out(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match self {
            Self::Bytes(content, mode) => {
                std::fs::write(path, content)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))
            }
            Self::Copy(from) => std::fs::copy(from, path).map(drop),
            Self::Link(target) => std::os::unix::fs::symlink(target, path),
            Self::Device(..) => Ok(()),
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cpio;

    #[test]
    fn folders_come_before_what_they_hold() {
        let mut tree = Tree::default();
        tree.bytes("/a/b/c", "x");
        let mut archive = Vec::new();
        tree.pack(&mut archive).expect("packed");
        let text = String::from_utf8_lossy(&archive).into_owned();
        let place = |name: &str| text.find(&format!("{name}\0")).unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(place("a") < place("a/b") && place("a/b") < place("a/b/c"));
        assert_eq!(text.matches("070701").count(), 4, "each folder once, the file, the end");
        assert_eq!(cpio::files(&archive).expect("legal")["a/b/c"], b"x");
    }

    #[test]
    fn file_that_is_missing_is_named() {
        let mut tree = Tree::default();
        tree.copy("/here", "/nowhere/there");
        let error = tree.pack(Vec::new()).expect_err("missing");
        assert!(error.contains("/nowhere/there"), "{error}");
    }
}
