//! The host's messages: taken, judged, answered.
//!
//! *Invariants.* One pass takes at most a bounded number of messages, however fast the host writes them.

use super::{Bus, wire};
use crate::error::BusError;
use crate::platform::Platform;
use pvkit_abi::bus::{ConfigChanged, DEPTH, Kind, Message, Offer, Reply, StateChanged};
use pvkit_abi::ring::RequestWord;
use pvkit_abi::status::{CallError, CompletionResult, Status};
use pvkit_ring::Park;

/// Rounds of a full queue that one look takes; a host with more to say waits for the next look.
const ROUNDS: u32 = 8;

impl<P: Platform> Bus<'_, P> {
    /// Looks for messages of the host (the device table changes) and for late answers. To be called when the bus's
    /// event port fires, or now and then. Costs a hypercall only if the host must hear of it.
    ///
    /// # Errors
    /// If the host broke the protocol.
    pub fn poll(&mut self) -> Result<(), BusError> {
        self.collect()?;
        self.receive_all()?;
        if core::mem::take(&mut self.rescan_due) {
            self.send_rescan()?;
        }
        self.kick_if_due()
    }

    /// Sleeps until the host has something to say or the deadline passes; may return early.
    ///
    /// # Errors
    /// As for `poll`, which should follow.
    pub fn wait(&mut self, deadline: u64) -> Result<(), BusError> {
        if self.park()? == Park::Armed {
            self.counters.waits += 1;
            self.platform.wait(deadline);
        }
        Ok(())
    }

    /// About to sleep together with other queues: asks for the next interrupt. True if there is something to
    /// [`Bus::poll`], so that the caller must not sleep.
    ///
    /// # Errors
    /// As for `poll`.
    pub fn arm(&mut self) -> Result<bool, BusError> {
        Ok(self.park()? == Park::Ready)
    }

    pub(super) fn park(&mut self) -> Result<Park, BusError> {
        let (notify, messages) = self.messages.park();
        self.kick_due |= notify.is_needed();
        self.kick_if_due()?;
        Ok(if messages == Park::Armed { self.requests.park() } else { Park::Ready })
    }

    /// Takes what is there. Kicks only if the queue was full, because then more may be waiting behind it.
    pub(super) fn receive_all(&mut self) -> Result<(), BusError> {
        for _ in 0..ROUNDS {
            if self.receive()? < DEPTH {
                break;
            }
            self.kick_if_due()?;
        }
        Ok(())
    }

    /// One round, at most a queue full; says how many.
    pub(super) fn receive(&mut self) -> Result<u32, BusError> {
        let mut count = 0;
        while count < DEPTH {
            let Some(request) = self.messages.take()? else { break };
            let id = request.word.id();
            let message = self.pages.load_message(id)?;
            let verdict = self.judge(request.word, &message);
            self.counters.messages += 1;
            if verdict.is_err() {
                self.counters.refused += 1;
            }
            let status = verdict.map_or_else(|error| error.to_result() as i32, |()| 0);
            let reply = Reply { status, device: message.device, epoch: message.epoch, values: [0; 6] };
            self.pages.store_reply(id, &reply)?;
            let notify = self.messages.complete(id, CompletionResult::new(Status::OK, 0))?;
            self.kick_due |= notify.is_needed();
            count += 1;
        }
        self.kick_due |= self.messages.flush().is_needed();
        Ok(count)
    }

    /// Whatever the message says, the device table stays a table of allegations; drivers check what they use.
    fn judge(&mut self, word: RequestWord, message: &Message) -> Result<(), CallError> {
        if message.kind.0 != word.op() || word.flags() != 0 || message.reserved != 0 {
            return Err(CallError::INVALID);
        }
        let (device, epoch) = (message.device, message.epoch);
        match message.kind {
            Kind::OFFER => {
                let offer: Offer = wire::body(message).ok_or(CallError::INVALID)?;
                self.devices.offer(device, epoch, offer)
            }
            Kind::RESCIND => self.devices.rescind(device),
            Kind::CONFIG_CHANGED => {
                let change: ConfigChanged = wire::body(message).ok_or(CallError::INVALID)?;
                self.devices.config(device, epoch, change.config)
            }
            Kind::STATE_CHANGED => {
                let change: StateChanged = wire::body(message).ok_or(CallError::INVALID)?;
                self.devices.state(device, epoch, change.state)
            }
            Kind::OVERFLOW => {
                self.counters.overflows += 1;
                self.rescan_due = true;
                Ok(())
            }
            _ => Err(CallError::UNKNOWN),
        }
    }
}
