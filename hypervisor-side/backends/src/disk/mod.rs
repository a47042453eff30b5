//! What a block queue works on.
//!
//! *Invariants.* Positions and lengths arrive checked: multiples of the logical block, inside the capacity as it was a
//! moment ago. A disk that shrank meanwhile answers with an error.

#[cfg(any(test, feature = "mutants"))]
mod faulty;
mod latch;
mod medium;
mod null;
mod pieces;
mod ram;
mod raw;
mod raw_open;
mod volatile;

#[cfg(any(test, feature = "mutants"))]
pub use faulty::{FaultLog, Faults, FaultyFile};
pub use medium::Medium;
pub use null::NullDisk;
pub use ram::{MAX_RAM_DISK, RamDisk, TooLarge};
pub use raw::RawDisk;
pub use raw_open::{OpenError, RawOptions};
pub use volatile::{Mutation, VolatileDisk};

use pvkit_abi::block::{BlockConfig, BlockFeatures, SERIAL_BYTES};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_shared_memory::SharedBytes;

/// Why a disk could not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The medium or the host's file failed; the host's errno.
    Io(i32),
    /// A sync failed, now or before, with this errno: writes that were completed may be lost. The disk takes no more writes.
    Lost(i32),
    /// The host's file system is full.
    NoSpace,
    /// The disk is read-only.
    ReadOnly,
    /// The disk cannot do this at all.
    Unsupported,
}

impl DiskError {
    /// How the guest is told.
    #[must_use]
    pub fn to_result(self) -> CompletionResult {
        match self {
            Self::Io(errno) | Self::Lost(errno) => {
                CompletionResult::new(Status::IO_ERROR, u32::try_from(errno).unwrap_or(0))
            }
            Self::NoSpace => CompletionResult::new(Status::NO_SPACE, libc::ENOSPC as u32),
            Self::ReadOnly => CompletionResult::new(Status::READ_ONLY, 0),
            Self::Unsupported => CompletionResult::new(Status::UNSUPPORTED, 0),
        }
    }
}

impl From<std::io::Error> for DiskError {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace,
            Some(errno) => Self::Io(errno),
            None => Self::Io(libc::EIO),
        }
    }
}

impl From<nix::errno::Errno> for DiskError {
    fn from(errno: nix::errno::Errno) -> Self {
        std::io::Error::from(errno).into()
    }
}

impl std::fmt::Display for DiskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(errno) => write!(f, "disk I/O failed: {}", std::io::Error::from_raw_os_error(*errno)),
            Self::Lost(errno) => write!(
                f,
                "a sync of the disk failed ({}): writes since the last good one may be lost, and the disk takes no more; mend \
                 what is below it, check its content, and start the run or backend that serves it anew",
                std::io::Error::from_raw_os_error(*errno)
            ),
            Self::NoSpace => f.write_str("the host's file system is full; free space there, then the guest may retry"),
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::Unsupported => f.write_str("the disk cannot do this"),
        }
    }
}

impl std::error::Error for DiskError {}

/// Something with blocks. Shared by the queues of a device: every method may be called from several threads at once.
pub trait Disk: Send + Sync {
    /// Size in bytes, a multiple of the logical block.
    fn capacity(&self) -> u64;

    /// Properties as the guest is told.
    fn config(&self) -> BlockConfig;

    /// What the disk can do, to be offered.
    fn features(&self) -> BlockFeatures;

    /// Fills `into` from `position`.
    ///
    /// # Errors
    /// Some of `into` may have been filled.
    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError>;

    /// Stores `from` at `position`; with `fua` durable on return.
    ///
    /// # Errors
    /// Some of `from` may have been stored.
    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError>;

    /// Makes everything that was written before durable.
    ///
    /// # Errors
    /// Nothing is known then about what is durable. After [`DiskError::Lost`] every later write and flush ends so too.
    fn flush(&self) -> Result<(), DiskError>;

    /// Drops the content of a run; it reads as anything until written again.
    ///
    /// # Errors
    /// Some of the run may have been dropped.
    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError>;

    /// Makes a run read as zeroes; with `fua` durable on return.
    ///
    /// # Errors
    /// Some of the run may read as zeroes.
    fn write_zeroes(&self, position: u64, length: u64, fua: bool) -> Result<(), DiskError>;

    /// Looks again how large the medium is and answers the capacity from now on.
    ///
    /// # Errors
    /// The medium could not be asked; the capacity stays.
    fn refresh(&self) -> Result<u64, DiskError> {
        Ok(self.capacity())
    }
}

impl<D: Disk + ?Sized> Disk for std::sync::Arc<D> {
    fn capacity(&self) -> u64 {
        (**self).capacity()
    }

    fn config(&self) -> BlockConfig {
        (**self).config()
    }

    fn features(&self) -> BlockFeatures {
        (**self).features()
    }

    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        (**self).read(position, into)
    }

    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError> {
        (**self).write(position, from, fua)
    }

    fn flush(&self) -> Result<(), DiskError> {
        (**self).flush()
    }

    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError> {
        (**self).discard(position, length)
    }

    fn write_zeroes(&self, position: u64, length: u64, fua: bool) -> Result<(), DiskError> {
        (**self).write_zeroes(position, length, fua)
    }

    fn refresh(&self) -> Result<u64, DiskError> {
        (**self).refresh()
    }
}

/// A serial as the wire has it: cut to its length, padded with zeros.
#[must_use]
pub fn serial(text: &str) -> [u8; SERIAL_BYTES] {
    let mut serial = [0; SERIAL_BYTES];
    for (to, from) in serial.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    serial
}

/// Bytes in all pieces together.
fn total(pieces: &[SharedBytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

/// Longest discard or zeroing that the disks here offer: bounds the time that one request takes.
const MAX_DISCARD: u64 = 1 << 30;

/// The configuration that all disks here share but for size and name.
fn plain_config(capacity: u64, logical_block: u32, flags: u32, name: &str) -> BlockConfig {
    BlockConfig {
        capacity,
        logical_block,
        physical_block: logical_block.max(4096),
        flags,
        discard_granularity: logical_block.max(4096),
        max_discard: MAX_DISCARD,
        serial: serial(name),
    }
}

#[cfg(test)]
mod tests;
