use super::*;
use crate::net::offload::packets::{Ip, Packet, Transport};
use crate::net::tests::port::{Receiver, receive_pair, run};
use crate::net::{BROADCAST, Inbox, ReceiveQueue};
use proptest::prelude::*;
use pvkit_abi::net::FrameMeta;

const LIMITS: TableLimits = TableLimits { addresses: 6, per_port: 4, ageing: Duration::from_secs(10) };

fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A guest that takes all it gets: tests see the switch's choice in its inbox.
struct Node {
    port: Arc<SwitchPort>,
    inbox: Arc<Inbox>,
    _guest: Receiver,
    _queue: ReceiveQueue,
}

fn node(switch: &Arc<Switch>, number: u8, isolated: bool, may_spoof: bool) -> Node {
    let inbox = Inbox::new(4).unwrap();
    let steering = Steering::new(mac(number), vec![inbox.clone()]);
    let (guest, queue) = receive_pair(8, NetFeatures::empty(), steering.clone(), 0);
    steering.set_mode(pvkit_abi::net::ReceiveMode::PROMISCUOUS);
    let port = switch.port(PortOptions { steering, isolated, may_spoof }).unwrap();
    Node { port, inbox, _guest: guest, _queue: queue }
}

fn frame(from: [u8; 6], to: [u8; 6]) -> Frame {
    Frame::finished([to.as_slice(), from.as_slice(), &[0x88; 50]].concat())
}

/// Which nodes got something; empties their inboxes.
fn got(nodes: &[Node]) -> Vec<usize> {
    let got = |node: &Node| !node.inbox.is_empty();
    let indices = (0..nodes.len()).filter(|index| got(&nodes[*index])).collect();
    nodes.iter().for_each(|node| node.inbox.clear());
    indices
}

#[test]
fn frames_go_to_the_port_of_their_destination_and_to_all_if_it_is_unknown() {
    let switch = Switch::new(SwitchLimits::default());
    let nodes: Vec<_> = (1..=4).map(|number| node(&switch, number, false, true)).collect();
    nodes[0].port.send(frame(mac(1), mac(3)));
    assert_eq!(got(&nodes), [2]);
    nodes[0].port.send(frame(mac(1), BROADCAST));
    assert_eq!(got(&nodes), [1, 2, 3]);
    nodes[0].port.send(frame(mac(1), mac(77)));
    assert_eq!(got(&nodes), [1, 2, 3]);
    nodes[3].port.send(frame(mac(77), mac(1)));
    assert_eq!(got(&nodes), [0]);
    nodes[0].port.send(frame(mac(1), mac(77)));
    assert_eq!(got(&nodes), [3], "learnt");
    nodes[3].port.send(frame(mac(4), mac(77)));
    assert_eq!(got(&nodes), [] as [usize; 0], "never back to where it came from");
    assert_eq!(nodes[3].port.counters(), PortSnapshot { sent: 1, unreachable: 1, ..PortSnapshot::default() });
}

#[test]
fn storm_from_one_port_ends_at_its_rate_and_costs_neither_its_known_ways_nor_the_others() {
    let switch = Switch::new(SwitchLimits { floods_per_second: 1, ..SwitchLimits::default() });
    let nodes: Vec<_> = (1..=3).map(|number| node(&switch, number, false, true)).collect();
    let started = Instant::now();
    for number in 0..1000 {
        nodes[0].port.send(frame(mac(1), if number % 2 == 0 { BROADCAST } else { mac(77) }));
    }
    assert_eq!(got(&nodes), [1, 2]);
    let counters = nodes[0].port.counters();
    assert!(counters.sent <= 1 + started.elapsed().as_secs() + 1, "{counters:?}");
    assert_eq!(counters.sent + counters.storms, 1000);
    nodes[0].port.send(frame(mac(1), mac(3)));
    assert_eq!(got(&nodes), [2], "its ways are open");
    nodes[1].port.send(frame(mac(2), BROADCAST));
    assert_eq!(got(&nodes), [0, 2], "so are the others' floods");
}

#[test]
fn isolated_ports_reach_only_those_that_are_not() {
    let switch = Switch::new(SwitchLimits::default());
    let nodes = [node(&switch, 1, true, false), node(&switch, 2, true, false), node(&switch, 3, false, false)];
    nodes[0].port.send(frame(mac(1), BROADCAST));
    assert_eq!(got(&nodes), [2]);
    nodes[0].port.send(frame(mac(1), mac(2)));
    assert_eq!(got(&nodes), [] as [usize; 0]);
    nodes[2].port.send(frame(mac(3), BROADCAST));
    assert_eq!(got(&nodes), [0, 1]);
    nodes[1].port.send(frame(mac(2), mac(3)));
    assert_eq!(got(&nodes), [2]);
}

#[test]
fn a_guest_sends_from_its_own_address_unless_it_may_spoof() {
    let switch = Switch::new(SwitchLimits::default());
    let nodes = [node(&switch, 1, false, false), node(&switch, 2, false, true), node(&switch, 3, false, false)];
    nodes[0].port.send(frame(mac(9), BROADCAST));
    assert_eq!(got(&nodes), [] as [usize; 0]);
    nodes[1].port.send(frame([1, 0, 0, 0, 0, 9], BROADCAST));
    assert_eq!(got(&nodes), [] as [usize; 0], "a group sends nothing");
    nodes[1].port.send(frame(mac(1), BROADCAST));
    assert_eq!(got(&nodes), [0, 2]);
    nodes[2].port.send(frame(mac(3), mac(1)));
    assert_eq!(got(&nodes), [0], "an address that a port has is not learnt elsewhere");
    nodes[2].port.send(Frame::finished(vec![0xff; 9]));
    assert_eq!(nodes[0].port.counters().spoofed + nodes[1].port.counters().spoofed, 2);
    assert_eq!(nodes[2].port.counters().spoofed, 1);
}

