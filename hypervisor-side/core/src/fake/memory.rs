//! A guest's memory on the heap, which can be told to fail.

use crate::{Fault, GuestAddr, GuestMemory};
use core::sync::atomic::{AtomicU64, Ordering};
use pvkit_abi::PAGE_SIZE;
use pvkit_shared_memory::{HeapPages, SharedBytes};

/// One run of pages from [`FakeMemory::BASE`].
#[derive(Debug)]
pub struct FakeMemory {
    pages: HeapPages,
    /// Accesses fail at random, one in so many; 0 never.
    one_in: AtomicU64,
    random: AtomicU64,
}

impl FakeMemory {
    /// Where it begins, so that the lowest addresses are not memory.
    pub const BASE: u64 = 0x10_0000;

    /// Zeroed pages.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self { pages: HeapPages::new(pages), one_in: AtomicU64::new(0), random: AtomicU64::new(1) }
    }

    /// Address of the page with this number, in memory or not.
    #[must_use]
    pub const fn page(&self, number: u64) -> u64 {
        Self::BASE + number * PAGE_SIZE as u64
    }

    /// Pages there are.
    #[must_use]
    pub const fn page_count(&self) -> u64 {
        (self.pages.bytes().len() / PAGE_SIZE) as u64
    }

    /// From now on one access in `one_in` fails, by a generator with this seed; 0 none.
    pub fn fail(&self, one_in: u64, seed: u64) {
        self.one_in.store(one_in, Ordering::Relaxed);
        self.random.store(seed | 1, Ordering::Relaxed);
    }

    /// A name for what the guest itself reaches; never fails at random.
    #[must_use]
    pub fn name(&self, at: u64, length: usize) -> Option<SharedBytes> {
        let offset = usize::try_from(at.checked_sub(Self::BASE)?).ok()?;
        self.pages.bytes().part(offset, length).ok()
    }

    fn reach(&self, at: GuestAddr, length: usize) -> Result<SharedBytes, Fault> {
        let one_in = self.one_in.load(Ordering::Relaxed);
        if one_in != 0 {
            // Knuth's MMIX generator; the high bits are the random ones.
            let next = self.random.load(Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.random.store(next, Ordering::Relaxed);
            if (next >> 33).is_multiple_of(one_in) {
                return Err(Fault);
            }
        }
        self.name(at.0, length).ok_or(Fault)
    }
}

impl GuestMemory for FakeMemory {
    fn read(&self, at: GuestAddr, into: &mut [u8]) -> Result<(), Fault> {
        self.reach(at, into.len())?.read(0, into).map_err(|_| Fault)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> Result<(), Fault> {
        self.reach(at, from.len())?.write(0, from).map_err(|_| Fault)
    }

    fn shared(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        self.reach(at, usize::try_from(length).map_err(|_| Fault)?)
    }
}
