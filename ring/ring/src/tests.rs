//! Tests of the halves one rule at a time; the walks and the models are in `tests/`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use crate::*;
use core::sync::atomic::Ordering;
use pvkit_abi::ring::{CompletionWord, EPOCH_WORD, EVENT_WORD, HEADER_BYTES, REQUEST_BYTES, RequestFlags, RequestWord};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_shared_memory::{HeapPages, SharedPages};
use std::vec::Vec;

const OK: CompletionResult = CompletionResult::new(Status::OK, 0);

struct Queue {
    frontend: Frontend<SharedPages, 8>,
    backend: Backend<SharedPages>,
    requests: SharedPages,
    completions: SharedPages,
}

fn size(depth: u32) -> RingSize {
    RingSize::new(depth).unwrap()
}

fn queue(depth: u32) -> Queue {
    let pages = || HeapPages::new(1).leak_pages().unwrap();
    let (requests, completions) = (pages(), pages());
    Queue {
        frontend: Frontend::new(requests, completions, size(depth), 7).unwrap(),
        backend: Backend::new(completions, requests, size(depth), 7).unwrap(),
        requests,
        completions,
    }
}

impl Queue {
    fn submit(&mut self, count: usize) -> (Vec<u16>, Notify) {
        let mut batch = self.frontend.batch();
        let ids = (0..count).map(|_| batch.reserve(1, RequestFlags::empty(), 0, [1, 2, 3]).unwrap().id()).collect();
        (ids, batch.commit())
    }

    /// Writes word 0 of request slot `slot`, as a bad frontend would.
    fn forge_request(&self, slot: usize, id: u16, tag: u16) {
        let word = RequestWord::new(1, RequestFlags::empty(), id, 0).with_tag(tag);
        self.requests.word(HEADER_BYTES + slot * REQUEST_BYTES).unwrap().store(word.0, Ordering::Relaxed);
    }

    fn forge_completion(&self, slot: usize, id: u16, tag: u16) {
        let word = CompletionWord::new(id, OK).with_tag(tag);
        self.completions.word(HEADER_BYTES + slot * 8).unwrap().store(word.0, Ordering::Relaxed);
    }
}

#[test]
fn depth_must_be_a_power_of_two_within_the_limits() {
    for depth in [0, 1, 3, 6, 8191, 8192, u32::MAX] {
        assert_eq!(RingSize::new(depth), None, "{depth}");
    }
    for depth in (1..=12).map(|log2| 1 << log2) {
        assert_eq!(size(depth).depth(), depth);
    }
}

#[test]
fn distance_and_slot_survive_the_index_wrap() {
    let before = RingIndex(u32::MAX);
    let after = before.advance(3);
    assert_eq!(after, RingIndex(2));
    assert_eq!(after.distance_from(before), 3);
    assert_eq!((before.slot(size(8)), after.slot(size(8))), (7, 2));
}

#[test]
fn tag_after_the_last_is_the_first() {
    let mut cursor = Cursor::at(7, 65_534);
    assert_eq!((cursor.tag(), cursor.previous()), (65_535, 65_534));
    cursor.step(size(8));
    assert_eq!((cursor.tag(), cursor.previous()), (1, 65_535));
}

#[test]
fn fresh_half_zeroes_its_area_and_stores_the_epoch() {
    let pages = HeapPages::new(1).leak_pages().unwrap();
    let end = size(4).area_bytes(4);
    for offset in (0..4096).step_by(8) {
        pages.word(offset).unwrap().store(u64::MAX, Ordering::Relaxed);
    }
    let peer = HeapPages::new(1).leak_pages().unwrap();
    let _frontend = Frontend::<_, 4>::new(pages, peer, size(4), 9).unwrap();
    for offset in (0..4096).step_by(8) {
        let due = if offset == EPOCH_WORD {
            9
        } else if offset < end {
            0
        } else {
            u64::MAX
        };
        assert_eq!(pages.word(offset).unwrap().load(Ordering::Relaxed), due, "at {offset}");
    }
    assert_eq!(Backend::resume(peer, pages, size(4), Cursor::START).unwrap().peer_epoch(), 9);
}

