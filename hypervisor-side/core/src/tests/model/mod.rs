//! Random walks of a guest, a machine and an operator, each step compared with a reference that knows nothing of
//! memory.
//!
//! What is held to: every request gets the status that the reference says, exactly once; effects come when and in the
//! order it says; device states are its states; epochs only grow; no grant is named twice; and when all messages are
//! taken the guest knows the state of every device that it does not hold.

mod reference;

use super::{ACCEPT, ALL, domain, list, status};
use crate::fake::{FakeGuest, FakeMachine, FakeMemory, message, with_body};
use crate::{Effect, Finished, Token};
use proptest::collection::vec;
use proptest::prelude::*;
use pvkit_abi::bus::{
    Accept, DeviceState, DoorbellKind, Kind, Message, NameGrant, OpenQueue, ShareGrant, StateChanged,
};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::grant::GrantRef;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use reference::{Port, Reference, Verdict, Work};
use std::collections::BTreeMap;
use zerocopy::FromBytes;

const DEVICES: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Bind(u32, u32),
    ClosePort(u32),
    Mask(u32, bool),
    Signal(u32),
    SetUp(Option<u32>),
    Accept { device: usize, queues: u16, stale: bool },
    Open { device: usize, queue: u16, port: Option<u32> },
    Close { device: usize, stale: bool },
    Share { device: usize },
    Revoke { device: usize, nth: usize },
    Query { device: usize, nth: usize },
    Rescan,
    Unknown(u8),
    Answer { nth: usize, good: bool },
    Gone(usize),
    Back(usize),
    Rescind(usize),
    TakeMessages,
}

impl Step {
    const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Accept { .. }
                | Self::Open { .. }
                | Self::Close { .. }
                | Self::Share { .. }
                | Self::Revoke { .. }
                | Self::Query { .. }
                | Self::Rescan
        )
    }
}

fn step() -> impl Strategy<Value = Step> {
    let device = || 0..DEVICES;
    let port = || 0_u32..4;
    let maybe_port = || prop_oneof![Just(None), port().prop_map(Some)];
    prop_oneof![
        3 => (0_u32..5).prop_map(Step::Allocate),
        1 => (port(), 0_u32..5).prop_map(|(port, vcpu)| Step::Bind(port, vcpu)),
        2 => port().prop_map(Step::ClosePort),
        1 => (port(), any::<bool>()).prop_map(|(port, masked)| Step::Mask(port, masked)),
        1 => port().prop_map(Step::Signal),
        1 => maybe_port().prop_map(Step::SetUp),
        8 => (device(), 1_u16..3, prop::bool::weighted(0.1))
            .prop_map(|(device, queues, stale)| Step::Accept { device, queues, stale }),
        8 => (device(), 0_u16..3, maybe_port()).prop_map(|(device, queue, port)| Step::Open { device, queue, port }),
        3 => (device(), prop::bool::weighted(0.1)).prop_map(|(device, stale)| Step::Close { device, stale }),
        6 => device().prop_map(|device| Step::Share { device }),
        4 => (device(), 0_usize..5).prop_map(|(device, nth)| Step::Revoke { device, nth }),
        3 => (device(), 0_usize..5).prop_map(|(device, nth)| Step::Query { device, nth }),
        1 => Just(Step::Rescan),
        1 => any::<u8>().prop_map(Step::Unknown),
        16 => (0_usize..8, prop::bool::weighted(0.85)).prop_map(|(nth, good)| Step::Answer { nth, good }),
        2 => device().prop_map(Step::Gone),
        3 => device().prop_map(Step::Back),
        1 => device().prop_map(Step::Rescind),
        4 => Just(Step::TakeMessages),
    ]
}

/// What the guest has been told of a device.
#[derive(Clone, Copy, Debug)]
struct Told {
    state: DeviceState,
    epoch: u64,
}

