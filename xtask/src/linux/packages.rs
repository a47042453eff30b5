//! Packages in the cache: fetched once, checked, unpacked under the first one's name and version.
//!
//! Invariants: a folder has its final name only when it is whole; a file is unpacked only if its size and SHA-256 are the
//! archive's. A run that was cut off goes on with the first package that is not there yet.

use super::debian::{self, Package};
use crate::cache;
use crate::child::{self, End, Interruption};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// No package is larger (the generic kernel image is 70 MB); an archive that says so is not to be trusted.
const SIZE_LIMIT: u64 = 200 << 20;
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The folder into which these packages are unpacked together.
pub fn unpacked(names: &[String], interruption: &Interruption) -> Result<PathBuf, String> {
    let store = cache::folder("linux")?;
    let packages = debian::listing(names)?;
    let first = packages.first().ok_or("no package was asked for")?;
    let place = store.join(first.file.trim_end_matches(".deb"));
    if place.is_dir() {
        return Ok(place);
    }
    let _lock = alone(&store, interruption)?;
    if place.is_dir() {
        return Ok(place);
    }
    let unfinished = store.join("unfinished");
    clear(&unfinished)?;
    for package in &packages {
        let file = fetch(package, &store, interruption)?;
        println!("  unpacking {}", package.file);
        debian::answer(Command::new("dpkg-deb").arg("-x").args([&file, &unfinished]))?;
    }
    fs::rename(&unfinished, &place).map_err(|error| format!("{}: {error}", place.display()))?;
    for package in &packages {
        // It has served; a file that stays costs space only.
        let _ = fs::remove_file(store.join(&package.file));
    }
    Ok(place)
}

/// Only one process fills the cache; the lock goes with the file that is returned.
fn alone(store: &Path, interruption: &Interruption) -> Result<File, String> {
    let path = store.join("lock");
    let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let patience = Instant::now() + TIME_LIMIT;
    while file.try_lock().is_err() {
        if Instant::now() >= patience || interruption.came() {
            return Err(format!("{}: another process is filling the cache", path.display()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(file)
}

/// The package's file, whole and checked.
fn fetch(package: &Package, store: &Path, interruption: &Interruption) -> Result<PathBuf, String> {
    let file = store.join(&package.file);
    if check(package, &file).is_ok() {
        return Ok(file);
    }
    if package.size > SIZE_LIMIT {
        return Err(format!("{}: {} bytes, the limit is {SIZE_LIMIT}", package.file, package.size));
    }
    println!("  fetching {} ({} MB)", package.file, package.size.div_ceil(1_000_000));
    let folder = store.join("partial");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = debian::fetching(&package.name, &folder);
    let log = folder.join("fetch.log");
    let deadline = Instant::now() + TIME_LIMIT;
    let news = |elapsed: Duration| println!("  ... {} s", elapsed.as_secs());
    match child::run(&mut command, &log, deadline, interruption, news) {
        Ok(End::Exited(status)) if status.success() => {}
        end => {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{} cannot be fetched ({end:?}); is there a network?\n{said}", package.name));
        }
    }
    let fetched = folder.join(&package.file);
    check(package, &fetched)?;
    fs::rename(&fetched, &file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

fn check(package: &Package, file: &Path) -> Result<(), String> {
    let size = file.metadata().map_err(|error| format!("{}: {error}", file.display()))?.len();
    if size != package.size {
        return Err(format!("{}: {size} bytes, the archive has {}", file.display(), package.size));
    }
    let sum = debian::answer(Command::new("sha256sum").arg(file))?;
    if sum.split(' ').next() != Some(&package.sha256) {
        return Err(format!("{}: its SHA-256 is not the archive's", file.display()));
    }
    Ok(())
}

fn clear(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_that_is_cut_or_altered_is_refused() {
        let file = std::env::temp_dir().join(format!("xtask-package-{}", std::process::id()));
        // printf hello | sha256sum
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".to_owned();
        let package = Package { name: "x".into(), file: "x".into(), size: 5, sha256 };
        fs::write(&file, "hello").expect("written");
        assert_eq!(check(&package, &file), Ok(()));
        fs::write(&file, "hell").expect("written");
        assert!(check(&package, &file).expect_err("cut").contains("4 bytes"));
        fs::write(&file, "hullo").expect("written");
        assert!(check(&package, &file).expect_err("altered").contains("SHA-256"));
        fs::remove_file(&file).expect("removed");
        assert!(check(&package, &file).is_err());
    }
}
