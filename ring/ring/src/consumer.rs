//! The reading end of one ring: look at the slot, and go to sleep without losing a wake-up.
//!
//! The story of the event word is told in `producer.rs`.

use crate::cursor::{Cursor, RingIndex, RingSize};
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

    #[inline]
    pub(crate) fn peer(&self) -> &M {
        &self.peer
    }

    /// Index of the next slot.
    #[inline]
    pub(crate) fn index(&self) -> RingIndex {
        self.cursor.index()
    }

    /// The next slot if it is published, copied out; each word is read once.
    ///
    /// The peer may have written anything: a tag that is neither this lap's nor the last one's is a fault.
    #[inline]
    pub(crate) fn peek(&self) -> Result<Option<[u64; W]>, PeerFault> {
        let mut slot = [0; W];
        let due = self.cursor.tag();
        // ORDER: Acquire (in `load_slot`), pairs with producer.rs::publish; the slot's other words, and the rest of its
        // batch, are visible once its tag is.
        match self.peer.load_slot(self.cursor.offset(self.size, W), &mut slot, |head| tag(head) == due) {
            Ok(()) => Ok(Some(slot)),
            Err(head) if tag(head) == self.cursor.previous() => Ok(None),
            Err(head) => Err(PeerFault::Tag { expected: due, found: tag(head) }),
        }
    }

    /// Whether the slot that is so far ahead, less than the depth, carries the tag of its lap. Nothing of it is used.
    #[inline]
    pub(crate) fn is_published(&self, ahead: u32) -> bool {
        let at = self.cursor.ahead(ahead, self.size);
        self.peer.load_slot(at.offset(self.size, W), &mut [0; W], |head| tag(head) == at.tag()).is_ok()
    }

    /// Goes on to the next slot.
    #[inline]
    pub(crate) fn step(&mut self) {
        self.cursor.step(self.size);
    }

    /// Arms `own`'s event word with the next index and looks once more.
    ///
    /// A fault counts as [`Park::Ready`]: the caller must look and see it.
    pub(crate) fn park(&self, own: &M) -> Park {
        own.store(EVENT_WORD, u64::from(self.cursor.index().0));
        // ORDER: SeqCst, pairs with producer.rs::publish; the armed index is visible before the slot is read again.
        own.fence();
        match self.peek() {
            Ok(None) => Park::Armed,
            Ok(Some(_)) | Err(_) => Park::Ready,
        }
    }
}

#[inline]
const fn tag(head: u64) -> u16 {
    (head >> 48) as u16
}
