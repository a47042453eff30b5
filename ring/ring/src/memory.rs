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

    /// Relaxed stores of adjacent words that lie in one page, in any order.
    #[inline]
    fn store_words(&self, offset: usize, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            self.store(offset + i * 8, *word);
        }
    }

    /// Relaxed stores of a slot's words, in any order. A slot lies in one page.
    #[inline]
    fn store_slot(&self, offset: usize, head: u64, payload: &[u64]) {
        self.store(offset, head);
        self.store_words(offset + 8, payload);
    }

    /// Acquire load of a slot's word 0; if it is `wanted`, it and relaxed loads of the words after it are put into
    /// `slot`. A slot lies in one page.
    ///
    /// # Errors
    /// Word 0, if it is not wanted; nothing else is read.
    #[inline]
    fn load_slot(&self, offset: usize, slot: &mut [u64], wanted: impl FnOnce(u64) -> bool) -> Result<(), u64>
    where
        Self: Sized,
    {
        let head = self.load_acquire(offset);
        if !wanted(head) {
            return Err(head);
        }
        for (i, word) in slot.iter_mut().enumerate() {
            *word = if i == 0 { head } else { self.load(offset + i * 8) };
        }
        Ok(())
    }
}

impl Memory for SharedPages {
    #[inline]
    fn bytes(&self) -> usize {
        self.len()
    }
    #[inline]
    fn load(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Relaxed))
    }
    #[inline]
    fn load_acquire(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }
    #[inline]
    fn store(&self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Relaxed);
        }
    }
    #[inline]
    fn store_release(&self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
    #[inline]
    fn store_words(&self, offset: usize, words: &[u64]) {
        for (word, value) in self.words(offset, words.len()).unwrap_or(&[]).iter().zip(words) {
            word.store(*value, Ordering::Relaxed);
        }
    }
    #[inline]
    fn store_slot(&self, offset: usize, head: u64, payload: &[u64]) {
        let Some([first, rest @ ..]) = self.words(offset, 1 + payload.len()) else { return };
        first.store(head, Ordering::Relaxed);
        for (word, value) in rest.iter().zip(payload) {
            word.store(*value, Ordering::Relaxed);
        }
    }
    #[inline]
    fn load_slot(&self, offset: usize, slot: &mut [u64], wanted: impl FnOnce(u64) -> bool) -> Result<(), u64> {
        let Some([first, rest @ ..]) = self.words(offset, slot.len()) else { return Err(0) };
        let [head, payload @ ..] = slot else { return Err(0) };
        *head = first.load(Ordering::Acquire);
        if !wanted(*head) {
            return Err(*head);
        }
        for (word, into) in rest.iter().zip(payload) {
            *into = word.load(Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Memory for SharedBytes {
    #[inline]
    fn bytes(&self) -> usize {
        self.len()
    }
    #[inline]
    fn load(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Relaxed))
    }
    #[inline]
    fn load_acquire(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }
    #[inline]
    fn store(&self, offset: usize, value: u64) {
        if let Ok(word) = self.word(offset) {
            word.store(value, Ordering::Relaxed);
        }
    }
    #[inline]
    fn store_release(&self, offset: usize, value: u64) {
        if let Ok(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }
    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl<M: Memory> Memory for &M {
    #[inline]
    fn bytes(&self) -> usize {
        (**self).bytes()
    }
    #[inline]
    fn load(&self, offset: usize) -> u64 {
        (**self).load(offset)
    }
    #[inline]
    fn load_acquire(&self, offset: usize) -> u64 {
        (**self).load_acquire(offset)
    }
    #[inline]
    fn store(&self, offset: usize, value: u64) {
        (**self).store(offset, value);
    }
    #[inline]
    fn store_release(&self, offset: usize, value: u64) {
        (**self).store_release(offset, value);
    }
    #[inline]
    fn fence(&self) {
        (**self).fence();
    }
    #[inline]
    fn store_words(&self, offset: usize, words: &[u64]) {
        (**self).store_words(offset, words);
    }
    #[inline]
    fn store_slot(&self, offset: usize, head: u64, payload: &[u64]) {
        (**self).store_slot(offset, head, payload);
    }
    #[inline]
    fn load_slot(&self, offset: usize, slot: &mut [u64], wanted: impl FnOnce(u64) -> bool) -> Result<(), u64> {
        (**self).load_slot(offset, slot, wanted)
    }
}
