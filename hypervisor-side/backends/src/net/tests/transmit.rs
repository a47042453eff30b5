use super::port::{MTU, send, transmit};
use crate::fake_guest::{ALL, Ask, READ_ONLY, WRITE_ONLY, ok, place, refused};
use crate::net::offload::packets::{Ip, Packet, Transport};
use crate::net::{Frame, OFFLOADS};
use crate::{Pass, QueueEngine};
use proptest::prelude::*;
use pvkit_abi::grant::{GrantRef, Segment};
use pvkit_abi::net::{FrameMeta, MAX_FRAME, NetFeatures};
use pvkit_abi::ring::{HEADER_BYTES, REQUEST_BYTES, RequestFlags};
use pvkit_abi::status::Status;
use std::sync::atomic::Ordering;
use zerocopy::IntoBytes;

fn every() -> NetFeatures {
    OFFLOADS | NetFeatures::INDIRECT
}

#[test]
fn a_frame_arrives_as_it_was_with_its_metadata() {
    let (mut guest, mut queue, sink) = transmit(every());
    let packet = Packet::new(Ip::V4, Transport::Tcp, vec![5; 700]);
    let (bytes, meta) = (packet.partial(), packet.meta(300));
    guest.fill(100, &bytes);
    assert_eq!(guest.ask(&mut queue, send(meta, bytes.len(), 100)), ok(0));
    let counted = guest.counters.snapshot();
    assert_eq!((counted.frames, counted.bytes_written), (1, bytes.len() as u64));
    assert_eq!(sink.take(), [Frame { bytes, meta }]);
}

#[test]
fn a_frame_is_gathered_from_the_segments_of_a_list() {
    let (mut guest, mut queue, sink) = transmit(every());
    let frame: Vec<u8> = (0..60).collect();
    for (at, part) in [(5000, &frame[..7]), (300, &frame[7..50]), (9001, &frame[50..])] {
        guest.fill(at, part);
    }
    let entry = |offset, length| Segment { grant: ALL, length, offset };
    let list = [entry(5000, 7), entry(300, 43), entry(9001, 10)];
    guest.fill(20_480, list.as_bytes());
    let flags = RequestFlags::INDIRECT.bits();
    let ask = Ask { flags, aux: 3, ..send(FrameMeta::default(), 48, 20_480) };
    assert_eq!(guest.ask(&mut queue, ask), ok(0));
    assert_eq!(sink.take(), [Frame::finished(frame)]);
}

#[test]
fn what_is_wrong_with_a_request_is_told_and_nothing_is_sent() {
    let (mut guest, mut queue, sink) = transmit(NetFeatures::TX_CHECKSUM | NetFeatures::INDIRECT);
    let plain = FrameMeta::default();
    let good = send(plain, 60, 0);
    let largest = usize::from(MTU) + 14;
    let indirect = Ask { flags: 1, ..good };
    let tcp = Packet::new(Ip::V4, Transport::Tcp, vec![5; 700]);
    let cases = [
        (Ask { op: 2, ..good }, Status::UNSUPPORTED),
        (Ask { flags: 16, ..good }, Status::UNSUPPORTED),
        (Ask { aux: 1, ..good }, Status::INVALID),
        (send(plain, 0, 0), Status::INVALID),
        (send(plain, 13, 0), Status::INVALID),
        (send(plain, largest + 1, 0), Status::TOO_LARGE),
        (send(plain, MAX_FRAME + 1, 0), Status::TOO_LARGE),
        (send(plain, u32::MAX as usize, 0), Status::TOO_LARGE),
        (send(tcp.meta(200), 754, 0), Status::UNSUPPORTED),
        (send(FrameMeta(1 << 63), 60, 0), Status::UNSUPPORTED),
        (send(FrameMeta(7), 60, 0), Status::INVALID),
        (good.grant(WRITE_ONLY), Status::BAD_GRANT),
        (good.grant(GrantRef::new(0, 2)), Status::BAD_GRANT),
        (send(plain, 60, u64::MAX - 8), Status::BAD_GRANT),
        (send(plain, 60, 64 * 4096 - 59), Status::BAD_GRANT),
        (indirect, Status::INVALID),
        (Ask { aux: 65, words: [0, place(ALL, 65 * 16), 0], ..indirect }, Status::TOO_LARGE),
        (Ask { aux: 2, words: [0, place(ALL, 33), 0], ..indirect }, Status::INVALID),
        (Ask { aux: 2, words: [0, place(ALL, 32), 0], ..indirect }, Status::INVALID),
        (Ask { aux: 2, words: [0, place(WRITE_ONLY, 32), 0], ..indirect }, Status::BAD_GRANT),
        (Ask { aux: 2, words: [0, place(ALL, 32), 20_480], ..indirect }, Status::INVALID),
    ];
    let entry = |length| Segment { grant: ALL, length, offset: 0 };
    guest.fill(20_480, [entry(60), entry(0)].as_bytes());
    for (ask, status) in cases {
        assert_eq!(guest.ask(&mut queue, ask), refused(status), "{ask:x?}");
    }
    assert_eq!(sink.take(), []);
    assert_eq!(guest.ask(&mut queue, good.grant(READ_ONLY)), ok(0));
    assert_eq!(guest.ask(&mut queue, send(plain, largest, 0)), ok(0));
}