struct Walk<'m> {
    machine: FakeMachine<'m>,
    guest: FakeGuest<'m>,
    reference: Reference,
    /// Tokens beside `reference.asked`.
    tokens: Vec<Token>,
    told: [Told; DEVICES],
    /// Replies that came and nobody expected yet.
    replies: BTreeMap<u16, pvkit_abi::bus::Reply>,
    highest_epoch: u64,
    page_list: u64,
}

impl<'m> Walk<'m> {
    fn new(memory: &'m FakeMemory) -> Self {
        let mut machine = FakeMachine::new(domain(), memory);
        machine.answers = false;
        let mut guest = FakeGuest::new(memory);
        assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
        let told = [Told { state: DeviceState::ABSENT, epoch: 0 }; DEVICES];
        let reference = Reference::new(DEVICES);
        let (tokens, replies) = (Vec::new(), BTreeMap::new());
        let mut walk = Self { machine, guest, reference, tokens, told, replies, highest_epoch: 0, page_list: 0 };
        walk.set_up(None);
        walk
    }

    fn step(&mut self, step: Step) {
        if step.is_request() {
            // So that the guest knows the present epoch.
            self.take_messages();
        }
        match step {
            Step::Allocate(vcpu) => self.allocate(vcpu),
            Step::Bind(port, vcpu) => self.bind(port, vcpu),
            Step::ClosePort(port) => self.close_port(port),
            Step::Mask(port, masked) => self.mask(port, masked),
            Step::Signal(port) => self.signal(port),
            Step::SetUp(port) => self.set_up(port),
            Step::Accept { device, queues, stale } => self.accept(device, queues, stale),
            Step::Open { device, queue, port } => self.open(device, queue, port),
            Step::Close { device, stale } => {
                let request = self.to(Kind::CLOSE, device, stale);
                self.ask(device, stale, &request, |reference, id| reference.close(device, id));
            }
            Step::Share { device } => self.share(device),
            Step::Revoke { device, nth } => {
                let (grant, request) = self.named(Kind::GRANT_REVOKE, device, nth);
                self.ask(device, false, &request, |reference, id| reference.revoke(device, grant, id));
            }
            Step::Query { device, nth } => {
                let (grant, request) = self.named(Kind::GRANT_QUERY, device, nth);
                self.ask(device, false, &request, |reference, _| Verdict::Now(reference.query(device, grant)));
            }
            Step::Rescan => {
                let request = message(Kind::RESCAN, 0, self.guest.epoch);
                if let Some(id) = self.post(&request) {
                    self.expect_reply(id, Ok(()));
                }
            }
            Step::Unknown(kind) if (0x41..=0x47).contains(&kind) => {}
            Step::Unknown(kind) => {
                let request = self.to(Kind(kind), 0, false);
                if let Some(id) = self.post(&request) {
                    self.expect_reply(id, Err(CallError::UNKNOWN));
                }
            }
            Step::Answer { nth, good } => self.answer(nth, good),
            Step::Gone(device) => self.gone(device),
            Step::Back(device) => {
                self.machine.host(|domain, memory, effects| domain.backend_back(device as u32 + 1, memory, effects));
                self.reference.backend_back(device);
            }
            Step::Rescind(device) => {
                self.machine.host(|domain, memory, effects| domain.rescind(device as u32 + 1, memory, effects));
                self.reference.rescind(device);
            }
            Step::TakeMessages => self.take_messages(),
        }
        self.expect_drains();
        self.collect_replies();
        assert!(self.replies.is_empty(), "nobody waits for {:?}", self.replies);
        assert_eq!(self.device_effects(), []);
        self.compare();
    }

    fn allocate(&mut self, vcpu: u32) {
        let expected = match (0..).find(|port| !self.reference.ports.contains_key(port)) {
            Some(free) if vcpu < 4 => {
                self.reference.ports.insert(free, Port { vcpu, ..Port::default() });
                i64::from(free)
            }
            _ => CallError::NOT_FOUND.to_result(),
        };
        assert_eq!(self.machine.call(Call::EVENT_ALLOC, [vcpu.into(), 0, 0, 0, 0]), expected);
    }

