//! The newest packages behind a metapackage, and the memory of which those were.
//!
//! Asking apt takes a second a time, so the answer is kept beside the packages. It holds until apt's lists change, and
//! where apt cannot answer or fetch: a machine without a network goes on with what it has.

use super::packages;
use crate::cache;
use crate::child::Interruption;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Changes whenever `apt-get update` brings something.
const LISTS: &str = "/var/lib/apt/lists";

/// Packages that are unpacked together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The first package's name.
    pub main: String,
    /// Where they are.
    pub root: PathBuf,
}

/// The packages that `choose` finds behind `metapackage`.
pub fn newest(
    metapackage: &str,
    choose: impl FnOnce() -> Result<Vec<String>, String>,
    interruption: &Interruption,
) -> Result<Unpacked, String> {
    let store = cache::folder("linux")?;
    let known = recorded(&store, metapackage);
    let changed = fs::metadata(LISTS).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if let Some((known, since)) = &known
        && *since > changed
    {
        return Ok(known.clone());
    }
    let found = choose().and_then(|names| {
        let root = packages::unpacked(&names, interruption)?;
        let main = names.into_iter().next().ok_or("no package was asked for")?;
        Ok(Unpacked { main, root })
    });
    match (found, known) {
        (Ok(found), _) => record(&store, metapackage, &found).map(|()| found),
        (Err(why), Some((known, _))) => {
            println!("  going on with {}: {why}", known.main);
            Ok(known)
        }
        (Err(why), None) => Err(why),
    }
}

/// Whether packages behind it are here already, of whatever age.
pub fn is_here(metapackage: &str) -> bool {
    cache::here().is_ok_and(|cache| recorded(&cache.join("linux"), metapackage).is_some())
}

fn file(store: &Path, metapackage: &str) -> PathBuf {
    store.join(format!("{metapackage}.newest"))
}

fn recorded(store: &Path, metapackage: &str) -> Option<(Unpacked, SystemTime)> {
    let file = file(store, metapackage);
    let text = fs::read_to_string(&file).ok()?;
    let (main, folder) = text.trim_end().split_once(' ')?;
    let root = store.join(folder);
    root.is_dir().then_some(())?;
    Some((Unpacked { main: main.into(), root }, file.metadata().ok()?.modified().ok()?))
}

fn record(store: &Path, metapackage: &str, found: &Unpacked) -> Result<(), String> {
    let folder = found.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = file(store, metapackage);
    fs::write(&file, format!("{} {folder}\n", found.main)).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_holds_as_long_as_its_folder_is_there() {
        let store = std::env::temp_dir().join(format!("xtask-newest-{}", std::process::id()));
        let found = Unpacked { main: "linux-image-6.1".into(), root: store.join("linux-image-6.1_6.1.192-2") };
        fs::create_dir_all(&found.root).expect("folder");
        record(&store, "linux-image-amd64", &found).expect("written");
        assert_eq!(recorded(&store, "linux-image-amd64").map(|(known, _)| known), Some(found.clone()));
        fs::remove_dir(&found.root).expect("removed");
        assert_eq!(recorded(&store, "linux-image-amd64"), None);
        fs::remove_dir_all(store).expect("removed");
    }
}
