//! First half of the main job: the guest reads every file of the document disk and reports its SHA-256.

use super::documents::{Hashes, parse_line};
use super::leash::Leash;
use super::session::{Guest, Session, SessionError};
use std::fmt;

/// What the guest reported.
#[derive(Clone, Copy, Debug)]
pub struct FilesRead {
    /// Files, all of them right.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// Why the guest's report is not accepted.
#[derive(Debug)]
pub enum FilesError {
    /// The console could not be followed.
    Session(SessionError),
    /// A file that the disk does not have.
    Extra(String),
    /// A file reported twice.
    Twice(String),
    /// Another hash than the original's.
    Differs(String),
    /// Files that were not reported.
    Missing(Vec<String>),
    /// The guest's own count differs from its lines.
    Count { said: usize, lines: usize },
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(_) => write!(f, "the guest did not report its files"),
            Self::Extra(path) => write!(f, "the guest reports a file that is not on the disk: {path}"),
            Self::Twice(path) => write!(f, "the guest reports a file twice: {path}"),
            Self::Differs(path) => write!(f, "the guest read other bytes than the original's: {path}"),
            Self::Missing(paths) => write!(f, "the guest did not report {} files: {}", paths.len(), paths.join(", ")),
            Self::Count { said, lines } => write!(f, "the guest says {said} files and reported {lines}"),
        }
    }
}

impl std::error::Error for FilesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            _ => None,
        }
    }
}

impl From<SessionError> for FilesError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// A line of the report.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    File(String, [u8; 32]),
    Total { files: usize, bytes: u64 },
}

/// Boots the guest, reads its report, compares.
///
/// # Errors
/// Anything but all files with the right hashes.
pub fn verify(guest: &Guest, leash: &Leash, originals: &Hashes) -> Result<FilesRead, FilesError> {
    let session = Session::start(guest, leash, "app=files")?;
    let mut seen = Hashes::new();
    let total = loop {
        match session.expect("files", parse)? {
            Line::File(path, hash) => check_file(&mut seen, originals, path, hash)?,
            Line::Total { files, bytes } => break FilesRead { files, bytes },
        }
    };
    session.finish()?;
    check_all(&seen, originals, total)
}

fn check_file(seen: &mut Hashes, originals: &Hashes, path: String, hash: [u8; 32]) -> Result<(), FilesError> {
    match originals.get(&path) {
        None => Err(FilesError::Extra(path)),
        Some(original) if *original != hash => Err(FilesError::Differs(path)),
        Some(_) if seen.contains_key(&path) => Err(FilesError::Twice(path)),
        Some(_) => {
            seen.insert(path, hash);
            Ok(())
        }
    }
}

fn check_all(seen: &Hashes, originals: &Hashes, total: FilesRead) -> Result<FilesRead, FilesError> {
    let missing: Vec<String> = originals.keys().filter(|path| !seen.contains_key(*path)).cloned().collect();
    if !missing.is_empty() {
        return Err(FilesError::Missing(missing));
    }
    if total.files != seen.len() {
        return Err(FilesError::Count { said: total.files, lines: seen.len() });
    }
    Ok(total)
}

fn parse(line: &str) -> Option<Line> {
    if let Some(rest) = line.strip_prefix("sha256 ") {
        return parse_line(rest).map(|(path, hash)| Line::File(path, hash));
    }
    let (files, bytes) = line.strip_prefix("files ")?.split_once(" bytes ")?;
    Some(Line::Total { files: files.parse().ok()?, bytes: bytes.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn originals() -> Hashes {
        Hashes::from([("a".into(), [1; 32]), ("b".into(), [2; 32])])
    }

    #[test]
    fn lines_of_the_report_are_understood() {
        assert_eq!(parse("files 2 bytes 30"), Some(Line::Total { files: 2, bytes: 30 }));
        assert_eq!(parse(&format!("sha256 {}  /x/y", "01".repeat(32))), Some(Line::File("x/y".into(), [1; 32])));
        assert_eq!(parse("hello"), None);
        assert_eq!(parse("files two bytes 3"), None);
    }

    #[test]
    fn wrong_extra_and_repeated_files_are_refused() {
        let mut seen = Hashes::new();
        assert!(check_file(&mut seen, &originals(), "a".into(), [1; 32]).is_ok());
        assert!(matches!(check_file(&mut seen, &originals(), "a".into(), [1; 32]), Err(FilesError::Twice(_))));
        assert!(matches!(check_file(&mut seen, &originals(), "b".into(), [1; 32]), Err(FilesError::Differs(_))));
        assert!(matches!(check_file(&mut seen, &originals(), "c".into(), [1; 32]), Err(FilesError::Extra(_))));
    }

    #[test]
    fn missing_files_and_wrong_counts_are_refused() {
        let total = FilesRead { files: 2, bytes: 9 };
        let mut seen = Hashes::from([("a".into(), [1; 32])]);
        assert!(matches!(check_all(&seen, &originals(), total), Err(FilesError::Missing(names)) if names == ["b"]));
        seen.insert("b".into(), [2; 32]);
        assert!(check_all(&seen, &originals(), total).is_ok());
        assert!(matches!(
            check_all(&seen, &originals(), FilesRead { files: 3, ..total }),
            Err(FilesError::Count { .. })
        ));
    }
}
