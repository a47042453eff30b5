//! What the bus knows of network devices: queues come in pairs, receive completions are wide, features need each other.

use super::{ALL, domain_of, list, offers, status};
use crate::Effect;
use crate::fake::{FakeGuest, FakeMachine, FakeMemory, offer, with_body};
use pvkit_abi::bus::{Accept, Class, Kind, Offer, OpenQueue};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::net::{NetFeatures, RECEIVE_COMPLETION_BYTES};
use pvkit_abi::ring::{REQUEST_BYTES, area_pages};
use pvkit_abi::status::CallError;
use pvkit_abi::version::{CURRENT, RefusalReason};

const ACCEPT: Accept = Accept { version: CURRENT, queues: 4, reserved: 0, features: 0 };

/// A guest before the offer of a network device of up to five queues; the offer's epoch.
fn offered(memory: &FakeMemory) -> (FakeMachine<'_>, FakeGuest<'_>, u64) {
    let features = NetFeatures::all().bits();
    let offer = Offer { max_queues: 5, max_depth: 256, features, required: 0, ..offer(Class::NET, 0) };
    let mut machine = FakeMachine::new(domain_of(&[offer]), memory);
    let mut guest = FakeGuest::new(memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    guest.bus_setup(&mut machine, NO_PORT).unwrap();
    let epoch = offers(&mut guest)[0].1;
    (machine, guest, epoch)
}

/// An `OPEN_QUEUE` with as many distinct pages as the page list may hold.
fn open(guest: &mut FakeGuest<'_>, queue: u16, completion_bytes: u16, depth: u32) -> OpenQueue {
    let pages: Vec<u64> = (0..2 * area_pages(depth, REQUEST_BYTES)).map(|_| guest.page()).collect();
    let page_list = list(guest, &pages);
    OpenQueue { queue, completion_bytes, depth, event_port: NO_PORT, reserved: 0, page_list }
}

#[test]
fn queues_are_taken_in_pairs() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest, epoch) = offered(&memory);
    for queues in [0, 1, 3, 5, 6] {
        let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &Accept { queues, ..ACCEPT }));
        assert_eq!(status(&reply), Err(CallError::INVALID), "{queues} queues");
    }
    let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &ACCEPT));
    assert_eq!(status(&reply), Ok(()));
}

#[test]
fn features_that_need_others_are_refused_without_them() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest, epoch) = offered(&memory);
    let lies = [
        (NetFeatures::TX_TSO4, NetFeatures::TX_CHECKSUM),
        (NetFeatures::TX_TSO6, NetFeatures::TX_CHECKSUM),
        (NetFeatures::TX_USO | NetFeatures::RX_CHECKSUM, NetFeatures::TX_CHECKSUM),
        (NetFeatures::RX_TSO4, NetFeatures::RX_CHECKSUM | NetFeatures::MERGEABLE),
        (NetFeatures::RX_TSO6 | NetFeatures::MERGEABLE, NetFeatures::RX_CHECKSUM),
        (NetFeatures::RX_USO | NetFeatures::RX_CHECKSUM, NetFeatures::MERGEABLE),
    ];
    for (chosen, missing) in lies {
        let lie = Accept { features: chosen.bits(), ..ACCEPT };
        let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &lie));
        assert_eq!(status(&reply), Err(CallError::REFUSED), "{chosen:?}");
        assert_eq!(reply.values[..2], [u64::from(RefusalReason::REQUIRED_FEATURE.0), missing.bits()], "{chosen:?}");
    }
    let all = Accept { features: NetFeatures::all().bits(), ..ACCEPT };
    assert_eq!(status(&guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &all))), Ok(()));
}

#[test]
fn receive_completions_are_wide_and_transmit_completions_are_not() {
    let memory = FakeMemory::new(128);
    let (mut machine, mut guest, epoch) = offered(&memory);
    let epoch = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &ACCEPT)).epoch;
    let wide = RECEIVE_COMPLETION_BYTES as u16;
    for (queue, bytes) in [(0, 8), (1, wide), (2, 16), (2, 0), (3, 64), (3, wide)] {
        let lie = open(&mut guest, queue, bytes, 2);
        let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &lie));
        assert_eq!(status(&reply), Err(CallError::INVALID), "queue {queue}, {bytes} bytes");
    }
    machine.take_effects();
    for (queue, bytes, pages) in [(0, wide, 3), (1, 8, 1), (2, wide, 3), (3, 8, 1)] {
        let good = open(&mut guest, queue, bytes, 256);
        let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &good));
        assert_eq!(status(&reply), Ok(()));
        let effects = machine.take_effects();
        let [Effect::OpenQueue { completion_bytes, request_pages, completion_pages, .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!((*completion_bytes, request_pages.len(), completion_pages.len()), (bytes, 3, pages));
    }
    let text = machine.domain.inspect().to_string();
    assert!(text.contains("device 1 NET.0 CONNECTED"), "{text}");
    assert!(text.contains("queue 2 open depth 256 completions of 32 bytes"), "{text}");
}

#[test]
fn wide_queue_needs_every_one_of_its_pages() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = offered(&memory);
    let epoch = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &ACCEPT)).epoch;
    let request = open(&mut guest, 0, RECEIVE_COMPLETION_BYTES as u16, 256);
    // The sixth page of the list: the last of the completions, which a narrow queue would not look at.
    guest.write(request.page_list + 5 * 8, &[0; 8]);
    let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &request));
    assert_eq!(status(&reply), Err(CallError::FAULT));
}
