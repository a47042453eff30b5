//! The document disk: an ext4 image of the repository's documents, the same bytes from the same documents.
//!
//! Where mke2fs is missing, or the sources are gone, the [`ready_made`] one takes its place.

use super::documents::{self, Documents, Hashes};
use super::leash::{Leash, LeashError};
use super::ready_made;
use super::workshop::{RunFile, Workshop};
use crate::tools;
use std::fmt::{self, Write as _};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Only what a reader of ext4 without a journal needs; the same from every version of mke2fs.
const FEATURES: &str = "none,filetype,extent,64bit,flex_bg,metadata_csum,dir_index,sparse_super,large_file,huge_file,\
                        extra_isize,ext_attr";
/// Named after nobody: any fixed numbers do.
const UUID: &str = "6b8a1d0e-3c52-4f7a-9d41-70766b697401";
const HASH_SEED: &str = "6b8a1d0e-3c52-4f7a-9d41-70766b697402";
/// Every time on the disk, in seconds since 1970.
const TIME: &str = "1700000000";
/// Time for mke2fs and debugfs, each.
const PATIENCE: Duration = Duration::from_secs(60);
/// First inode of the image's own files; lost+found.
const FIRST_INODE: usize = 11;

/// A disk, and what the guest must find on it.
#[derive(Debug)]
pub struct DocumentDisk {
    /// The image.
    pub image: RunFile,
    /// Path and SHA-256 of every file.
    pub hashes: Hashes,
    /// How it came about, in words.
    pub origin: String,
}

/// Why there is no disk.
#[derive(Debug)]
pub enum DiskImageError {
    /// A file or folder could not be read or written.
    Io(io::Error),
    /// mke2fs or debugfs did not end well.
    Tool { tool: &'static str, cause: LeashError },
    /// It said no; its message is on the terminal.
    Refused(&'static str),
    /// The kept image is damaged.
    ReadyMade,
}

impl fmt::Display for DiskImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => write!(f, "the document disk cannot be made; check the space in the target folder"),
            Self::Tool { tool, .. } => write!(f, "{tool} did not end well"),
            Self::Refused(tool) => {
                write!(f, "{tool} could not make the document disk (its message is above); try --ready-made")
            }
            Self::ReadyMade => write!(f, "the ready-made document disk in this program is damaged; build it again"),
        }
    }
}

impl std::error::Error for DiskImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Tool { cause, .. } => Some(cause),
            Self::Refused(_) | Self::ReadyMade => None,
        }
    }
}

impl From<io::Error> for DiskImageError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Most bytes of documents on the demo's disk.
pub const LIMIT: u64 = 4 << 20;

/// Makes the disk, or unpacks the ready-made one.
///
/// # Errors
/// Neither can be done.
pub fn make(workshop: &Workshop, leash: &Leash, ready_made: bool, limit: u64) -> Result<DocumentDisk, DiskImageError> {
    match (workshop.root(), tools::find("mke2fs")) {
        (Some(root), Some(mke2fs)) if !ready_made => from_documents(workshop, leash, root, &mke2fs, limit),
        (_, None) => ready_made::unpack(workshop, "ready-made, as mke2fs (package e2fsprogs) is missing"),
        (None, _) => ready_made::unpack(workshop, "ready-made, as the repository is gone"),
        (Some(_), Some(_)) => ready_made::unpack(workshop, "ready-made, as asked"),
    }
}

fn from_documents(
    workshop: &Workshop,
    leash: &Leash,
    root: &Path,
    mke2fs: &Path,
    limit: u64,
) -> Result<DocumentDisk, DiskImageError> {
    let documents = documents::collect(root, limit)?;
    let image = format_with(workshop, leash, &documents, mke2fs)?;
    Ok(DocumentDisk { image, hashes: documents::hashes(&documents), origin: format!("made by {}", mke2fs.display()) })
}

