//! What a raw disk's bytes are on: a file, or in tests one that fails.

use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use pvkit_shared_memory::SharedBytes;
use std::fs::File;
use std::io;

/// The system calls of a raw disk, each as the kernel has it: it may move less than it was asked to.
pub trait Medium: Send + Sync {
    /// Fills some of `into`, less its first `skip` bytes, from `position`. 0 at the end.
    ///
    /// # Errors
    /// Nothing was moved.
    fn read_at(&self, position: u64, into: &[SharedBytes], skip: usize) -> io::Result<usize>;

    /// Stores some of `from`, less its first `skip` bytes, at `position`; durable on return if asked for.
    ///
    /// # Errors
    /// Nothing was stored; or it was, and could not be made durable.
    fn write_at(&self, position: u64, from: &[SharedBytes], skip: usize, durable: bool) -> io::Result<usize>;

    /// Makes what was stored durable.
    ///
    /// # Errors
    /// Something that was stored is lost. It is told once.
    fn sync(&self) -> io::Result<()>;

    /// Punches or zeroes a run.
    ///
    /// # Errors
    /// Some of the run may have been changed.
    fn allocate(&self, mode: FallocateFlags, position: libc::off_t, length: libc::off_t) -> io::Result<()>;

    /// Size in bytes.
    ///
    /// # Errors
    /// It could not be asked.
    fn size(&self) -> io::Result<u64>;
}

impl Medium for File {
    fn read_at(&self, position: u64, into: &[SharedBytes], skip: usize) -> io::Result<usize> {
        sys::read_at(self, position, into, skip)
    }

    fn write_at(&self, position: u64, from: &[SharedBytes], skip: usize, durable: bool) -> io::Result<usize> {
        sys::write_at(self, position, from, skip, durable)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, mode: FallocateFlags, position: libc::off_t, length: libc::off_t) -> io::Result<()> {
        loop {
            match fallocate(self, mode, position, length) {
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        super::raw_open::size_of(self)
    }
}
