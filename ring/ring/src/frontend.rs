//! The frontend's half of a queue: submit requests in batches, take completions in any order.
//!
//! *Invariants.* An id is either free or in flight, never both; a credit returns only when its completion is copied
//! out. After a fault nothing is taken or submitted, and [`WideFrontend::in_flight_ids`] names what must be quarantined.

use crate::consumer::Consumer;
use crate::cursor::{Cursor, RingSize};
use crate::freelist::FreeList;
use crate::producer::Producer;
use crate::{Memory, Misuse, Notify, Park, PeerFault};
use pvkit_abi::ring::{CompletionWord, EPOCH_WORD, REQUEST_WORDS, RequestFlags, RequestWord};
use pvkit_abi::status::CompletionResult;

/// No room: every slot is in flight or staged. Take completions first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the queue is full: take completions first")
    }
}

impl core::error::Error for Full {}

/// One request in flight. Not `Copy`: whoever holds it waits for exactly one completion.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket {
    id: u16,
}

impl Ticket {
    /// The id, below the depth: an index into the caller's own table of pending requests.
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }
}

/// A completion that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Id of the request.
    pub id: u16,
    /// How it ended.
    pub result: CompletionResult,
}

/// The frontend's half of a queue with one-word completions.
pub type Frontend<M, const N: usize> = WideFrontend<M, N, 1>;

/// The frontend's half. `N` bounds the depth and sizes the private tables; no allocator is needed. `C` words a
/// completion: 1, or more where the protocol has more to say.
#[derive(Debug)]
#[repr(align(128))]
pub struct WideFrontend<M, const N: usize, const C: usize> {
    requests: Producer<M, REQUEST_WORDS>,
    completions: Consumer<M, C>,
    ids: FreeList<N>,
    /// Requests of an open batch, by id; nothing of them is in shared memory yet.
    staged: [[u64; REQUEST_WORDS]; N],
    latched: bool,
}

impl<M: Memory, const N: usize, const C: usize> WideFrontend<M, N, C> {
    /// A fresh half: zeroes its own area and stores `epoch` in it, before the peer is told of it.
    ///
    /// # Errors
    /// An area that is too small, or a depth above `N`.
    pub fn new(own: M, peer: M, size: RingSize, epoch: u64) -> Result<Self, Misuse> {
        let half = Self::resume(own, peer, size, Cursor::START)?;
        half.requests.clear();
        // ORDER: Release; whoever sees the epoch sees zeroed slots. The bus message that names the area follows it.
        half.requests.own().store_release(EPOCH_WORD, epoch);
        Ok(half)
    }

    /// A half that stands at `cursor`, with nothing in flight; touches no shared word. For tests near a wrap.
    ///
    /// # Errors
    /// As for [`WideFrontend::new`].
    pub fn resume(own: M, peer: M, size: RingSize, cursor: Cursor) -> Result<Self, Misuse> {
        if size.depth() as usize > N {
            return Err(Misuse::DepthTooLarge);
        }
        Ok(Self {
            requests: Producer::new(own, size, cursor)?,
            completions: Consumer::new(peer, size, cursor)?,
            ids: FreeList::new(size.depth()),
            staged: [[0; REQUEST_WORDS]; N],
            latched: false,
        })
    }

    /// The epoch that the peer stored in its area. Anything, until it is compared with the epoch that was agreed.
    #[must_use]
    pub fn peer_epoch(&self) -> u64 {
        self.completions.peer().load_acquire(EPOCH_WORD)
    }

