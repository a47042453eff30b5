//! A platform out of two halves: one that owns pages, one that talks to the host.

use super::{Doorbell, Extent, NoMemory, Page, Platform};
use pvkit_abi::discovery::BootInfo;
use pvkit_abi::hypercall::Call;

/// The half that owns pages. The methods mean what they mean in [`Platform`].
pub trait Pages {
    /// One zeroed page for rings and messages.
    ///
    /// # Errors
    /// [`NoMemory`].
    fn allocate(&self) -> Result<Page, NoMemory>;
    /// Takes a page back.
    fn free(&self, page: Page);
    /// One zeroed page for bulk data.
    ///
    /// # Errors
    /// [`NoMemory`].
    fn allocate_buffer(&self) -> Result<Page, NoMemory> {
        self.allocate()
    }
    /// Before a request that names the page.
    fn hand_over(&self, _page: &Page) {}
    /// After its completion.
    fn hand_back(&self, _page: &Page) {}
    /// Where all pages come from.
    fn shareable(&self) -> Extent;
    /// Pages that never come back.
    fn note_leak(&self, _pages: usize) {}
}

/// The half that talks to the host. The methods mean what they mean in [`Platform`].
pub trait Calls {
    /// One hypercall.
    fn hypercall(&self, call: Call, args: [u64; 5]) -> i64;
    /// Rings a doorbell.
    fn doorbell(&self, doorbell: Doorbell);
    /// Monotonic nanoseconds.
    fn now(&self) -> u64;
    /// Sleeps until an event or the deadline.
    fn wait(&self, deadline: u64);
    /// What the host said at start.
    fn boot_info(&self) -> &BootInfo;
    /// Looks before a sleep.
    fn spin_limit(&self) -> u32 {
        super::DEFAULT_SPIN
    }
}

/// Two halves as one [`Platform`].
#[derive(Debug)]
pub struct Composed<M, C> {
    /// Owns pages.
    pub pages: M,
    /// Talks to the host.
    pub calls: C,
}

impl<M: Pages, C: Calls> Platform for Composed<M, C> {
    fn allocate(&self) -> Result<Page, NoMemory> {
        self.pages.allocate()
    }
    fn free(&self, page: Page) {
        self.pages.free(page);
    }
    fn allocate_buffer(&self) -> Result<Page, NoMemory> {
        self.pages.allocate_buffer()
    }
    fn hand_over(&self, page: &Page) {
        self.pages.hand_over(page);
    }
    fn hand_back(&self, page: &Page) {
        self.pages.hand_back(page);
    }
    fn shareable(&self) -> Extent {
        self.pages.shareable()
    }
    fn hypercall(&self, call: Call, args: [u64; 5]) -> i64 {
        self.calls.hypercall(call, args)
    }
    fn doorbell(&self, doorbell: Doorbell) {
        self.calls.doorbell(doorbell);
    }
    fn now(&self) -> u64 {
        self.calls.now()
    }
    fn wait(&self, deadline: u64) {
        self.calls.wait(deadline);
    }
    fn boot_info(&self) -> &BootInfo {
        self.calls.boot_info()
    }
    fn spin_limit(&self) -> u32 {
        self.calls.spin_limit()
    }
    fn note_leak(&self, pages: usize) {
        self.pages.note_leak(pages);
    }
}
