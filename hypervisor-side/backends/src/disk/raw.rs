//! A raw image: a regular file or a block device, its bytes being the disk's.
//!
//! Data moves between the guest's memory and the kernel without a copy in between. Another process may write to the
//! image only if it ignores the lock.
//!
//! *Invariants.* After a sync that failed nothing is written or called durable any more, until the image is opened anew: which
//! of the earlier writes were lost is not known, and no later sync would tell. Reads go on.

use super::latch::Latch;
use super::medium::Medium;
use super::{Disk, DiskError, OpenError, RawOptions, plain_config, raw_open};
use nix::fcntl::FallocateFlags;
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
pub struct RawDisk<M = File> {
    medium: M,
    latch: Latch,
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
        Self::on(path, options, |file| file)
    }
}

impl<M: Medium> RawDisk<M> {
    /// Opens and locks as [`RawDisk::open`] does; the bytes go by way of what `medium` makes of the file.
    pub(super) fn on(path: &Path, options: &RawOptions, medium: impl FnOnce(File) -> M) -> Result<Self, OpenError> {
        let (file, capacity) = raw_open::open(path, options)?;
        Ok(Self {
            medium: medium(file),
            latch: Latch::default(),
            capacity: AtomicU64::new(capacity),
            block_size: options.block_size,
            read_only: options.read_only,
            serial: super::serial(&options.serial),
        })
    }

    fn check_writable(&self) -> Result<(), DiskError> {
        if self.read_only { Err(DiskError::ReadOnly) } else { self.latch.check() }
    }

    fn write_plain(&self, position: u64, from: &[SharedBytes]) -> Result<(), DiskError> {
        transfer(position, from, |at, pieces, skip| self.medium.write_at(at, pieces, skip, false))
    }

    /// A call that stores and syncs does not say which of the two failed. What cannot be stored now either was not stored, and
    /// nothing is lost. Otherwise it was the sync, and it may have told of any earlier write.
    fn write_durably(&self, position: u64, from: &[SharedBytes]) -> Result<(), DiskError> {
        let (mut unsupported, mut lost) = (false, false);
        let result = transfer(position, from, |at, pieces, skip| {
            let store = |durable| self.medium.write_at(at, pieces, skip, durable);
            match store(true) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
                Err(error) => {
                    let moved = store(false)?;
                    // An old kernel or file system: the long way.
                    unsupported |= matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS));
                    lost = !unsupported;
                    if lost { Err(error) } else { Ok(moved) }
                }
                moved => moved,
            }
        });
        match result {
            Err(error) if lost => Err(self.latch.close(error)),
            Ok(()) if unsupported => self.sync(),
            result => result,
        }
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.medium.sync().map_err(|error| self.latch.close(error.into()))
    }

    fn allocate(&self, mode: FallocateFlags, position: u64, length: u64) -> Result<(), DiskError> {
        let signed = |value: u64| libc::off_t::try_from(value).map_err(|_| DiskError::Io(libc::EFBIG));
        let (offset, length) = (signed(position)?, signed(length)?);
        Ok(self.medium.allocate(mode | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, length)?)
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

impl<M: Medium> Disk for RawDisk<M> {
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
        transfer(position, into, |at, pieces, skip| self.medium.read_at(at, pieces, skip))
    }

    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError> {
        self.check_writable()?;
        if !fua {
            return self.write_plain(position, from);
        }
        self.latch.during(|| self.write_durably(position, from))
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.latch.during(|| self.sync())
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
        let size = self.medium.size()?;
        let capacity = size - size % u64::from(self.block_size);
        self.capacity.store(capacity, Ordering::Relaxed);
        Ok(capacity)
    }
}
