//! The network driver against an honest host.

use super::*;
use pvkit_abi::bus::{CONFIG_BYTES, Class};
use pvkit_abi::net::{
    FrameFlags, FrameHash, FrameMeta, LinkFlags, NetConfig, NetControl, NetFeatures, ReceiveMode, Segmentation,
};
use pvkit_abi::status::Status;
use pvkit_guest_drivers::error::{BusError, Misuse, RequestError};
use pvkit_guest_drivers::net::{Net, NetOptions, NetRx, NetTx, Pair};
use pvkit_guest_drivers::platform::Platform;
use zerocopy::{FromZeros, IntoBytes};

/// Nothing is left to do.
pub const PLAIN: FrameMeta = FrameMeta(0);
const NOT_HASHED: FrameHash = FrameHash(0);

pub type TestNet<'p> = Net<'p, TestPlatform, 32, 2>;

pub fn with_net(pairs: u16, mtu: u16) -> TestPlatform {
    fake::platform(vec![Device::net(pairs, mtu)])
}

pub fn open_with(platform: &TestPlatform, options: NetOptions) -> (Bus<'_, TestPlatform>, TestNet<'_>) {
    let mut bus = Bus::connect(platform).expect("connects");
    let device = bus.find(Class::NET, 0).expect("a network is offered");
    let net = Net::open(&mut bus, device, options, GrantPolicy::Extent, LATE).expect("opens");
    (bus, net)
}

pub fn open(platform: &TestPlatform) -> (Bus<'_, TestPlatform>, TestNet<'_>, Pair<'_, TestPlatform>) {
    let (bus, mut net) = open_with(platform, NetOptions::default());
    let pair = net.take_pair(0).expect("the first pair");
    (bus, net, pair)
}

/// An untagged frame.
pub fn frame(length: usize) -> Vec<u8> {
    let mut frame = pattern(length);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame
}

fn all() -> NetOptions {
    NetOptions { features: NetFeatures::all(), ..NetOptions::default() }
}

#[test]
fn handles_may_go_to_other_threads() {
    fn sendable<T: Send>() {}
    use pvkit_guest_drivers::platform::{Composed, static_pool::StaticPages, x86::X86Calls};
    fn check<P: Platform + Sync>(_: &P) {
        sendable::<NetTx<'_, P>>();
        sendable::<NetRx<'_, P>>();
        sendable::<Pair<'_, P>>();
    }
    // That it compiles is the proof, for every platform that vCPUs share.
    let _ = check::<Composed<StaticPages<1>, X86Calls>>;
}

#[test]
fn frames_arrive_at_the_host_as_they_were_sent() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    for length in [14, 15, 60, 1514] {
        pair.transmit.send(&frame(length), PLAIN).unwrap();
    }
    let lengths: Vec<_> = platform.calls.host().port(1).sent.iter().map(|(_, bytes, _)| bytes.len()).collect();
    assert_eq!(lengths, [14, 15, 60, 1514]);
    assert!(platform.calls.host().port(1).sent.iter().all(|(_, bytes, _)| *bytes == frame(bytes.len())));
}

#[test]
fn a_batch_of_frames_rings_at_most_once() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    let frames: Vec<_> = (0..20).map(|i| frame(100 + i)).collect();
    let before = platform.calls.host().counts.doorbells;
    let (count, ended) = pair.transmit.send_batch(frames.iter().map(|frame| (&frame[..], PLAIN)));
    assert_eq!((count, ended), (20, Ok(())));
    assert_eq!(platform.calls.host().counts.doorbells, before + 1);
    assert_eq!(platform.calls.host().port(1).sent.len(), 20);
}

#[test]
fn sending_is_full_at_the_depth_and_goes_on_when_the_host_has_taken_frames() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().lazy = true;
    for _ in 0..32 {
        pair.transmit.send(&frame(64), PLAIN).unwrap();
    }
    assert_eq!(pair.transmit.send(&frame(64), PLAIN), Err(RequestError::Full));
    assert_eq!(pair.transmit.queue_counters().full, 1);
    pair.transmit.wait(LATE).unwrap();
    pair.transmit.send(&frame(64), PLAIN).unwrap();
    assert_eq!(pair.transmit.outstanding(), 1);
    assert_eq!(pair.transmit.counters().sent, 32);
}

