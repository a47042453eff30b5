//! A disk that forgets: writes succeed and go nowhere, reads give zeroes. For measuring everything but a disk.

use super::{Disk, DiskError, plain_config};
use pvkit_abi::block::{BlockConfig, BlockFeatures};
use pvkit_shared_memory::SharedBytes;

/// The null disk.
#[derive(Clone, Copy, Debug)]
pub struct NullDisk {
    capacity: u64,
}

impl NullDisk {
    /// A disk that claims `capacity` bytes, rounded down to whole blocks of 512.
    #[must_use]
    pub const fn new(capacity: u64) -> Self {
        Self { capacity: capacity & !511 }
    }
}

impl Disk for NullDisk {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn config(&self) -> BlockConfig {
        plain_config(self.capacity, 512, 0, "null")
    }

    fn features(&self) -> BlockFeatures {
        BlockFeatures::all() - BlockFeatures::RESIZE
    }

    fn read(&self, _position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        for piece in into {
            piece.zero(0, piece.len()).map_err(|_| DiskError::Io(libc::EFAULT))?;
        }
        Ok(())
    }

    fn write(&self, _position: u64, _from: &[SharedBytes], _fua: bool) -> Result<(), DiskError> {
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn discard(&self, _position: u64, _length: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn write_zeroes(&self, _position: u64, _length: u64, _fua: bool) -> Result<(), DiskError> {
        Ok(())
    }
}
