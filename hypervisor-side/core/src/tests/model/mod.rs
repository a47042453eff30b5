//! Random walks of a guest, a machine and an operator, each step compared with a reference that knows nothing of
//! memory.
//!
//! What is held to: every request gets the status that the reference says, exactly once; effects come when and in the
//! order it says; device states are its states; epochs only grow; no grant is named twice; and when all messages are
//! taken the guest knows the state of every device that it does not hold.

mod answers;
mod ports;
mod reference;
mod requests;
mod steps;

use super::{ALL, domain_with_net};
use crate::Token;
use crate::fake::{FakeGuest, FakeMachine, FakeMemory, message};
use proptest::collection::vec;
use proptest::prelude::*;
use pvkit_abi::bus::{DeviceState, Kind, Reply};
use pvkit_abi::status::CallError;
use reference::{Reference, Verdict};
use std::collections::BTreeMap;
use steps::{Step, step};

const DEVICES: usize = 3;
/// The network device among them.
const NET: usize = 2;

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
    replies: BTreeMap<u16, Reply>,
    highest_epoch: u64,
    page_list: u64,
}

impl<'m> Walk<'m> {
    fn new(memory: &'m FakeMemory) -> Self {
        let mut machine = FakeMachine::new(domain_with_net(), memory);
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
            Step::Open { device, queue, wide, port } => self.open(device, queue, wide, port),
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
            Step::Control { device, size, spoilt } => self.control(device, size, spoilt),
            Step::Rescan => {
                let request = message(Kind::RESCAN, 0, self.guest.epoch);
                if let Some(id) = self.post(&request) {
                    self.expect_reply(id, Ok(()));
                }
            }
            Step::Unknown(kind) if (0x41..=0x48).contains(&kind) => {}
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