#[test]
fn buffers_are_used_again() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    pair.transmit.send(&frame(64), PLAIN).unwrap();
    let live = platform.pages.0.live();
    for _ in 0..1000 {
        pair.transmit.send(&frame(1514), PLAIN).unwrap();
    }
    assert_eq!(platform.pages.0.live(), live);
}

#[test]
fn an_oversized_frame_is_handed_over_uncut() {
    let platform = with_net(1, 1500);
    let (_bus, mut net) = open_with(&platform, all());
    let mut pair = net.take_pair(0).unwrap();
    let large = frame(65_000);
    let meta = FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, 34, 16, Segmentation::TCP4, 1448);
    pair.transmit.send(&large, meta).unwrap();
    assert!(platform.calls.host().port(1).sent == [(0, large.clone(), meta)]);
    assert_eq!(pair.transmit.send(&large, PLAIN), Err(Misuse::Metadata("length").into()));
}

#[test]
fn what_contradicts_itself_or_was_not_sealed_is_not_sent() {
    let platform = with_net(1, 1500);
    let (_bus, mut net) = open_with(&platform, all());
    let mut pair = net.take_pair(0).unwrap();
    let partial = |start, offset, cut, size| FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, start, offset, cut, size);
    let none = Segmentation::NONE;
    for (meta, field) in [
        (partial(34, 65, none, 0), "checksum place"),
        (partial(u16::MAX, u16::MAX, none, 0), "checksum place"),
        (partial(13, 0, none, 0), "checksum place"),
        (partial(34, 16, none, 1), "segment size"),
        (partial(34, 16, Segmentation::TCP4, 27), "segment size"),
        (partial(34, 16, Segmentation(9), 1000), "segmentation"),
        (FrameMeta::new(FrameFlags::empty(), 1, 0, none, 0), "metadata"),
        (FrameMeta::new(FrameFlags::CHECKSUM_VALID, 0, 0, none, 0), "flags"),
        (FrameMeta::new(FrameFlags::MORE, 0, 0, none, 0), "flags"),
        (FrameMeta(1 << 63), "flags"),
    ] {
        assert_eq!(pair.transmit.send(&frame(100), meta), Err(Misuse::Metadata(field).into()), "{meta:x?}");
    }
    assert_eq!(pair.transmit.send(&[0; 13], PLAIN), Err(Misuse::Metadata("length").into()));
    assert_eq!(platform.calls.host().port(1).sent.len(), 0);
    pair.transmit.send(&frame(100), partial(34, 64, none, 0)).unwrap();

    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    assert_eq!(pair.transmit.send(&frame(100), partial(34, 16, none, 0)), Err(RequestError::Unsupported));
}

#[test]
fn a_frame_that_the_host_refuses_is_counted() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().devices[0].statuses.push_back(Some((Status::TOO_LARGE, 0)));
    pair.transmit.send(&frame(64), PLAIN).unwrap();
    pair.transmit.send(&frame(64), PLAIN).unwrap();
    pair.transmit.poll(8).unwrap();
    let counters = pair.transmit.counters();
    assert_eq!((counters.sent, counters.refused), (1, 1));
    assert_eq!(counters.last_refusal, Some((Status::TOO_LARGE, 0)));
}

#[test]
fn frames_arrive_at_the_guest_as_they_were_delivered() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    let mut room = [0; 2048];
    assert_eq!(pair.receive.receive(&mut room), Ok(None));
    for length in [14, 60, 1514, 1518] {
        platform.calls.host().receive(1, 0, &frame(length), PLAIN, NOT_HASHED);
        let received = pair.receive.receive(&mut room).unwrap().unwrap();
        assert_eq!((received.length, received.meta), (length, PLAIN));
        assert!(room[..length] == frame(length));
    }
    assert_eq!(pair.receive.receive(&mut room), Ok(None));
}