    fn bind(&mut self, port: u32, vcpu: u32) {
        let result = self.machine.call(Call::EVENT_BIND, [port.into(), vcpu.into(), 0, 0, 0]);
        match self.reference.ports.get_mut(&port) {
            Some(bound) if vcpu < 4 => {
                assert_eq!(result, 0);
                bound.vcpu = vcpu;
            }
            _ => assert_eq!(result, CallError::NOT_FOUND.to_result()),
        }
    }

    fn close_port(&mut self, port: u32) {
        let result = self.machine.call(Call::EVENT_CLOSE, [port.into(), 0, 0, 0, 0]);
        if !self.reference.ports.contains_key(&port) {
            assert_eq!(result, CallError::NOT_FOUND.to_result());
        } else if self.reference.port_in_use(port) {
            assert_eq!(result, CallError::BUSY.to_result());
        } else {
            assert_eq!(result, 0);
            self.reference.ports.remove(&port);
        }
    }

    fn mask(&mut self, port: u32, masked: bool) {
        self.machine.take_effects();
        let result = self.machine.call(Call::EVENT_MASK, [port.into(), masked.into(), 0, 0, 0]);
        let Some(it) = self.reference.ports.get_mut(&port) else {
            assert_eq!(result, CallError::NOT_FOUND.to_result());
            return;
        };
        it.masked = masked;
        let due = !masked && core::mem::take(&mut it.latched);
        let raised = Effect::Raise { vcpu: it.vcpu, port };
        assert_eq!(self.machine.take_effects(), if due { vec![raised] } else { vec![] });
    }

    fn signal(&mut self, port: u32) {
        self.machine.take_effects();
        let result = self.machine.call(Call::EVENT_SIGNAL, [port.into(), 0, 0, 0, 0]);
        let Some(it) = self.reference.ports.get_mut(&port) else {
            assert_eq!(result, CallError::NOT_FOUND.to_result());
            return;
        };
        it.latched |= it.masked;
        let raised = Effect::Raise { vcpu: it.vcpu, port };
        assert_eq!(self.machine.take_effects(), if it.masked { vec![] } else { vec![raised] });
    }

