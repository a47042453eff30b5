use super::port::{LAST_PAGE, PAGES, Receiver, receive, receive_with, run};
use super::transmit::slot_word;
use crate::fake_guest::{ALL, place};
use crate::net::offload::packets::{GUEST_MAC, Ip, Packet, Transport};
use crate::net::{Frame, Inbox, OFFLOADS, ReceiveQueue, Steering};
use crate::{Pass, QueueEngine, QueueThread};
use proptest::prelude::*;
use pvkit_abi::net::{FrameFlags, FrameMeta, NetFeatures, NetOp, Segmentation};
use pvkit_abi::ring::{HEADER_BYTES, REQUEST_BYTES};
use pvkit_abi::status::Status;
use pvkit_ring::Park;
use pvkit_shared_memory::SharedPages;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fn frame(length: usize) -> Frame {
    let mut bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
    bytes[..6].copy_from_slice(&GUEST_MAC);
    Frame::finished(bytes)
}

fn merging() -> (Receiver, ReceiveQueue) {
    receive(8, NetFeatures::MERGEABLE)
}

#[test]
fn frames_fill_the_posted_buffers_in_order() {
    let (mut guest, mut queue) = receive(8, NetFeatures::empty());
    assert!(guest.steering.deliver(frame(60)));
    assert!(guest.steering.deliver(frame(1514)));
    guest.post(3, 2048);
    run(&mut queue);
    let frames: Vec<_> = guest.frames().into_iter().map(|(bytes, meta)| Frame { bytes, meta }).collect();
    assert_eq!(frames, [frame(60), frame(1514)]);
    let counted = guest.counters.snapshot();
    assert_eq!((counted.frames, counted.dropped, counted.bytes_read), (2, 0, 1574));
}

#[test]
fn a_frame_larger_than_the_buffer_is_dropped_and_the_buffer_kept() {
    let (mut guest, mut queue) = receive(8, NetFeatures::empty());
    guest.post(1, 100);
    guest.steering.deliver(frame(101));
    guest.steering.deliver(frame(100));
    run(&mut queue);
    assert_eq!(guest.frames(), [(frame(100).bytes, FrameMeta::default())]);
    assert_eq!(guest.counters.snapshot().dropped, 1);
}

#[test]
fn a_frame_larger_than_the_mtu_is_dropped_whatever_the_buffers() {
    let (mut guest, mut queue) = merging();
    guest.post(4, 4096);
    guest.steering.deliver(frame(1515));
    run(&mut queue);
    assert_eq!(guest.completions(), []);
    assert_eq!(guest.counters.snapshot().dropped, 1);
}

#[test]
fn a_frame_over_several_buffers_says_more_in_all_but_the_last() {
    let (mut guest, mut queue) = merging();
    guest.steering.deliver(frame(1000));
    guest.post(4, 400);
    run(&mut queue);
    let done = guest.completions();
    let seen: Vec<_> = done.iter().map(|done| (done.bytes, done.meta.flags())).collect();
    assert_eq!(seen, [(400, 4), (400, 4), (200, 0)]);
    let bytes: Vec<_> = done.iter().flat_map(|done| guest.bytes_of(done)).collect();
    assert_eq!(bytes, frame(1000).bytes);
}

#[test]
fn the_buffers_of_a_frame_become_visible_together() {
    let steering = Steering::new(GUEST_MAC, vec![Inbox::new(16).unwrap()]);
    let seen = Arc::new(Mutex::new(vec![]));
    let told = Arc::clone(&seen);
    // Which of the first four slots are written at the time of the interrupt.
    let look = move |completions: &SharedPages| {
        let is_written = |slot: usize| completions.word(HEADER_BYTES + slot * 32).unwrap().load(Ordering::SeqCst) != 0;
        told.lock().unwrap().push([0, 1, 2, 3].map(is_written));
    };
    let (mut guest, mut queue) = receive_with(8, NetFeatures::MERGEABLE, steering, 0, look);
    guest.post(3, 400);
    guest.steering.deliver(frame(1000));
    assert_eq!(guest.front.park(), Park::Armed);
    run(&mut queue);
    assert_eq!(*seen.lock().unwrap(), [[true, true, true, false]]);
    assert_eq!(guest.frames(), [(frame(1000).bytes, FrameMeta::default())]);
}

