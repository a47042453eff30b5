//! The ready-made document disk: a small image kept in this crate, packed, with the list of what is on it.
//!
//! `pvkit document-disk --pack` made it and makes it anew; it need not follow the documents.

use super::disk_image::{DiskImageError, DocumentDisk};
use super::documents::{self, Hashes};
use super::workshop::Workshop;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// More bytes than this are not the kept image.
const LIMIT: usize = 64 << 20;
static PACKED: &[u8] = include_bytes!("../../assets/documents.ext4.zlib");
static LIST: &str = include_str!("../../assets/documents.sha256");

/// Makes a disk of the kept image.
///
/// # Errors
/// It is damaged, or there is no space.
pub fn unpack(workshop: &Workshop, origin: &str) -> Result<DocumentDisk, DiskImageError> {
    let bytes = unpacked().ok_or(DiskImageError::ReadyMade)?;
    let mut image = workshop.unnamed(bytes.len() as u64)?;
    image.file.write_all(&bytes)?;
    Ok(DocumentDisk { image, hashes: listed(), origin: origin.into() })
}

/// The kept image, or `None` if it is damaged.
fn unpacked() -> Option<Vec<u8>> {
    miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(PACKED, LIMIT).ok()
}

/// Packs an image as the kept one is, and lists what is on it.
///
/// # Errors
/// A file cannot be read or written.
pub fn pack(disk: &DocumentDisk, out: &Path) -> io::Result<()> {
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(&fs::read(&disk.image.path)?, 10);
    fs::write(with_ending(out, ".zlib"), packed)?;
    let mut list = String::new();
    for (name, hash) in &disk.hashes {
        for byte in hash {
            let _ = write!(list, "{byte:02x}");
        }
        let _ = writeln!(list, "  {name}");
    }
    fs::write(with_ending(out, ".sha256"), list)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What is on the kept image.
fn listed() -> Hashes {
    LIST.lines().filter_map(documents::parse_line).collect()
}

#[cfg(test)]
mod tests;
