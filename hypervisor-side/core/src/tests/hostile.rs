//! A guest that writes anything anywhere and calls anything: no panic, bounded effects, and an honest guest is served
//! after the next `BUS_SETUP`.
//!
//! `PVKIT_HOSTILE_STEPS` says how many calls; the default is quick.

use super::{ACCEPT, ALL, domain_with_net, offers, status};
use crate::fake::{FakeGuest, FakeMachine, FakeMemory, message, with_body};
use crate::{Effect, Outcome};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use pvkit_abi::bus::{Accept, CONTROL_BYTES, Control, Kind, Message, NameGrant, OpenQueue, ShareGrant};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::grant::GrantRef;
use pvkit_abi::hypercall::{Call, MAX_BLOCK_NS};
use pvkit_abi::ring::{REQUEST_BYTES, area_pages};
use std::collections::BTreeSet;

const PAGES: u64 = 24;
/// Block, console and network.
const DEVICES: u64 = 3;
/// Each of 16 requests gives at most one effect of its own; then there are a raise, one log line, and a close for
/// each device.
const MOST_EFFECTS: usize = 16 + 1 + 1 + DEVICES as usize;

struct Hostile<'m> {
    memory: &'m FakeMemory,
    machine: FakeMachine<'m>,
    guest: FakeGuest<'m>,
    /// Whether the guest's end of the bus can be used.
    usable: bool,
    /// Kinds of effects that the walk reached.
    seen: BTreeSet<&'static str>,
    random: TestRng,
}