#[test]
fn nothing_is_told_of_a_frame_that_is_not_there_in_full() {
    let (mut guest, mut queue) = merging();
    guest.post(2, 400);
    guest.steering.deliver(frame(1000));
    assert_eq!(queue.pass(8), Pass::Worked(2));
    queue.flush();
    assert_eq!(guest.completions(), []);
    guest.post(1, 400);
    run(&mut queue);
    assert_eq!(guest.frames(), [(frame(1000).bytes, FrameMeta::default())]);
}

#[test]
fn a_frame_that_waits_in_vain_for_buffers_makes_room_for_the_next() {
    let (mut guest, mut queue) = merging();
    guest.post(2, 400);
    guest.steering.deliver(frame(1000));
    guest.steering.deliver(frame(700));
    run(&mut queue);
    assert_eq!(queue.park(), Park::Armed);
    let mut sleeps = 1;
    while guest.counters.snapshot().dropped == 0 {
        assert_eq!(queue.pass(8), Pass::Idle);
        sleeps += u32::from(queue.park() == Park::Armed);
        assert!(sleeps < 10);
    }
    run(&mut queue);
    assert_eq!(guest.frames(), [(frame(700).bytes, FrameMeta::default())]);
}

#[test]
fn a_frame_that_all_buffers_of_the_ring_cannot_hold_is_dropped_at_once() {
    let (mut guest, mut queue) = merging();
    guest.post(8, 100);
    guest.steering.deliver(frame(801));
    guest.steering.deliver(frame(800));
    run(&mut queue);
    assert_eq!(guest.frames(), [(frame(800).bytes, FrameMeta::default())]);
    assert_eq!(guest.counters.snapshot().dropped, 1);
}

#[test]
fn frames_wait_for_buffers_and_the_thread_sleeps_meanwhile() {
    let (mut guest, mut queue) = merging();
    guest.steering.deliver(frame(60));
    assert_eq!(queue.pass(8), Pass::Idle);
    assert_eq!(queue.park(), Park::Armed, "the doorbell will tell of buffers");
    guest.post(1, 100);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    assert_eq!(queue.park(), Park::Armed);
    guest.post(1, 100);
    assert_eq!(queue.pass(8), Pass::Worked(1));
    guest.steering.deliver(frame(61));
    assert_eq!(queue.park(), Park::Ready, "a frame came during the last look");
}

#[test]
fn buffers_cost_a_doorbell_only_where_a_frame_waits_for_them() {
    let (mut guest, mut queue) = merging();
    assert_eq!(queue.park(), Park::Armed);
    guest.post(1, 100);
    assert_eq!(guest.doorbells, 1, "there was no buffer");
    run(&mut queue);
    assert_eq!(queue.park(), Park::Armed);
    assert!(!queue.waits_for_doorbell());
    guest.post(2, 100);
    assert_eq!(guest.doorbells, 1, "a frame would find one");
    guest.steering.deliver(frame(301));
    run(&mut queue);
    assert_eq!(queue.park(), Park::Armed);
    guest.post(1, 100);
    assert_eq!(guest.doorbells, 2, "a frame waits for the fourth");
    run(&mut queue);
    assert_eq!(guest.completions().len(), 4);
}

#[test]
fn what_the_guest_did_not_seal_is_done_for_it() {
    let packet = Packet::new(Ip::V6, Transport::Tcp, (0..5000u32).map(|i| i as u8).collect());
    let large = Frame { bytes: packet.partial(), meta: packet.meta(1000) };
    let valid = FrameMeta::new(FrameFlags::CHECKSUM_VALID, 0, 0, Segmentation::NONE, 0);
    let cases = [
        (NetFeatures::MERGEABLE, 5, FrameMeta::default()),
        (NetFeatures::MERGEABLE | NetFeatures::RX_CHECKSUM, 5, valid),
        // Without MERGEABLE there is no taking of large frames.
        (OFFLOADS, 5, valid),
        (OFFLOADS | NetFeatures::MERGEABLE, 1, large.meta),
    ];
    for (features, count, meta) in cases {
        let (mut guest, mut queue) = receive(8, features);
        guest.post(8, 2048);
        guest.steering.deliver(large.clone());
        run(&mut queue);
        let frames = guest.frames();
        assert_eq!(frames.len(), count, "{features:?}");
        assert!(frames.iter().all(|(bytes, said)| {
            let said = FrameMeta(said.0 & !(4 << 56));
            said == meta && (count == 1 || packet.is_right(bytes))
        }));
    }
}

