//! The reading end of one ring: look at the slot, and go to sleep without losing a wake-up.
//!
//! The story of the event word is told in `producer.rs`.

use crate::cursor::{Cursor, RingSize};
use crate::{Memory, Misuse, Park, PeerFault};
use pvkit_abi::ring::EVENT_WORD;

/// The reading end. `W` words a slot.
#[derive(Debug)]
pub(crate) struct Consumer<M, const W: usize> {
    peer: M,
    size: RingSize,
    cursor: Cursor,
}

impl<M: Memory, const W: usize> Consumer<M, W> {
    pub(crate) fn new(peer: M, size: RingSize, cursor: Cursor) -> Result<Self, Misuse> {
        if peer.bytes() < size.area_bytes(W) {
            return Err(Misuse::AreaTooSmall);
        }
        Ok(Self { peer, size, cursor })
    }

    pub(crate) fn peer(&self) -> &M {
        &self.peer
    }

    /// Word 0 of the next slot if it is published.
    ///
    /// The peer may have written anything: a tag that is neither this lap's nor the last one's is a fault.
    #[inline]
    pub(crate) fn peek(&self) -> Result<Option<u64>, PeerFault> {
        // ORDER: Acquire, pairs with producer.rs::publish; the slot's other words, and the rest of its batch, are
        // visible once its tag is.
        let word = self.peer.load_acquire(self.cursor.offset(self.size, W));
        let tag = (word >> 48) as u16;
        if tag == self.cursor.tag() {
            Ok(Some(word))
        } else if tag == self.cursor.previous() {
            Ok(None)
        } else {
            Err(PeerFault::Tag { expected: self.cursor.tag(), found: tag })
        }
    }

    /// Word `i` of the slot that `peek` just found, copied out. Relaxed is enough after `peek`'s Acquire.
    #[inline]
    pub(crate) fn payload(&self, i: usize) -> u64 {
        self.peer.load(self.cursor.offset(self.size, W) + i * 8)
    }

    /// Goes on to the next slot.
    #[inline]
    pub(crate) fn step(&mut self) {
        self.cursor.step(self.size);
    }

    /// Arms `own`'s event word with the next index and looks once more.
    ///
    /// A fault counts as [`Park::Ready`]: the caller must look and see it.
    pub(crate) fn park(&self, own: &impl Memory) -> Park {
        own.store(EVENT_WORD, u64::from(self.cursor.index().0));
        // ORDER: SeqCst, pairs with producer.rs::notify; the armed index is visible before the slot is read again.
        own.fence();
        match self.peek() {
            Ok(None) => Park::Armed,
            Ok(Some(_)) | Err(_) => Park::Ready,
        }
    }
}
