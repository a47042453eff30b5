//! A kernel as the guest (L2): the same small system, one script, one root for each kernel.

use super::kernels::Kernel;
use super::stock::Stock;
use super::system;
use super::tree::Tree;

/// A guest, for any number of kernels.
#[derive(Debug)]
pub struct Guest {
    /// The folder of its files in the payload.
    pub name: &'static str,
    /// The kernels it is made for.
    pub kernels: &'static [&'static Kernel],
    /// Loaded before the script runs, with their dependencies.
    pub modules: &'static [&'static str],
    /// Folders of modules of ours, from the workspace's root; their files lie where the script starts, not yet loaded.
    pub drivers: &'static [&'static str],
    /// Programs in C of ours, from the workspace's root; built static, and beside the modules.
    pub programs: &'static [&'static str],
    /// What it does.
    pub script: &'static str,
    /// How it gets its root.
    pub root: Root,
}

/// Where a guest finds its first files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// In an archive that is loaded beside the kernel: `initramfs`.
    Archive,
    /// On a disk with ext4: `root.img`.
    Disk,
}

impl Guest {
    /// Its root, for one of its kernels.
    pub fn system(&self, stock: &Stock) -> Result<Tree, String> {
        system::small(stock, self.modules, self.script)
    }
}
