//! Submit now, look later: the door that the blocking calls are built on.

use super::stage::Rules;
use super::{Block, Request};
use crate::buffer::Buffer;
use crate::error::{HostFault, RequestError};
use crate::platform::Platform;
use pvkit_abi::block::{BlockOp, SERIAL_BYTES};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Notify, Park, Ticket};

/// One request that the host has.
#[derive(Debug)]
pub(super) struct Slot<'p, P: Platform, const PAGES: usize> {
    pub(super) request: Request<'p, P, PAGES>,
    /// Ascends with each submission.
    pub(super) order: u64,
    /// Nobody waits for it any more.
    abandoned: bool,
}

impl<'p, P: Platform, const PAGES: usize> Slot<'p, P, PAGES> {
    /// The slot of a request that is about to be published: its buffer is the driver's from now on.
    pub(super) const fn of(request: &mut Request<'p, P, PAGES>, order: u64) -> Self {
        Self { request: request.take(), order, abandoned: false }
    }

    pub(super) const fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// The driver goes away without the host's leave: what the host may still write to is leaked.
    pub(super) fn leak(self, platform: &P) {
        if let Some(buffer) = self.request.buffer {
            platform.note_leak(buffer.leak());
        }
    }
}

/// A request that ended.
#[derive(Debug)]
pub struct Completed<'p, P: Platform, const PAGES: usize> {
    /// [`Ticket::id`] of the request.
    pub id: u16,
    /// The buffer that was submitted.
    pub buffer: Option<Buffer<'p, P, PAGES>>,
    /// The operation's detail, or the device's answer.
    pub result: Result<u32, RequestError>,
}

/// A request that was not submitted, and why.
#[derive(Debug)]
pub struct Rejected<'p, P: Platform, const PAGES: usize> {
    /// The request, as it was.
    pub request: Request<'p, P, PAGES>,
    /// Why.
    pub error: RequestError,
}

/// What an interrupt handler found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Completions handed on.
    pub completed: u32,
    /// The budget ended before the work did, or more came meanwhile: call again. If not, the next completion interrupts.
    pub more: bool,
}