    /// Slots of the queue.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.requests.size().depth()
    }

    /// How many more requests can be reserved now.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.latched { 0 } else { self.depth() as usize - self.in_flight() }
    }

    /// Whether a fault latched the half.
    #[must_use]
    pub const fn is_latched(&self) -> bool {
        self.latched
    }

    /// Opens a batch. Nothing is visible to the peer before [`Batch::commit`].
    #[inline]
    pub const fn batch(&mut self) -> Batch<'_, M, N, C> {
        let next = if self.latched { FreeList::<N>::NONE } else { self.ids.head() };
        Batch { queue: self, next, len: 0 }
    }

    /// The ids that are reserved next, in this order; then the others. For a queue that takes over what another one had in
    /// flight, under the same ids. Ids outside or named twice are passed over.
    ///
    /// False, and nothing is changed, while anything is in flight.
    #[must_use]
    pub fn lead_with(&mut self, ids: impl IntoIterator<Item = u16>) -> bool {
        let idle = self.in_flight() == 0;
        if idle {
            self.ids = FreeList::led_by(self.depth(), ids);
        }
        idle
    }

    /// Takes the next completion, copied out once and checked.
    ///
    /// # Errors
    /// If the peer wrote a tag out of turn or completed what is not in flight: the half is latched.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Completed>, PeerFault> {
        Ok(self.take_wide()?.map(|(completed, _)| completed))
    }

    /// Takes the next completion with all its words. Word 0 is judged already; the others are the peer's word.
    ///
    /// # Errors
    /// As for [`WideFrontend::take`].
    #[inline]
    pub fn take_wide(&mut self) -> Result<Option<(Completed, [u64; C])>, PeerFault> {
        if self.latched {
            return Err(PeerFault::Latched);
        }
        match self.completions.peek() {
            Ok(None) => Ok(None),
            Ok(Some(slot)) => {
                let head = slot.first().copied().unwrap_or(0);
                self.check(CompletionWord(head)).map(|completed| Some((completed, slot)))
            }
            Err(fault) => self.latch(fault),
        }
    }

    #[inline]
    fn check(&mut self, word: CompletionWord) -> Result<Completed, PeerFault> {
        let id = word.id();
        if !self.ids.release(id) {
            return self.latch(PeerFault::NotInFlight(id));
        }
        self.completions.step();
        Ok(Completed { id, result: word.result() })
    }

    /// About to sleep: arms the event word and looks once more. A latched half is always [`Park::Ready`]: the fault
    /// waits to be seen, and nothing else ever comes.
    pub fn park(&mut self) -> Park {
        if self.latched { Park::Ready } else { self.completions.park(self.requests.own()) }
    }

    /// Ids that are in flight: after a fault or the end of an epoch, what must be quarantined.
    pub fn in_flight_ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.ids.in_flight()
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.published().distance_from(self.completions.index()) as usize
    }

    #[cold]
    fn latch<T>(&mut self, fault: PeerFault) -> Result<T, PeerFault> {
        self.latched = true;
        Err(fault)
    }
}

/// Requests that are reserved together and become visible together.
///
/// A batch that is dropped is reverted: its ids never left the free list.
#[derive(Debug)]
pub struct Batch<'a, M: Memory, const N: usize, const C: usize = 1> {
    queue: &'a mut WideFrontend<M, N, C>,
    /// The next free id; those before it on the list are reserved.
    next: u16,
    len: usize,
}

impl<M: Memory, const N: usize, const C: usize> Batch<'_, M, N, C> {
    /// Adds a request: operation, flags, the protocol's sixteen bits, and words 1 to 3.
    ///
    /// # Errors
    /// [`Full`] if no slot is free or the queue is latched; the batch stays as it was.
    #[inline]
    pub fn reserve(&mut self, op: u8, flags: RequestFlags, aux: u16, words: [u64; 3]) -> Result<Ticket, Full> {
        let id = self.next;
        let slot = self.queue.staged.get_mut(usize::from(id)).ok_or(Full)?;
        let next = self.queue.ids.after(id).ok_or(Full)?;
        let [a, b, c] = words;
        *slot = [RequestWord::new(op, flags, id, aux).0, a, b, c];
        self.next = next;
        self.len += 1;
        Ok(Ticket { id })
    }

    /// Requests reserved in this batch.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is reserved.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Publishes the batch. The caller rings the doorbell if the answer is [`Notify::Needed`].
    #[inline]
    pub fn commit(self) -> Notify {
        let queue = self.queue;
        for _ in 0..self.len {
            let Some(slot) = queue.ids.commit().and_then(|id| queue.staged.get(usize::from(id))) else { break };
            queue.requests.push(slot);
        }
        queue.requests.publish(queue.completions.peer())
    }

    /// Gives the reservations back. No shared word was or is touched.
    pub fn revert(self) {}
}
