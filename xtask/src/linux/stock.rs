//! One stock kernel, unpacked in the cache: its image, its modules, its release.

use super::debian;
use super::kernels::Kernel;
use super::modules::Modules;
use super::newest::{Unpacked, newest};
use crate::child::Interruption;
use std::path::PathBuf;

const PREFIX: &str = "linux-image-";

/// A kernel that can be booted.
pub struct Stock {
    /// Which line of Debian's kernels it is.
    pub kernel: &'static Kernel,
    /// As `uname -r` says it.
    pub release: String,
    root: PathBuf,
}

impl Stock {
    /// The newest that apt knows; fetched if it is not in the cache.
    pub fn newest(kernel: &'static Kernel, interruption: &Interruption) -> Result<Self, String> {
        let image = || -> Result<_, String> {
            let found = debian::dependencies(kernel.image)?.into_iter().find(|name| name.starts_with(PREFIX));
            Ok(vec![found.ok_or_else(|| format!("{} depends on no kernel image", kernel.image))?])
        };
        let Unpacked { main, root } = newest(kernel.image, image, interruption)?;
        Ok(Self { kernel, release: main.trim_start_matches(PREFIX).into(), root })
    }

    /// One that was built here, installed below `root` as a package would be.
    pub const fn built(kernel: &'static Kernel, release: String, root: PathBuf) -> Self {
        Self { kernel, release, root }
    }

    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// Its modules.
    pub fn modules(&self) -> Result<Modules, String> {
        Modules::below(&self.root.join("lib/modules").join(&self.release))
    }
}
