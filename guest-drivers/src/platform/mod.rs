//! What a guest kernel implements once so that every driver runs on it.
//!
//! *Purpose.* [`Platform`] is the whole boundary between the drivers and the kernel around them. A kernel may implement
//! it directly, or put two ready halves together with [`Composed`]: one that owns pages ([`Pages`]: [`identity`],
//! [`fixed_offset`], `static_pool`) and one that talks to the host ([`Calls`]: `x86`).
//!
//! *Invariants.* Every method takes `&self` and may be called from any vCPU. Nothing here blocks without a deadline.
//!
//! *Not here.* Interrupt delivery. A kernel's upcall handler wakes whoever is in `wait`, calls a driver's
//! `handle_interrupt`, or wakes the queue's `Interrupt` if tasks wait for it by futures.

mod composed;
pub mod fixed_offset;
pub mod identity;
mod page_map;
mod pool;
#[cfg(feature = "static-pool")]
pub mod static_pool;
#[cfg(feature = "fake")]
pub mod test;
#[cfg(feature = "x86")]
pub mod x86;

pub use composed::{Calls, Composed, Pages};

use pvkit_abi::bus::DoorbellKind;
use pvkit_abi::discovery::BootInfo;
use pvkit_abi::hypercall::Call;
use pvkit_shared_memory::SharedBytes;

/// One page of memory that the host can be given. Whoever holds the value owns the page.
#[derive(Debug)]
pub struct Page {
    /// The page's bytes, [`pvkit_abi::PAGE_SIZE`] of them.
    pub bytes: SharedBytes,
    /// Guest-physical address, a multiple of the page size.
    pub address: u64,
}

/// No page is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// A run of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First byte, a multiple of the page size.
    pub base: u64,
    /// Bytes, a multiple of the page size.
    pub length: u64,
}

/// How to ring a queue. Comes from the host; the drivers have checked that it can be a doorbell at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// What `address` is.
    pub kind: DoorbellKind,
    /// Port, guest-physical address or token.
    pub address: u64,
}

/// Looks at a queue before a sleep, where a platform does not say otherwise. About one wake-up's worth.
pub const DEFAULT_SPIN: u32 = 2_000;

/// The kernel under the drivers.
pub trait Platform {
    /// One zeroed page for rings and messages: what either side writes, the other sees at once.
    ///
    /// # Errors
    /// [`NoMemory`]; the driver's operation fails with it and nothing is lost.
    fn allocate(&self) -> Result<Page, NoMemory>;

    /// Takes back a page of `allocate` or `allocate_buffer`. The drivers call it only for pages that the host has no
    /// more business with.
    fn free(&self, page: Page);

    /// One zeroed page for bulk data. It may need [`Platform::hand_over`] and [`Platform::hand_back`].
    ///
    /// # Errors
    /// As for `allocate`.
    fn allocate_buffer(&self) -> Result<Page, NoMemory> {
        self.allocate()
    }

    /// Makes the guest's stores to a buffer page visible to the host, before a request that names it is published.
    fn hand_over(&self, _page: &Page) {}

    /// Makes the host's stores to a buffer page visible to the guest, after the completion was taken.
    fn hand_back(&self, _page: &Page) {}

    /// The memory that all pages of this platform come from.
    fn shareable(&self) -> Extent;

    /// One hypercall. Negative results are errors; see [`pvkit_abi::status::CallError::from_result`].
    fn hypercall(&self, call: Call, args: [u64; 5]) -> i64;

    /// Rings a queue's doorbell.
    fn doorbell(&self, doorbell: Doorbell);

    /// Monotonic time in nanoseconds, from any origin.
    fn now(&self) -> u64;

    /// Sleeps until an event arrives or `now()` reaches `deadline`. May return early. An event that arrived before the
    /// call and was not waited for yet ends it at once.
    fn wait(&self, deadline: u64);

    /// What the host said at start.
    fn boot_info(&self) -> &BootInfo;

    /// Looks at a queue before a sleep; 0 where a vCPU's spinning takes time from the backend.
    fn spin_limit(&self) -> u32 {
        DEFAULT_SPIN
    }

    /// `pages` pages will never come back through `free`, because the host may still write to them.
    fn note_leak(&self, _pages: usize) {}
}

impl<P: Platform + ?Sized> Platform for &P {
    fn allocate(&self) -> Result<Page, NoMemory> {
        (**self).allocate()
    }
    fn free(&self, page: Page) {
        (**self).free(page);
    }
    fn allocate_buffer(&self) -> Result<Page, NoMemory> {
        (**self).allocate_buffer()
    }
    fn hand_over(&self, page: &Page) {
        (**self).hand_over(page);
    }
    fn hand_back(&self, page: &Page) {
        (**self).hand_back(page);
    }
    fn shareable(&self) -> Extent {
        (**self).shareable()
    }
    fn hypercall(&self, call: Call, args: [u64; 5]) -> i64 {
        (**self).hypercall(call, args)
    }
    fn doorbell(&self, doorbell: Doorbell) {
        (**self).doorbell(doorbell);
    }
    fn now(&self) -> u64 {
        (**self).now()
    }
    fn wait(&self, deadline: u64) {
        (**self).wait(deadline);
    }
    fn boot_info(&self) -> &BootInfo {
        (**self).boot_info()
    }
    fn spin_limit(&self) -> u32 {
        (**self).spin_limit()
    }
    fn note_leak(&self, pages: usize) {
        (**self).note_leak(pages);
    }
}