impl Hostile<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    /// Mostly small, page-like or in-memory numbers, sometimes anything.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(8),
            1 => self.memory.page(self.below(PAGES + 2)),
            2 => self.memory.page(self.below(PAGES)) + self.below(4096),
            3 => u64::from(self.random.next_u32()),
            4 => u64::MAX - self.below(5000),
            _ => self.random.next_u64(),
        }
    }

    fn call(&mut self) -> Call {
        let known = [
            Call::NEGOTIATE,
            Call::EVENT_ALLOC,
            Call::EVENT_BIND,
            Call::EVENT_CLOSE,
            Call::EVENT_MASK,
            Call::EVENT_SIGNAL,
            Call::EVENT_STATUS,
            Call::EVENT_SET_UPCALL,
            Call::EVENT_UPCALL_RETURN,
            Call::BUS_SETUP,
            Call::BUS_KICK,
            Call::BUS_KICK,
            Call::BUS_KICK,
            Call::SCHED_YIELD,
            Call::SCHED_BLOCK,
            Call::SCHED_SHUTDOWN,
            Call::SCHED_CRASH,
            Call::SCHED_EXCEPTION,
            Call::CONSOLE_WRITE,
            Call::TIME_WALL_CLOCK,
            Call::VCPU_START,
        ];
        match self.below(20) {
            0 => Call(self.random.next_u32()),
            _ => known[self.below(known.len() as u64) as usize],
        }
    }

    /// Writes something to memory: noise anywhere, or a word where the bus's rings are.
    fn scribble(&mut self) {
        let (at, length) = if self.below(2) == 0 {
            (self.memory.page(self.below(PAGES)) + self.below(4096 - 64), 64)
        } else {
            (self.guest.bus_pages[self.below(4) as usize] + self.below(80) * 8, 8)
        };
        let mut noise = [0; 64];
        self.random.fill_bytes(&mut noise);
        self.store(at, &noise[..length]);
    }

    /// An honest `BUS_SETUP`.
    fn set_up(&mut self) {
        self.guest.reset();
        let port = if self.below(2) == 0 { NO_PORT } else { self.below(4) as u32 };
        self.usable = self.guest.bus_setup(&mut self.machine, port).is_ok();
    }

    /// Publishes a few requests of a guest that knows its bus well, and kicks.
    fn requests(&mut self) {
        for _ in 0..=self.below(4) {
            let request = self.plausible_request();
            if self.guest.post(&request).is_none() {
                self.usable = false;
                return;
            }
        }
        let _ = self.hypercall(Call::BUS_KICK, [0; 5]);
        if self.below(4) != 0 {
            self.usable &= self.guest.try_replies().is_ok();
        }
        if self.below(4) != 0 {
            self.usable &= self.guest.try_messages().is_ok();
        }
    }

    fn plausible_request(&mut self) -> Message {
        let kinds = [
            Kind::ACCEPT,
            Kind::ACCEPT,
            Kind::OPEN_QUEUE,
            Kind::OPEN_QUEUE,
            Kind::CLOSE,
            Kind::GRANT_SHARE,
            Kind::GRANT_SHARE,
            Kind::GRANT_REVOKE,
            Kind::GRANT_QUERY,
            Kind::RESCAN,
            Kind::CONTROL,
            Kind(self.below(256) as u8),
        ];
        let kind = kinds[self.below(kinds.len() as u64) as usize];
        let device = if kind == Kind::RESCAN { 0 } else { 1 + self.below(DEVICES) as u32 };
        let bus = &self.machine.domain.bus;
        let known = bus.devices.get((device as usize).wrapping_sub(1)).map_or(bus.epoch, |device| device.epoch);
        let epoch = if self.below(16) == 0 { self.number() } else { known };
        match kind {
            Kind::ACCEPT => {
                let accept = Accept { queues: 1 + self.below(3) as u16, features: 2 | self.below(2), ..ACCEPT };
                with_body(kind, device, epoch, &accept)
            }
            Kind::OPEN_QUEUE => with_body(kind, device, epoch, &self.plausible_queue()),
            Kind::GRANT_SHARE => {
                let (base, length) = (self.memory.page(self.below(PAGES)), self.below(4) * 4096);
                with_body(kind, device, epoch, &ShareGrant { base, length, access: self.below(5) as u32, reserved: 0 })
            }
            Kind::GRANT_REVOKE | Kind::GRANT_QUERY => {
                let guess = GrantRef::new(self.below(3) as u16, self.below(8) as u16);
                let held = self.machine.domain.bus.device_mut(device).and_then(|device| device.grants.iter().next());
                let grant = held.map(|(grant, _)| grant).filter(|_| self.below(2) == 0).unwrap_or(guess);
                with_body(kind, device, epoch, &NameGrant { grant, reserved: 0 })
            }
            Kind::CONTROL => {
                let size = self.below(2 * CONTROL_BYTES as u64) as u16;
                let mut data = [0; CONTROL_BYTES];
                let spoilt = self.below(8) == 0;
                let meant = if spoilt { CONTROL_BYTES } else { CONTROL_BYTES.min(size.into()) };
                self.random.fill_bytes(&mut data[..meant]);
                let reserved = u32::from(self.below(8) == 0);
                with_body(kind, device, epoch, &Control { operation: size, size, reserved, data })
            }
            _ => message(kind, device, epoch),
        }
    }

    fn plausible_queue(&mut self) -> OpenQueue {
        let page_list = self.memory.page(PAGES - 1 - self.below(4));
        let (first, in_a_row) = (self.below(PAGES), self.below(2) == 0);
        for slot in 0..self.below(8) {
            let number = if in_a_row { first + slot } else { 8 + self.below(PAGES) };
            self.store(page_list + slot * 8, &self.memory.page(number).to_le_bytes());
        }
        let queue = self.below(3) as u16;
        OpenQueue {
            queue,
            completion_bytes: [8, 32, if queue == 0 { 32 } else { 8 }, 16][self.below(4) as usize],
            depth: [2, 64, 128, 128, 3, 256][self.below(6) as usize],
            event_port: if self.below(2) == 0 { NO_PORT } else { self.below(4) as u32 },
            reserved: 0,
            page_list,
        }
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        if let Some(shared) = self.memory.name(at, bytes.len()) {
            shared.write(0, bytes).unwrap();
        }
    }

    fn hypercall(&mut self, call: Call, args: [u64; 5]) -> Outcome {
        let (vcpu, cpl) = (self.below(5) as u32, if self.below(30) == 0 { 3 } else { 0 });
        self.machine.answers = self.below(4) != 0;
        let asked = self.machine.effects.len();
        let outcome = self.machine.outcome(vcpu, cpl, call, args);
        let effects = &self.machine.effects[asked..];
        // An answer may give a raise and a close besides.
        assert!(effects.len() <= 3 * MOST_EFFECTS, "{call:?} gave {} effects", effects.len());
        assert!(effects.iter().all(is_bounded), "{effects:?}");
        match &outcome {
            Outcome::Block { timeout_ns } => assert!(*timeout_ns <= MAX_BLOCK_NS),
            Outcome::Crash { message } => assert!(message.len() <= 1024),
            _ => {}
        }
        outcome
    }

    fn step(&mut self) {
        self.memory.fail([0, 0, 0, 0, 0, 0, 3, 20][self.below(8) as usize], self.random.next_u64());
        match self.below(16) {
            0..8 if self.usable => self.requests(),
            8 if self.usable => self.scribble(),
            9 if !self.usable || self.below(4) == 0 => self.set_up(),
            10 => {
                self.scribble();
                let _ = self.hypercall(Call::BUS_KICK, [0; 5]);
            }
            _ => {
                let call = self.call();
                let args = std::array::from_fn(|_| self.number());
                let _ = self.hypercall(call, args);
            }
        }
        match self.below(24) {
            0 | 4 => self.machine.answer_all(),
            1 => {
                let device = self.below(4) as u32;
                self.machine.host(|domain, memory, effects| domain.backend_gone(device, memory, effects));
            }
            2 => {
                let device = self.below(4) as u32;
                self.machine.host(|domain, memory, effects| domain.backend_back(device, memory, effects));
            }
            3 => {
                let port = self.number() as u32;
                self.machine.host(|domain, _, effects| domain.raise(port, effects));
            }
            _ => {}
        }
        let effects = self.machine.take_effects();
        self.seen.extend(effects.iter().filter_map(name_of));
        self.machine.waiting.truncate(64);
    }
}

