//! Reads every file of an ext4 disk and prints its digest, for the host to compare.

use crate::ext4::FileSystem;
use crate::session::Session;
use crate::{Failure, Options};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use ext4_view::{Ext4, FileType, PathBuf};
use pvkit_guest_drivers::platform::Platform;
use sha2::{Digest, Sha256};

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let disk = session.lasting(options.disk, options.depth)?;
    let mut disk = FileSystem::new(disk, session.platform);
    let files = disk.load()?;
    let (mut count, mut total) = (0u64, 0u64);
    let mut directories = vec![PathBuf::new("/")];
    while let Some(directory) = directories.pop() {
        for (path, kind) in list(&mut disk, &files, &directory)? {
            match kind {
                FileType::Directory => directories.push(path),
                FileType::Regular => {
                    let (digest, bytes) = digest(&mut disk, &files, &path)?;
                    session.terminal.line(format_args!("sha256 {digest}  {}", path.display()));
                    count += 1;
                    total += bytes;
                }
                _ => {}
            }
        }
    }
    let counters = disk.disk().counters();
    session
        .terminal
        .line(format_args!("requests {} doorbells {} waits {}", counters.requests, counters.doorbells, counters.waits));
    session.terminal.line(format_args!("files {count} bytes {total}"));
    Ok(session.terminal.flush()?)
}

/// What stands in a directory, itself and its parent left out.
pub(crate) fn list<P: Platform>(
    disk: &mut FileSystem<'_, P>,
    files: &Ext4,
    directory: &PathBuf,
) -> Result<Vec<(PathBuf, FileType)>, Failure> {
    disk.repeat(|| {
        let mut found = Vec::new();
        for entry in files.read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != "." && name != ".." {
                found.push((entry.path(), entry.file_type()?));
            }
        }
        Ok(found)
    })
}

fn digest<P: Platform>(disk: &mut FileSystem<'_, P>, files: &Ext4, path: &PathBuf) -> Result<(String, u64), Failure> {
    let mut file = disk.repeat(|| files.open(path))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut total = 0u64;
    loop {
        // A read that missed may have moved the file's position.
        let count = disk.repeat(|| {
            file.seek_to(total)?;
            file.read_bytes(&mut chunk)
        })?;
        if count == 0 {
            break;
        }
        hash.update(chunk.get(..count).unwrap_or(&[]));
        total += count as u64;
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok((text, total))
}
