//! Programs of this machine for guests, with their shared objects, on a disk image: a guest mounts it and changes its root
//! to it, so it needs no copy of them in its memory.

use super::debian::answer;
use super::tree::Tree;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program, and the package that has it.
#[derive(Debug)]
pub struct Tool {
    /// As it is called.
    pub name: &'static str,
    /// Debian's package.
    pub package: &'static str,
}

/// What file systems, disks and network cards are tried with.
pub const TOOLS: &[Tool] = &[
    Tool { name: "mke2fs", package: "e2fsprogs" },
    Tool { name: "e2fsck", package: "e2fsprogs" },
    Tool { name: "fio", package: "fio" },
    Tool { name: "blkdiscard", package: "util-linux" },
    Tool { name: "ethtool", package: "ethtool" },
    Tool { name: "iperf3", package: "iperf3" },
];

/// Folders that a guest mounts its own things on.
const MOUNTS: [&str; 5] = ["dev", "proc", "sys", "tmp", "mnt"];

/// Makes an ext4 image of them at `image`, in `folder`.
pub fn image(tools: &[Tool], folder: &Path, image: &Path) -> Result<(), String> {
    let mut tree = Tree::default();
    for tool in tools {
        tree.program(Path::new("/usr/bin").join(tool.name), &find(tool)?)?;
    }
    disk(&tree, &MOUNTS, &["-O", "^has_journal"], folder, image)
}

/// Makes an ext4 image of a tree, with these empty folders, by way of `folder`.
pub fn disk(tree: &Tree, folders: &[&str], options: &[&str], folder: &Path, image: &Path) -> Result<(), String> {
    let root = folder.join("laid-out");
    tree.lay_out(&["/"], &root)?;
    let fault = |error: std::io::Error| format!("{}: {error}", root.display());
    folders.iter().try_for_each(|name| std::fs::create_dir_all(root.join(name))).map_err(fault)?;
    let size = bytes_below(&root).map_err(fault)?;
    let blocks = (size + size / 8 + (16 << 20)) / 4096;
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096"]).args(options).arg("-d");
    answer(command.arg(&root).arg(image).arg(blocks.to_string()))?;
    std::fs::remove_dir_all(&root).map_err(fault)
}

/// In the PATH, or where root's programs lie.
fn find(tool: &Tool) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|folder| folder.join(tool.name)).find(|file| file.is_file());
    found.ok_or_else(|| format!("no {} (`apt-get install {}`)", tool.name, tool.package))
}

fn bytes_below(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        sum += if facts.is_dir() { bytes_below(&entry.path())? } else { facts.len().next_multiple_of(4096) };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_that_is_missing_is_named_with_its_package() {
        let tool = Tool { name: "no-such-program", package: "no-such-package" };
        let error = find(&tool).expect_err("missing");
        assert!(error.contains("no-such-program") && error.contains("apt-get install no-such-package"), "{error}");
    }
}