#[test]
fn area_that_is_too_small_is_misuse() {
    let (one, two) = (HeapPages::new(1).leak_pages().unwrap(), HeapPages::new(2).leak_pages().unwrap());
    let fits = size(64);
    assert!(Frontend::<_, 128>::new(one, one, fits, 1).is_ok());
    let deep = size(128);
    assert_eq!(Frontend::<_, 128>::new(one, one, deep, 1).err(), Some(Misuse::AreaTooSmall));
    assert_eq!(Backend::new(one, one, deep, 1).err(), Some(Misuse::AreaTooSmall));
    assert!(Frontend::<_, 128>::new(two, one, deep, 1).is_ok());
    assert_eq!(Frontend::<_, 64>::new(two, one, deep, 1).err(), Some(Misuse::DepthTooLarge));
}

#[test]
fn request_and_completion_arrive_as_they_were_given() {
    let mut queue = queue(4);
    for number in 0..9 {
        let mut batch = queue.frontend.batch();
        let id = batch.reserve(3, RequestFlags::FUA, 0xabcd, [number, !number, 5]).unwrap().id();
        let _ = batch.commit();
        let request = queue.backend.take().unwrap().unwrap();
        assert_eq!(request.words, [number, !number, 5]);
        let word = request.word;
        assert_eq!((word.op(), word.flags(), word.id(), word.aux()), (3, RequestFlags::FUA.bits(), id, 0xabcd));
        let result = CompletionResult::new(Status::IO_ERROR, number as u32);
        let _ = queue.backend.complete(id, result).unwrap().or(queue.backend.flush());
        assert_eq!(queue.frontend.take(), Ok(Some(Completed { id, result })));
    }
}

#[test]
fn reserve_when_full_returns_full_and_keeps_the_batch() {
    let mut queue = queue(2);
    let mut batch = queue.frontend.batch();
    for _ in 0..2 {
        batch.reserve(1, RequestFlags::empty(), 0, [0; 3]).unwrap();
    }
    assert_eq!(batch.reserve(1, RequestFlags::empty(), 0, [0; 3]), Err(Full));
    assert_eq!(batch.len(), 2);
    let _ = batch.commit();
    assert_eq!((queue.frontend.room(), queue.frontend.in_flight()), (0, 2));
    assert_eq!(queue.frontend.batch().reserve(1, RequestFlags::empty(), 0, [0; 3]), Err(Full));
}

#[test]
fn batch_is_invisible_until_commit() {
    let mut queue = queue(4);
    let mut batch = queue.frontend.batch();
    batch.reserve(1, RequestFlags::empty(), 0, [0; 3]).unwrap();
    assert_eq!(queue.backend.take(), Ok(None));
    batch.revert();
    assert_eq!(queue.backend.take(), Ok(None));
    assert_eq!(queue.frontend.room(), 4);
}

#[test]
fn empty_batch_asks_for_no_doorbell() {
    let mut queue = queue(4);
    assert_eq!(queue.backend.park(), (Notify::NotNeeded, Park::Armed));
    assert_eq!(queue.frontend.batch().commit(), Notify::NotNeeded);
    assert_eq!(queue.backend.flush(), Notify::NotNeeded);
}

#[test]
fn only_the_publication_that_the_sleeper_waits_for_rings() {
    let mut queue = queue(8);
    assert_eq!(queue.backend.park().1, Park::Armed);
    assert_eq!(queue.submit(3).1, Notify::Needed);
    assert_eq!(queue.submit(1).1, Notify::NotNeeded);
    while queue.backend.take().unwrap().is_some() {}
    assert_eq!(queue.submit(1).1, Notify::NotNeeded);
    assert_eq!(queue.backend.park().1, Park::Ready);
    queue.backend.take().unwrap().unwrap();
    assert_eq!(queue.backend.park().1, Park::Armed);
    assert_eq!(queue.submit(1).1, Notify::Needed);
}

