//! Who waits for which request.
//!
//! *Invariants.* A place is taken from the submission of a request until its future has the result or is dropped, so a
//! ring id that is used again does not meet an older future. `by_id[id]` names the place while `id` is in flight and
//! somebody waits for it.

use crate::asynchronous::Waiters;
use crate::block::{Block, Completed, Rejected, Request};
use crate::bus::Bus;
use crate::error::RequestError;
use crate::platform::Platform;
use core::task::Waker;
use pvkit_ring::Ticket;

/// No place.
const NONE: u16 = u16::MAX;

/// What became of a request that a future waits for.
#[derive(Debug)]
pub(super) enum Place<'p, P: Platform, const PAGES: usize> {
    Free,
    /// In flight; whom to wake.
    Waiting(Option<Waker>),
    /// Ended; its future has not been polled since.
    Ended(Completed<'p, P, PAGES>),
}

/// A disk, and who waits for what on it.
#[derive(Debug)]
pub(super) struct Queue<'p, P: Platform, const N: usize, const PAGES: usize> {
    pub(super) disk: Block<'p, P, N, PAGES>,
    places: [Place<'p, P, PAGES>; N],
    by_id: [u16; N],
    /// Those whose request found no room.
    pub(super) outside: Waiters<N>,
    /// The fault that ended the queue.
    pub(super) failed: Option<RequestError>,
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Queue<'p, P, N, PAGES> {
    pub(super) const fn new(disk: Block<'p, P, N, PAGES>) -> Self {
        let places = [const { Place::Free }; N];
        Self { disk, places, by_id: [NONE; N], outside: Waiters::new(), failed: None }
    }

    /// One completion goes to its place; whom to wake for it. `None` if there is no completion.
    pub(super) fn take(&mut self) -> Result<Option<Option<Waker>>, RequestError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let before = self.disk.link.counters.completions;
        let Some(completed) = self.disk.take().inspect_err(|error| self.failed = Some(*error))? else {
            // Requests that were given up may have ended.
            return Ok((self.disk.link.counters.completions > before).then_some(None));
        };
        Ok(Some(seat(&mut self.places, &mut self.by_id, completed)))
    }

    /// Opens the disk anew; `wakers` gets whom to wake for what had ended. The fault of the old queue is over with it.
    pub(super) fn recover(
        &mut self,
        bus: &mut Bus<'p, P>,
        deadline: u64,
        wakers: &mut [Option<Waker>; N],
    ) -> Result<u32, RequestError> {
        let (places, by_id) = (&mut self.places, &mut self.by_id);
        let mut free = wakers.iter_mut();
        let reconnects = self.disk.link.counters.reconnects;
        let again = self.disk.recover(bus, deadline, |completed| {
            let waker = seat(places, by_id, completed);
            // As many as there are places.
            if let Some(slot) = free.next() {
                *slot = waker;
            }
        });
        if self.disk.link.counters.reconnects > reconnects {
            self.failed = None;
        }
        again
    }

    /// Submits into a place of its own. [`RequestError::Full`] without one.
    pub(super) fn start(&mut self, request: Request<'p, P, PAGES>) -> Result<(u16, Ticket), Rejected<'p, P, PAGES>> {
        let free = (0u16..).zip(self.places.iter_mut()).find(|(_, place)| matches!(place, Place::Free));
        let Some((index, place)) = free else { return Err(Rejected { request, error: RequestError::Full }) };
        let ticket = self.disk.submit(request)?;
        *place = Place::Waiting(None);
        if let Some(slot) = self.by_id.get_mut(usize::from(ticket.id())) {
            *slot = index;
        }
        Ok((index, ticket))
    }

    /// What ended in a place, which is free then.
    pub(super) fn ended(&mut self, place: u16) -> Option<Completed<'p, P, PAGES>> {
        let place = self.places.get_mut(usize::from(place))?;
        match core::mem::replace(place, Place::Free) {
            Place::Ended(completed) => Some(completed),
            other => {
                *place = other;
                None
            }
        }
    }

    /// What was in the place, to be dropped once the queue is not borrowed.
    pub(super) fn give_up(&mut self, place: u16, ticket: &Ticket) -> Option<Place<'p, P, PAGES>> {
        let place = core::mem::replace(self.places.get_mut(usize::from(place))?, Place::Free);
        if let Place::Waiting(_) = place {
            self.disk.give_up(ticket);
            if let Some(slot) = self.by_id.get_mut(usize::from(ticket.id())) {
                *slot = NONE;
            }
        }
        Some(place)
    }

    /// Remembers whom to wake; answers the waker before it, to be dropped once the queue is not borrowed.
    pub(super) fn wait(&mut self, place: u16, waker: &Waker) -> Option<Waker> {
        match self.places.get_mut(usize::from(place))? {
            Place::Waiting(slot) => slot.replace(waker.clone()),
            Place::Free | Place::Ended(_) => None,
        }
    }

    pub(super) fn waiting(&mut self) -> [Option<Waker>; N] {
        let mut wakers = [const { None }; N];
        for (waker, place) in wakers.iter_mut().zip(self.places.iter_mut()) {
            if let Place::Waiting(slot) = place {
                *waker = slot.take();
            }
        }
        wakers
    }
}

/// A completion goes to its place; whom to wake for it.
fn seat<'p, P: Platform, const N: usize, const PAGES: usize>(
    places: &mut [Place<'p, P, PAGES>; N],
    by_id: &mut [u16; N],
    completed: Completed<'p, P, PAGES>,
) -> Option<Waker> {
    let index = by_id.get_mut(usize::from(completed.id)).map(|slot| core::mem::replace(slot, NONE));
    // Without a place it was submitted by somebody else, before: its buffer is freed here.
    let place = index.and_then(|index| places.get_mut(usize::from(index)))?;
    match core::mem::replace(place, Place::Ended(completed)) {
        Place::Waiting(waker) => waker,
        Place::Free | Place::Ended(_) => None,
    }
}
