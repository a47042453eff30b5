//! Kernel headers in the cache, made fit to build modules where they lie: nothing is installed.
//!
//! Debian spreads them over three packages that find each other by relative links, but for two things that are put right
//! here: the flavour's Makefile includes the common one by an absolute name; and 6.12 brings a `vmlinux` for type
//! information (BTF), which would need `pahole` for each module.

use super::debian;
use super::kernels::Kernel;
use super::newest::{Unpacked, newest};
use crate::child::Interruption;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder for `make -C`; fetched if it is not in the cache.
pub fn ready(kernel: &Kernel, interruption: &Interruption) -> Result<PathBuf, String> {
    let Unpacked { main, root } = newest(kernel.headers, || parts(kernel), interruption)?;
    let folder = root.join("usr/src").join(main);
    put_right(&root, &folder)?;
    Ok(folder)
}

/// The flavour's package first, then what it is no good without.
fn parts(kernel: &Kernel) -> Result<Vec<String>, String> {
    let flavour = debian::dependencies(kernel.headers)?.into_iter().find(|name| name.starts_with("linux-headers-"));
    let flavour = flavour.ok_or_else(|| format!("{} depends on no headers", kernel.headers))?;
    let wanted = |name: &String| name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-");
    let others: Vec<_> = debian::dependencies(&flavour)?.into_iter().filter(wanted).collect();
    Ok(std::iter::once(flavour).chain(others).collect())
}

fn put_right(root: &Path, folder: &Path) -> Result<(), String> {
    let makefile = folder.join("Makefile");
    let fault = |error: std::io::Error| format!("{}: {error}", makefile.display());
    let text = fs::read_to_string(&makefile).map_err(fault)?;
    let common = text.rsplit('/').nth(1).ok_or_else(|| format!("{}: includes nothing", makefile.display()))?;
    let wanted = format!("include {}/usr/src/{common}/Makefile\n", root.display());
    if text != wanted {
        fs::write(&makefile, wanted).map_err(fault)?;
    }
    match fs::remove_file(folder.join("vmlinux")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {error}", folder.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makefile_includes_the_common_one_wherever_the_cache_is() {
        let root = std::env::temp_dir().join(format!("xtask-headers-{}", std::process::id()));
        let folder = root.join("usr/src/linux-headers-6.1-cloud");
        fs::create_dir_all(&folder).expect("folders");
        fs::write(folder.join("Makefile"), "include /usr/src/linux-headers-6.1-common/Makefile\n").expect("written");
        let wanted = format!("include {}/usr/src/linux-headers-6.1-common/Makefile\n", root.display());
        for _ in 0..2 {
            put_right(&root, &folder).expect("put right");
            assert_eq!(fs::read_to_string(folder.join("Makefile")).expect("there"), wanted);
        }
        fs::remove_dir_all(root).expect("removed");
    }
}
