//! What a ring needs of memory: 64-bit atomic words and a fence.

use core::sync::atomic::{Ordering, fence};
use pvkit_shared_memory::{SharedBytes, SharedPages};

/// An area of 64-bit words that both sides can reach. Generic so that the same ring runs on shared pages, on loom's
/// atomics and on memory that lies.
///
/// Offsets are in bytes, multiples of eight. The halves check `bytes()` once and stay inside it, so an implementation
/// may answer an outside access with anything that is not a panic.
pub trait Memory {
    /// Bytes in the area.
    fn bytes(&self) -> usize;
    /// Relaxed load.
    fn load(&self, offset: usize) -> u64;
    /// Acquire load.
    fn load_acquire(&self, offset: usize) -> u64;
    /// Relaxed store.
    fn store(&self, offset: usize, value: u64);
    /// Release store.
    fn store_release(&self, offset: usize, value: u64);
    /// Sequentially consistent fence.
    fn fence(&self);
}

macro_rules! memory_by_words {
    ($type:ty) => {
        impl Memory for $type {
            #[inline]
            fn bytes(&self) -> usize {
                self.len()
            }
            #[inline]
            fn load(&self, offset: usize) -> u64 {
                word(self, offset).map_or(0, |word| word.load(Ordering::Relaxed))
            }
            #[inline]
            fn load_acquire(&self, offset: usize) -> u64 {
                word(self, offset).map_or(0, |word| word.load(Ordering::Acquire))
            }
            #[inline]
            fn store(&self, offset: usize, value: u64) {
                if let Some(word) = word(self, offset) {
                    word.store(value, Ordering::Relaxed);
                }
            }
            #[inline]
            fn store_release(&self, offset: usize, value: u64) {
                if let Some(word) = word(self, offset) {
                    word.store(value, Ordering::Release);
                }
            }
            #[inline]
            fn fence(&self) {
                fence(Ordering::SeqCst);
            }
        }
    };
}

mod pages {
    use super::*;
    #[inline]
    fn word(pages: &SharedPages, offset: usize) -> Option<&core::sync::atomic::AtomicU64> {
        pages.word(offset)
    }
    memory_by_words!(SharedPages);
}

mod bytes {
    use super::*;
    #[inline]
    fn word(bytes: &SharedBytes, offset: usize) -> Option<&core::sync::atomic::AtomicU64> {
        bytes.word(offset).ok()
    }
    memory_by_words!(SharedBytes);
}

impl<M: Memory + ?Sized> Memory for &M {
    fn bytes(&self) -> usize {
        (**self).bytes()
    }
    fn load(&self, offset: usize) -> u64 {
        (**self).load(offset)
    }
    fn load_acquire(&self, offset: usize) -> u64 {
        (**self).load_acquire(offset)
    }
    fn store(&self, offset: usize, value: u64) {
        (**self).store(offset, value);
    }
    fn store_release(&self, offset: usize, value: u64) {
        (**self).store_release(offset, value);
    }
    fn fence(&self) {
        (**self).fence();
    }
}
