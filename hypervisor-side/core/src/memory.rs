//! What the core needs of guest memory.

use pvkit_abi::PAGE_SIZE;
use pvkit_shared_memory::SharedBytes;

/// A guest-physical address, as the guest wrote it. The host must not dereference it; only [`GuestMemory`] can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestAddr(pub u64);

impl GuestAddr {
    /// Whether it is the start of a page.
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.0.is_multiple_of(PAGE_SIZE as u64)
    }
}

/// The range is not all in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the range is not all in guest memory")
    }
}

impl core::error::Error for Fault {}

/// A guest's memory. Every address comes from the guest and may be anything.
pub trait GuestMemory {
    /// Copies bytes out, once.
    ///
    /// # Errors
    /// [`Fault`] if the range is not all in memory (an end beyond 2^64 included); `into` may then hold anything.
    fn read(&self, at: GuestAddr, into: &mut [u8]) -> Result<(), Fault>;

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`Fault`] if the range is not all in memory; nothing is written.
    fn write(&self, at: GuestAddr, from: &[u8]) -> Result<(), Fault>;

    /// A name for `length` bytes, for rings, grants and vCPU areas. They are contiguous on the host, and stay mapped
    /// as long as the [`Domain`](crate::Domain) that saw the name is used.
    ///
    /// # Errors
    /// [`Fault`] if the range is not all in memory.
    fn shared(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault>;
}
