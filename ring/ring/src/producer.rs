//! The writing end of one ring: publication, and the question whether the reader sleeps.
//!
//! *Publication.* Slots of a batch are written one after the other, all but the first slot's word 0, which carries the
//! tag. It is stored at the very end, with Release: until then the consumer, which reads in order, sees nothing of the
//! batch; from then on it sees all of it.
//!
//! *Notification.* The consumer that wants to sleep stores the index it waits for in its event word, fences, and looks
//! at the slot again. The producer publishes, fences, and looks at the event word. With a full fence on both sides at
//! least one of the two sees the other's store, so both cannot miss: either the producer sees the armed index and rings,
//! or the consumer sees the slot and stays awake. Without the fence on either side both may read the old value, and
//! both sleep. (Store buffering; the same shape as Dekker's algorithm.)

use crate::cursor::{Cursor, RingIndex, RingSize};
use crate::{Memory, Misuse, Notify};
use pvkit_abi::ring::EVENT_WORD;

/// The writing end. `W` words a slot.
#[derive(Debug)]
pub(crate) struct Producer<M, const W: usize> {
    own: M,
    size: RingSize,
    cursor: Cursor,
    /// Where the open batch begins; nothing from here on is published.
    begin: RingIndex,
    /// Word 0 of the open batch's first slot, with its tag.
    first: u64,
}

impl<M: Memory, const W: usize> Producer<M, W> {
    pub(crate) fn new(own: M, size: RingSize, cursor: Cursor) -> Result<Self, Misuse> {
        if own.bytes() < size.area_bytes(W) {
            return Err(Misuse::AreaTooSmall);
        }
        Ok(Self { own, size, cursor, begin: cursor.index(), first: 0 })
    }

    /// Stores zero in the header and every slot. For a fresh epoch, before the peer is told of the area.
    pub(crate) fn clear(&self) {
        let mut offset = 0;
        while offset < self.size.area_bytes(W) {
            self.own.store(offset, 0);
            offset += 8;
        }
    }

    #[inline]
    pub(crate) fn own(&self) -> &M {
        &self.own
    }

    #[inline]
    pub(crate) fn size(&self) -> RingSize {
        self.size
    }

    /// Index of the first slot that is not published.
    #[inline]
    pub(crate) fn published(&self) -> RingIndex {
        self.begin
    }

    /// Slots of the open batch.
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        self.cursor.index().distance_from(self.begin)
    }

    /// Adds a slot to the open batch, and its tag to word 0, whose upper sixteen bits are zero. The caller has counted
    /// that there is room.
    #[inline]
    pub(crate) fn push(&mut self, slot: &[u64; W]) {
        let [head, payload @ ..] = slot.as_slice() else { return };
        let offset = self.cursor.offset(self.size, W);
        let head = head | u64::from(self.cursor.tag()) << 48;
        // Relaxed: invisible to an in-order consumer until the first slot's tag is released in `publish`.
        if self.pending() == 0 {
            self.first = head;
            self.own.store_words(offset + 8, payload);
        } else {
            self.own.store_slot(offset, head, payload);
        }
        self.cursor.step(self.size);
    }

    /// Publishes the open batch. `peer` is the consumer's area, for its event word.
    #[inline]
    pub(crate) fn publish(&mut self, peer: &M) -> Notify {
        let from = self.begin;
        let count = self.pending();
        if count == 0 {
            return Notify::NotNeeded;
        }
        // ORDER: Release, pairs with consumer.rs::peek; makes all words of the batch visible before its first tag.
        self.own.store_release(from.offset(self.size, W), self.first);
        self.begin = self.cursor.index();
        // ORDER: SeqCst, pairs with consumer.rs::park; the publication above is visible before the event word is read.
        self.own.fence();
        let armed = RingIndex(peer.load(EVENT_WORD) as u32);
        // Wrap-safe "from <= armed < now": an index outside gives a large distance.
        if armed.distance_from(from) < count { Notify::Needed } else { Notify::NotNeeded }
    }
}