#[test]
fn an_offload_that_needs_another_is_not_there_without_it() {
    let (mut guest, mut queue, sink) = transmit(every() - NetFeatures::TX_CHECKSUM);
    let packet = Packet::new(Ip::V4, Transport::Tcp, vec![5; 700]);
    let bytes = packet.partial();
    guest.fill(0, &bytes);
    assert_eq!(guest.ask(&mut queue, send(packet.meta(300), bytes.len(), 0)), refused(Status::UNSUPPORTED));
    assert_eq!(sink.take(), []);
}

fn any_meta() -> impl Strategy<Value = u64> {
    let packet = Packet::new(Ip::V4, Transport::Tcp, vec![]);
    prop_oneof![Just(0), Just(packet.meta(0).0), (0..2000u16).prop_map(move |size| packet.meta(size).0), any::<u64>()]
}

fn any_length() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..2000u32, 2 => 60_000..70_000u32, 1 => any::<u32>()]
}

fn any_entry() -> impl Strategy<Value = Segment> {
    (any_length(), 0..200_000u64).prop_map(|(length, offset)| Segment { grant: ALL, length, offset })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_completed_once_and_what_is_sent_was_judged(
        asks in prop::collection::vec((0..3u8, 0..3u8, any_meta(), any_length(), any::<bool>()), 1..8),
        list in prop::collection::vec(any_entry(), 1..5),
    ) {
        let (mut guest, mut queue, sink) = transmit(every());
        guest.fill(0, &Packet::new(Ip::V4, Transport::Tcp, vec![1; 60_000]).partial());
        guest.fill(40 * 4096, list.as_bytes());
        for (op, flags, meta, length, exact) in asks {
            let ask = match flags {
                1 => Ask { flags, aux: list.len() as u16, ..send(FrameMeta(meta), list.len() * 16, 40 * 4096) },
                _ if exact => send(FrameMeta(meta), 60_054, 0),
                _ => Ask { op, flags, ..send(FrameMeta(meta), length as usize, 0) },
            };
            let result = guest.ask(&mut queue, ask);
            prop_assert_eq!(sink.take().len(), usize::from(result.status() == Status::OK));
        }
        let counted = guest.counters.snapshot();
        prop_assert_eq!(counted.requests, counted.completions);
    }

    #[test]
    fn any_words_in_the_ring_are_answered_or_latch_the_queue(
        writes in prop::collection::vec((0..8usize, 0..4usize, slot_word()), 1..60),
    ) {
        let (guest, mut queue, _sink) = transmit(every());
        let mut latched = false;
        for (slot, word, value) in writes {
            let at = HEADER_BYTES + slot * REQUEST_BYTES + word * 8;
            guest.requests.word(at).unwrap().store(value, Ordering::SeqCst);
            match queue.pass(8) {
                Pass::Worked(served) => prop_assert!(!latched && served <= 8),
                Pass::Idle => prop_assert!(!latched, "a latched queue stays latched"),
                Pass::Latched => latched = true,
            }
            let counted = guest.counters.snapshot();
            prop_assert_eq!(counted.requests, counted.completions);
        }
        let _ = queue.park();
        queue.close();
        prop_assert_eq!(queue.pass(8), Pass::Latched);
    }
}

/// Words that look like word 0 of a slot in an early lap, or like anything.
pub fn slot_word() -> impl Strategy<Value = u64> {
    let plausible = (0..4u64, 0..9u64, prop_oneof![8 => 1..3u64, 1 => any::<u64>()])
        .prop_map(|(op, id, tag)| op | id << 16 | tag << 48);
    let segment = (0..3000u64).prop_map(|length| u64::from(ALL.0) | length << 32);
    prop_oneof![3 => plausible, 2 => segment, 1 => any::<u64>()]
}
