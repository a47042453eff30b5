//! The guest's memory: one memfd, mapped once, named by guest-physical addresses.
//!
//! *Owners.* [`GuestRam`] owns the mapping. Everything that holds a [`SharedBytes`] of it also holds an `Arc` of it.
//!
//! *Invariants.* Addresses run from `base` without holes; nothing outside is ever touched.

use pvkit_core::{Fault, GuestAddr, GuestMemory};
use pvkit_shared_memory::SharedBytes;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use vm_memory::{FileOffset, MmapRegion};

/// A guest's memory.
#[derive(Debug)]
pub struct GuestRam {
    /// Guest-physical address of the first byte.
    base: u64,
    mapping: MmapRegion,
}

impl GuestRam {
    /// Maps `length` zeroed bytes at guest-physical address 0.
    ///
    /// # Errors
    /// What the kernel says: usually that there is not so much memory.
    pub fn new(length: u64) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { base: 0, mapping: map(length)? }))
    }

    /// Maps `length` zeroed bytes whose guest-physical addresses are their addresses in this process: the in-process
    /// machine.
    ///
    /// # Errors
    /// As for [`GuestRam::new`].
    pub fn identity(length: u64) -> io::Result<Arc<Self>> {
        let mapping = map(length)?;
        Ok(Arc::new(Self { base: mapping.as_ptr() as u64, mapping }))
    }

    /// Guest-physical address of the first byte.
    pub fn base(&self) -> GuestAddr {
        GuestAddr(self.base)
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.mapping.size() as u64
    }

    /// All of it.
    #[allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]
    fn all(&self) -> SharedBytes {
        let start = NonNull::new(self.mapping.as_ptr()).unwrap_or(NonNull::dangling());
        // SAFETY: the region maps `size` bytes readable and writable until `self` is dropped, and every holder of a
        // part keeps an `Arc` of `self` (see the module's text). This program touches guest memory only through
        // `SharedBytes`; the kernel and the guest do as they like.
        unsafe { SharedBytes::from_raw(start, self.mapping.size()) }
    }

    fn part(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        let offset = at.0.checked_sub(self.base).ok_or(Fault)?;
        let offset = usize::try_from(offset).map_err(|_| Fault)?;
        let length = usize::try_from(length).map_err(|_| Fault)?;
        self.all().part(offset, length).map_err(|_| Fault)
    }
}

impl GuestMemory for GuestRam {
    fn read(&self, at: GuestAddr, into: &mut [u8]) -> Result<(), Fault> {
        self.part(at, into.len() as u64)?.read(0, into).map_err(|_| Fault)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> Result<(), Fault> {
        self.part(at, from.len() as u64)?.write(0, from).map_err(|_| Fault)
    }

    fn shared(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        self.part(at, length)
    }
}

/// A sealed memfd of `length` bytes, mapped shared.
fn map(length: u64) -> io::Result<MmapRegion> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let fd = rustix::fs::memfd_create("pvkit-guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&fd, length)?;
    // Nobody can take pages away from under us, whoever gets the descriptor.
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    MmapRegion::from_file(FileOffset::new(File::from(fd), 0), length).map_err(io::Error::other)
}