#[test]
fn a_grant_revoked_under_a_buffer_costs_that_buffer_and_no_frame() {
    for features in [NetFeatures::empty(), NetFeatures::MERGEABLE] {
        let (mut guest, mut queue) = receive(8, features);
        let gone = guest.ask(NetOp::RECEIVE.0, 0, 0, [0, place(LAST_PAGE, 2048), 0]);
        guest.ask(NetOp::RECEIVE.0, 0, 0, [0, place(ALL, 2048), 0]);
        run(&mut queue);
        guest.grants.remove(LAST_PAGE).unwrap();
        guest.steering.deliver(frame(1000));
        run(&mut queue);
        let done = guest.completions();
        let seen: Vec<_> = done.iter().map(|done| (done.id == gone, done.status, done.bytes)).collect();
        assert_eq!(seen, [(true, Status::BAD_GRANT, 0), (false, Status::OK, 1000)]);
        assert_eq!(guest.bytes_of(&done[1]), frame(1000).bytes);
        assert_eq!(guest.counters.snapshot().dropped, 0);
    }
}

#[test]
fn malformed_buffers_are_refused_at_once() {
    let (mut guest, mut queue) = merging();
    let good = [0, place(ALL, 100), 0];
    let cases = [
        (NetOp::TRANSMIT.0, 0, 0, good, Status::UNSUPPORTED),
        (NetOp::RECEIVE.0, 1, 0, good, Status::UNSUPPORTED),
        (NetOp::RECEIVE.0, 0, 1, good, Status::INVALID),
        (NetOp::RECEIVE.0, 0, 0, [1, good[1], 0], Status::INVALID),
        (NetOp::RECEIVE.0, 0, 0, [0, place(ALL, 0), 0], Status::INVALID),
        (NetOp::RECEIVE.0, 0, 0, [0, place(ALL, 65_555), 0], Status::TOO_LARGE),
        (NetOp::RECEIVE.0, 0, 0, [0, place(ALL, 100), PAGES as u64 * 4096 - 99], Status::BAD_GRANT),
    ];
    for (op, flags, aux, words, status) in cases {
        guest.ask(op, flags, aux, words);
        assert_eq!(queue.pass(8), Pass::Worked(1));
        assert_eq!(guest.completions().iter().map(|done| done.status).collect::<Vec<_>>(), [status]);
    }
}

#[test]
fn closing_aborts_the_buffers_and_closes_the_way_in() {
    let (mut guest, mut queue) = merging();
    guest.post(3, 100);
    run(&mut queue);
    guest.steering.inbox(0).unwrap().push(frame(60));
    queue.close();
    assert_eq!(guest.completions().iter().map(|done| done.status).collect::<Vec<_>>(), [Status::ABORTED; 3]);
    assert!(guest.steering.inbox(0).unwrap().is_empty());
    assert!(!guest.steering.deliver(frame(60)));
    assert_eq!(guest.steering.counters().unwanted, 1);
    assert_eq!(queue.pass(8), Pass::Latched);
}

