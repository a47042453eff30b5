//! Pages inside a `static`, for a kernel without an allocator of any kind.
//!
//! ```
//! use pvkit_guest_drivers::platform::static_pool::{StaticMemory, StaticPages};
//! static MEMORY: StaticMemory<64> = StaticMemory::new();
//! let pages: StaticPages<1> = StaticPages::new(&MEMORY, 0).expect("nobody took it yet");
//! ```
#![allow(unsafe_code, reason = "page naming: the bytes of a static; listed in SAFETY.md under guest arch")]

use super::pool::{Pool, pages_by_pool};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use pvkit_abi::PAGE_SIZE;
use pvkit_shared_memory::SharedBytes;

/// `PAGES` pages of static memory. Becomes a [`StaticPages`] once.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct StaticMemory<const PAGES: usize> {
    bytes: UnsafeCell<[[u8; PAGE_SIZE]; PAGES]>,
    taken: AtomicBool,
}

// SAFETY: the bytes are reached only through the one `SharedBytes` of `take`, which is safe from any thread.
unsafe impl<const PAGES: usize> Sync for StaticMemory<PAGES> {}

impl<const PAGES: usize> StaticMemory<PAGES> {
    /// Zeroed pages.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([[0; PAGE_SIZE]; PAGES]), taken: AtomicBool::new(false) }
    }

    fn take(&'static self) -> Option<SharedBytes> {
        // Relaxed: the flag protects nothing but itself.
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        let start = NonNull::new(self.bytes.get().cast::<u8>())?;
        // SAFETY: the bytes live in a `static` and are mapped for ever; nothing else in this program reaches them.
        Some(unsafe { SharedBytes::from_raw(start, PAGES * PAGE_SIZE) })
    }
}

impl<const PAGES: usize> Default for StaticMemory<PAGES> {
    fn default() -> Self {
        Self::new()
    }
}

/// Hands out up to `64 * WORDS` pages of a [`StaticMemory`].
#[derive(Debug)]
pub struct StaticPages<const WORDS: usize>(Pool<WORDS>);

impl<const WORDS: usize> StaticPages<WORDS> {
    /// Hands out `memory`, whose guest-physical address is its virtual address minus `offset`. `None` if it is taken.
    #[must_use]
    pub fn new<const PAGES: usize>(memory: &'static StaticMemory<PAGES>, offset: u64) -> Option<Self> {
        let bytes = memory.take()?;
        Some(Self(Pool::new(bytes, (bytes.as_ptr().addr() as u64).wrapping_sub(offset))))
    }
}

pages_by_pool!(StaticPages);
