//! The backend's half of a queue: take requests in order, complete them in any order.
//!
//! *Invariants.* A request is copied out before it is checked and checked before it is handed on. No more than the
//! depth are in flight or held back. Completions are held back in small batches; [`WideBackend::park`] publishes what is held
//! back first. A latched half takes nothing more, but still lets what is in flight be completed: I/O drains.
//!
//! *Publication size.* A completion that is stored alone to a polling frontend makes the line travel twice. Four at a
//! time was best in measurements on two cores (2 to 8 tried), and at once whenever no request is visible.

use crate::consumer::Consumer;
use crate::cursor::{Cursor, RingIndex, RingSize};
use crate::ids::Ids;
use crate::producer::Producer;
use crate::{Memory, Misuse, Notify, Park, PeerFault};
use pvkit_abi::ring::{CompletionWord, EPOCH_WORD, MAX_DEPTH, REQUEST_WORDS, RequestWord};
use pvkit_abi::status::CompletionResult;

/// Completions published together while requests keep coming.
const HOLD_BACK: u32 = 4;

/// A request, copied out of shared memory. Its id is unique among those in flight; all else is still to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Word 0.
    pub word: RequestWord,
    /// Words 1 to 3.
    pub words: [u64; 3],
}

/// The backend's half of a queue with one-word completions.
pub type Backend<M> = WideBackend<M, 1>;

/// The backend's half. `C` words a completion: more than one where the protocol has more to say.
#[derive(Debug)]
#[repr(align(128))]
pub struct WideBackend<M, const C: usize> {
    requests: Consumer<M, REQUEST_WORDS>,
    completions: Producer<M, C>,
    in_flight: Ids<{ MAX_DEPTH as usize }>,
    /// Index of the first request that may not come yet: a depth beyond the first completion that is not published.
    limit: RingIndex,
    latched: bool,
}

impl<M: Memory, const C: usize> WideBackend<M, C> {
    /// A fresh half: zeroes its own area and stores `epoch` in it, before the peer is told.
    ///
    /// # Errors
    /// An area that is too small.
    pub fn new(own: M, peer: M, size: RingSize, epoch: u64) -> Result<Self, Misuse> {
        let half = Self::resume(own, peer, size, Cursor::START)?;
        half.completions.clear();
        // ORDER: Release; whoever sees the epoch sees zeroed slots. The reply that opens the queue follows it.
        half.completions.own().store_release(EPOCH_WORD, epoch);
        Ok(half)
    }

    /// A half that stands at `cursor`, with nothing in flight; touches no shared word. For tests near a wrap.
    ///
    /// # Errors
    /// An area that is too small.
    pub fn resume(own: M, peer: M, size: RingSize, cursor: Cursor) -> Result<Self, Misuse> {
        Ok(Self {
            requests: Consumer::new(peer, size, cursor)?,
            completions: Producer::new(own, size, cursor)?,
            in_flight: Ids::new(size.depth()),
            limit: cursor.index().advance(size.depth()),
            latched: false,
        })
    }

    /// The epoch that the peer stored in its area. Anything, until it is compared with the epoch that was agreed.
    #[must_use]
    pub fn peer_epoch(&self) -> u64 {
        self.requests.peer().load_acquire(EPOCH_WORD)
    }

    /// Slots of the queue.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.completions.size().depth()
    }

    /// Requests taken and not yet completed.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let unanswered = self.requests.index().distance_from(self.completions.published());
        unanswered - self.completions.pending()
    }

    /// Whether a fault latched the half.
    #[must_use]
    pub const fn is_latched(&self) -> bool {
        self.latched
    }

    /// Whether every slot that the peer may write is written: it can submit nothing more until a completion is published.
    /// One that wrote the last slot alone looks full and is found out by [`WideBackend::take`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self.limit.distance_from(self.requests.index()).checked_sub(1) {
            Some(ahead) => self.requests.is_published(ahead),
            None => true,
        }
    }

    /// Takes the next request: copied out once, its id checked.
    ///
    /// # Errors
    /// If the peer wrote a tag out of turn, an id outside the depth or in flight, or more requests than the depth:
    /// the half is latched.
    #[inline]
    pub fn take(&mut self) -> Result<Option<Request>, PeerFault> {
        if self.latched {
            return Err(PeerFault::Latched);
        }
        match self.requests.peek() {
            Ok(None) => Ok(None),
            Ok(Some(slot)) => self.check(slot).map(Some),
            Err(fault) => self.latch(fault),
        }
    }

    #[inline]
    fn check(&mut self, slot: [u64; REQUEST_WORDS]) -> Result<Request, PeerFault> {
        let [head, words @ ..] = slot;
        let word = RequestWord(head);
        if self.requests.index() == self.limit {
            return self.latch(PeerFault::Overrun);
        }
        if !self.in_flight.insert(word.id()) {
            return self.latch(self.blame(word.id()));
        }
        self.requests.step();
        Ok(Request { word, words })
    }

    /// Why an id could not become in flight.
    #[cold]
    fn blame(&self, id: u16) -> PeerFault {
        if u32::from(id) < self.depth() { PeerFault::IdInFlight(id) } else { PeerFault::IdOutOfRange(id) }
    }

    /// Completes a request. The completion may be held back until enough are there; see [`WideBackend::flush`].
    ///
    /// # Errors
    /// [`Misuse::NotInFlight`] if `id` is not in flight; nothing is published.
    #[inline]
    pub fn complete(&mut self, id: u16, result: CompletionResult) -> Result<Notify, Misuse> {
        self.hold(id, result, [0; C])?;
        Ok(if self.completions.pending() >= HOLD_BACK { self.flush() } else { Notify::NotNeeded })
    }

    /// Completes a request with all words of the completion, of which word 0 is filled in, and holds it back until
    /// [`WideBackend::flush`]: what is held together becomes visible together.
    ///
    /// # Errors
    /// As for [`WideBackend::complete`].
    #[inline]
    pub fn hold(&mut self, id: u16, result: CompletionResult, mut slot: [u64; C]) -> Result<(), Misuse> {
        if !self.in_flight.remove(id) {
            return Err(Misuse::NotInFlight(id));
        }
        if let Some(head) = slot.first_mut() {
            *head = CompletionWord::new(id, result).0;
        }
        self.completions.push(&slot);
        Ok(())
    }

    /// Publishes what is held back. To be called whenever no request is visible.
    #[inline]
    pub fn flush(&mut self) -> Notify {
        let notify = self.completions.publish(self.requests.peer());
        self.limit = self.completions.published().advance(self.depth());
        notify
    }

    /// About to sleep: publishes what is held back, arms the event word and looks once more. A latched half is always
    /// [`Park::Ready`]: the fault waits to be seen, and nothing else ever comes.
    pub fn park(&mut self) -> (Notify, Park) {
        let notify = self.flush();
        let park = if self.latched { Park::Ready } else { self.requests.park(self.completions.own()) };
        (notify, park)
    }

    /// Ids that are in flight.
    pub fn in_flight_ids(&self) -> impl Iterator<Item = u16> + '_ {
        self.in_flight.iter()
    }

    #[cold]
    fn latch<T>(&mut self, fault: PeerFault) -> Result<T, PeerFault> {
        self.latched = true;
        Err(fault)
    }
}
