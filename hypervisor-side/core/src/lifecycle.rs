//! What the machine and the operator do to devices: answers to effects, a backend that goes or comes, a resize.
//!
//! The guest hears of the end of an epoch only when nothing is attached any more: so it may take its buffers back as soon
//! as it hears.

use crate::bus::Bus;
use crate::context::Context;
use crate::device::{Drain, Refusal};
use crate::messages;
use crate::pending::{Asked, Work};
use crate::requests::Values;
use crate::{Effect, Finished, Token};
use pvkit_abi::bus::{CONFIG_BYTES, DeviceState};
use pvkit_abi::status::CallError;

impl Bus {
    /// The machine's answer to an effect. One that comes after its epoch, or twice, is counted and has no effect.
    pub(crate) fn finish(&mut self, token: Token, result: Result<Finished, CallError>, cx: &mut Context<'_>) {
        let Some(asked) = self.pending.remove(token) else {
            cx.counters.late_answers = cx.counters.late_answers.saturating_add(1);
            return;
        };
        let answer = match asked.work {
            Work::Open { queue } => self.opened(asked.device, queue, result, cx),
            Work::Close => self.closed(asked.device, result, cx),
            Work::Share(_) | Work::Revoke(_) => self.settle_grant(asked, result),
            Work::Control => done(result).map(|()| [0; 6]),
        };
        if let Some(request) = asked.request {
            self.reply(request, asked.device, answer.map_err(Refusal::from), cx);
        }
        self.drain_if_quiet(asked.device, cx);
        self.settle(cx);
    }

    fn opened(
        &mut self,
        number: u32,
        queue: u16,
        result: Result<Finished, CallError>,
        cx: &mut Context<'_>,
    ) -> Result<Values, CallError> {
        let device = self.device_mut(number).ok_or(CallError::NOT_FOUND)?;
        let position = device.queues.iter().position(|open| open.number == queue).ok_or(CallError::NOT_FOUND)?;
        let error = match result {
            Ok(Finished::Queue { kind, address }) => {
                device.queues.iter_mut().skip(position).take(1).for_each(|queue| queue.open = true);
                if device.state == DeviceState::ACCEPTED {
                    device.state = DeviceState::CONNECTED;
                }
                return Ok([u64::from(kind.0), address, 0, 0, 0, 0]);
            }
            Ok(Finished::Done) => CallError::BACKEND,
            Err(error) => error,
        };
        let queue = device.queues.remove(position);
        self.release_queue(&queue, cx);
        Err(error)
    }

    /// The device is drained. If it could not be, something may still be attached: it stays Closing, and keeps what it
    /// held, until the next `BUS_SETUP` or the end of its backend.
    fn closed(
        &mut self,
        number: u32,
        result: Result<Finished, CallError>,
        cx: &mut Context<'_>,
    ) -> Result<Values, CallError> {
        result?;
        if let Some(device) = self.device_mut(number) {
            device.seal = None;
        }
        self.release(number, cx);
        self.tell_state(number, cx);
        Ok([0; 6])
    }

    fn settle_grant(&mut self, asked: Asked, result: Result<Finished, CallError>) -> Result<Values, CallError> {
        let device = self.device_mut(asked.device).ok_or(CallError::NOT_FOUND)?;
        let result = done(result);
        match asked.work {
            Work::Share(grant) => {
                device.grants.shared(grant, result.is_ok());
                result.map(|()| [u64::from(grant.0), 0, 0, 0, 0, 0])
            }
            Work::Revoke(grant) => {
                device.grants.revoked(grant, result.is_ok());
                result.map(|()| [0; 6])
            }
            Work::Open { .. } | Work::Close | Work::Control => Err(CallError::BACKEND),
        }
    }

    /// Serves nothing of the device any more, and has it drained as soon as the machine answered what was asked before.
    pub(crate) fn begin_closing(&mut self, number: u32, request: Option<u16>, cx: &mut Context<'_>) {
        if let Some(device) = self.device_mut(number) {
            device.state = DeviceState::CLOSING;
            device.drain = Some(Drain { request });
        }
        self.drain_if_quiet(number, cx);
    }

    fn drain_if_quiet(&mut self, number: u32, cx: &mut Context<'_>) {
        if self.pending.has(number) {
            return;
        }
        if let Some(drain) = self.device_mut(number).and_then(|device| device.drain.take()) {
            let token = self.pending.insert(Asked { device: number, request: drain.request, work: Work::Close });
            cx.effects.push(Effect::CloseDevice { token: Some(token), device: number });
        }
    }

    /// New configuration; a guest that knows the device is told.
    pub(crate) fn config_changed(&mut self, number: u32, config: [u8; CONFIG_BYTES], cx: &mut Context<'_>) {
        let Some(device) = self.device_mut(number).filter(|device| device.state != DeviceState::ABSENT) else { return };
        device.offer.config = config;
        let message = messages::config_changed(number, device);
        self.tell(message, cx);
        self.settle(cx);
    }

    /// The backend is gone and nothing of it is attached any more: what was asked of it is answered with `BACKEND`, and
    /// its epoch ends. A device that the machine is draining stays Closing until it answers.
    pub(crate) fn backend_gone(&mut self, number: u32, cx: &mut Context<'_>) {
        let Some(device) = self.device_mut(number).filter(|device| device.backend) else { return };
        device.backend = false;
        let state = device.state;
        if state == DeviceState::ABSENT || state == DeviceState::CLOSING && self.pending.has(number) {
            return;
        }
        for asked in self.pending.remove_of(number) {
            if let Some(request) = asked.request {
                self.reply(request, number, Err(CallError::BACKEND.into()), cx);
            }
        }
        self.end(number, cx);
        self.tell_state(number, cx);
        self.settle(cx);
    }

    /// The backend is there again: the device is offered under a new epoch.
    pub(crate) fn backend_back(&mut self, number: u32, cx: &mut Context<'_>) {
        let Some(device) = self.device_mut(number).filter(|device| !device.backend) else { return };
        device.backend = true;
        if device.state != DeviceState::DISCONNECTED {
            return;
        }
        self.release(number, cx);
        let all = self.device_mut(number).map(|device| messages::announcement(number, device));
        self.tell_all(all.unwrap_or_default(), cx);
        self.settle(cx);
    }

    /// The device goes away for good: drained first, if a guest holds it, then the guest is told.
    pub(crate) fn rescind(&mut self, number: u32, cx: &mut Context<'_>) {
        let Some(device) = self.device_mut(number).filter(|device| !device.rescinded) else { return };
        device.rescinded = true;
        match device.state {
            // Its end is under way.
            DeviceState::CLOSING => {}
            DeviceState::ACCEPTED | DeviceState::CONNECTED => self.begin_closing(number, None, cx),
            _ => {
                self.release(number, cx);
                self.tell_state(number, cx);
            }
        }
        self.settle(cx);
    }

    /// Tells the guest where the device stands now, and under which epoch.
    fn tell_state(&mut self, number: u32, cx: &mut Context<'_>) {
        if let Some(device) = self.device_mut(number) {
            let message = messages::state_or_rescind(number, device);
            self.tell(message, cx);
        }
    }
}

/// An answer that has no value.
fn done(result: Result<Finished, CallError>) -> Result<(), CallError> {
    match result? {
        Finished::Done => Ok(()),
        Finished::Queue { .. } => Err(CallError::BACKEND),
    }
}
