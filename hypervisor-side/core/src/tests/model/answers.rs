//! Steps of the machine and the operator, and what the guest hears.

use super::Walk;
use super::reference::Work;
use crate::tests::status;
use crate::{Effect, Finished};
use pvkit_abi::bus::{DeviceState, DoorbellKind, Kind, Message, Reply, StateChanged};
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use zerocopy::FromBytes;

impl Walk<'_> {
    pub(super) fn answer(&mut self, nth: usize, good: bool) {
        if self.tokens.is_empty() {
            return;
        }
        let nth = nth % self.tokens.len();
        let (token, asked) = (self.tokens.remove(nth), self.reference.asked.remove(nth));
        let finished = match asked.work {
            Work::Open(queue) => Finished::Queue { kind: DoorbellKind::TOKEN, address: queue.into() },
            _ => Finished::Done,
        };
        self.machine.answer(token, if good { Ok(finished) } else { Err(CallError::BACKEND) });
        self.reference.answered(asked, good);
        let epoch = self.highest_epoch;
        if let Some(request) = asked.request {
            let reply = self.expect_reply(request, if good { Ok(()) } else { Err(CallError::BACKEND) });
            match asked.work {
                Work::Open(queue) if good => assert_eq!(reply.values[1], queue.into()),
                Work::Share(grant) if good => assert_eq!(reply.values[0], grant.into()),
                Work::Close if good => assert!(reply.epoch > epoch, "a new epoch"),
                _ => {}
            }
        }
        self.machine.answer(token, Ok(Finished::Done));
    }

    pub(super) fn gone(&mut self, device: usize) {
        let number = device as u32 + 1;
        let taken = self.reference.is_taken(device);
        self.machine.host(|domain, memory, effects| domain.backend_gone(number, memory, effects));
        let kept: Vec<bool> = self.reference.asked.iter().map(|asked| asked.device != device).collect();
        let Some(ended) = self.reference.backend_gone(device) else { return };
        let mut kept = kept.into_iter();
        self.tokens.retain(|_| kept.next().unwrap());
        for request in ended {
            self.expect_reply(request, Err(CallError::BACKEND));
        }
        let reset = Effect::CloseDevice { token: None, device: number };
        assert_eq!(self.device_effects(), if taken { vec![reset] } else { vec![] });
    }

    /// The machine is asked to drain exactly the devices that the reference says.
    pub(super) fn expect_drains(&mut self) {
        while let Some(due) = self.reference.due_drain() {
            let effects = &mut self.machine.effects;
            let found = effects.iter().position(
                |effect| matches!(effect, Effect::CloseDevice { token: Some(_), device } if *device == due as u32 + 1),
            );
            let Effect::CloseDevice { token: Some(token), .. } = effects.remove(found.expect("a drain")) else {
                unreachable!()
            };
            self.tokens.push(token);
        }
    }

    pub(super) fn expect_reply(&mut self, id: u16, expected: Result<(), CallError>) -> Reply {
        self.collect_replies();
        let reply = self.replies.remove(&id).expect("an answer");
        assert_eq!(status(&reply), expected, "{reply:?}");
        reply
    }

    pub(super) fn collect_replies(&mut self) {
        for (id, reply) in self.guest.replies() {
            assert!(self.replies.insert(id, reply).is_none(), "answered twice");
            self.learn(reply.device, reply.epoch);
        }
    }

    pub(super) fn take_messages(&mut self) {
        loop {
            let messages = self.guest.messages();
            assert_eq!(self.machine.call(Call::BUS_KICK, [0; 5]), 0);
            if messages.is_empty() {
                break;
            }
            for message in messages {
                self.hear(&message);
            }
        }
    }

    pub(super) fn hear(&mut self, message: &Message) {
        let state = match message.kind {
            Kind::OFFER => DeviceState::OFFERED,
            Kind::STATE_CHANGED => StateChanged::read_from_prefix(&message.body).unwrap().0.state,
            Kind::RESCIND => DeviceState::ABSENT,
            other => panic!("{other:?} is not expected"),
        };
        self.learn(message.device, message.epoch);
        let told = &mut self.told[message.device as usize - 1];
        if message.epoch == told.epoch {
            told.state = state;
        }
    }

    pub(super) fn learn(&mut self, device: u32, epoch: u64) {
        self.highest_epoch = self.highest_epoch.max(epoch);
        if let Some(told) = (device as usize).checked_sub(1).and_then(|index| self.told.get_mut(index)) {
            told.epoch = told.epoch.max(epoch);
        }
    }

    pub(super) fn new_epoch(&mut self, epoch: u64) {
        assert!(epoch > self.highest_epoch, "epoch {epoch} after {}", self.highest_epoch);
        self.highest_epoch = epoch;
    }

    /// Effects that are about devices.
    pub(super) fn device_effects(&mut self) -> Vec<Effect> {
        let events =
            |effect: &Effect| matches!(effect, Effect::Raise { .. } | Effect::MovePending { .. } | Effect::Log(_));
        self.machine.take_effects().into_iter().filter(|effect| !events(effect)).collect()
    }
}
