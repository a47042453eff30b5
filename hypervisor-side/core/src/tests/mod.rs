//! Tests that speak to the core through its doors only, with the guest of [`crate::fake`].

mod bus;
mod calls;
mod control;
mod exits;
mod hostile;
mod lifecycle;
mod model;
mod net;
mod races;
mod reset;

use crate::fake::{FakeGuest, FakeMachine, FakeMemory, offer, with_body};
use crate::{DeviceConfig, Domain, DomainConfig, Effect, EventPath};
use pvkit_abi::bus::{Accept, Class, Kind, Offer, OpenQueue, Reply, ShareGrant};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::grant::GrantRef;
use pvkit_abi::ring::{COMPLETION_BYTES, REQUEST_BYTES, area_pages};
use pvkit_abi::status::CallError;
use pvkit_abi::version::{CURRENT, Group};
use zerocopy::FromBytes;

pub(crate) const ALL: [Group; 7] =
    [Group::EVENT, Group::BUS, Group::GRANT, Group::SCHED, Group::CONSOLE, Group::TIME, Group::VCPU];

/// A domain with one block and one console device, devices 1 and 2.
pub(crate) fn domain() -> Domain {
    domain_of(&[offer(Class::BLOCK, 0), offer(Class::CONSOLE, 0)])
}

/// A domain with a network device besides, device 3, whose queues may be 128 deep.
pub(crate) fn domain_with_net() -> Domain {
    let net = Offer { max_depth: 128, ..offer(Class::NET, 0) };
    domain_of(&[offer(Class::BLOCK, 0), offer(Class::CONSOLE, 0), net])
}

pub(crate) fn domain_of(offers: &[Offer]) -> Domain {
    let devices = offers.iter().map(|offer| DeviceConfig { offer: *offer }).collect();
    Domain::new(DomainConfig {
        vcpus: 4,
        groups: Domain::default_groups(),
        devices,
        cpl3_allowed: false,
        events: EventPath::VcpuArea,
        epochs_after: 0,
    })
}

/// A guest that has negotiated everything and set up its bus without an event port; its offers are taken.
pub(crate) fn connected(memory: &FakeMemory) -> (FakeMachine<'_>, FakeGuest<'_>) {
    let mut machine = FakeMachine::new(domain(), memory);
    let mut guest = FakeGuest::new(memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    guest.bus_setup(&mut machine, NO_PORT).unwrap();
    (machine, guest)
}

/// Epochs of the devices that are offered now.
pub(crate) fn offers(guest: &mut FakeGuest<'_>) -> Vec<(u32, u64)> {
    let messages = guest.messages();
    messages
        .iter()
        .filter(|message| message.kind == Kind::OFFER)
        .map(|message| (message.device, message.epoch))
        .collect()
}

pub(crate) const ACCEPT: Accept = Accept { version: CURRENT, queues: 2, reserved: 0, features: 0b0011 };

/// A guest that holds device 1; the epoch of the device.
pub(crate) fn accepted(memory: &FakeMemory) -> (FakeMachine<'_>, FakeGuest<'_>, u64) {
    let (mut machine, mut guest) = connected(memory);
    let epoch = offers(&mut guest)[0].1;
    let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &ACCEPT));
    assert_eq!(status(&reply), Ok(()));
    (machine, guest, reply.epoch)
}

/// The lines about quotas, if there is nothing else.
pub(crate) fn quota_lines(effects: Vec<Effect>) -> Vec<String> {
    let line = |effect| match effect {
        Effect::Log(line) if line.starts_with("quota: ") => line,
        other => panic!("{other:?}"),
    };
    effects.into_iter().map(line).collect()
}

pub(crate) fn status(reply: &Reply) -> Result<(), CallError> {
    CallError::from_result(reply.status.into()).map(drop)
}

/// An `OPEN_QUEUE` with pages of its own.
pub(crate) fn open_queue(guest: &mut FakeGuest<'_>, queue: u16, depth: u32, event_port: u32) -> OpenQueue {
    let count = area_pages(depth, REQUEST_BYTES) + area_pages(depth, COMPLETION_BYTES);
    let pages: Vec<u64> = (0..count).map(|_| guest.page()).collect();
    let page_list = list(guest, &pages);
    OpenQueue { queue, completion_bytes: 8, depth, event_port, reserved: 0, page_list }
}

/// A page list.
pub(crate) fn list(guest: &mut FakeGuest<'_>, pages: &[u64]) -> u64 {
    let at = guest.page();
    for (page, slot) in pages.iter().zip((at..).step_by(8)) {
        guest.write(slot, &page.to_le_bytes());
    }
    at
}

/// A `GRANT_SHARE` of one page for reading.
pub(crate) fn share_one(guest: &mut FakeGuest<'_>) -> ShareGrant {
    ShareGrant { base: guest.page(), length: 4096, access: 1, reserved: 0 }
}

pub(crate) fn grant_of(reply: &Reply) -> GrantRef {
    GrantRef(u32::try_from(reply.values[0]).unwrap())
}

/// The offer in a message.
pub(crate) fn offer_in(message: &pvkit_abi::bus::Message) -> Offer {
    Offer::read_from_bytes(&message.body).unwrap()
}
