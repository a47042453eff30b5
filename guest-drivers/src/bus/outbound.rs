//! The guest's requests: sent in batches, answered before a deadline or abandoned.

use super::{Bus, wire};
use crate::error::BusError;
use crate::platform::Platform;
use pvkit_abi::bus::{Kind, Message, Reply};
use pvkit_abi::hypercall::Call;
use pvkit_abi::ring::RequestFlags;
use pvkit_ring::Park;
use zerocopy::FromZeros;

/// What the host answered to one request.
type Answer = Result<Reply, wire::Refusal>;

/// What is known of the request in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    /// Nothing is in flight.
    Free,
    /// Somebody waits; the answer must name this device.
    Waiting(u32),
    /// Answered, not yet collected by the one who waits.
    Done(Answer),
    /// Nobody waits any more: the deadline passed, or nobody ever did.
    Abandoned,
}

impl<P: Platform> Bus<'_, P> {
    /// Sends `messages` with one kick and waits for all answers.
    ///
    /// # Errors
    /// [`BusError::TimedOut`] if one of them is missing at the deadline; all may have been carried out.
    pub(crate) fn request<const K: usize>(
        &mut self,
        messages: &[Message; K],
        deadline: u64,
    ) -> Result<[Answer; K], BusError> {
        let ids = self.send(messages)?;
        let answered = self.wait_for(&ids, deadline);
        if matches!(answered, Err(BusError::TimedOut)) {
            self.counters.timeouts += 1;
        }
        // Every slot is looked at, so that none keeps an answer that nobody asks for any more.
        let answers = ids.map(|id| self.collected(id));
        answered?;
        let mut all = [Reply::new_zeroed(); K].map(Ok);
        for (slot, answer) in all.iter_mut().zip(answers) {
            *slot = answer.ok_or(BusError::TimedOut)?;
        }
        Ok(all)
    }

    /// The answer to a request, which is then over; without one it is abandoned.
    fn collected(&mut self, id: u16) -> Option<Answer> {
        let slot = self.pending.get_mut(usize::from(id))?;
        match *slot {
            Pending::Done(answer) => {
                *slot = Pending::Free;
                Some(answer)
            }
            _ => {
                *slot = Pending::Abandoned;
                None
            }
        }
    }

    fn send<const K: usize>(&mut self, messages: &[Message; K]) -> Result<[u16; K], BusError> {
        let mut ids = [0; K];
        let mut batch = self.requests.batch();
        for (message, id) in messages.iter().zip(ids.iter_mut()) {
            let ticket = batch.reserve(message.kind.0, RequestFlags::empty(), 0, [0; 3])?;
            *id = ticket.id();
            self.pages.store_message(*id, message)?;
            if let Some(slot) = self.pending.get_mut(usize::from(*id)) {
                *slot = Pending::Waiting(message.device);
            }
        }
        self.kick_due |= batch.commit().is_needed();
        self.counters.requests += K as u64;
        self.kick_if_due()?;
        Ok(ids)
    }

    /// Asks for every offer again; nobody waits for the answer, the offers are the answer.
    pub(super) fn send_rescan(&mut self) -> Result<(), BusError> {
        match self.send(&[wire::message(Kind::RESCAN, 0, self.epoch, &[])]) {
            Ok([id]) => {
                if let Some(slot) = self.pending.get_mut(usize::from(id)) {
                    *slot = Pending::Abandoned;
                }
                self.collect()?;
                self.receive_all()
            }
            // Not now; at the next poll.
            Err(BusError::Full) => {
                self.rescan_due = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn wait_for(&mut self, ids: &[u16], deadline: u64) -> Result<(), BusError> {
        loop {
            // The clock is read before the look: what came in time is found.
            let late = self.platform.now() >= deadline;
            self.collect()?;
            self.receive()?;
            if ids.iter().all(|id| !matches!(self.pending.get(usize::from(*id)), Some(Pending::Waiting(_)))) {
                return Ok(());
            }
            if late {
                return Err(BusError::TimedOut);
            }
            self.kick_if_due()?;
            let (notify, messages) = self.messages.park();
            self.kick_due |= notify.is_needed();
            if self.requests.park() == Park::Armed && messages == Park::Armed && !self.kick_due {
                self.counters.waits += 1;
                self.platform.wait(deadline);
            }
        }
    }

    /// Takes the answers that are there; at most as many as are in flight.
    pub(super) fn collect(&mut self) -> Result<(), BusError> {
        for _ in 0..self.pending.len() {
            let Some(completed) = self.requests.take()? else { break };
            let reply = self.pages.load_reply(completed.id)?;
            let Some(slot) = self.pending.get_mut(usize::from(completed.id)) else { continue };
            *slot = match *slot {
                Pending::Waiting(device) => Pending::Done(wire::judge(reply, device)?),
                _ => Pending::Free,
            };
        }
        Ok(())
    }

    pub(super) fn kick_if_due(&mut self) -> Result<(), BusError> {
        if core::mem::take(&mut self.kick_due) {
            self.hypercall(Call::BUS_KICK, [0; 5])?;
        }
        Ok(())
    }
}