const REACHED: [&str; 7] = ["close", "control", "open", "open wide", "reset", "revoke", "share"];

fn name_of(effect: &Effect) -> Option<&'static str> {
    match effect {
        Effect::OpenQueue { completion_bytes: 32, depth: 128, .. } => Some("open wide"),
        Effect::OpenQueue { .. } => Some("open"),
        Effect::Control { .. } => Some("control"),
        Effect::ShareGrant { .. } => Some("share"),
        Effect::RevokeGrant { .. } => Some("revoke"),
        Effect::CloseDevice { token: Some(_), .. } => Some("close"),
        Effect::CloseDevice { token: None, .. } => Some("reset"),
        _ => None,
    }
}

fn is_bounded(effect: &Effect) -> bool {
    match effect {
        Effect::ConsoleWrite(text) => text.len() <= 1024,
        Effect::OpenQueue { request_pages, completion_pages, depth, completion_bytes, .. } => {
            let completions = area_pages(*depth, usize::from(*completion_bytes));
            *depth <= 128
                && [8, 32].contains(completion_bytes)
                && (request_pages.len(), completion_pages.len()) == (area_pages(*depth, REQUEST_BYTES), completions)
        }
        Effect::Control { data, .. } => data.len() <= CONTROL_BYTES,
        Effect::Log(line) => line.len() <= 300,
        _ => true,
    }
}

fn steps() -> u64 {
    std::env::var("PVKIT_HOSTILE_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(20_000)
}

#[test]
fn guest_that_does_anything_costs_errors_and_nothing_more() {
    let seed = std::env::var("PVKIT_HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x7076_6b69);
    let memory = FakeMemory::new(PAGES as usize);
    let mut random = [0; 32];
    random[..8].copy_from_slice(&u64::to_le_bytes(seed));
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &random);
    let mut machine = FakeMachine::new(domain_with_net(), &memory);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    let mut hostile = Hostile { memory: &memory, machine, guest, usable: false, seen: BTreeSet::new(), random };
    for _ in 0..steps() {
        hostile.step();
    }
    let counters = hostile.machine.domain.counters().clone();
    assert!(counters.latches > 0 && counters.faults > 0, "the walk breaks rings and names bad memory: {counters:?}");
    assert!(hostile.seen.iter().eq(&REACHED), "the walk gets past the doors: {:?}", hostile.seen);

    // The same domain serves an honest guest.
    memory.fail(0, 0);
    for device in 1..=DEVICES as u32 {
        hostile.machine.host(|domain, memory, effects| domain.backend_back(device, memory, effects));
    }
    hostile.machine.answers = true;
    let Hostile { guest, machine, .. } = &mut hostile;
    guest.reset();
    guest.bus_setup(machine, NO_PORT).unwrap();
    assert_eq!(offers(guest).len(), DEVICES as usize);
    let rescan = message(Kind::RESCAN, 0, guest.epoch);
    assert_eq!(status(&guest.request(machine, &rescan)), Ok(()));
}