fn format_with(
    workshop: &Workshop,
    leash: &Leash,
    documents: &Documents,
    mke2fs: &Path,
) -> Result<RunFile, DiskImageError> {
    let lock = workshop.lock()?;
    let scratch = workshop.scratch(&lock)?;
    let (staging, image) = (scratch.join("documents"), scratch.join("documents.ext4"));
    stage(documents, &staging)?;
    format(leash, mke2fs, &staging, &image, documents)?;
    settle(leash, &scratch, &staging, &image)?;
    let finished = workshop.path("documents.ext4");
    fs::rename(&image, &finished)?;
    fs::remove_dir_all(&scratch)?;
    // Opened under the lock: another demo may put its own in this place later.
    Ok(RunFile::of(File::open(&finished)?))
}

/// Writes the documents out, with the same modes and times for everyone.
fn stage(documents: &Documents, staging: &Path) -> io::Result<()> {
    for (name, bytes) in documents {
        let path = staging.join(name);
        fs::create_dir_all(path.parent().unwrap_or(staging))?;
        fs::write(&path, bytes)?;
    }
    settle_modes(staging)
}

fn settle_modes(path: &Path) -> io::Result<()> {
    let folder = path.is_dir();
    if folder {
        for entry in fs::read_dir(path)? {
            settle_modes(&entry?.path())?;
        }
    }
    fs::set_permissions(path, Permissions::from_mode(if folder { 0o755 } else { 0o644 }))
}

fn format(
    leash: &Leash,
    mke2fs: &Path,
    staging: &Path,
    image: &Path,
    documents: &Documents,
) -> Result<(), DiskImageError> {
    let blocks: u64 = documents.values().map(|bytes| bytes.len() as u64 / 4096 + 2).sum();
    File::create(image)?.set_len(((blocks * 4096) + (4 << 20)).next_multiple_of(1 << 20))?;
    let inodes = (documents.len() * 2 + 64).next_multiple_of(16);
    let status = leash.run_guarded(&mke2fs.to_string_lossy(), PATIENCE, |command| {
        command
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-O", FEATURES, "-U", UUID])
            .args(["-L", "documents", "-N", &inodes.to_string(), "-E"])
            .arg(format!("hash_seed={HASH_SEED},root_owner=0:0,lazy_itable_init=0,nodiscard"))
            .arg("-d")
            .args([staging, image])
            .env("E2FSPROGS_FAKE_TIME", TIME)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
    });
    check("mke2fs", status)
}

/// mke2fs copies owner and times from the staging folder, which are of this run: debugfs writes fixed ones.
fn settle(leash: &Leash, scratch: &Path, staging: &Path, image: &Path) -> Result<(), DiskImageError> {
    let Some(debugfs) = tools::find("debugfs") else { return Ok(()) };
    let mut script = String::new();
    // Inode 2 is the root folder, which `count` has counted too.
    for inode in std::iter::once(2).chain(FIRST_INODE..FIRST_INODE + count(staging)?) {
        for (field, value) in [("uid", "0"), ("gid", "0"), ("atime", TIME), ("mtime", TIME), ("ctime", TIME)] {
            let at = if field.ends_with("time") { "@" } else { "" };
            let _ = writeln!(script, "set_inode_field <{inode}> {field} {at}{value}");
        }
        for field in ["atime_extra", "mtime_extra", "ctime_extra"] {
            let _ = writeln!(script, "set_inode_field <{inode}> {field} 0");
        }
    }
    let path = scratch.join("documents.debugfs");
    fs::write(&path, script)?;
    let status = leash.run_guarded(&debugfs.to_string_lossy(), PATIENCE, |command| {
        command.arg("-w").arg("-f").args([&path, image]).env("E2FSPROGS_FAKE_TIME", TIME);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    });
    check("debugfs", status)
}

/// Files and folders below `path`, and `path` itself.
fn count(path: &Path) -> io::Result<usize> {
    let mut number = 1;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            number += count(&entry?.path())?;
        }
    }
    Ok(number)
}

fn check(tool: &'static str, status: Result<std::process::ExitStatus, LeashError>) -> Result<(), DiskImageError> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(DiskImageError::Refused(tool)),
        Err(cause) => Err(DiskImageError::Tool { tool, cause }),
    }
}
