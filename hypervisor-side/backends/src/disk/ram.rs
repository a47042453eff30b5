//! A disk in the host's memory, gone with the process.

use super::{Disk, DiskError, plain_config, total};
use pvkit_abi::block::{BlockConfig, BlockFeatures};
use pvkit_shared_memory::SharedBytes;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Most bytes of a RAM disk: a wrong number must not take the host down.
pub const MAX_RAM_DISK: u64 = 1 << 30;

/// A RAM disk.
#[derive(Debug)]
pub struct RamDisk {
    bytes: RwLock<Vec<u8>>,
}

/// More bytes than a RAM disk may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge(pub u64);

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a RAM disk of {} bytes: at most {MAX_RAM_DISK} are allowed; use an image file instead", self.0)
    }
}

impl std::error::Error for TooLarge {}

impl RamDisk {
    /// A zeroed disk of `capacity` bytes, rounded down to whole blocks of 512.
    ///
    /// # Errors
    /// More than [`MAX_RAM_DISK`].
    pub fn new(capacity: u64) -> Result<Self, TooLarge> {
        if capacity > MAX_RAM_DISK {
            return Err(TooLarge(capacity));
        }
        Ok(Self::with_content(vec![0; capacity as usize]))
    }

    /// A disk that holds `bytes`, cut to whole blocks of 512.
    #[must_use]
    pub fn with_content(mut bytes: Vec<u8>) -> Self {
        bytes.truncate(bytes.len() & !511);
        Self { bytes: RwLock::new(bytes) }
    }

    /// A copy of the whole content.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        self.shared().clone()
    }

    /// Changes the size; new blocks are zero.
    ///
    /// # Errors
    /// More than [`MAX_RAM_DISK`]; nothing is changed.
    pub fn resize(&self, capacity: u64) -> Result<(), TooLarge> {
        if capacity > MAX_RAM_DISK {
            return Err(TooLarge(capacity));
        }
        self.exclusive().resize(capacity as usize & !511, 0);
        Ok(())
    }

    fn shared(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The run as indices, or an error if the disk shrank since the request was checked.
fn run(position: u64, length: u64, size: usize) -> Result<std::ops::Range<usize>, DiskError> {
    let end = position.checked_add(length).filter(|end| *end <= size as u64).ok_or(DiskError::Io(libc::EIO))?;
    Ok(position as usize..end as usize)
}

impl Disk for RamDisk {
    fn capacity(&self) -> u64 {
        self.shared().len() as u64
    }

    fn config(&self) -> BlockConfig {
        plain_config(self.capacity(), 512, 0, "ram")
    }

    fn features(&self) -> BlockFeatures {
        BlockFeatures::all()
    }

    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        let bytes = self.shared();
        let mut from = bytes.get(run(position, total(into), bytes.len())?).unwrap_or(&[]);
        for piece in into {
            let (part, rest) = from.split_at_checked(piece.len()).ok_or(DiskError::Io(libc::EIO))?;
            piece.write(0, part).map_err(|_| DiskError::Io(libc::EFAULT))?;
            from = rest;
        }
        Ok(())
    }

    fn write(&self, position: u64, from: &[SharedBytes], _fua: bool) -> Result<(), DiskError> {
        let mut bytes = self.exclusive();
        let run = run(position, total(from), bytes.len())?;
        let mut into = bytes.get_mut(run).unwrap_or(&mut []);
        for piece in from {
            let (part, rest) = into.split_at_mut_checked(piece.len()).ok_or(DiskError::Io(libc::EIO))?;
            piece.read(0, part).map_err(|_| DiskError::Io(libc::EFAULT))?;
            into = rest;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError> {
        self.write_zeroes(position, length, false)
    }

    fn write_zeroes(&self, position: u64, length: u64, _fua: bool) -> Result<(), DiskError> {
        let mut bytes = self.exclusive();
        let run = run(position, length, bytes.len())?;
        bytes.get_mut(run).unwrap_or(&mut []).fill(0);
        Ok(())
    }
}