/// What the host has, by id.
#[derive(Debug)]
pub(super) struct Pending<'p, P: Platform, const N: usize, const PAGES: usize> {
    pub(super) slots: [Option<Slot<'p, P, PAGES>>; N],
    /// Requests submitted so far.
    submissions: u64,
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Pending<'p, P, N, PAGES> {
    pub(super) const fn new() -> Self {
        Self { slots: [const { None }; N], submissions: 0 }
    }

    /// The ids that are in flight, in the order of their submission; how many.
    pub(super) fn in_order(&self, ids: &mut [u16; N]) -> usize {
        let mut count = 0;
        for ((id, _), place) in (0u16..).zip(&self.slots).filter(|(_, slot)| slot.is_some()).zip(ids.iter_mut()) {
            *place = id;
            count += 1;
        }
        let order = |id: &u16| self.slots.get(usize::from(*id)).and_then(Option::as_ref).map(|slot| slot.order);
        ids.get_mut(..count).unwrap_or_default().sort_unstable_by_key(order);
        count
    }

    /// Keeps a request that is about to be published. `id` is free, and below the depth, which is at most `N`.
    pub(super) fn keep(&mut self, id: u16, request: &mut Request<'p, P, PAGES>) {
        if let Some(slot) = self.slots.get_mut(usize::from(id)) {
            self.submissions += 1;
            *slot = Some(Slot::of(request, self.submissions));
        }
    }
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Block<'p, P, N, PAGES> {
    /// Publishes one request, and rings if the host sleeps.
    ///
    /// # Errors
    /// The request comes back with the reason. [`RequestError::Full`]: poll first, also while requests are submitted one at a
    /// time ([`super::Suspicion`]).
    pub fn submit(&mut self, request: Request<'p, P, PAGES>) -> Result<Ticket, Rejected<'p, P, PAGES>> {
        let mut request = request;
        let rules = self.rules();
        let queue = match self.link.usable() {
            Ok(queue) => queue,
            Err(error) => return Err(Rejected { request, error }),
        };
        if self.lives.alone.is_some() {
            return Err(Rejected { request, error: RequestError::Full });
        }
        let mut batch = queue.batch();
        match rules.stage(&mut batch, &mut self.pending, &mut request) {
            Ok(ticket) => {
                let notify = batch.commit();
                self.published(1, notify);
                Ok(ticket)
            }
            Err(error) => {
                self.link.refused(&error);
                Err(Rejected { request, error })
            }
        }
    }

    /// Publishes all of `requests` together, with at most one doorbell.
    ///
    /// # Errors
    /// The first request that could not be accepted; those before it are published.
    pub fn submit_batch(
        &mut self,
        requests: impl IntoIterator<Item = Request<'p, P, PAGES>>,
        mut tickets: impl FnMut(Ticket),
    ) -> Result<(), Rejected<'p, P, PAGES>> {
        let rules = self.rules();
        let mut requests = requests.into_iter();
        let queue = match self.link.usable() {
            Ok(queue) => queue,
            Err(error) => return requests.next().map_or(Ok(()), |request| Err(Rejected { request, error })),
        };
        if self.lives.alone.is_some() {
            let refuse = |request| Err(Rejected { request, error: RequestError::Full });
            return requests.next().map_or(Ok(()), refuse);
        }
        let mut batch = queue.batch();
        let mut rejected = Ok(());
        for mut request in requests {
            match rules.stage(&mut batch, &mut self.pending, &mut request) {
                Ok(ticket) => tickets(ticket),
                Err(error) => {
                    rejected = Err(Rejected { request, error });
                    break;
                }
            }
        }
        let count = batch.len();
        let notify = batch.commit();
        self.published(count, notify);
        if let Err(Rejected { error, .. }) = &rejected {
            self.link.refused(error);
        }
        rejected
    }

    fn published(&mut self, count: usize, notify: Notify) {
        self.outstanding += count;
        self.link.published(count, notify);
    }

    pub(super) const fn rules(&self) -> Rules {
        Rules {
            geometry: self.geometry,
            features: self.features,
            max_segments: self.max_segments,
            max_transfer: self.link.sealed().max_transfer,
            grant: *self.link.grant(),
        }
    }

    /// Hands on up to `budget` completions that are there; says how many. Never waits.
    ///
    /// # Errors
    /// If the host broke the protocol; everything in flight stays quarantined.
    pub fn poll(
        &mut self,
        budget: u32,
        mut on_completed: impl FnMut(Completed<'p, P, PAGES>),
    ) -> Result<u32, RequestError> {
        let mut count = 0;
        while count < budget
            && let Some(completed) = self.take()?
        {
            on_completed(completed);
            count += 1;
        }
        Ok(count)
    }

    /// For an interrupt handler or its bottom half: [`Block::poll`], then asks for the next interrupt.
    ///
    /// # Errors
    /// As for `poll`.
    pub fn handle_interrupt(
        &mut self,
        budget: u32,
        on_completed: impl FnMut(Completed<'p, P, PAGES>),
    ) -> Result<Progress, RequestError> {
        let completed = self.poll(budget, on_completed)?;
        Ok(Progress { completed, more: self.link.park() == Park::Ready })
    }

    /// Sleeps until a completion is there or the deadline passes, and hands it on.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`]; nothing is abandoned. A fault as in `poll`.
    pub fn wait(&mut self, deadline: u64) -> Result<Completed<'p, P, PAGES>, RequestError> {
        loop {
            if let Some(completed) = self.take()? {
                return Ok(completed);
            }
            let ended = self.link.next(deadline)?;
            if let Some(completed) = self.finish(ended.id, ended.result)? {
                return Ok(completed);
            }
        }
    }

    /// Requests whose completion has not been handed on, those in quarantine not counted.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The next completion that is there; those of abandoned requests are dealt with on the way.
    pub(super) fn take(&mut self) -> Result<Option<Completed<'p, P, PAGES>>, RequestError> {
        // A completion leaves the ring at each turn, and only those in flight can come.
        while let Some(ended) = self.link.take()? {
            if let Some(completed) = self.finish(ended.id, ended.result)? {
                return Ok(Some(completed));
            }
        }
        // What was completed before the queue ended was taken: nothing more comes.
        Ok(if self.link.is_detached() && !self.replays { self.take_lost() } else { None })
    }

    /// Something that was in flight when the queue was detached: it never completes, its buffer is the guest's again.
    fn take_lost(&mut self) -> Option<Completed<'p, P, PAGES>> {
        let (id, slot) = (0u16..).zip(self.pending.slots.iter_mut()).find(|(_, slot)| slot.is_some())?;
        let Slot { request, .. } = slot.take()?;
        self.outstanding = self.outstanding.saturating_sub(1);
        Some(Completed { id, buffer: request.buffer, result: Err(RequestError::Disconnected) })
    }

    /// A completion left the ring: its buffer is the guest's again. `None` if nobody waits for it.
    pub(super) fn finish(
        &mut self,
        id: u16,
        result: CompletionResult,
    ) -> Result<Option<Completed<'p, P, PAGES>>, RequestError> {
        let slot = self.pending.slots.get_mut(usize::from(id)).and_then(Option::take);
        // The ring vouches that the id was in flight.
        let Some(Slot { request, abandoned, .. }) = slot else { return Ok(None) };
        self.next_alone(id);
        let Request { op, length, buffer, .. } = request;
        if let Some(buffer) = &buffer {
            buffer.hand_back();
        }
        if abandoned {
            self.link.counters.quarantined = self.link.counters.quarantined.saturating_sub(1);
            // Freed here, if the blocking calls have no use for it.
            let enough = self.bounce_bytes();
            self.bounce = self.bounce.take().or(buffer.filter(|buffer| buffer.len() >= enough));
            return Ok(None);
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        Ok(Some(Completed { id, buffer, result: judge(op, length, result) }))
    }

    /// Nobody waits for the request any more; its buffer stays in quarantine.
    pub(super) fn give_up(&mut self, ticket: &Ticket) {
        if let Some(Some(slot)) = self.pending.slots.get_mut(usize::from(ticket.id())) {
            slot.abandoned = true;
            self.outstanding = self.outstanding.saturating_sub(1);
            self.link.counters.quarantined += 1;
        }
    }
}

/// What a completion means for a request.
fn judge(op: BlockOp, length: u64, result: CompletionResult) -> Result<u32, RequestError> {
    let (status, detail) = (result.status(), result.detail());
    match status {
        Status::OK if op == BlockOp::GET_ID && u64::from(detail) > length.min(SERIAL_BYTES as u64) => {
            let asked = SERIAL_BYTES as u32;
            Err(HostFault::Length { asked, claimed: detail }.into())
        }
        Status::OK => Ok(detail),
        Status::ABORTED => Err(RequestError::Disconnected),
        _ => Err(RequestError::Io { status, detail }),
    }
}
