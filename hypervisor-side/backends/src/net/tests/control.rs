use super::port::{Sink, receive_pair, run};
use crate::QueueEngine;
use crate::net::offload::packets::{GUEST_MAC, Ip, Packet, Transport};
use crate::net::*;
use proptest::prelude::*;
use pvkit_abi::net::*;
use pvkit_abi::status::CallError;
use std::sync::Arc;
use zerocopy::IntoBytes;

const EVERY: NetFeatures = NetFeatures::all();

fn port(pairs: usize) -> (Arc<Steering>, PortControl, Arc<Sink>) {
    let steering = Steering::new(GUEST_MAC, (0..pairs).map(|_| Inbox::new(8).unwrap()).collect());
    let sink = Arc::new(Sink::default());
    (steering.clone(), PortControl::new(sink.clone(), steering), sink)
}

fn to(destination: [u8; 6]) -> Frame {
    Frame::finished([destination.as_slice(), &[0; 54]].concat())
}

const GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const OTHER_GROUP: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn filter(addresses: &[[u8; 6]]) -> MulticastFilter {
    let mut list = MulticastFilter { count: addresses.len() as u32, addresses: [[0; 6]; MAX_MULTICAST] };
    list.addresses[..addresses.len()].copy_from_slice(addresses);
    list
}

/// Which of own, broadcast, the two groups and another's frames pass.
fn passes(steering: &Steering) -> [bool; 5] {
    [GUEST_MAC, BROADCAST, GROUP, OTHER_GROUP, OTHER].map(|destination| {
        steering.inbox(0).unwrap().clear();
        steering.deliver(to(destination))
    })
}

#[test]
fn the_filter_passes_what_the_guest_asked_for() {
    let (steering, control, _sink) = port(1);
    let (_guest, _queue) = receive_pair(8, EVERY, steering.clone(), 0);
    assert_eq!(passes(&steering), [true, true, true, true, false], "no filter was negotiated");
    control.opened(1, EVERY);
    assert_eq!(passes(&steering), [true, true, false, false, false]);
    let set = |operation: NetControl, data: &[u8]| control.control(operation.0, data);
    assert_eq!(set(NetControl::SET_MULTICAST, filter(&[GROUP]).as_bytes()), Ok(()));
    assert_eq!(passes(&steering), [true, true, true, false, false]);
    assert_eq!(set(NetControl::SET_MODE, &ReceiveMode::ALL_MULTICAST.bits().to_le_bytes()), Ok(()));
    assert_eq!(passes(&steering), [true, true, true, true, false]);
    assert_eq!(set(NetControl::SET_MODE, &ReceiveMode::PROMISCUOUS.bits().to_le_bytes()), Ok(()));
    assert_eq!(passes(&steering), [true; 5]);
    assert_eq!(steering.counters().filtered, 1 + 3 + 2 + 1);
}

#[test]
fn a_new_epoch_forgets_what_the_last_guest_had_set() {
    let (steering, control, sink) = port(1);
    let (_guest, _queue) = receive_pair(8, EVERY, steering.clone(), 0);
    control.opened(1, EVERY);
    control.control(NetControl::SET_MODE.0, &[1, 0, 0, 0]).unwrap();
    control.opened(1, EVERY);
    assert!(passes(&steering)[4], "a second queue of the same epoch changes nothing");
    control.opened(2, NetFeatures::FILTER);
    assert_eq!(passes(&steering), [true, true, false, false, false]);
    control.closed();
    control.closed();
    assert_eq!(control.control(NetControl::SET_MODE.0, &[0; 4]), Err(CallError::UNSUPPORTED));
    let agreed = [EVERY, NetFeatures::FILTER, NetFeatures::empty()];
    assert_eq!(*sink.agreed.lock().unwrap(), agreed);
}

