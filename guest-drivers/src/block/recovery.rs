//! A disk whose backend went and came back: opened anew, and what was in flight submitted again, under the same ids.
//!
//! *Why again is right.* Every operation may be done twice. The host offers a disk again only when its old backend is dead and
//! that one's I/O is drained, so no old write lands after its replay. What had completed is taken before; the rest is submitted
//! in the order of its first submission, before anything new; its data is in buffers that are the driver's until they complete.

use super::{Block, Completed};
use crate::bus::Bus;
use crate::device::{Link, Wanted, bus_failure, is_back, when_back};
use crate::error::{BusError, Misuse, RequestError};
use crate::platform::Platform;
use pvkit_abi::status::CallError;

impl<'p, P: Platform, const N: usize, const PAGES: usize> Block<'p, P, N, PAGES> {
    /// Whether what is in flight when the backend goes is kept for [`Block::recover`]; else, as from the beginning, it is handed
    /// back by [`Block::poll`] as [`RequestError::Disconnected`]. May be changed at any time: what is kept is handed back then.
    pub const fn keep_for_recovery(&mut self, keep: bool) {
        self.replays = keep;
    }

    /// Whether the queue is over: nothing can be submitted before [`Block::recover`] or [`Block::reopen`].
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.link.is_detached()
    }

    /// Whether [`Block::recover`] would find the disk offered anew, and so not wait for its backend. As the bus has it:
    /// [`Bus::poll`] and [`Block::refresh`] before.
    #[must_use]
    pub fn is_back(&self, bus: &Bus<'p, P>) -> bool {
        self.is_over() && is_back(bus, self.link.sealed())
    }

    /// Waits until the backend is back, opens the disk anew, and submits again what was kept. `on_completed` gets what had
    /// completed before, and what the disk cannot do any more. Says how many were submitted again; none, if the queue is not
    /// over. May be called again after an error: nothing is lost by one. A request that the backend dies of, again and again, is
    /// given up with an I/O error: [`super::Suspicion`].
    ///
    /// # Errors
    /// [`RequestError::TimedOut`]; `Disconnected` for a disk that is gone for good or is less than it was, `Refused` if the host
    /// does not let it be opened anew: then [`Block::keep_for_recovery`] with false, and [`Block::poll`]. [`Misuse::RequestsInFlight`] if nothing is kept and
    /// something was in flight.
    pub fn recover(
        &mut self,
        bus: &mut Bus<'p, P>,
        deadline: u64,
        mut on_completed: impl FnMut(Completed<'p, P, PAGES>),
    ) -> Result<u32, RequestError> {
        self.look(bus)?;
        if !self.is_over() {
            return Ok(0);
        }
        if !self.replays && self.outstanding > 0 {
            return Err(Misuse::RequestsInFlight.into());
        }
        while let Some(completed) = self.take()? {
            on_completed(completed);
        }
        if let Some(completed) = self.count_life() {
            on_completed(completed);
        }
        self.reconnect(bus, deadline)?;
        self.replay(on_completed)
    }

    /// Opens a disk anew whose backend is back, exactly as it was sealed. What was in flight is the caller's again before
    /// ([`Block::poll`]). May be called again after an error.
    ///
    /// # Errors
    /// [`Misuse::RequestsInFlight`] while the old queue is not detached or was not emptied; what the host refuses or does not answer
    /// in time; [`BusError::Unsupported`] for a disk that is less than it was.
    pub fn reopen(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        if !self.link.is_detached() || self.outstanding > 0 {
            return Err(Misuse::RequestsInFlight.into());
        }
        self.exchange(bus, deadline)
    }

    /// Another queue in the place of the one that is over.
    fn exchange(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let old = *self.link.sealed();
        let wanted = Wanted::again(old, 1, self.policy, deadline);
        let mut link = Link::open(bus, old.device, &wanted)?;
        let config = bus.device(old.device).map(|device| device.offer.config);
        let judged = config.as_ref().map(|config| Self::judge(&link, config));
        match judged {
            Some(Ok((geometry, ..))) if geometry.logical_block == self.geometry.logical_block => {
                link.drain_after_the_end();
                self.geometry = geometry;
                self.lives.alone = None;
                let mut over = link;
                core::mem::swap(&mut over, &mut self.link);
                // A port that the host keeps is lost, no more.
                let _ = over.close(bus, deadline);
                self.link.go_on_from(&over);
                Ok(())
            }
            other => {
                link.close(bus, deadline)?;
                match other {
                    Some(Err(fault)) => Err(fault.into()),
                    _ => {
                        Err(BusError::Unsupported { what: "a disk with other blocks than it had", value: old.features })
                    }
                }
            }
        }
    }

    /// Waits until the backend is back, and opens the disk anew.
    pub(super) fn reconnect(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), RequestError> {
        let sealed = *self.link.sealed();
        when_back(bus, &sealed, deadline, |bus| {
            let _ = self.refresh(bus);
            if self.is_over() { self.exchange(bus, deadline) } else { Err(BusError::Refused(CallError::BUSY)) }
        })
    }

    /// Hears what the host says of the disk. A configuration that cannot be is told when the disk is opened.
    pub(super) fn look(&mut self, bus: &mut Bus<'p, P>) -> Result<(), RequestError> {
        bus.poll().map_err(bus_failure)?;
        let _ = self.refresh(bus);
        Ok(())
    }

    /// Whether a deadline is still to come.
    pub(super) fn in_time(&self, deadline: u64) -> Result<(), RequestError> {
        if self.link.platform().now() < deadline { Ok(()) } else { Err(RequestError::TimedOut) }
    }

    /// Submits again what the fresh queue does not have, under the ids that it was submitted with; says how much that is.
    fn replay(&mut self, mut on_completed: impl FnMut(Completed<'p, P, PAGES>)) -> Result<u32, RequestError> {
        let rules = self.rules();
        for (id, slot) in (0u16..).zip(self.pending.slots.iter_mut()) {
            // A disk may have shrunk.
            let Some(error) = slot.as_ref().and_then(|slot| rules.judge(&slot.request).err()) else { continue };
            let buffer = slot.take().and_then(|slot| slot.request.buffer);
            self.outstanding = self.outstanding.saturating_sub(1);
            on_completed(Completed { id, buffer, result: Err(error) });
        }
        let mut ids = [0; N];
        let count = self.pending.in_order(&mut ids);
        self.submit_again(ids.get(..count).unwrap_or_default(), self.lives.one_at_a_time())?;
        Ok(count as u32)
    }

    /// Publishes what is in these slots, in this order; only the first one if it is to be `alone`. All were judged before.
    pub(super) fn submit_again(&mut self, ids: &[u16], alone: bool) -> Result<(), RequestError> {
        let rules = self.rules();
        let queue = self.link.usable()?;
        if !queue.lead_with(ids.iter().copied()) {
            return Err(Misuse::RequestsInFlight.into());
        }
        let mut batch = queue.batch();
        for id in ids.iter().take(if alone { 1 } else { N }) {
            if let Some(Some(slot)) = self.pending.slots.get(usize::from(*id)) {
                rules.reserve(&mut batch, &slot.request)?;
            }
        }
        let count = batch.len();
        let notify = batch.commit();
        self.link.published(count, notify);
        self.link.counters.replays += count as u64;
        self.lives.alone = ids.first().copied().filter(|_| alone);
        Ok(())
    }
}
