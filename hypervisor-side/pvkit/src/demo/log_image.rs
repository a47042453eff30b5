//! The log's image as the host reads it.
use std::fs::File;
use std::io;
/// Counts records.
///
/// # Errors
/// Reading fails.
pub fn records(_image: &File) -> io::Result<u64> {
    Ok(u64::MAX)
}
