//! A network card whose backend goes and comes back.

use super::net::{PLAIN, TestNet, frame, open, open_with, with_net};
use super::*;
use pvkit_abi::bus::{Class, DeviceState, Kind as MessageKind, Offer, StateChanged};
use pvkit_abi::net::{FrameHash, NetControl, NetFeatures, ReceiveMode};
use pvkit_abi::status::CallError;
use pvkit_guest_drivers::error::{Misuse, RequestError};
use pvkit_guest_drivers::fake::{Host, Stored};
use pvkit_guest_drivers::net::{NetOptions, NetPhy, Pair};
use zerocopy::IntoBytes;

fn goes_and_comes(host: &mut Host) {
    host.disconnect(1);
    host.reconnect(1);
}

/// A frame each way.
fn works(platform: &TestPlatform, pair: &mut Pair<'_, TestPlatform>, number: usize) {
    let (out, inward) = (frame(100 + number), frame(200 + number));
    pair.transmit.send(&out, PLAIN).unwrap();
    assert!(platform.calls.host().port(1).sent.last().is_some_and(|(_, bytes, _)| *bytes == out));
    platform.calls.host().receive(1, 0, &inward, PLAIN, FrameHash(0));
    let mut room = [0; 1518];
    let received = pair.receive.receive(&mut room).unwrap().unwrap();
    assert!(room[..received.length] == inward);
}

#[test]
fn handles_go_on_after_every_loss_and_nothing_leaks() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    works(&platform, &mut pair, 0);
    let live = platform.pages.0.live();
    for number in 1..=50_u64 {
        goes_and_comes(&mut platform.calls.host());
        assert_eq!(net.recover(&mut bus, LATE), Ok(true));
        assert_eq!(pair.resume(&mut net), Ok(true));
        assert_eq!((pair.receive.posted(), platform.calls.host().port(1).posted(0)), (32, 32));
        works(&platform, &mut pair, number as usize);
        assert_eq!(platform.pages.0.live(), live);
        let counters = (pair.transmit.queue_counters(), pair.receive.queue_counters());
        assert_eq!((counters.0.reconnects, counters.1.reconnects), (number, number));
        // The last one is taken with the next call.
        assert_eq!((pair.transmit.counters().sent, pair.receive.counters().received), (number, number + 1));
    }
    assert_eq!((net.recover(&mut bus, LATE), pair.resume(&mut net)), (Ok(false), Ok(false)));
    net.close(&mut bus, LATE).unwrap();
    pair.follow(&net).unwrap();
    drop((net, pair));
    assert_eq!(platform.pages.0.leaked(), 0);
}

#[test]
fn frames_in_flight_are_sent_at_most_once_and_counted() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    for length in [60, 61] {
        pair.transmit.send(&frame(length), PLAIN).unwrap();
    }
    platform.calls.host().deaf = true;
    for length in [62, 63, 64] {
        pair.transmit.send(&frame(length), PLAIN).unwrap();
    }
    let mut host = platform.calls.host();
    host.deaf = false;
    goes_and_comes(&mut host);
    drop(host);
    net.recover(&mut bus, LATE).unwrap();
    pair.resume(&mut net).unwrap();
    pair.transmit.send(&frame(65), PLAIN).unwrap();
    let sent: Vec<_> = platform.calls.host().port(1).sent.iter().map(|(_, bytes, _)| bytes.len()).collect();
    assert_eq!(sent, [60, 61, 65]);
    pair.transmit.poll(9).unwrap();
    let counters = pair.transmit.counters();
    assert_eq!((counters.sent, counters.lost, pair.transmit.outstanding()), (3, 3, 0));
}

#[test]
fn until_they_resume_handles_are_disconnected_and_their_memory_is_free() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    let live = platform.pages.0.live();
    platform.calls.host().disconnect(1);
    assert_eq!(net.recover(&mut bus, 1 << 20), Err(RequestError::TimedOut));
    assert!(net.is_over() && !net.is_back(&bus));
    pair.follow(&net).unwrap();
    assert!(platform.pages.0.live() + 32 < live);
    assert_eq!(pair.transmit.send(&frame(60), PLAIN), Err(RequestError::Disconnected));
    assert_eq!((pair.receive.wait(LATE), pair.resume(&mut net)), (Err(RequestError::Disconnected), Ok(false)));
    platform.calls.host().reconnect(1);
    bus.poll().unwrap();
    assert!(net.is_back(&bus));
    assert_eq!(net.recover(&mut bus, LATE), Ok(true));
    assert_eq!(pair.transmit.send(&frame(60), PLAIN), Err(RequestError::Disconnected));
    // Lost again before anybody took the new queues.
    goes_and_comes(&mut platform.calls.host());
    assert_eq!(net.recover(&mut bus, LATE), Ok(true));
    // Each handle by itself, as on two vCPUs.
    assert_eq!((pair.transmit.resume(&mut net), pair.receive.resume(&mut net)), (Ok(true), Ok(true)));
    works(&platform, &mut pair, 0);
    assert_eq!((platform.pages.0.live(), platform.pages.0.leaked()), (live + 1, 0));
}