#[test]
fn a_slow_receiver_loses_frames_and_holds_nobody_up() {
    let switch = Switch::new(SwitchLimits::default());
    let nodes: Vec<_> = (1..=3).map(|number| node(&switch, number, false, false)).collect();
    for _ in 0..10 {
        nodes[0].port.send(frame(mac(1), BROADCAST));
        while nodes[1].inbox.pop().is_some() {}
    }
    assert_eq!((nodes[1].inbox.dropped(), nodes[2].inbox.dropped()), (0, 6));
}

#[test]
fn ports_are_bounded_have_an_address_of_their_own_and_are_unplugged_by_drop() {
    let switch = Switch::new(SwitchLimits { ports: 2, ..SwitchLimits::default() });
    let plug = |mac| switch.port(PortOptions::new(Steering::new(mac, vec![]))).map(|_| ());
    assert_eq!(plug([1, 0, 0, 0, 0, 1]), Err(SwitchError::NoPortsAddress([1, 0, 0, 0, 0, 1])));
    assert_eq!(plug([0; 6]), Err(SwitchError::NoPortsAddress([0; 6])));
    let first = node(&switch, 1, false, false);
    assert_eq!(plug(mac(1)), Err(SwitchError::AddressTaken(mac(1))));
    assert_eq!(plug(mac(2)), Ok(()));
    let second = node(&switch, 2, false, false);
    assert_eq!(plug(mac(3)), Err(SwitchError::Full(2)));
    drop(second);
    first.port.send(frame(mac(1), mac(2)));
    assert_eq!(first.port.counters().unreachable, 1);
    assert_eq!(Arc::strong_count(&switch), 2);
    drop(first);
    assert_eq!((Arc::strong_count(&switch), switch.state().table.len()), (1, 0));
}

#[test]
fn work_that_one_guest_left_undone_is_done_for_another_that_takes_no_such_frames() {
    let switch = Switch::new(SwitchLimits::default());
    let sender = node(&switch, 1, false, false);
    let packet = Packet::new(Ip::V4, Transport::Tcp, (0..9000u32).map(|i| i as u8).collect());
    let mut large = Frame { bytes: packet.partial(), meta: packet.meta(1000) };
    large.bytes[..6].copy_from_slice(&mac(2));
    large.bytes[6..12].copy_from_slice(&mac(1));
    for features in [NetFeatures::empty(), OFFLOADS | NetFeatures::MERGEABLE] {
        let steering = Steering::new(mac(2), vec![Inbox::new(4).unwrap()]);
        let (mut guest, mut queue) = receive_pair(16, features, steering.clone(), 0);
        let _port = switch.port(PortOptions::new(steering)).unwrap();
        guest.post(16, 2048);
        sender.port.send(large.clone());
        run(&mut queue);
        let frames = guest.frames();
        if features.is_empty() {
            assert_eq!(frames.len(), 9);
            assert!(frames.iter().all(|(bytes, meta)| packet.is_right(bytes) && *meta == FrameMeta::default()));
        } else {
            assert_eq!(frames, [(large.bytes.clone(), large.meta)]);
        }
    }
}

#[test]
fn addresses_age_and_move() {
    let mut table = MacTable::new(LIMITS);
    table.learn(mac(1), 7, seconds(0));
    assert_eq!(table.find(mac(1), seconds(9)), Some(7));
    assert_eq!(table.find(mac(1), seconds(10)), None);
    table.learn(mac(1), 7, seconds(9));
    assert_eq!(table.find(mac(1), seconds(18)), Some(7));
    table.learn(mac(1), 8, seconds(18));
    assert_eq!(table.find(mac(1), seconds(19)), Some(8));
    assert!(table.pin(mac(1), 9));
    assert!(!table.pin(mac(1), 8));
    table.learn(mac(1), 8, seconds(20));
    assert_eq!(table.find(mac(1), seconds(1000)), Some(9));
}

#[test]
fn a_port_that_claims_every_address_takes_its_share_and_no_more() {
    let mut table = MacTable::new(LIMITS);
    table.learn(mac(200), 2, seconds(0));
    for n in 0..100 {
        table.learn(mac(n), 1, seconds(1));
    }
    assert_eq!(table.len(), 5);
    assert_eq!(table.find(mac(200), seconds(1)), Some(2));
    table.learn(mac(50), 1, seconds(12));
    assert_eq!((table.find(mac(50), seconds(12)), table.len()), (Some(1), 1), "the old ones made room");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_stays_within_its_bounds(steps in prop::collection::vec((0..5u8, 0..20u8, 0..4u64, 0..4u64), 0..200)) {
        let mut table = MacTable::new(LIMITS);
        let mut now = Duration::ZERO;
        let mut pinned = BTreeMap::new();
        for (step, address, port, wait) in steps {
            now += seconds(wait);
            match step {
                0 if table.pin(mac(address), port) => { pinned.insert(address, port); }
                1 => {
                    table.unplug(port);
                    pinned.retain(|_, of| *of != port);
                }
                _ => table.learn(mac(address), port, now),
            }
            prop_assert!(table.len() <= LIMITS.addresses + pinned.len());
            for (address, port) in &pinned {
                prop_assert_eq!(table.find(mac(*address), now), Some(*port));
            }
            let counted: usize = table.learnt.values().sum();
            prop_assert_eq!(counted + pinned.len(), table.len());
            prop_assert!(table.learnt.values().all(|count| *count <= LIMITS.per_port));
        }
    }
}
