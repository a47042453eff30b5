//! The writing end of one ring: publication, and the question whether the reader sleeps.
//!
//! *Publication.* Of each slot the payload words are stored first (relaxed) and word 0, which carries the tag, last. Of
//! a batch the first slot's word 0 is stored at the very end, with Release: until then the consumer, which reads in
//! order, sees nothing of the batch; from then on it sees all of it.
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
}

impl<M: Memory, const W: usize> Producer<M, W> {
    pub(crate) fn new(own: M, size: RingSize, cursor: Cursor) -> Result<Self, Misuse> {
        if own.bytes() < size.area_bytes(W) {
            return Err(Misuse::AreaTooSmall);
        }
        Ok(Self { own, size, cursor })
    }

    /// Stores zero in the header and every slot. For a fresh epoch, before the peer is told of the area.
    pub(crate) fn clear(&self) {
        let mut offset = 0;
        while offset < self.size.area_bytes(W) {
            self.own.store(offset, 0);
            offset += 8;
        }
    }

    pub(crate) fn own(&self) -> &M {
        &self.own
    }

    pub(crate) fn size(&self) -> RingSize {
        self.size
    }

    /// Publishes `slots` (at least one, at most the room that the caller has counted) as one batch.
    ///
    /// `tag` puts a tag into word 0. `peer` is the consumer's area, for its event word.
    #[inline]
    pub(crate) fn publish(&mut self, slots: &[[u64; W]], tag: impl Fn(u64, u16) -> u64, peer: &impl Memory) -> Notify {
        let Some((first, rest)) = slots.split_first() else { return Notify::NotNeeded };
        let begin = self.cursor;
        self.store_payload(begin, first);
        self.cursor.step(self.size);
        for slot in rest {
            self.store_payload(self.cursor, slot);
            // Relaxed: invisible to an in-order consumer until the first slot of the batch is released below.
            self.own.store(self.cursor.offset(self.size, W), tag(slot[0], self.cursor.tag()));
            self.cursor.step(self.size);
        }
        // ORDER: Release, pairs with consumer.rs::peek; makes all words of the batch visible before its first tag.
        self.own.store_release(begin.offset(self.size, W), tag(first[0], begin.tag()));
        self.notify(begin.index(), peer)
    }

    #[inline]
    fn store_payload(&self, at: Cursor, slot: &[u64; W]) {
        let offset = at.offset(self.size, W);
        for (i, word) in slot.iter().enumerate().skip(1) {
            self.own.store(offset + i * 8, *word);
        }
    }

    /// Whether the consumer armed an index in `from .. now`.
    #[inline]
    fn notify(&self, from: RingIndex, peer: &impl Memory) -> Notify {
        // ORDER: SeqCst, pairs with consumer.rs::park; the publication above is visible before the event word is read.
        self.own.fence();
        let armed = RingIndex(peer.load(EVENT_WORD) as u32);
        let published = self.cursor.index().distance_from(from);
        // Wrap-safe "from <= armed < now": an index outside gives a large distance.
        if armed.distance_from(from) < published { Notify::Needed } else { Notify::NotNeeded }
    }
}
