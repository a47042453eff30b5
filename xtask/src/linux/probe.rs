//! What the lane needs of the machine, told before anything is built.

use super::debian;
use super::kernels::KERNELS;
use super::newest;
use crate::cache;
use crate::need::Remedy;
use std::path::Path;
use std::process::Command;

/// Packages unpacked, initramfs images, results.
const WANTED: u64 = 2 << 30;

/// Why the stock kernels cannot be had here: neither in the cache nor from the archive, which is asked for a package of
/// two kilobytes.
pub fn kernels_missing() -> Option<String> {
    let names = KERNELS.iter().flat_map(|kernel| [kernel.image, kernel.headers]);
    let wanted: Vec<_> = names.filter(|name| !newest::is_here(name)).collect();
    let first = wanted.first()?;
    if let Some(why) = wanted.iter().find_map(|name| debian::dependencies(name).err()) {
        return Some(why);
    }
    let folder = std::env::temp_dir().join(format!("pvkit-probe-{}", std::process::id()));
    let fetched = std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()));
    let fetched = fetched.and_then(|()| debian::answer(&mut debian::fetching(first, &folder)));
    // Two kilobytes in the folder for temporary files.
    let _ = std::fs::remove_dir_all(&folder);
    fetched.err().map(|why| format!("Debian's archive cannot be reached: {why}"))
}

/// What helps: lists, where there are none; no line brings a network or another distribution.
pub fn kernels_remedy() -> Remedy {
    let has_lists = debian::dependencies("dpkg").is_ok();
    if has_lists { Remedy::ByHand } else { Remedy::Line("apt-get update".into()) }
}

/// Whether the cache's disk is too full.
pub fn space_missing() -> Option<String> {
    let cache = cache::here().ok()?;
    let place = cache.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let free = rustix::fs::statvfs(place).ok().map(|system| system.f_bavail.saturating_mul(system.f_frsize))?;
    (free < WANTED).then(|| format!("{} has {} MB free, 2 GB are needed", place.display(), free >> 20))
}

/// What building a module for a stock kernel and taking packages apart needs beside `make`.
pub fn tools_missing(on_path: impl Fn(&str) -> bool) -> Option<String> {
    let tool =
        ["gcc-12", "make", "xz", "objcopy", "dpkg-deb", "setpriv", "mke2fs", "e2fsck", "fio", "ethtool", "iperf3"]
            .into_iter()
            .find(|tool| !on_path(tool));
    tool.map(|tool| format!("no {tool}")).or_else(|| {
        // Debian's objtool is linked with it.
        let listed =
            Command::new("ldconfig").arg("-p").output().or_else(|_| Command::new("/sbin/ldconfig").arg("-p").output());
        let has = listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("libelf.so.1"));
        (!has).then(|| "no libelf.so.1".into())
    })
}
