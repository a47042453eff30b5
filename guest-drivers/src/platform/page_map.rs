//! Which pages of a run are taken: one atomic bit each, so no lock and no allocator.
//!
//! *Invariants.* The map is private memory. A free list inside the free pages would be at the host's mercy once the
//! run is granted.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A bit per page, for up to `64 * WORDS` pages.
#[derive(Debug)]
pub(super) struct PageMap<const WORDS: usize> {
    words: [AtomicU64; WORDS],
    /// Where the last search ended: neighbours tend to be handed out together, which makes for long segments.
    next: AtomicUsize,
}

impl<const WORDS: usize> PageMap<WORDS> {
    pub(super) const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS], next: AtomicUsize::new(0) }
    }

    /// Takes a free page below `limit`.
    pub(super) fn take(&self, limit: usize) -> Option<usize> {
        let limit = limit.min(WORDS * 64);
        let start = self.next.load(Ordering::Relaxed).min(limit);
        let index = (start..limit).chain(0..start).find(|&index| self.set(index))?;
        self.next.store(index + 1, Ordering::Relaxed);
        Some(index)
    }

    /// Gives a page back; false if it was not taken.
    pub(super) fn give(&self, index: usize) -> bool {
        let Some(word) = self.words.get(index / 64) else { return false };
        let mask = 1u64 << (index % 64);
        // ORDER: Release, pairs with `set`; the old owner's stores are done before the next owner's zeroing.
        word.fetch_and(!mask, Ordering::Release) & mask != 0
    }

    fn set(&self, index: usize) -> bool {
        let Some(word) = self.words.get(index / 64) else { return false };
        let mask = 1u64 << (index % 64);
        // ORDER: Acquire, pairs with `give`.
        word.load(Ordering::Relaxed) & mask == 0 && word.fetch_or(mask, Ordering::Acquire) & mask == 0
    }
}