    fn set_up(&mut self, port: Option<u32>) {
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

    fn accept(&mut self, device: usize, queues: u16, stale: bool) {
        let request = self.to(Kind::ACCEPT, device, stale);
        let accept = Accept { queues, ..ACCEPT };
        let request = with_body(Kind::ACCEPT, request.device, request.epoch, &accept);
        let (before, epoch) = (self.reference.devices[device].state, self.highest_epoch);
        self.ask(device, stale, &request, |reference, _| reference.accept(device, queues));
        let accepted = self.reference.devices[device].state == DeviceState::ACCEPTED;
        assert!(before == DeviceState::ACCEPTED || !accepted || self.told[device].epoch > epoch, "a new epoch");
    }

    fn open(&mut self, device: usize, queue: u16, port: Option<u32>) {
        let pages = [self.guest.page(), self.guest.page()];
        let page_list = list(&mut self.guest, &pages);
        let event_port = port.unwrap_or(NO_PORT);
        let open = OpenQueue { queue, completion_bytes: 8, depth: 64, event_port, reserved: 0, page_list };
        let request = with_body(Kind::OPEN_QUEUE, device as u32 + 1, self.told[device].epoch, &open);
        let effects = self.ask(device, false, &request, |reference, id| reference.open(device, queue, port, id));
        if let [Effect::OpenQueue { token, device: of, queue: opened, epoch, .. }] = effects[..] {
            assert_eq!((of, opened, epoch), (request.device, queue, request.epoch));
            self.tokens.push(token);
        } else {
            assert_eq!(effects, []);
        }
    }

    fn share(&mut self, device: usize) {
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

    /// A request that names one of the device's grants, or none.
    fn named(&self, kind: Kind, device: usize, nth: usize) -> (u32, Message) {
        let grant = self.reference.devices[device].named.iter().rev().nth(nth).copied().unwrap_or(7);
        let name = NameGrant { grant: GrantRef(grant), reserved: 0 };
        (grant, with_body(kind, device as u32 + 1, self.told[device].epoch, &name))
    }

    fn to(&self, kind: Kind, device: usize, stale: bool) -> Message {
        message(kind, device as u32 + 1, self.told[device].epoch + u64::from(stale))
    }

    /// Posts a request and compares what comes of it; the device effects, tokens of `CLOSE` and `REVOKE` excepted.
    fn ask(
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

    fn presence(&self, device: usize, stale: bool) -> Result<(), CallError> {
        match self.reference.devices[device].state {
            DeviceState::ABSENT => Err(CallError::NOT_FOUND),
            _ if stale => Err(CallError::STALE),
            _ => Ok(()),
        }
    }

    /// Publishes a request with the newest epoch and kicks; `None` if the bus is full of unanswered ones.
    fn post(&mut self, request: &Message) -> Option<u16> {
        let Some(id) = self.guest.post(request) else {
            assert_eq!(self.guest.unanswered(), 16);
            return None;
        };
        assert_eq!(self.machine.call(Call::BUS_KICK, [0; 5]), 0);
        Some(id)
    }

    fn answer(&mut self, nth: usize, good: bool) {
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

    fn gone(&mut self, device: usize) {
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
    fn expect_drains(&mut self) {
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

    fn expect_reply(&mut self, id: u16, expected: Result<(), CallError>) -> pvkit_abi::bus::Reply {
        self.collect_replies();
        let reply = self.replies.remove(&id).expect("an answer");
        assert_eq!(status(&reply), expected, "{reply:?}");
        reply
    }

    fn collect_replies(&mut self) {
        for (id, reply) in self.guest.replies() {
            assert!(self.replies.insert(id, reply).is_none(), "answered twice");
            self.learn(reply.device, reply.epoch);
        }
    }

    fn take_messages(&mut self) {
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

    fn hear(&mut self, message: &Message) {
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

    fn learn(&mut self, device: u32, epoch: u64) {
        self.highest_epoch = self.highest_epoch.max(epoch);
        if let Some(told) = (device as usize).checked_sub(1).and_then(|index| self.told.get_mut(index)) {
            told.epoch = told.epoch.max(epoch);
        }
    }

    fn new_epoch(&mut self, epoch: u64) {
        assert!(epoch > self.highest_epoch, "epoch {epoch} after {}", self.highest_epoch);
        self.highest_epoch = epoch;
    }

    /// Effects that are about devices.
    fn device_effects(&mut self) -> Vec<Effect> {
        let events =
            |effect: &Effect| matches!(effect, Effect::Raise { .. } | Effect::MovePending { .. } | Effect::Log(_));
        self.machine.take_effects().into_iter().filter(|effect| !events(effect)).collect()
    }

    fn compare(&self) {
        let states: Vec<DeviceState> = self.machine.domain.bus.devices.iter().map(|device| device.state).collect();
        let expected: Vec<DeviceState> = self.reference.devices.iter().map(|device| device.state).collect();
        assert_eq!(states, expected);
        assert_eq!(self.tokens.len(), self.reference.asked.len());
    }

    /// Nothing is left over when everything is answered and heard.
    fn end(&mut self) {
        while !self.tokens.is_empty() {
            self.step(Step::Answer { nth: 0, good: true });
        }
        self.take_messages();
        assert_eq!(self.guest.unanswered(), 0);
        for (device, told) in self.reference.devices.iter().zip(&self.told) {
            let held = [DeviceState::ACCEPTED, DeviceState::CONNECTED, DeviceState::CLOSING];
            assert!(held.contains(&device.state) || told.state == device.state, "{device:?} {told:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_walk_agrees_with_the_reference(steps in vec(step(), 1..120)) {
        let memory = FakeMemory::new(640);
        let mut walk = Walk::new(&memory);
        for step in steps {
            walk.step(step);
        }
        walk.end();
    }
}
