//! The life of grants: shared and revoked over the bus, with a backend's table behind it that answers when it likes.

use crate::input::Input;
use pvkit_abi::bus::{Accept, Class, Kind, Message, NameGrant, Reply, ShareGrant};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::{CURRENT, Group};
use pvkit_backends::GrantTable;
use pvkit_core::fake::{FakeGuest, FakeMachine, FakeMemory, message, offer, with_body};
use pvkit_core::{DeviceConfig, Domain, DomainConfig, Effect, EventPath, Finished, GuestMemory};
use std::collections::{BTreeMap, VecDeque};

const PAGES: usize = 48;
const PAGE: u64 = 4096;
/// Steps in one input, and lives of the bus, which takes new pages each time.
const MOST: usize = 96;
const LIVES: usize = 4;
const DEVICE: u32 = 1;

/// An extent, and whether it is being taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    base: u64,
    length: u64,
    access: Access,
    revoking: bool,
}

/// What a request that waits was about.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Share(Extent),
    Revoke(GrantRef),
}

struct Life<'m> {
    memory: &'m FakeMemory,
    machine: FakeMachine<'m>,
    guest: FakeGuest<'m>,
    epoch: u64,
    table: GrantTable,
    /// What the backend has not done yet, in order.
    queue: VecDeque<Effect>,
    asked: BTreeMap<u16, Asked>,
    /// As the guest was told.
    granted: BTreeMap<u32, Extent>,
    ended: Vec<GrantRef>,
}

/// What a guest was told that it shares can be reached, exactly so; what it was told that it took back cannot, ever again.
pub fn life(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = FakeMemory::new(PAGES);
    let domain = Domain::new(DomainConfig {
        vcpus: 1,
        groups: Domain::default_groups(),
        devices: vec![DeviceConfig { offer: offer(Class::BLOCK, 0) }],
        cpl3_allowed: false,
        events: EventPath::VcpuArea,
        epochs_after: 0,
    });
    let mut machine = FakeMachine::new(domain, &memory);
    machine.answers = false;
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &[Group::BUS, Group::GRANT, Group::EVENT]).0, 0);
    let mut life = Life {
        memory: &memory,
        machine,
        guest,
        epoch: 0,
        table: GrantTable::new(),
        queue: VecDeque::new(),
        asked: BTreeMap::new(),
        granted: BTreeMap::new(),
        ended: Vec::new(),
    };
    life.begin();
    let mut lives = 1;
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        match input.below(16) {
            0..=4 => life.share(&mut input),
            5..=7 => life.revoke(&mut input),
            8 => life.query(&mut input),
            9..=13 => {
                let fails = input.below(8) == 7;
                life.serve(fails);
            }
            14 => life.close(),
            _ if lives < LIVES => {
                lives += 1;
                life.begin();
            }
            _ => {}
        }
        life.judge();
    }
}