#[test]
fn completions_are_held_back_until_four_or_a_flush() {
    let mut queue = queue(8);
    let (ids, _) = queue.submit(5);
    while queue.backend.take().unwrap().is_some() {}
    for id in &ids[..3] {
        let _ = queue.backend.complete(*id, OK).unwrap();
        assert_eq!(queue.frontend.take(), Ok(None));
    }
    let _ = queue.backend.complete(ids[3], OK).unwrap();
    for id in &ids[..4] {
        assert_eq!(queue.frontend.take().unwrap().unwrap().id, *id);
    }
    let _ = queue.backend.complete(ids[4], OK).unwrap();
    assert_eq!(queue.frontend.take(), Ok(None));
    let _ = queue.backend.flush();
    assert_eq!(queue.frontend.take().unwrap().unwrap().id, ids[4]);
}

#[test]
fn backend_park_publishes_what_is_held_back_and_rings_for_it() {
    let mut queue = queue(8);
    let (ids, _) = queue.submit(1);
    queue.backend.take().unwrap().unwrap();
    assert_eq!(queue.frontend.park(), Park::Armed);
    assert_eq!(queue.backend.complete(ids[0], OK), Ok(Notify::NotNeeded));
    assert_eq!(queue.backend.park(), (Notify::Needed, Park::Armed));
    assert!(queue.frontend.take().unwrap().is_some());
}

#[test]
fn queue_is_full_from_its_last_request_to_the_first_completion_that_is_published_across_laps() {
    let mut queue = queue(4);
    for round in 0..40 {
        // Another start in each round: the last slot is now before and now behind the end of a lap.
        let few = 1 + round % 3;
        let _ = queue.submit(few);
        assert!(!queue.backend.is_full(), "{few} of 4");
        for left in (0..few).rev() {
            let request = queue.backend.take().unwrap().unwrap();
            assert!(!queue.backend.is_full(), "{left} of {few} left");
            let _ = queue.backend.complete(request.word.id(), OK).unwrap();
        }
        let _ = queue.backend.flush();
        while queue.frontend.take().unwrap().is_some() {}
        let _ = queue.submit(4);
        assert!(queue.backend.is_full());
        let first = queue.backend.take().unwrap().unwrap();
        assert!(queue.backend.is_full(), "taken is not completed");
        let _ = queue.backend.complete(first.word.id(), OK).unwrap();
        assert!(queue.backend.is_full(), "held back is not completed");
        let _ = queue.backend.flush();
        assert!(!queue.backend.is_full());
        while let Some(request) = queue.backend.take().unwrap() {
            let _ = queue.backend.complete(request.word.id(), OK).unwrap();
        }
        let _ = queue.backend.flush();
        while queue.frontend.take().unwrap().is_some() {}
    }
}

#[test]
fn completion_is_accepted_once() {
    let mut queue = queue(4);
    let (ids, _) = queue.submit(1);
    queue.backend.take().unwrap().unwrap();
    assert!(queue.backend.complete(ids[0], OK).is_ok());
    assert_eq!(queue.backend.complete(ids[0], OK), Err(Misuse::NotInFlight(ids[0])));
    assert_eq!(queue.backend.complete(3, OK), Err(Misuse::NotInFlight(3)));
    assert_eq!(queue.backend.complete(u16::MAX, OK), Err(Misuse::NotInFlight(u16::MAX)));
}

#[test]
fn tag_out_of_turn_latches_the_half_that_sees_it() {
    let mut queue = queue(4);
    queue.forge_request(0, 0, 2);
    assert_eq!(queue.backend.take(), Err(PeerFault::Tag { expected: 1, found: 2 }));
    queue.forge_request(0, 0, 1);
    assert_eq!(queue.backend.take(), Err(PeerFault::Latched));
    queue.forge_completion(0, 0, u16::MAX);
    assert_eq!(queue.frontend.take(), Err(PeerFault::Tag { expected: 1, found: u16::MAX }));
    assert!(queue.frontend.is_latched());
}

