//! Setting the bus up, and what the guest asks by it.

use super::{
    ACCEPT, accepted, connected, grant_of, list, offer_in, offers, open_queue, quota_lines, share_one, status,
};
use crate::fake::{FakeMemory, message, with_body};
use crate::{Effect, GuestAddr};
use pvkit_abi::bus::{Accept, BusSetup, Class, DoorbellKind, Kind, NameGrant, OpenQueue, ShareGrant};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::{RefusalReason, Version};

#[test]
fn setup_offers_every_device_before_it_returns() {
    let memory = FakeMemory::new(16);
    let (machine, mut guest) = connected(&memory);
    let messages = guest.messages();
    assert_eq!(messages.len(), 2);
    assert_eq!(offer_in(&messages[0]).class, Class::BLOCK);
    assert_eq!((messages[1].device, offer_in(&messages[1]).class), (2, Class::CONSOLE));
    assert!(
        machine.domain.inspect().to_string().contains("device 2 CONSOLE.0 OFFERED"),
        "{}",
        machine.domain.inspect()
    );
}

#[test]
fn setup_refuses_pages_that_are_not_distinct_aligned_and_in_memory() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest) = connected(&memory);
    let [a, b, c, d] = [guest.page(), guest.page(), guest.page(), guest.page()];
    let lies = [
        ([a, a], [c, d], NO_PORT, CallError::INVALID),
        ([a, b], [b, d], NO_PORT, CallError::INVALID),
        ([a, b + 8], [c, d], NO_PORT, CallError::INVALID),
        ([a, b], [c, 0], NO_PORT, CallError::FAULT),
        ([a, b], [c, u64::MAX - 4095], NO_PORT, CallError::FAULT),
        ([a, b], [c, d], 5, CallError::NOT_FOUND),
    ];
    for (guest_pages, host_pages, event_port, expected) in lies {
        let setup = BusSetup { size: 40, event_port, guest_pages, host_pages };
        let at = guest.store(&setup);
        assert_eq!(machine.call(Call::BUS_SETUP, [at, 0, 0, 0, 0]), expected.to_result(), "{setup:?}");
    }
    assert_eq!(offers(&mut guest).len(), 2, "the bus that was there is untouched");
    let rescan = message(Kind::RESCAN, 0, guest.epoch);
    assert_eq!(status(&guest.request(&mut machine, &rescan)), Ok(()));
}

#[test]
fn kick_without_a_bus_is_busy() {
    let memory = FakeMemory::new(8);
    let mut machine = crate::fake::FakeMachine::new(super::domain(), &memory);
    let mut guest = crate::fake::FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &super::ALL).0, 0);
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), CallError::BUSY.to_result());
}

#[test]
fn malformed_messages_are_answered_with_an_error() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest) = connected(&memory);
    let epoch = offers(&mut guest)[0].1;
    let good = with_body(Kind::ACCEPT, 1, epoch, &ACCEPT);
    let mut long_tail = pvkit_abi::bus::Message { size: 112, ..good };
    long_tail.body[111] = 1;
    let lies = [
        (pvkit_abi::bus::Message { reserved: 1, ..good }, CallError::INVALID),
        (pvkit_abi::bus::Message { size: 113, ..good }, CallError::INVALID),
        (long_tail, CallError::INVALID),
        (pvkit_abi::bus::Message { size: 0, ..good }, CallError::INVALID),
        (pvkit_abi::bus::Message { device: 3, ..good }, CallError::NOT_FOUND),
        (pvkit_abi::bus::Message { device: 0, ..good }, CallError::NOT_FOUND),
        (pvkit_abi::bus::Message { epoch: epoch + 1, ..good }, CallError::STALE),
        (pvkit_abi::bus::Message { kind: Kind::OFFER, ..good }, CallError::UNKNOWN),
        (message(Kind::RESCAN, 1, guest.epoch), CallError::NOT_FOUND),
        (message(Kind::RESCAN, 0, guest.epoch + 1), CallError::STALE),
    ];
    for (lie, expected) in lies {
        assert_eq!(status(&guest.request(&mut machine, &lie)), Err(expected), "{lie:?}");
    }
    let id = guest.post_as(Kind::CLOSE.0, &good).unwrap();
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    let replies = guest.replies();
    assert_eq!((replies[0].0, status(&replies[0].1)), (id, Err(CallError::INVALID)), "slot and message disagree");
    let longer = pvkit_abi::bus::Message { size: 112, ..good };
    assert_eq!(status(&guest.request(&mut machine, &longer)), Ok(()), "a longer body with a tail of zeros is fine");
}