impl Life<'_> {
    /// A new bus: nothing that was granted before is, from now on.
    fn begin(&mut self) {
        self.end_all();
        self.asked.clear();
        self.guest.bus_setup(&mut self.machine, NO_PORT).expect("a bus");
        self.collect();
        // The epoch has ended: the backend is off the memory before the guest goes on.
        while !self.queue.is_empty() {
            self.serve(false);
        }
        self.accept();
    }

    fn close(&mut self) {
        let posted = self.guest.post(&message(Kind::CLOSE, DEVICE, self.epoch));
        self.kick();
        if posted.is_none() {
            return;
        }
        while !self.queue.is_empty() {
            self.serve(false);
        }
        self.end_all();
        self.accept();
    }

    fn accept(&mut self) {
        self.epoch = self.guest.messages().iter().map(|told| told.epoch).max().unwrap_or(self.epoch);
        let accept = Accept { version: CURRENT, queues: 1, reserved: 0, features: 0b0011 };
        let id = self.guest.post(&with_body(Kind::ACCEPT, DEVICE, self.epoch, &accept)).expect("room on the bus");
        let replies = self.kick();
        let (_, reply) = replies.iter().find(|(answered, _)| *answered == id).expect("an answer at once");
        assert_eq!(reply.status, 0, "an honest guest takes its device");
        self.epoch = reply.epoch;
    }

    fn end_all(&mut self) {
        self.ended.extend(self.granted.keys().map(|name| GrantRef(*name)));
        self.granted.clear();
    }

    fn kick(&mut self) -> Vec<(u16, Reply)> {
        assert_eq!(self.machine.call(Call::BUS_KICK, [0; 5]), 0);
        self.collect();
        self.hear()
    }

    fn collect(&mut self) {
        self.queue.extend(self.machine.take_effects().into_iter().filter(|effect| {
            matches!(effect, Effect::ShareGrant { .. } | Effect::RevokeGrant { .. } | Effect::CloseDevice { .. })
        }));
    }

    /// Posts a request that waits for the backend; the error of one that does not.
    fn post(&mut self, message: &Message, asked: Asked) -> Option<Result<(), CallError>> {
        let id = self.guest.post(message)?;
        self.asked.insert(id, asked);
        let replies = self.kick();
        let reply = replies.iter().find(|(answered, _)| *answered == id);
        Some(reply.map_or(Ok(()), |(_, reply)| CallError::from_result(reply.status.into()).map(drop)))
    }

    fn share(&mut self, input: &mut Input<'_>) {
        let mut length = (1 + u64::from(input.below(4))) * PAGE;
        let mut base = self.memory.page(u64::from(input.below(PAGES as u8)));
        let mut access = 1 + u32::from(input.below(3));
        match input.below(16) {
            0 => length = input.number(),
            1 => base = input.number(),
            2 => base = self.memory.page(PAGES as u64).wrapping_sub(u64::from(input.below(4)) * PAGE),
            3 => access = input.u32(),
            _ => {}
        }
        let body = ShareGrant { base, length, access, reserved: 0 };
        let aligned = base.is_multiple_of(PAGE) && length.is_multiple_of(PAGE) && length != 0;
        let end = base.checked_add(length).filter(|end| *end <= self.memory.page(PAGES as u64));
        let inside = end.is_some() && base >= FakeMemory::BASE;
        let rights = Access::from_bits(access).filter(|access| !access.is_empty());
        let extent = Extent { base, length, access: rights.unwrap_or(Access::READ), revoking: false };
        let said = self.post(&with_body(Kind::GRANT_SHARE, DEVICE, self.epoch, &body), Asked::Share(extent));
        let legal = aligned && inside && rights.is_some();
        assert!(said.is_none_or(|said| said.is_ok() == legal), "{body:?}: {said:?}");
    }

    /// One that is granted, or was, or never.
    fn name(&self, input: &mut Input<'_>) -> GrantRef {
        let place = usize::from(input.byte());
        match input.below(8) {
            0 => GrantRef(input.u32()),
            1 if !self.ended.is_empty() => self.ended[place % self.ended.len()],
            _ => GrantRef(self.granted.keys().nth(place % self.granted.len().max(1)).copied().unwrap_or(0)),
        }
    }

    fn revoke(&mut self, input: &mut Input<'_>) {
        let grant = self.name(input);
        let known = self.granted.get(&grant.0).copied();
        let body = NameGrant { grant, reserved: 0 };
        let Some(said) = self.post(&with_body(Kind::GRANT_REVOKE, DEVICE, self.epoch, &body), Asked::Revoke(grant))
        else {
            return;
        };
        match known {
            Some(Extent { revoking: true, .. }) => assert_eq!(said, Err(CallError::BUSY)),
            Some(_) => {
                assert_eq!(said, Ok(()));
                self.granted.entry(grant.0).and_modify(|extent| extent.revoking = true);
            }
            // A name that the guest was not told yet may be guessed.
            None => assert!(said.is_err(), "{grant:?} is not granted"),
        }
    }

    fn query(&mut self, input: &mut Input<'_>) {
        let grant = self.name(input);
        let body = NameGrant { grant, reserved: 0 };
        let Some(id) = self.guest.post(&with_body(Kind::GRANT_QUERY, DEVICE, self.epoch, &body)) else { return };
        let replies = self.kick();
        let (_, reply) = replies.iter().find(|(answered, _)| *answered == id).expect("an answer at once");
        let [base, length, access, ..] = reply.values;
        match self.granted.get(&grant.0) {
            Some(known) if !known.revoking => {
                let told = (reply.status, base, length, access);
                assert_eq!(told, (0, known.base, known.length, u64::from(known.access.bits())));
            }
            _ => assert!(reply.status < 0, "{grant:?} is asked about"),
        }
    }

    /// The backend does what is next, or fails to.
    fn serve(&mut self, fails: bool) {
        let Some(effect) = self.queue.pop_front() else { return };
        let token = match effect {
            Effect::ShareGrant { token, grant, base, length, access, .. } => {
                if !fails {
                    let bytes = self.memory.shared(base, length).expect("the core has judged it");
                    self.table.insert(grant, bytes, access).expect("a free place, as the core says");
                }
                Some(token)
            }
            Effect::RevokeGrant { token, grant, .. } => {
                if !fails {
                    self.table.remove(grant).expect("a grant, as the core says");
                }
                Some(token)
            }
            Effect::CloseDevice { token, .. } => {
                self.table.clear();
                token
            }
            _ => None,
        };
        let is_close = matches!(effect, Effect::CloseDevice { .. });
        if let Some(token) = token {
            let answer = if fails && !is_close { Err(CallError::BACKEND) } else { Ok(Finished::Done) };
            self.machine.answer(token, answer);
            self.collect();
            self.hear();
        }
    }

    /// Takes the replies that are there.
    fn hear(&mut self) -> Vec<(u16, Reply)> {
        let replies = self.guest.replies();
        for (id, reply) in &replies {
            match self.asked.remove(id) {
                Some(Asked::Share(extent)) if reply.status == 0 => {
                    let name = reply.values[0] as u32;
                    assert!(!self.ended.contains(&GrantRef(name)), "{name:#x} was another grant's name");
                    assert_eq!(self.granted.insert(name, extent), None, "{name:#x} is another grant's name");
                }
                Some(Asked::Revoke(grant)) => {
                    if reply.status == 0 {
                        self.granted.remove(&grant.0).expect("a grant that is taken back");
                        self.ended.push(grant);
                    } else if reply.status == CallError::BACKEND.to_result() as i32 {
                        // The backend reaches it still.
                        self.granted.entry(grant.0).and_modify(|extent| extent.revoking = false);
                    }
                }
                _ => {}
            }
        }
        replies
    }

    /// Compares the backend's table with what the guest knows.
    fn judge(&self) {
        for (name, extent) in self.granted.iter().filter(|(_, extent)| !extent.revoking) {
            let (grant, length) = (GrantRef(*name), extent.length as u32);
            let there = self.memory.name(extent.base, length as usize).unwrap();
            let bytes = self.table.resolve(grant, 0, length, extent.access).expect("what was granted");
            assert_eq!((bytes.as_ptr(), bytes.len()), (there.as_ptr(), there.len()));
            assert!(self.table.resolve(grant, extent.length, 1, extent.access).is_err(), "beyond the end");
            let other = extent.access.complement();
            assert!(
                other.is_empty() || self.table.resolve(grant, 0, 1, other).is_err(),
                "a right that was not granted"
            );
        }
        for grant in &self.ended {
            assert!(self.table.resolve(*grant, 0, 0, Access::empty()).is_err(), "{grant:?} has ended");
        }
    }
}