#[test]
fn request_with_an_id_beyond_the_depth_is_a_fault() {
    for id in [4, 5, 4095, 4096, u16::MAX] {
        let mut queue = queue(4);
        queue.forge_request(0, id, 1);
        assert_eq!(queue.backend.take(), Err(PeerFault::IdOutOfRange(id)));
        assert_eq!(queue.backend.in_flight(), 0);
    }
}

#[test]
fn request_with_an_id_in_flight_is_a_fault() {
    let mut queue = queue(4);
    queue.forge_request(0, 2, 1);
    queue.forge_request(1, 2, 1);
    assert!(queue.backend.take().unwrap().is_some());
    assert_eq!(queue.backend.take(), Err(PeerFault::IdInFlight(2)));
    assert_eq!(queue.backend.in_flight_ids().collect::<Vec<_>>(), [2]);
}

/// The ids are free again as far as the backend knows, but their completions are not yet published.
#[test]
fn more_requests_than_the_depth_are_a_fault_while_completions_are_held_back() {
    let mut queue = queue(2);
    let _ = queue.submit(2).1;
    for _ in 0..2 {
        let id = queue.backend.take().unwrap().unwrap().word.id();
        assert_eq!(queue.backend.complete(id, OK), Ok(Notify::NotNeeded));
    }
    queue.forge_request(0, 0, 2);
    assert_eq!(queue.backend.take(), Err(PeerFault::Overrun));
}

#[test]
fn completion_of_what_is_not_in_flight_is_a_fault() {
    for id in [0, 3, 4, 8, u16::MAX] {
        let mut queue = queue(4);
        let (ids, _) = queue.submit(2);
        assert_eq!(ids, [0, 1]);
        queue.forge_completion(0, 1, 1);
        assert_eq!(queue.frontend.take().unwrap().unwrap().id, 1);
        let id = if id == 0 { 1 } else { id };
        queue.forge_completion(1, id, 1);
        assert_eq!(queue.frontend.take(), Err(PeerFault::NotInFlight(id)));
        assert_eq!(queue.frontend.in_flight_ids().collect::<Vec<_>>(), [0]);
    }
}

#[test]
fn latched_frontend_reserves_nothing_and_does_not_sleep() {
    let mut queue = queue(4);
    let _ = queue.submit(1);
    queue.forge_completion(0, 3, 1);
    assert_eq!(queue.frontend.take(), Err(PeerFault::NotInFlight(3)));
    queue.forge_completion(0, 0, 0);
    assert_eq!(queue.frontend.park(), Park::Ready);
    assert_eq!(queue.frontend.room(), 0);
    let mut batch = queue.frontend.batch();
    assert_eq!(batch.reserve(1, RequestFlags::empty(), 0, [0; 3]), Err(Full));
    assert_eq!(batch.commit(), Notify::NotNeeded);
    assert_eq!(queue.frontend.in_flight_ids().collect::<Vec<_>>(), [0]);
}

#[test]
fn latched_backend_drains_and_does_not_sleep() {
    let mut queue = queue(4);
    queue.forge_request(0, 1, 1);
    queue.forge_request(1, 9, 1);
    assert!(queue.backend.take().unwrap().is_some());
    assert_eq!(queue.backend.take(), Err(PeerFault::IdOutOfRange(9)));
    queue.forge_request(1, 0, 0);
    assert_eq!(queue.backend.park().1, Park::Ready);
    assert!(queue.backend.complete(1, OK).is_ok());
    assert_eq!(queue.backend.in_flight(), 0);
}

