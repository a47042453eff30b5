//! The real files of the demo: the repository's own documents.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// Folders searched, relative to the workspace, and the endings taken there.
const SHELVES: [(&str, &[&str]); 4] =
    [(".", &["md"]), ("docs", &["md"]), ("LICENSES", &["txt"]), ("abi", &["md", "rs", "h", "hex"])];
/// How deep folders are followed.
const MAX_DEPTH: u32 = 4;

/// A SHA-256.
pub type Hash = [u8; 32];

/// Path within the disk, without a leading slash, and what is there.
pub type Documents = BTreeMap<String, Vec<u8>>;

/// What the guest has to report: each path with its SHA-256.
pub type Hashes = BTreeMap<String, Hash>;

/// Reads the documents of the workspace at `root`, as many as `limit` bytes have room for.
///
/// # Errors
/// A file or folder cannot be read.
pub fn collect(root: &Path, limit: u64) -> io::Result<Documents> {
    let mut documents = Documents::new();
    for (shelf, endings) in SHELVES {
        let depth = if shelf == "." { 0 } else { MAX_DEPTH };
        if root.join(shelf).is_dir() {
            read_folder(root, &root.join(shelf), endings, depth, &mut documents)?;
        }
    }
    Ok(cut(documents, limit))
}

/// Drops what there is no room for; which that is depends on names and sizes alone.
fn cut(documents: Documents, limit: u64) -> Documents {
    let mut room = limit;
    let fits = |(name, bytes): (String, Vec<u8>)| {
        room = room.checked_sub(bytes.len() as u64)?;
        Some((name, bytes))
    };
    documents.into_iter().map_while(fits).collect()
}

fn read_folder(root: &Path, folder: &Path, endings: &[&str], depth: u32, into: &mut Documents) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && depth > 0 {
            read_folder(root, &path, endings, depth - 1, into)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| endings.iter().any(|known| end == *known)) {
            read_file(root, &path, into)?;
        }
    }
    Ok(())
}

fn read_file(root: &Path, path: &Path, into: &mut Documents) -> io::Result<()> {
    let name = path.strip_prefix(root).ok().and_then(Path::to_str);
    // A name that is not UTF-8 could not be compared with what the guest prints.
    if let Some(name) = name {
        into.insert(name.trim_start_matches("./").to_owned(), fs::read(path)?);
    }
    Ok(())
}

/// What the guest will have to report about them.
#[must_use]
pub fn hashes(documents: &Documents) -> Hashes {
    documents.iter().map(|(name, bytes)| (name.clone(), Sha256::digest(bytes).into())).collect()
}

/// Reads a SHA-256 in hexadecimal.
#[must_use]
pub fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 2 * hash.len() || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// A `sha256sum` line: hash, two spaces, path.
#[must_use]
pub fn parse_line(line: &str) -> Option<(String, Hash)> {
    let (hash, path) = line.split_once("  ")?;
    Some((path.trim_start_matches('/').to_owned(), parse_hash(hash)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_line_of_sha256sum_is_understood() {
        let (path, hash) = parse_line(&format!("{EMPTY}  /a b/c.md")).unwrap();
        assert_eq!((path.as_str(), hash), ("a b/c.md", Sha256::digest(b"").into()));
        for bad in [EMPTY, "", "xyz  a", &format!("{}  a", &EMPTY[1..]), &format!("{EMPTY}0  a")] {
            assert_eq!(parse_line(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_workspace_has_documents() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let documents = collect(&root, 4 << 20).unwrap();
        assert!(documents.contains_key("abi/src/lib.rs"), "{:?}", documents.keys());
        assert_eq!(hashes(&documents).len(), documents.len());
    }

    #[test]
    fn what_has_no_room_is_dropped_with_all_behind_it() {
        let documents = Documents::from([("a".into(), vec![0; 6]), ("b".into(), vec![0; 6]), ("c".into(), vec![0; 1])]);
        assert_eq!(cut(documents, 10).into_keys().collect::<Vec<_>>(), ["a"]);
    }
}