#[test]
fn accept_is_judged_against_the_offer() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest) = connected(&memory);
    let epoch = offers(&mut guest)[0].1;
    let refused = CallError::REFUSED;
    let lies = [
        (Accept { queues: 0, ..ACCEPT }, CallError::INVALID, RefusalReason::NONE, 0),
        (Accept { queues: 3, ..ACCEPT }, CallError::INVALID, RefusalReason::NONE, 0),
        (Accept { reserved: 1, ..ACCEPT }, CallError::INVALID, RefusalReason::NONE, 0),
        (Accept { version: Version { major: 7, minor: 1 }, ..ACCEPT }, refused, RefusalReason::VERSION, 0),
        (Accept { version: Version { major: 0, minor: 2 }, ..ACCEPT }, refused, RefusalReason::VERSION, 0),
        (Accept { features: 0b110, ..ACCEPT }, refused, RefusalReason::UNKNOWN_FEATURE, 0b100),
        (Accept { features: 0b001, ..ACCEPT }, refused, RefusalReason::REQUIRED_FEATURE, 0b010),
    ];
    for (lie, error, reason, features) in lies {
        let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &lie));
        assert_eq!(status(&reply), Err(error), "{lie:?}");
        assert_eq!(reply.values[..2], [u64::from(reason.0), features], "{lie:?}");
        assert_eq!(reply.epoch, epoch);
    }
    let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &ACCEPT));
    assert_eq!(status(&reply), Ok(()));
    assert!(reply.epoch > epoch);
    let again = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, reply.epoch, &ACCEPT));
    assert_eq!(status(&again), Err(CallError::SEALED));
}

#[test]
fn open_queue_hands_the_machine_checked_pages_and_the_guest_its_doorbell() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let port = machine.call(Call::EVENT_ALLOC, [0; 5]) as u32;
    machine.take_effects();
    let open = open_queue(&mut guest, 1, 64, port);
    let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &open));
    assert_eq!((status(&reply), &reply.values[..2]), (Ok(()), [u64::from(DoorbellKind::TOKEN.0), 1].as_slice()));
    let effects = machine.take_effects();
    let Effect::OpenQueue { device: 1, queue: 1, depth: 64, features: 0b11, request_pages, completion_pages, .. } =
        &effects[0]
    else {
        panic!("{effects:?}")
    };
    let first: u64 = guest.load(open.page_list);
    assert_eq!((request_pages.len(), completion_pages.len()), (1, 1));
    assert_eq!(request_pages[0], GuestAddr(first));
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port.into(), 0, 0, 0, 0]), CallError::BUSY.to_result());
    let again = open_queue(&mut guest, 1, 64, port);
    let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &again));
    assert_eq!(status(&reply), Err(CallError::BUSY));
}

#[test]
fn open_queue_is_judged_against_the_offer() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let good = open_queue(&mut guest, 0, 64, NO_PORT);
    let [a, b] = [guest.load::<u64>(good.page_list), guest.load::<u64>(good.page_list + 8)];
    let bus_page = guest.bus_pages[3];
    let lists = [[a, a], [a, b + 1], [a, 0], [a, bus_page]].map(|pages| list(&mut guest, &pages));
    let lies = [
        (OpenQueue { queue: 2, ..good }, CallError::NOT_FOUND),
        (OpenQueue { depth: 0, ..good }, CallError::INVALID),
        (OpenQueue { depth: 1, ..good }, CallError::INVALID),
        (OpenQueue { depth: 48, ..good }, CallError::INVALID),
        (OpenQueue { depth: 128, ..good }, CallError::INVALID),
        (OpenQueue { depth: 1 << 31, ..good }, CallError::INVALID),
        (OpenQueue { completion_bytes: 16, ..good }, CallError::INVALID),
        (OpenQueue { reserved: 1, ..good }, CallError::INVALID),
        (OpenQueue { event_port: 9, ..good }, CallError::NOT_FOUND),
        (OpenQueue { page_list: good.page_list + 8, ..good }, CallError::INVALID),
        (OpenQueue { page_list: 0, ..good }, CallError::FAULT),
        (OpenQueue { page_list: lists[0], ..good }, CallError::INVALID),
        (OpenQueue { page_list: lists[1], ..good }, CallError::INVALID),
        (OpenQueue { page_list: lists[2], ..good }, CallError::FAULT),
        (OpenQueue { page_list: lists[3], ..good }, CallError::INVALID),
    ];
    machine.take_effects();
    for (lie, expected) in lies {
        let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &lie));
        assert_eq!(status(&reply), Err(expected), "{lie:?}");
    }
    assert_eq!(machine.take_effects(), []);
    let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &good));
    assert_eq!(status(&reply), Ok(()));
    let same_pages = OpenQueue { queue: 1, ..good };
    let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &same_pages));
    assert_eq!(status(&reply), Err(CallError::INVALID), "the pages belong to the first queue");
}

