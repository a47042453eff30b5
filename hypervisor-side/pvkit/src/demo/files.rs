//! First half of the main job: every file of the document disk is fetched from the guest's web server, and its SHA-256
//! compared with the original's.

use super::documents::{Hash, Hashes};
use super::web::{Client, WebError};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// Most bytes of a file: more than any document has.
const MAX_FILE: u64 = 64 << 20;

/// What was fetched.
#[derive(Clone, Copy, Debug)]
pub struct FilesRead {
    /// Files, all of them right.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// Why the guest's files are not accepted.
#[derive(Debug)]
pub enum FilesError {
    /// The server does not answer.
    Web(WebError),
    /// A file that the disk does not have.
    Extra(String),
    /// Another hash than the original's.
    Differs(String),
    /// Files that the server does not list.
    Missing(Vec<String>),
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(_) => write!(f, "the guest does not serve its files"),
            Self::Extra(path) => write!(f, "the guest lists a file that is not on the disk: {path}"),
            Self::Differs(path) => write!(f, "the guest serves other bytes than the original's: {path}"),
            Self::Missing(paths) => write!(f, "the guest does not list {} files: {}", paths.len(), paths.join(", ")),
        }
    }
}

impl std::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Web(error) => Some(error),
            _ => None,
        }
    }
}

impl From<WebError> for FilesError {
    fn from(error: WebError) -> Self {
        Self::Web(error)
    }
}

/// Fetches the list of files and every file on it, and compares.
///
/// # Errors
/// Anything but all files with the right hashes.
pub fn verify(client: &Client, originals: &Hashes) -> Result<FilesRead, FilesError> {
    check_list(&client.text("/")?, originals)?;
    let mut read = FilesRead { files: 0, bytes: 0 };
    for (path, original) in originals {
        let bytes = client.get(&format!("/{path}"), MAX_FILE)?;
        if Hash::from(Sha256::digest(&bytes)) != *original {
            return Err(FilesError::Differs(path.clone()));
        }
        read.files += 1;
        read.bytes += bytes.len() as u64;
    }
    Ok(read)
}

/// A line per file: its size, then its path.
fn check_list(list: &str, originals: &Hashes) -> Result<(), FilesError> {
    let paths = list.lines().filter_map(|line| line.trim_start().split_once(' '));
    let listed: BTreeSet<&str> = paths.map(|(_, path)| path.trim_start_matches('/')).collect();
    if let Some(extra) = listed.iter().find(|path| !originals.contains_key(**path)) {
        return Err(FilesError::Extra((*extra).to_owned()));
    }
    let missing: Vec<String> = originals.keys().filter(|path| !listed.contains(path.as_str())).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(FilesError::Missing(missing)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn originals() -> Hashes {
        Hashes::from([("a b".into(), [1; 32]), ("c/d".into(), [2; 32])])
    }

    #[test]
    fn list_with_every_file_is_accepted() {
        assert!(check_list("           3 /a b\n          12 /c/d\n", &originals()).is_ok());
    }

    #[test]
    fn extra_and_missing_files_are_named() {
        let extra = check_list("3 /a b\n12 /c/d\n1 /x\n", &originals());
        assert!(matches!(extra, Err(FilesError::Extra(path)) if path == "x"));
        let missing = check_list("12 /c/d", &originals());
        assert!(matches!(missing, Err(FilesError::Missing(paths)) if paths == ["a b"]));
    }
}
