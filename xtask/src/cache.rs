//! The folder for downloads: where it is, and how it is emptied.
//!
//! Crates come through cargo, tools through rustup, cargo and apt; what is in here are the Debian packages that the Linux
//! lane unpacks (`linux/packages.rs`). Whoever adds another download checks its size and SHA-256 before use.

use std::path::{Path, PathBuf};

/// The standard marker of cache folders; ours also names us, so that a mistyped `$PVKIT_CACHE` is never emptied.
const TAG: &str = "CACHEDIR.TAG";
const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";
const OWNER: &str = "pvkit";

/// A folder in the cache, which is made and marked as ours.
pub fn folder(name: &str) -> Result<PathBuf, String> {
    let cache = here()?;
    let folder = cache.join(name);
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    mark(&cache)?;
    Ok(folder)
}

/// Removes the cache folder, if it is ours.
pub fn clean() -> Result<String, String> {
    remove(&here()?)
}

/// Where the cache is, or will be.
pub fn here() -> Result<PathBuf, String> {
    location(std::env::var_os("PVKIT_CACHE").map(Into::into), std::env::var_os("HOME").map(Into::into))
}

fn mark(cache: &Path) -> Result<(), String> {
    let tag = cache.join(TAG);
    if tag.exists() {
        return Ok(());
    }
    let text = format!("{SIGNATURE}\n# Downloads of {OWNER}; `cargo xtask clean-cache` removes them.\n");
    std::fs::write(&tag, text).map_err(|error| format!("{}: {error}", tag.display()))
}

fn location(named: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, String> {
    let default = || home.map(|home| home.join(".cache/pvkit"));
    named
        .filter(|path| !path.as_os_str().is_empty())
        .or_else(default)
        .ok_or_else(|| "neither $PVKIT_CACHE nor $HOME is set".into())
}

fn remove(folder: &Path) -> Result<String, String> {
    let shown = folder.display();
    if !folder.exists() {
        return Ok(format!("nothing to remove: {shown} does not exist"));
    }
    let tag = std::fs::read_to_string(folder.join(TAG)).unwrap_or_default();
    if folder.is_symlink() || !tag.starts_with(SIGNATURE) || !tag.contains(OWNER) {
        return Err(format!(
            "{shown} has no {TAG} of pvkit, so it is left alone; check $PVKIT_CACHE, or remove the folder by hand"
        ));
    }
    std::fs::remove_dir_all(folder).map_err(|error| format!("{shown}: {error}"))?;
    Ok(format!("removed {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-cache-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        path
    }

    #[test]
    fn a_folder_with_our_tag_is_removed() {
        let folder = folder("ours");
        std::fs::write(folder.join(TAG), format!("{SIGNATURE}\n# Downloads of pvkit.\n")).expect("written");
        remove(&folder).expect("it is ours");
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_that_we_mark_is_ours() {
        let folder = folder("marked");
        mark(&folder).expect("marked");
        remove(&folder).expect("it is ours");
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = folder("foreign");
        std::fs::write(folder.join(TAG), format!("{SIGNATURE}\n# Of another program.\n")).expect("written");
        assert!(remove(&folder).is_err());
        assert!(folder.join(TAG).exists());
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn an_empty_variable_means_the_default_place() {
        let place = location(Some(PathBuf::new()), Some("/home/dev".into())).expect("home is set");
        assert_eq!(place, Path::new("/home/dev/.cache/pvkit"));
    }
}