#[test]
fn pairs_that_nobody_took_are_there_again_and_settings_too() {
    let platform = with_net(2, 1500);
    let features = NetFeatures::all();
    let (mut bus, mut net) = open_with(&platform, NetOptions { pairs: 2, features, ..NetOptions::default() });
    net.set_mode(&mut bus, ReceiveMode::ALL_MULTICAST, LATE).unwrap();
    net.set_multicast(&mut bus, &[[1, 0, 0x5e, 0, 0, 7]], LATE).unwrap();
    net.set_multicast(&mut bus, &[[1, 0, 0x5e, 0, 0, 9]], LATE).unwrap();
    let before = platform.calls.host().port(1).controls.clone();
    goes_and_comes(&mut platform.calls.host());
    assert_eq!(net.recover(&mut bus, LATE), Ok(true));
    let after = platform.calls.host().port(1).controls.split_off(before.len());
    assert_eq!(after, [before[0].clone(), before[2].clone()]);
    assert_eq!(after[0].0, NetControl::SET_MODE.0);
    let mut first = net.take_pair(0).unwrap();
    works(&platform, &mut first, 1);
    assert_eq!(first.resume(&mut net), Ok(false));
    assert_eq!(platform.calls.host().port(1).posted(1), 32);
}

#[test]
fn the_stacks_device_keeps_working() {
    use smoltcp::phy::{Device as _, RxToken as _, TxToken as _};
    use smoltcp::time::Instant;
    let platform = with_net(1, 1500);
    let (mut bus, mut net, pair) = open(&platform);
    let (mut inward, mut outward) = ([0; 1518], [0; 1518]);
    let mut device = NetPhy::new(pair, &mut inward, &mut outward);
    for round in 0..3 {
        platform.calls.host().disconnect(1);
        bus.poll().unwrap();
        net.refresh(&bus).unwrap();
        device.pair.follow(&net).unwrap();
        assert!(device.transmit(Instant::ZERO).is_none() && device.receive(Instant::ZERO).is_none());
        platform.calls.host().reconnect(1);
        net.recover(&mut bus, LATE).unwrap();
        device.pair.resume(&mut net).unwrap();
        device.transmit(Instant::ZERO).unwrap().consume(60, |bytes| bytes.fill(round));
        assert_eq!(platform.calls.host().port(1).sent.last().unwrap().1, [round; 60]);
        platform.calls.host().receive(1, 0, &frame(99), PLAIN, FrameHash(0));
        device.receive(Instant::ZERO).unwrap().0.consume(|bytes| assert!(bytes == frame(99)));
    }
    assert_eq!(device.dropped(), 0);
}

#[test]
fn a_port_that_is_not_what_it_was_is_not_taken_again() {
    // The address stands first in the configuration, then the MTU.
    for changed in [0, 6] {
        let platform = with_net(1, 1500);
        let (mut bus, mut net, mut pair) = open(&platform);
        let mut host = platform.calls.host();
        host.devices[0].offer.config[changed] ^= 0x10;
        goes_and_comes(&mut host);
        drop(host);
        assert_eq!(net.recover(&mut bus, LATE), Err(RequestError::Disconnected));
        assert_eq!((net.is_over(), pair.resume(&mut net)), (true, Ok(false)));
        let mut host = platform.calls.host();
        host.devices[0].offer.config[changed] ^= 0x10;
        goes_and_comes(&mut host);
        drop(host);
        assert_eq!(net.recover(&mut bus, LATE), Ok(true));
        pair.resume(&mut net).unwrap();
        works(&platform, &mut pair, 0);
    }
}

#[test]
fn an_offer_of_another_class_is_no_offer_and_one_with_less_is_refused_before_it_is_taken() {
    let lies: [fn(&mut Offer); 5] = [
        |offer| offer.max_transfer /= 2,
        |offer| offer.max_segments -= 1,
        |offer| offer.max_depth = 16,
        |offer| offer.features &= !NetFeatures::MERGEABLE.bits(),
        |offer| offer.max_queues = 0,
    ];
    for lie in lies {
        let platform = with_net(1, 1500);
        let (mut bus, mut net, mut pair) = open(&platform);
        let (truth, sealed) = (platform.calls.host().devices[0].offer, *net.sealed());
        let mut host = platform.calls.host();
        lie(&mut host.devices[0].offer);
        goes_and_comes(&mut host);
        drop(host);
        let requests = bus.counters().requests;
        assert!(net.recover(&mut bus, LATE).is_err());
        assert_eq!(bus.counters().requests, requests);
        let mut host = platform.calls.host();
        host.devices[0].offer = truth;
        host.devices[0].offer.class = Class::BLOCK;
        goes_and_comes(&mut host);
        drop(host);
        let soon = platform.calls.host().clock() + 100_000;
        assert_eq!(net.recover(&mut bus, soon), Err(RequestError::TimedOut));
        // More than before is no lie, and not used.
        let mut host = platform.calls.host();
        host.devices[0].offer = truth;
        host.devices[0].offer.max_transfer *= 2;
        goes_and_comes(&mut host);
        drop(host);
        assert_eq!((net.recover(&mut bus, LATE), pair.resume(&mut net)), (Ok(true), Ok(true)));
        assert_eq!(pair.receive.sealed().max_transfer, sealed.max_transfer);
        works(&platform, &mut pair, 0);
    }
}

