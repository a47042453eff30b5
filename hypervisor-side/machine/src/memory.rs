//! The guest's memory: one memfd, mapped once, named by guest-physical addresses.
//!
//! *Owners.* [`GuestRam`] owns the mapping. Everything of the host that holds a [`SharedBytes`] of it also holds an `Arc`
//! of it. A guest in this process gets a [`SharedBytes`] that nothing ties to the run, so the memory of an in-process
//! machine is never unmapped: its pages are given back, its addresses are not.
//!
//! *Invariants.* Addresses run from `base` without holes; nothing outside is ever touched. What the guest names through
//! [`GuestMemory`] lies above the floor: the host's own tables are not memory to a guest's argument.

use pvkit_core::{Fault, GuestAddr, GuestMemory};
use pvkit_shared_memory::SharedBytes;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{FileOffset, MmapRegion};

/// A guest's memory.
#[derive(Debug)]
pub struct GuestRam {
    /// Guest-physical address of the first byte.
    base: u64,
    /// Bytes at the start that no guest's argument may name.
    floor: AtomicU64,
    mapping: MmapRegion,
}

impl GuestRam {
    /// Maps `length` zeroed bytes at guest-physical address 0.
    ///
    /// # Errors
    /// What the kernel says: usually that there is not so much memory.
    pub fn new(length: u64) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { base: 0, floor: AtomicU64::new(0), mapping: map(length)? }))
    }

    /// Maps `length` zeroed bytes whose guest-physical addresses are their addresses in this process: the in-process
    /// machine.
    ///
    /// # Errors
    /// As for [`GuestRam::new`].
    pub fn identity(length: u64) -> io::Result<Arc<Self>> {
        let mapping = map(length)?;
        Ok(Arc::new(Self { base: mapping.as_ptr() as u64, floor: AtomicU64::new(0), mapping }))
    }

    /// Guest-physical address of the first byte.
    pub fn base(&self) -> GuestAddr {
        GuestAddr(self.base)
    }

    /// From now on the first `bytes` are the host's: no argument of the guest names them.
    pub fn set_floor(&self, bytes: u64) {
        self.floor.store(bytes, Ordering::Release);
    }

    /// Keeps the addresses mapped for ever, and gives the pages back to the system. For memory that a guest in this
    /// process may still name.
    pub fn retire(self: &Arc<Self>) {
        std::mem::forget(self.clone());
        if let Some(file) = self.mapping.file_offset() {
            use rustix::fs::FallocateFlags;
            // Fails only where the system cannot punch holes; then the pages stay with this process.
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(file.file(), punch, 0, self.len());
        }
    }

    /// Writes what the host itself lays out, below the floor too.
    pub fn lay_out(&self, at: GuestAddr, bytes: &[u8]) -> Result<(), Fault> {
        self.part(at, bytes.len() as u64)?.write(0, bytes).map_err(|_| Fault)
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

    /// What a guest's argument names.
    fn named(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        if at.0.checked_sub(self.base).is_none_or(|offset| offset < self.floor.load(Ordering::Acquire)) {
            return Err(Fault);
        }
        self.part(at, length)
    }

    /// Any part, the host's own included.
    pub fn part(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        let offset = at.0.checked_sub(self.base).ok_or(Fault)?;
        let offset = usize::try_from(offset).map_err(|_| Fault)?;
        let length = usize::try_from(length).map_err(|_| Fault)?;
        self.all().part(offset, length).map_err(|_| Fault)
    }
}

impl GuestMemory for GuestRam {
    fn read(&self, at: GuestAddr, into: &mut [u8]) -> Result<(), Fault> {
        self.named(at, into.len() as u64)?.read(0, into).map_err(|_| Fault)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> Result<(), Fault> {
        self.named(at, from.len() as u64)?.write(0, from).map_err(|_| Fault)
    }

    fn shared(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        self.named(at, length)
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