#[test]
fn a_jumbo_frame_comes_in_several_buffers() {
    let platform = with_net(1, 9000);
    let (_bus, _net, mut pair) = open(&platform);
    let mut room = [0; 9018];
    for length in [4096, 4097, 8192, 9014] {
        platform.calls.host().receive(1, 0, &frame(length), PLAIN, NOT_HASHED);
        let received = pair.receive.receive(&mut room).unwrap().unwrap();
        assert_eq!((received.length, received.meta), (length, PLAIN));
        assert!(room[..length] == frame(length));
    }
    pair.transmit.send(&frame(9014), PLAIN).unwrap();
    assert!(platform.calls.host().port(1).sent[0].1 == frame(9014));
}

#[test]
fn an_uncut_frame_comes_with_its_metadata_and_hash() {
    let platform = with_net(1, 1500);
    let (_bus, mut net) = open_with(&platform, all());
    let mut pair = net.take_pair(0).unwrap();
    let meta = FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, 34, 16, Segmentation::TCP4, 1448);
    let hash = FrameHash::new(0x1234_5678, pvkit_abi::net::HashKind::TCP4);
    platform.calls.host().receive(1, 0, &frame(65_000), meta, hash);
    let mut room = vec![0; 65_554];
    let received = pair.receive.receive(&mut room).unwrap().unwrap();
    assert_eq!((received.length, received.meta, received.hash), (65_000, meta, hash));
    assert!(room[..65_000] == frame(65_000));
}

#[test]
fn received_buffers_are_posted_again_in_batches() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    let mut room = [0; 2048];
    let mut seen = 0;
    let rung = pair.receive.queue_counters().doorbells;
    for _ in 0..100 {
        for _ in 0..10 {
            platform.calls.host().receive(1, 0, &frame(60), PLAIN, NOT_HASHED);
        }
        seen += pair.receive.poll(64, &mut room, |_, bytes| assert!(bytes == frame(60))).unwrap();
        assert!(pair.receive.posted() >= 24);
    }
    assert_eq!(seen, 1000);
    assert!(pair.receive.queue_counters().doorbells - rung <= 100);
}

#[test]
fn a_poll_keeps_to_its_budget_and_says_that_there_is_more() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    for _ in 0..6 {
        platform.calls.host().receive(1, 0, &frame(60), PLAIN, NOT_HASHED);
    }
    let mut room = [0; 2048];
    let progress = pair.receive.handle_interrupt(4, &mut room, |_, _| {}).unwrap();
    assert_eq!((progress.completed, progress.more), (4, true));
    let progress = pair.receive.handle_interrupt(4, &mut room, |_, _| {}).unwrap();
    assert_eq!((progress.completed, progress.more), (2, false));
}

#[test]
fn a_wait_ends_with_the_frame_that_came() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    assert_eq!(pair.receive.wait(1 << 20), Err(RequestError::TimedOut));
    platform.calls.host().happenings.push_back(Box::new(|host| host.receive(1, 0, &frame(60), PLAIN, NOT_HASHED)));
    pair.receive.wait(LATE).unwrap();
    assert!(pair.receive.receive(&mut [0; 2048]).unwrap().is_some());
    assert_eq!(pair.receive.queue_counters().lost_wakeups, 0);
}

#[test]
fn each_pair_has_its_own_queues() {
    let platform = with_net(2, 1500);
    let (_bus, mut net) = open_with(&platform, NetOptions { pairs: 9, depth: 8, ..NetOptions::default() });
    assert_eq!(net.pairs(), 2);
    assert_ne!(net.port(0), net.port(1));
    let [mut first, mut second] = [0, 1].map(|pair| net.take_pair(pair).unwrap());
    assert!(net.take_pair(1).is_none());
    first.transmit.send(&frame(61), PLAIN).unwrap();
    second.transmit.send(&frame(62), PLAIN).unwrap();
    let sent: Vec<_> = platform.calls.host().port(1).sent.iter().map(|(pair, bytes, _)| (*pair, bytes.len())).collect();
    assert_eq!(sent, [(0, 61), (1, 62)]);
    platform.calls.host().receive(1, 1, &frame(63), PLAIN, NOT_HASHED);
    let mut room = [0; 2048];
    assert_eq!(first.receive.receive(&mut room), Ok(None));
    assert_eq!(second.receive.receive(&mut room).unwrap().unwrap().length, 63);
}