#[test]
fn a_sleeping_queue_is_woken_by_each_frame_and_wakes_a_sleeping_guest() {
    const FRAMES: usize = 200;
    let steering = Steering::new(GUEST_MAC, vec![Inbox::new(16).unwrap()]);
    let interrupts = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&interrupts);
    let count = move |_: &SharedPages| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let (mut guest, queue) = receive_with(8, NetFeatures::MERGEABLE, steering, 0, count);
    let doorbell = EventFd::new(EFD_NONBLOCK).unwrap();
    let thread = QueueThread::spawn("receive", Box::new(queue), doorbell.try_clone().unwrap(), 0).unwrap();
    for n in 1..=FRAMES {
        guest.post(1, 2048);
        doorbell.write(1).unwrap();
        let before = interrupts.load(Ordering::SeqCst);
        let must_wait = guest.front.park() == Park::Armed;
        assert!(must_wait);
        guest.steering.deliver(frame(59 + n));
        // Far longer than it takes.
        for _ in 0..20_000 {
            if interrupts.load(Ordering::SeqCst) > before {
                break;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        assert_eq!(guest.frames(), [(frame(59 + n).bytes, FrameMeta::default())]);
    }
    thread.stop();
    assert_eq!((guest.counters.snapshot().late, guest.counters.snapshot().dropped), (0, 0));
}

/// Buffers and frames in any order.
#[derive(Clone, Debug)]
enum Step {
    Post(u32),
    Arrive(usize),
    Oversized(usize, u16),
    Pass(u32),
    Park,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![0..50u32, 50..4097u32, Just(u32::MAX)].prop_map(Step::Post),
        2 => (14..1600usize).prop_map(Step::Arrive),
        1 => (1..6000usize, 28..1400u16).prop_map(|(length, size)| Step::Oversized(length, size)),
        3 => (0..9u32).prop_map(Step::Pass),
        1 => Just(Step::Park),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_buffer_is_completed_once_and_every_frame_arrives_whole_or_not_at_all(
        steps in prop::collection::vec(step(), 1..60),
        features in any::<u64>(),
    ) {
        let features = NetFeatures::from_bits_truncate(features) - NetFeatures::RSS;
        let (mut guest, mut queue) = receive(8, features);
        let (mut posted, mut done) = (0u64, 0u64);
        let mut bytes = Vec::new();
        for step in steps {
            match step {
                Step::Post(length) if guest.front.room() > 0 => {
                    let at = guest.free_page();
                    guest.ask(NetOp::RECEIVE.0, 0, 0, [0, place(ALL, length), at]);
                    posted += 1;
                }
                Step::Post(_) => {}
                Step::Arrive(length) => { guest.steering.deliver(frame(length)); }
                Step::Oversized(length, size) => {
                    let packet = Packet::new(Ip::V4, Transport::Tcp, vec![9; length]);
                    guest.steering.deliver(Frame { bytes: packet.partial(), meta: packet.meta(size) });
                }
                Step::Pass(budget) => { let _ = queue.pass(budget); }
                Step::Park => { let _ = queue.park(); }
            }
            for received in guest.completions() {
                done += 1;
                let part = guest.bytes_of(&received);
                if received.status != Status::OK {
                    prop_assert!(part.is_empty());
                    continue;
                }
                bytes.extend(part);
                if received.meta.flags() & 4 == 0 {
                    let packet = Packet::new(Ip::V4, Transport::Tcp, vec![]);
                    let is_plain = bytes == frame(bytes.len().max(14)).bytes;
                    let is_large = received.meta.segmentation() != Segmentation::NONE;
                    prop_assert!(is_plain || is_large || packet.is_right(&bytes));
                    bytes.clear();
                } else {
                    prop_assert!(features.contains(NetFeatures::MERGEABLE));
                }
            }
            prop_assert!(bytes.is_empty(), "a frame is visible in part");
        }
        // As a thread that is stopped does.
        let _ = queue.pass(8);
        queue.close();
        prop_assert_eq!(posted, done + guest.completions().len() as u64);
    }

    #[test]
    fn any_words_in_the_ring_are_answered_or_latch_the_queue(
        writes in prop::collection::vec((0..8usize, 0..4usize, slot_word()), 1..60),
    ) {
        let (mut guest, mut queue) = merging();
        let mut latched = false;
        for (slot, word, value) in writes {
            let at = HEADER_BYTES + slot * REQUEST_BYTES + word * 8;
            guest.requests.word(at).unwrap().store(value, Ordering::SeqCst);
            guest.steering.deliver(frame(200));
            match queue.pass(8) {
                Pass::Worked(served) => prop_assert!(!latched && served <= 16),
                Pass::Idle => prop_assert!(!latched, "a latched queue stays latched"),
                Pass::Latched => latched = true,
            }
        }
        let _ = queue.park();
        queue.close();
        let counted = guest.counters.snapshot();
        prop_assert_eq!(counted.requests, counted.completions);
        // The frontend did not send these: it notices, and its own half latches.
        let _: BTreeSet<_> = std::iter::from_fn(|| guest.front.take().ok().flatten()).map(|done| done.id).collect();
        prop_assert_eq!(queue.pass(8), Pass::Latched);
    }
}
