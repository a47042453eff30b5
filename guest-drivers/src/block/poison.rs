//! A request that kills the backend: found by submitting one at a time, and ended with an error.
//!
//! *Why.* What is submitted again after a loss may be what caused it. After [`Suspicion::restarts`] lives of the backend in which
//! nothing completed, its requests go to it one by one; one that is alone with a backend that goes, [`Suspicion::kills`] times, is
//! not tried again. Whatever completes clears everybody.
//!
//! *Invariants.* While `alone` is set that request is the only one in flight; what was submitted after it waits in its slot, and
//! nothing new is taken.

use super::{Block, Completed};
use crate::error::RequestError;
use crate::platform::Platform;
use pvkit_abi::status::Status;

/// When a request is believed to kill the backend. A host whose backends are ended for other reasons, faster than they complete a
/// request, wants larger numbers, or none ([`Block::suspect`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// Lives of the backend without a completion after which requests are submitted one at a time.
    pub restarts: u32,
    /// Lives that a request may end while it is alone.
    pub kills: u32,
}

impl Suspicion {
    /// Three, then two.
    pub const USUAL: Self = Self { restarts: 3, kills: 2 };

    /// Whether a request that was alone from the beginning is tried no more.
    pub(super) const fn is_sure_after(self, lives: u32) -> bool {
        lives >= self.restarts.saturating_add(self.kills)
    }
}

/// What is known of lives that ended.
#[derive(Debug)]
pub(super) struct Lives {
    pub(super) suspicion: Option<Suspicion>,
    /// Lives in a row in which nothing completed.
    fruitless: u32,
    /// Epoch of the last one that was counted, and completions until then.
    counted: u64,
    completions: u64,
    /// The one request in flight.
    pub(super) alone: Option<u16>,
    /// Lives that it has ended.
    kills: u32,
    /// Its place in the order of submission: whether it is the same again.
    suspect: u64,
}

impl Lives {
    pub(super) const fn new() -> Self {
        let suspicion = Some(Suspicion::USUAL);
        Self { suspicion, fruitless: 0, counted: 0, completions: 0, alone: None, kills: 0, suspect: 0 }
    }

    pub(super) fn one_at_a_time(&self) -> bool {
        self.suspicion.is_some_and(|suspicion| self.fruitless >= suspicion.restarts)
    }
}

/// What a request that kills comes to.
pub(super) const KILLS: RequestError = RequestError::Io { status: Status::IO_ERROR, detail: 0 };

impl<'p, P: Platform, const N: usize, const PAGES: usize> Block<'p, P, N, PAGES> {
    /// When a request is given up with an I/O error because the backend dies of it; as from the beginning
    /// [`Suspicion::USUAL`], never with `None`.
    pub const fn suspect(&mut self, suspicion: Option<Suspicion>) {
        self.lives.suspicion = suspicion;
    }

    /// The queue is over, and what had completed is taken. The request that is not to be tried again, if one is found out.
    pub(super) fn count_life(&mut self) -> Option<Completed<'p, P, PAGES>> {
        let (epoch, completions) = (self.link.sealed().epoch, self.link.counters.completions);
        if self.lives.counted == epoch {
            return None;
        }
        let fruitful = completions > self.lives.completions;
        (self.lives.counted, self.lives.completions) = (epoch, completions);
        let alone = self.lives.alone.take();
        let slot = alone.and_then(|id| self.pending.slots.get_mut(usize::from(id)));
        // Those before it may have completed one by one: it was alone when the backend went.
        if let (Some(id), Some(slot)) = (alone, slot)
            && let Some(order) = slot.as_ref().map(|slot| slot.order)
        {
            self.lives.kills = if self.lives.suspect == order { self.lives.kills + 1 } else { 1 };
            self.lives.suspect = order;
            if self.lives.suspicion.is_some_and(|suspicion| self.lives.kills >= suspicion.kills) {
                self.outstanding = self.outstanding.saturating_sub(1);
                let buffer = slot.take().and_then(|slot| slot.request.buffer);
                return Some(Completed { id, buffer, result: Err(KILLS) });
            }
        } else if fruitful {
            self.lives.fruitless = 0;
        } else {
            self.lives.fruitless = self.lives.fruitless.saturating_add(u32::from(self.outstanding > 0));
        }
        None
    }

    /// The one request in flight completed: the next one goes.
    pub(super) fn next_alone(&mut self, id: u16) {
        if self.lives.alone != Some(id) {
            return;
        }
        self.lives.alone = None;
        // The host never had those that were given up meanwhile.
        for slot in self.pending.slots.iter_mut().filter(|slot| slot.as_ref().is_some_and(super::Slot::is_abandoned)) {
            *slot = None;
            self.link.counters.quarantined = self.link.counters.quarantined.saturating_sub(1);
        }
        let mut ids = [0; N];
        let count = self.pending.in_order(&mut ids);
        // On a queue that is over they stay for the next one.
        if count > 0 && self.submit_again(ids.get(..count).unwrap_or_default(), true).is_err() {
            self.lives.alone = None;
        }
    }
}