#[test]
fn controls_reach_the_host() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net) = open_with(&platform, all());
    net.set_mode(&mut bus, ReceiveMode::PROMISCUOUS, LATE).unwrap();
    net.set_multicast(&mut bus, &[[1, 0, 0x5e, 0, 0, 1]], LATE).unwrap();
    net.set_rss(&mut bus, &pvkit_abi::net::Rss::new_zeroed(), LATE).unwrap();
    net.announced(&mut bus, LATE).unwrap();
    assert!(net.set_multicast(&mut bus, &[[1; 6]; 17], LATE).is_err());
    let controls: Vec<_> =
        platform.calls.host().port(1).controls.iter().map(|(operation, data)| (*operation, data.len())).collect();
    let expected = [NetControl::SET_MODE, NetControl::SET_MULTICAST, NetControl::SET_RSS, NetControl::ANNOUNCED];
    assert_eq!(controls, expected.map(|control| control.0).into_iter().zip([4, 100, 76, 0]).collect::<Vec<_>>());
}

#[test]
fn a_control_without_its_feature_is_unsupported() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, _pair) = open(&platform);
    let refused = net.set_rss(&mut bus, &pvkit_abi::net::Rss::new_zeroed(), LATE);
    assert!(matches!(refused, Err(BusError::Unsupported { .. })));
}

#[test]
fn the_link_follows_the_host() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, _pair) = open(&platform);
    assert!(net.link().up && !net.link().announce);
    let mut config = [0; CONFIG_BYTES];
    let flags = LinkFlags::ANNOUNCE.bits();
    let changed = NetConfig { mac: net.link().mac, mtu: 1500, flags, speed: 1 };
    config[..16].copy_from_slice(changed.as_bytes());
    platform.calls.host().change_config(1, config);
    bus.poll().unwrap();
    assert_eq!(net.refresh(&bus), Ok(true));
    assert!(!net.link().up && net.link().announce && net.link().speed == 1);
    assert_eq!(net.refresh(&bus), Ok(false));
}

#[test]
fn closing_gives_every_page_back() {
    let platform = with_net(2, 1500);
    let mut bus = Bus::connect(&platform).unwrap();
    let before = platform.pages.0.live();
    let options = NetOptions { pairs: 2, ..NetOptions::default() };
    let mut net: TestNet<'_> = Net::open(&mut bus, 1, options, GrantPolicy::Extent, LATE).unwrap();
    let mut pair = net.take_pair(1).unwrap();
    pair.transmit.send(&frame(60), PLAIN).unwrap();
    net.close(&mut bus, LATE).unwrap();
    pair.follow(&net).unwrap();
    assert_eq!(pair.transmit.send(&frame(60), PLAIN), Err(RequestError::Disconnected));
    assert_eq!(pair.receive.receive(&mut [0; 64]), Ok(None));
    drop((net, pair));
    assert_eq!((platform.pages.0.live(), platform.pages.0.leaked()), (before, 0));
    assert!(Net::<_, 32, 1>::open(&mut bus, 1, options, GrantPolicy::Extent, LATE).is_ok());
}

#[test]
fn a_handle_dropped_while_the_device_is_open_leaks_its_pages_and_says_so() {
    let platform = with_net(1, 1500);
    let (_bus, _net, pair) = open(&platform);
    drop(pair);
    assert!(platform.pages.0.leaked() >= 32);
}

#[test]
fn a_pair_of_another_device_does_not_follow() {
    let platform = fake::platform(vec![Device::net(1, 1500), Device::net(1, 1500)]);
    let mut bus = Bus::connect(&platform).unwrap();
    let [mut first, second] = [1, 2].map(|device| {
        let options = NetOptions { depth: 8, ..NetOptions::default() };
        Net::<_, 32, 1>::open(&mut bus, device, options, GrantPolicy::Extent, LATE).unwrap()
    });
    let mut pair = first.take_pair(0).unwrap();
    assert_eq!(pair.follow(&second), Err(Misuse::NoSuchDevice(1)));
}