#[test]
fn grant_lives_from_share_to_revoke_and_its_name_does_not_come_back() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let share = ShareGrant { access: 3, ..share_one(&mut guest) };
    let reply = guest.request(&mut machine, &with_body(Kind::GRANT_SHARE, 1, epoch, &share));
    assert_eq!(status(&reply), Ok(()));
    let grant = grant_of(&reply);
    let name = NameGrant { grant, reserved: 0 };
    let query = with_body(Kind::GRANT_QUERY, 1, epoch, &name);
    let reply = guest.request(&mut machine, &query);
    assert_eq!(reply.values[..3], [share.base, 4096, 3]);
    let revoke = with_body(Kind::GRANT_REVOKE, 1, epoch, &name);
    assert_eq!(status(&guest.request(&mut machine, &revoke)), Ok(()));
    assert_eq!(status(&guest.request(&mut machine, &revoke)), Err(CallError::NOT_FOUND));
    let reply = guest.request(&mut machine, &with_body(Kind::GRANT_SHARE, 1, epoch, &share));
    assert_eq!(grant_of(&reply).index(), grant.index());
    assert_ne!(grant_of(&reply), grant);
    assert_eq!(status(&guest.request(&mut machine, &query)), Err(CallError::NOT_FOUND));
    let shared = |effect: &&Effect| matches!(effect, Effect::ShareGrant { access, .. } if *access == Access::all());
    assert_eq!(machine.take_effects().iter().filter(shared).count(), 2);
}

#[test]
fn share_refuses_extents_that_are_not_whole_pages_of_memory() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let good = share_one(&mut guest);
    let lies = [
        (ShareGrant { base: good.base + 1, ..good }, CallError::INVALID),
        (ShareGrant { length: 0, ..good }, CallError::INVALID),
        (ShareGrant { length: 100, ..good }, CallError::INVALID),
        (ShareGrant { access: 0, ..good }, CallError::INVALID),
        (ShareGrant { access: 4, ..good }, CallError::INVALID),
        (ShareGrant { reserved: 1, ..good }, CallError::INVALID),
        (ShareGrant { base: 0, ..good }, CallError::FAULT),
        (ShareGrant { length: 1 << 40, ..good }, CallError::FAULT),
        (ShareGrant { length: u64::MAX - 4095, ..good }, CallError::FAULT),
    ];
    machine.take_effects();
    for (lie, expected) in lies {
        let reply = guest.request(&mut machine, &with_body(Kind::GRANT_SHARE, 1, epoch, &lie));
        assert_eq!(status(&reply), Err(expected), "{lie:?}");
    }
    assert_eq!(machine.take_effects(), []);
}

#[test]
fn grants_are_limited_and_unknown_names_are_not_found() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let share = with_body(Kind::GRANT_SHARE, 1, epoch, &share_one(&mut guest));
    for _ in 0..256 {
        assert_eq!(status(&guest.request(&mut machine, &share)), Ok(()));
    }
    machine.take_effects();
    for _ in 0..100 {
        assert_eq!(status(&guest.request(&mut machine, &share)), Err(CallError::LIMIT));
    }
    let lines = quota_lines(machine.take_effects());
    assert_eq!((lines.len(), machine.domain.counters().over_quota), (7, 100), "1, 2, 4, .., 64");
    assert!(lines.iter().all(|line| line.contains("quota: grants of a device, 256")), "{lines:?}");
    for grant in [GrantRef::NONE, GrantRef(0xffff_ffff), GrantRef::new(0, 2), GrantRef::new(256, 1)] {
        let name = NameGrant { grant, reserved: 0 };
        let reply = guest.request(&mut machine, &with_body(Kind::GRANT_QUERY, 1, epoch, &name));
        assert_eq!(status(&reply), Err(CallError::NOT_FOUND), "{grant:?}");
    }
}

#[test]
fn requests_for_a_device_that_is_only_offered_are_busy() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest) = connected(&memory);
    let epoch = offers(&mut guest)[0].1;
    let open = open_queue(&mut guest, 0, 64, NO_PORT);
    let share = share_one(&mut guest);
    for request in [
        with_body(Kind::OPEN_QUEUE, 1, epoch, &open),
        with_body(Kind::GRANT_SHARE, 1, epoch, &share),
        message(Kind::CLOSE, 1, epoch),
    ] {
        assert_eq!(status(&guest.request(&mut machine, &request)), Err(CallError::BUSY), "{:?}", request.kind);
    }
}

#[test]
fn corrupted_ring_latches_the_bus_until_it_is_set_up_again() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    // A tag far from the present lap, in the slot that is read next.
    guest.write(guest.bus_pages[0] + 128 + 32, &[0xff; 8]);
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), CallError::INVALID.to_result());
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), CallError::BUSY.to_result());
    assert_eq!(machine.domain.counters().latches, 1);
    assert!(machine.take_effects().iter().any(|effect| matches!(effect, Effect::Log(_))));
    let new = guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert!(new > epoch);
    assert_eq!(machine.take_effects(), [Effect::CloseDevice { token: None, device: 1 }]);
    assert_eq!(offers(&mut guest).len(), 2);
}

#[test]
fn one_kick_serves_a_full_ring_and_no_more() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest) = connected(&memory);
    let rescan = message(Kind::RESCAN, 0, guest.epoch);
    let mut posted = 0;
    while guest.post(&rescan).is_some() {
        posted += 1;
    }
    assert_eq!(posted, 16);
    let before = machine.domain.counters().guest_messages;
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    assert_eq!(machine.domain.counters().guest_messages - before, 16);
    assert_eq!(guest.replies().len(), 16);
}