#[test]
fn an_offer_of_an_older_epoch_is_no_offer() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, _pair) = open(&platform);
    let mut host = platform.calls.host();
    host.disconnect(1);
    let offer = host.devices[0].offer;
    host.message(MessageKind::OFFER, 1, 1, offer.as_bytes());
    host.deliver();
    drop(host);
    assert_eq!(net.recover(&mut bus, 1 << 22), Err(RequestError::TimedOut));
    assert_eq!(platform.calls.host().answers().last(), Some(&(CallError::STALE.to_result() as i32)));
}

#[test]
fn a_device_that_is_taken_away_or_refused_is_told_as_that() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, _pair) = open(&platform);
    let mut host = platform.calls.host();
    goes_and_comes(&mut host);
    host.tamper = Box::new(|stored, bytes| {
        if stored == Stored::Reply {
            bytes[..4].copy_from_slice(&(CallError::SEALED.to_result() as i32).to_le_bytes());
        }
    });
    drop(host);
    assert_eq!(net.recover(&mut bus, LATE), Err(RequestError::Refused(CallError::SEALED)));
    let mut host = platform.calls.host();
    host.tamper = Box::new(|_, _| {});
    host.message(MessageKind::RESCIND, 1, u64::MAX, &[]);
    host.deliver();
    drop(host);
    assert_eq!(net.recover(&mut bus, LATE), Err(RequestError::Disconnected));
}

#[test]
fn a_backend_that_goes_while_it_is_opened_is_waited_for_and_costs_no_page() {
    // After so many answers: ACCEPT, the grant and the first queue, the second queue.
    for answers in 0..4 {
        let platform = with_net(1, 1500);
        let (mut bus, mut net, mut pair) = open(&platform);
        let live = platform.pages.0.live();
        let mut host = platform.calls.host();
        goes_and_comes(&mut host);
        host.answers_left = answers;
        host.happenings.push_back(Box::new(|host| {
            goes_and_comes(host);
            host.answers_left = u32::MAX;
            host.kick();
        }));
        drop(host);
        assert_eq!(net.recover(&mut bus, LATE), Ok(true), "{answers}");
        assert_eq!(pair.resume(&mut net), Ok(true));
        works(&platform, &mut pair, 0);
        assert_eq!((platform.pages.0.live(), platform.pages.0.leaked()), (live + 1, 0), "{answers}");
    }
}

#[test]
fn a_host_that_goes_and_comes_for_ever_costs_a_deadline() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, _pair) = open(&platform);
    let mut host = platform.calls.host();
    host.disconnect(1);
    for _ in 0..100 {
        host.reconnect(1);
        host.disconnect(1);
    }
    drop(host);
    assert_eq!(net.recover(&mut bus, 1 << 22), Err(RequestError::TimedOut));
}

#[test]
fn a_loss_that_was_told_under_the_old_epoch_is_recovered_from_all_the_same() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    let mut host = platform.calls.host();
    let body = StateChanged { state: DeviceState::DISCONNECTED, reserved: [0; 3] };
    host.message(MessageKind::STATE_CHANGED, 1, net.sealed().epoch, body.as_bytes());
    host.deliver();
    drop(host);
    // Gone, but no promise that it is detached.
    assert_eq!((net.recover(&mut bus, LATE), net.is_over()), (Ok(false), false));
    let live = platform.pages.0.live();
    pair.follow(&net).unwrap();
    assert_eq!(platform.pages.0.live(), live);
    goes_and_comes(&mut platform.calls.host());
    assert_eq!((net.recover(&mut bus, LATE), pair.resume(&mut net)), (Ok(true), Ok(true)));
    works(&platform, &mut pair, 0);
}

#[test]
fn a_handle_of_another_opening_is_not_taken_for_one_of_this() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    net.close(&mut bus, LATE).unwrap();
    pair.follow(&net).unwrap();
    let mut other: TestNet<'_> = TestNet::open(&mut bus, 1, NetOptions::default(), GrantPolicy::Extent, LATE).unwrap();
    assert_eq!(pair.resume(&mut other), Err(RequestError::Misuse(Misuse::NoSuchDevice(1))));
}