#[test]
fn control_messages_that_lie_are_refused_by_name() {
    let (_steering, control, _sink) = port(2);
    let rss = Rss { kinds: 2, key: [1; 40], table: [1; 32] };
    assert_eq!(control.control(NetControl::SET_MODE.0, &[0; 4]), Err(CallError::UNSUPPORTED), "not open");
    control.opened(1, EVERY);
    let mut too_many = filter(&[GROUP]);
    too_many.count = 17;
    let no_group = filter(&[OTHER]);
    let (none, unknown) = (Rss { kinds: 1, ..rss }, Rss { kinds: 128, ..rss });
    let beyond = Rss { table: [2; 32], ..rss };
    let cases: [(NetControl, &[u8], CallError); 13] = [
        (NetControl(0), &[], CallError::UNKNOWN),
        (NetControl(5), &[], CallError::UNKNOWN),
        (NetControl::SET_MODE, &[0; 3], CallError::INVALID),
        (NetControl::SET_MODE, &[0; 5], CallError::INVALID),
        (NetControl::SET_MODE, &[4, 0, 0, 0], CallError::INVALID),
        (NetControl::SET_MULTICAST, &[], CallError::INVALID),
        (NetControl::SET_MULTICAST, too_many.as_bytes(), CallError::INVALID),
        (NetControl::SET_MULTICAST, no_group.as_bytes(), CallError::INVALID),
        (NetControl::SET_RSS, &rss.as_bytes()[1..], CallError::INVALID),
        (NetControl::SET_RSS, none.as_bytes(), CallError::INVALID),
        (NetControl::SET_RSS, unknown.as_bytes(), CallError::INVALID),
        (NetControl::SET_RSS, beyond.as_bytes(), CallError::INVALID),
        (NetControl::ANNOUNCED, &[0], CallError::INVALID),
    ];
    for (operation, data, error) in cases {
        assert_eq!(control.control(operation.0, data), Err(error), "{operation:?} {data:?}");
    }
    assert_eq!(control.control(NetControl::SET_RSS.0, rss.as_bytes()), Ok(()));
    assert_eq!(control.control(NetControl::ANNOUNCED.0, &[]), Ok(()));
    assert_eq!(control.announced(), 1);
}

#[test]
fn scaling_picks_the_pair_that_the_table_names_and_completions_carry_the_hash() {
    let (steering, control, _sink) = port(2);
    let features = control.opened(1, EVERY);
    let (_first, mut first_queue) = receive_pair(8, features, steering.clone(), 0);
    let (mut guest, mut queue) = receive_pair(8, features, steering.clone(), 1);
    let packet = Packet::new(Ip::V4, Transport::Udp, vec![1; 20]);
    let frame = Frame { bytes: packet.partial(), meta: packet.meta(0) };
    let rss = Rss { kinds: 1 << HashKind::UDP4.0, key: [0x5a; 40], table: [1; 32] };
    guest.post(2, 2048);
    run(&mut queue);
    steering.deliver(frame.clone());
    assert!(!steering.inbox(0).unwrap().is_empty(), "scaling is off: the first pair");
    control.control(NetControl::SET_RSS.0, rss.as_bytes()).unwrap();
    steering.deliver(frame.clone());
    run(&mut queue);
    let done = guest.completions();
    let expected = offload::toeplitz::hash_frame(&frame.bytes, &rss).unwrap();
    assert_eq!(done.iter().map(|done| (done.hash.hash(), done.hash.kind())).collect::<Vec<_>>(), [expected]);
    steering.inbox(0).unwrap().clear();
    queue.close();
    steering.deliver(frame.clone());
    assert!(!steering.inbox(0).unwrap().is_empty(), "the pair is closed: the first that is open");
    first_queue.close();
    assert!(!steering.deliver(frame));
}

#[test]
fn a_loopback_sends_back_what_was_sent() {
    let (steering, _control, _sink) = port(1);
    let (mut guest, mut queue) = receive_pair(8, EVERY, steering.clone(), 0);
    let loopback = Loopback::new(steering);
    guest.post(1, 2048);
    loopback.send(to(OTHER));
    run(&mut queue);
    assert_eq!(guest.frames(), [(to(OTHER).bytes, FrameMeta::default())]);
}

#[test]
fn an_offer_names_the_networks_offloads_and_the_queues_own() {
    let config = NetConfig { mac: GUEST_MAC, mtu: 1500, flags: 1, speed: 0 };
    let offer = offer(&Sink::default(), 3, config, 4, 256);
    assert_eq!((offer.instance, offer.max_queues, offer.max_depth), (3, 8, 256));
    assert_eq!(offer.features, NetFeatures::all().bits());
    assert_eq!(offer.config[..12], [2, 0, 0, 0, 0, 2, 0xdc, 5, 1, 0, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_control_message_is_answered(operation in 0..6u16, data in prop::collection::vec(any::<u8>(), 0..110)) {
        let (steering, control, _sink) = port(2);
        control.opened(1, EVERY);
        let _ = control.control(operation, &data);
        let _ = steering.deliver(to(GUEST_MAC));
    }
}
