//! A raw image: a regular file or a block device, its bytes being the disk's.
//!
//! Data moves between the guest's memory and the kernel without a copy in between. Another process may write to the
//! image only if it ignores the lock.

use super::{Disk, DiskError, OpenError, RawOptions, plain_config, raw_open};
use crate::sys;
use nix::fcntl::{FallocateFlags, fallocate};
use pvkit_abi::block::{BlockConfig, BlockFeatures, BlockFlags, SERIAL_BYTES};
use pvkit_shared_memory::{HeapPages, SharedBytes};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeroes that are written at once where the file system cannot zero by itself.
const ZERO_PAGES: usize = 16;

/// A raw image, opened and locked. The lock is the kernel's: it ends with the process, however that ends.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    capacity: AtomicU64,
    block_size: u32,
    read_only: bool,
    serial: [u8; SERIAL_BYTES],
}

impl RawDisk {
    /// Opens `path` and locks it: exclusively, or shared with other readers if read-only.
    ///
    /// # Errors
    /// What is wrong with the image, and what to do about it.
    pub fn open(path: &Path, options: &RawOptions) -> Result<Self, OpenError> {
        let (file, capacity) = raw_open::open(path, options)?;
        Ok(Self {
            file,
            capacity: AtomicU64::new(capacity),
            block_size: options.block_size,
            read_only: options.read_only,
            serial: super::serial(&options.serial),
        })
    }

    fn check_writable(&self) -> Result<(), DiskError> {
        if self.read_only { Err(DiskError::ReadOnly) } else { Ok(()) }
    }

    fn write_plain(&self, position: u64, from: &[SharedBytes]) -> Result<(), DiskError> {
        transfer(position, from, |at, pieces, skip| sys::write_at(&self.file, at, pieces, skip, false))
    }

    fn write_durably(&self, position: u64, from: &[SharedBytes]) -> Result<(), DiskError> {
        match transfer(position, from, |at, pieces, skip| sys::write_at(&self.file, at, pieces, skip, true)) {
            // An old kernel or file system: the long way.
            Err(DiskError::Io(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                self.write_plain(position, from)?;
                self.flush()
            }
            result => result,
        }
    }

    fn allocate(&self, mode: FallocateFlags, position: u64, length: u64) -> Result<(), DiskError> {
        let signed = |value: u64| libc::off_t::try_from(value).map_err(|_| DiskError::Io(libc::EFBIG));
        let (offset, length) = (signed(position)?, signed(length)?);
        let mode = mode | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        loop {
            match fallocate(&self.file, mode, offset, length) {
                Err(nix::errno::Errno::EINTR) => {}
                result => return result.map_err(DiskError::from),
            }
        }
    }

    pub(super) fn zero_by_writing(&self, position: u64, length: u64) -> Result<(), DiskError> {
        let owner = HeapPages::new(ZERO_PAGES);
        let zeroes = owner.bytes();
        let mut done = 0;
        while done < length {
            let step = (length - done).min(zeroes.len() as u64);
            let part = zeroes.part(0, step as usize).map_err(|_| DiskError::Io(libc::EFAULT))?;
            self.write_plain(position + done, &[part])?;
            done += step;
        }
        Ok(())
    }
}

/// Moves all of `pieces` by as many system calls as it takes. Each call moves something or ends the loop.
pub(super) fn transfer(
    mut position: u64,
    mut pieces: &[SharedBytes],
    mut call: impl FnMut(u64, &[SharedBytes], usize) -> io::Result<usize>,
) -> Result<(), DiskError> {
    let mut skip = 0;
    while let Some(first) = pieces.first() {
        if skip >= first.len() {
            skip -= first.len();
            pieces = pieces.get(1..).unwrap_or(&[]);
            continue;
        }
        match call(position, pieces, skip) {
            // The file ends before the device: someone cut it.
            Ok(0) => return Err(DiskError::Io(libc::EIO)),
            Ok(moved) => {
                skip += moved;
                position += moved as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl Disk for RawDisk {
    fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    fn config(&self) -> BlockConfig {
        let flags = if self.read_only { BlockFlags::READ_ONLY } else { BlockFlags::empty() };
        BlockConfig { serial: self.serial, ..plain_config(self.capacity(), self.block_size, flags.bits(), "") }
    }

    fn features(&self) -> BlockFeatures {
        BlockFeatures::all()
    }

    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        transfer(position, into, |at, pieces, skip| sys::read_at(&self.file, at, pieces, skip))
    }

    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError> {
        self.check_writable()?;
        if fua { self.write_durably(position, from) } else { self.write_plain(position, from) }
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(DiskError::from)
    }

    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError> {
        self.check_writable()?;
        match self.allocate(FallocateFlags::FALLOC_FL_PUNCH_HOLE, position, length) {
            // The content may be anything now, so also what it was.
            Err(DiskError::Io(libc::EOPNOTSUPP | libc::ENOSYS)) => Ok(()),
            result => result,
        }
    }

    fn write_zeroes(&self, position: u64, length: u64, fua: bool) -> Result<(), DiskError> {
        self.check_writable()?;
        match self.allocate(FallocateFlags::FALLOC_FL_ZERO_RANGE, position, length) {
            Err(DiskError::Io(libc::EOPNOTSUPP | libc::ENOSYS)) => self.zero_by_writing(position, length)?,
            result => result?,
        }
        if fua { self.flush() } else { Ok(()) }
    }

    fn refresh(&self) -> Result<u64, DiskError> {
        let size = raw_open::size_of(&self.file)?;
        let capacity = size - size % u64::from(self.block_size);
        self.capacity.store(capacity, Ordering::Relaxed);
        Ok(capacity)
    }
}
