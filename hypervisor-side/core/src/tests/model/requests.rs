//! Steps in which the guest asks for something by the bus.

use super::reference::{Reference, Verdict};
use super::{DEVICES, Told, Walk};
use crate::Effect;
use crate::fake::{message, with_body};
use crate::tests::{ACCEPT, list};
use pvkit_abi::bus::{Accept, CONTROL_BYTES, Control, DeviceState, Kind, Message, NameGrant, OpenQueue, ShareGrant};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::grant::GrantRef;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;

impl Walk<'_> {
    pub(super) fn set_up(&mut self, port: Option<u32>) {
        self.machine.take_effects();
        let result = self.guest.bus_setup(&mut self.machine, port.unwrap_or(NO_PORT));
        if port.is_some_and(|port| !self.reference.ports.contains_key(&port)) {
            assert_eq!(result, Err(CallError::NOT_FOUND));
            return;
        }
        self.new_epoch(result.unwrap());
        let reset = self.reference.set_up(port).into_iter();
        let reset: Vec<Effect> =
            reset.map(|device| Effect::CloseDevice { token: None, device: device as u32 + 1 }).collect();
        assert_eq!(self.device_effects(), reset);
        self.tokens.clear();
        self.told = [Told { state: DeviceState::ABSENT, epoch: 0 }; DEVICES];
        self.page_list = self.guest.page();
        self.take_messages();
    }

    pub(super) fn accept(&mut self, device: usize, queues: u16, stale: bool) {
        let request = self.to(Kind::ACCEPT, device, stale);
        let accept = Accept { queues, ..ACCEPT };
        let request = with_body(Kind::ACCEPT, request.device, request.epoch, &accept);
        let (before, epoch) = (self.reference.devices[device].state, self.highest_epoch);
        self.ask(device, stale, &request, |reference, _| reference.accept(device, queues));
        let accepted = self.reference.devices[device].state == DeviceState::ACCEPTED;
        assert!(before == DeviceState::ACCEPTED || !accepted || self.told[device].epoch > epoch, "a new epoch");
    }

    pub(super) fn open(&mut self, device: usize, queue: u16, wide: bool, port: Option<u32>) {
        let pages = [self.guest.page(), self.guest.page()];
        let completion_bytes = if wide { 32 } else { 8 };
        let page_list = list(&mut self.guest, &pages);
        let event_port = port.unwrap_or(NO_PORT);
        let open = OpenQueue { queue, completion_bytes, depth: 64, event_port, reserved: 0, page_list };
        let request = with_body(Kind::OPEN_QUEUE, device as u32 + 1, self.told[device].epoch, &open);
        let effects = self.ask(device, false, &request, |reference, id| reference.open(device, queue, wide, port, id));
        if let [Effect::OpenQueue { token, device: of, queue: opened, completion_bytes: bytes, epoch, .. }] =
            effects[..]
        {
            let asked = (request.device, queue, completion_bytes, request.epoch);
            assert_eq!((of, opened, bytes, epoch), asked);
            self.tokens.push(token);
        } else {
            assert_eq!(effects, []);
        }
    }

    pub(super) fn share(&mut self, device: usize) {
        let share = ShareGrant { base: self.page_list, length: 4096, access: 3, reserved: 0 };
        let request = with_body(Kind::GRANT_SHARE, device as u32 + 1, self.told[device].epoch, &share);
        let Some(id) = self.post(&request) else { return };
        let expected = self.presence(device, false).and_then(|()| self.reference.share(device));
        match expected {
            Err(error) => drop(self.expect_reply(id, Err(error))),
            Ok(()) => {
                let effects = self.device_effects();
                let [Effect::ShareGrant { token, device: of, grant, .. }] = effects[..] else {
                    panic!("one share, not {effects:?}")
                };
                assert_eq!(of, request.device);
                self.tokens.push(token);
                self.reference.shared(device, id, grant.0);
            }
        }
    }

    pub(super) fn control(&mut self, device: usize, size: u16, spoilt: bool) {
        let mut control = Control { operation: size, size, reserved: 0, data: [0; CONTROL_BYTES] };
        let meant = usize::from(size).min(CONTROL_BYTES);
        control.data[..meant].fill(5);
        match control.data.get_mut(usize::from(size)) {
            Some(behind) if spoilt => *behind = 1,
            _ => control.reserved = spoilt.into(),
        }
        let request = with_body(Kind::CONTROL, device as u32 + 1, self.told[device].epoch, &control);
        let is_well_formed = !spoilt && usize::from(size) <= CONTROL_BYTES;
        let effects = self.ask(device, false, &request, |reference, id| reference.control(device, is_well_formed, id));
        if let [Effect::Control { token, device: of, operation, data }] = &effects[..] {
            assert_eq!((*of, *operation, data.as_slice()), (request.device, size, &[5; CONTROL_BYTES][..meant]));
            self.tokens.push(*token);
        } else {
            assert_eq!(effects, []);
        }
    }

    /// A request that names one of the device's grants, or none.
    pub(super) fn named(&self, kind: Kind, device: usize, nth: usize) -> (u32, Message) {
        let grant = self.reference.devices[device].named.iter().rev().nth(nth).copied().unwrap_or(7);
        let name = NameGrant { grant: GrantRef(grant), reserved: 0 };
        (grant, with_body(kind, device as u32 + 1, self.told[device].epoch, &name))
    }

    pub(super) fn to(&self, kind: Kind, device: usize, stale: bool) -> Message {
        message(kind, device as u32 + 1, self.told[device].epoch + u64::from(stale))
    }

    /// Posts a request and compares what comes of it; the device effects, tokens of `CLOSE` and `REVOKE` excepted.
    pub(super) fn ask(
        &mut self,
        device: usize,
        stale: bool,
        request: &Message,
        judge: impl FnOnce(&mut Reference, u16) -> Verdict,
    ) -> Vec<Effect> {
        let Some(id) = self.post(request) else { return Vec::new() };
        let verdict = match self.presence(device, stale) {
            Ok(()) => judge(&mut self.reference, id),
            Err(error) => error.into(),
        };
        match verdict {
            Verdict::Now(expected) => drop(self.expect_reply(id, expected)),
            Verdict::Later => {
                self.collect_replies();
                assert!(!self.replies.contains_key(&id), "{request:?} is answered later");
            }
        }
        if request.kind == Kind::CLOSE {
            self.expect_drains();
        }
        let mut effects = self.device_effects();
        if let [Effect::RevokeGrant { token, .. }] = effects[..] {
            assert_eq!((request.kind, verdict), (Kind::GRANT_REVOKE, Verdict::Later));
            self.tokens.push(token);
            effects.clear();
        }
        assert_eq!(self.tokens.len() + effects.len(), self.reference.asked.len(), "{request:?}: {effects:?}");
        effects
    }

    pub(super) fn presence(&self, device: usize, stale: bool) -> Result<(), CallError> {
        match self.reference.devices[device].state {
            DeviceState::ABSENT => Err(CallError::NOT_FOUND),
            _ if stale => Err(CallError::STALE),
            _ => Ok(()),
        }
    }

    /// Publishes a request with the newest epoch and kicks; `None` if the bus is full of unanswered ones.
    pub(super) fn post(&mut self, request: &Message) -> Option<u16> {
        let Some(id) = self.guest.post(request) else {
            assert_eq!(self.guest.unanswered(), 16);
            return None;
        };
        assert_eq!(self.machine.call(Call::BUS_KICK, [0; 5]), 0);
        Some(id)
    }
}