#[test]
fn event_word_is_written_only_by_park() {
    let mut queue = queue(4);
    let event = |pages: &SharedPages| pages.word(EVENT_WORD).unwrap().load(Ordering::Relaxed);
    queue.requests.word(EVENT_WORD).unwrap().store(77, Ordering::Relaxed);
    queue.completions.word(EVENT_WORD).unwrap().store(78, Ordering::Relaxed);
    let (ids, _) = queue.submit(1);
    queue.backend.take().unwrap().unwrap();
    let _ = queue.backend.complete(ids[0], OK).unwrap().or(queue.backend.flush());
    queue.frontend.take().unwrap().unwrap();
    assert_eq!((event(&queue.requests), event(&queue.completions)), (77, 78));
    assert_eq!(queue.frontend.park(), Park::Armed);
    assert_eq!(queue.backend.park().1, Park::Armed);
    assert_eq!((event(&queue.requests), event(&queue.completions)), (1, 1));
}

/// Under Miri this fails if an access is not atomic, or if a payload is not ordered before its tag.
#[test]
fn two_threads_pass_requests_in_order() {
    let Queue { mut frontend, mut backend, .. } = queue(4);
    let count: u64 = if cfg!(miri) { 60 } else { 20_000 };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..count {
                let request = loop {
                    match backend.take().unwrap() {
                        Some(request) => break request,
                        None => {
                            let _ = backend.park();
                            std::thread::yield_now();
                        }
                    }
                };
                assert_eq!(request.words, [number, !number, 5]);
                let _ = backend.complete(request.word.id(), CompletionResult(number as u32)).unwrap();
            }
            let _ = backend.flush();
        });
        let (mut sent, mut got) = (0, 0);
        while got < count {
            let mut batch = frontend.batch();
            while sent < count && batch.reserve(1, RequestFlags::empty(), 0, [sent, !sent, 5]).is_ok() {
                sent += 1;
            }
            let _ = batch.commit();
            match frontend.take().unwrap() {
                Some(completed) => {
                    assert_eq!(completed.result, CompletionResult(got as u32));
                    got += 1;
                }
                None => std::thread::yield_now(),
            }
        }
    });
}

#[test]
fn spin_that_finds_nothing_gets_shorter_and_recovers_on_success() {
    let mut spin = AdaptiveSpin::new(64);
    let looks = |spin: &mut AdaptiveSpin, found_at: u32| {
        let mut count = 0;
        let found = spin.run(|| {
            count += 1;
            count == found_at
        });
        (found, count)
    };
    assert_eq!(looks(&mut spin, u32::MAX), (false, 64));
    assert_eq!(looks(&mut spin, u32::MAX), (false, 32));
    for _ in 0..20 {
        looks(&mut spin, u32::MAX);
    }
    assert_eq!(looks(&mut spin, u32::MAX), (false, 4));
    assert_eq!(looks(&mut spin, 1), (true, 1));
    assert_eq!(looks(&mut spin, u32::MAX), (false, 64));
}

#[test]
fn spin_probes_to_the_limit_now_and_then() {
    let mut spin = AdaptiveSpin::new(64);
    let full = (0..100).filter(|_| {
        let mut count = 0;
        spin.run(|| {
            count += 1;
            false
        });
        count == 64
    });
    assert_eq!(full.count(), 4);
}

#[test]
fn spin_of_an_overcommitted_host_never_looks() {
    let mut spin = AdaptiveSpin::new(64);
    spin.set_limit(0);
    for _ in 0..100 {
        assert!(!spin.run(|| panic!("looked")));
    }
}

#[test]
fn ids_that_lead_are_reserved_first_and_every_other_one_after_them_once() {
    let mut queue = queue(8);
    assert!(queue.frontend.lead_with([6, 2, 6, 700, 8, 0]));
    let mut batch = queue.frontend.batch();
    let reserved: Vec<_> = (0..8).map(|_| batch.reserve(1, RequestFlags::empty(), 0, [0; 3]).unwrap().id()).collect();
    assert_eq!(reserved, [6, 2, 0, 1, 3, 4, 5, 7]);
    assert_eq!(batch.reserve(1, RequestFlags::empty(), 0, [0; 3]), Err(Full));
    let _ = batch.commit();
    assert!(!queue.frontend.lead_with([1]), "all are in flight");
    assert_eq!(queue.frontend.in_flight_ids().count(), 8);
}
