//! The network driver against a host that lies, breaks off or goes.

use super::net::{PLAIN, frame, open, open_with, with_net};
use super::*;
use proptest::prelude::*;
use pvkit_abi::bus::CONFIG_BYTES;
use pvkit_abi::net::{FrameFlags, FrameHash, FrameMeta, HashKind, NetConfig, NetFeatures, Segmentation};
use pvkit_guest_drivers::error::{BusError, HostFault, RequestError};
use pvkit_guest_drivers::fake::Stored;
use pvkit_guest_drivers::net::{Net, NetOptions, Pair};
use zerocopy::IntoBytes;

const NOT_HASHED: FrameHash = FrameHash(0);

/// Delivers one frame and says what the guest makes of it; then an honest one must arrive.
fn deliver(
    platform: &TestPlatform,
    pair: &mut Pair<'_, TestPlatform>,
    meta: FrameMeta,
    hash: FrameHash,
) -> Result<(), HostFault> {
    let mut room = vec![0; 65_554];
    platform.calls.host().receive(1, 0, &frame(100), meta, hash);
    let seen = pair.receive.receive(&mut room);
    platform.calls.host().tamper = Box::new(|_, _| {});
    platform.calls.host().receive(1, 0, &frame(77), PLAIN, NOT_HASHED);
    let next = pair.receive.receive(&mut room).expect("the queue goes on").expect("a frame");
    assert_eq!(next.length, 77);
    match seen {
        Ok(_) => Ok(()),
        Err(RequestError::PeerFault(fault)) => Err(fault),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn metadata_that_cannot_be_drop_the_frame_and_nothing_else() {
    let platform = with_net(1, 1500);
    let (_bus, mut net) = open_with(&platform, NetOptions { features: NetFeatures::all(), ..NetOptions::default() });
    let mut pair = net.take_pair(0).unwrap();
    let partial = |start, offset, cut, size| FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, start, offset, cut, size);
    let none = Segmentation::NONE;
    let both = FrameFlags::NEEDS_CHECKSUM | FrameFlags::CHECKSUM_VALID;
    for (meta, hash) in [
        (partial(98, 1, none, 0), NOT_HASHED),
        (partial(u16::MAX, u16::MAX, none, 0), NOT_HASHED),
        (partial(34, 16, Segmentation::TCP6, 0), NOT_HASHED),
        (partial(34, 16, Segmentation(4), 1400), NOT_HASHED),
        (partial(34, 16, none, 1400), NOT_HASHED),
        (FrameMeta::new(both, 34, 16, none, 0), NOT_HASHED),
        (FrameMeta::new(FrameFlags::CHECKSUM_VALID, 34, 16, none, 0), NOT_HASHED),
        (FrameMeta(1 << 60), NOT_HASHED),
        (PLAIN, FrameHash::new(1, HashKind::NONE)),
        (PLAIN, FrameHash::new(1, HashKind(7))),
        (PLAIN, FrameHash(1 << 63)),
    ] {
        let fault = deliver(&platform, &mut pair, meta, hash);
        assert!(matches!(fault, Err(HostFault::Frame { .. })), "{meta:x?} {hash:x?}: {fault:?}");
    }
    assert_eq!(pair.receive.counters().faults, 11);
    assert_eq!(deliver(&platform, &mut pair, partial(98, 0, none, 0), NOT_HASHED), Ok(()));
    assert_eq!(deliver(&platform, &mut pair, PLAIN, FrameHash::new(1, HashKind::TCP6)), Ok(()));
}

#[test]
fn what_was_not_sealed_is_a_lie() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    let verified = FrameMeta::new(FrameFlags::CHECKSUM_VALID, 0, 0, Segmentation::NONE, 0);
    assert!(deliver(&platform, &mut pair, verified, NOT_HASHED).is_err());
    assert!(deliver(&platform, &mut pair, PLAIN, FrameHash::new(1, HashKind::TCP4)).is_err());
}

#[test]
fn a_length_beyond_the_buffer_is_a_lie() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == Stored::Completion {
            bytes[1] = 0x10;
        }
    });
    let fault = deliver(&platform, &mut pair, PLAIN, NOT_HASHED);
    assert_eq!(fault, Err(HostFault::Length { asked: 4096, claimed: 4096 + 100 }));
}

#[test]
fn a_frame_that_is_not_to_be_cut_and_exceeds_the_mtu_is_a_lie() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().receive(1, 0, &frame(1519), PLAIN, NOT_HASHED);
    let seen = pair.receive.receive(&mut [0; 4096]);
    let fault = HostFault::Frame { what: "length", value: 1519 };
    assert_eq!(seen, Err(RequestError::PeerFault(fault)));
}

#[test]
fn a_reserved_word_that_is_not_zero_is_a_lie() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == Stored::Words {
            bytes[16] = 1;
        }
    });
    assert!(deliver(&platform, &mut pair, PLAIN, NOT_HASHED).is_err());
}

#[test]
fn a_frame_without_an_end_is_dropped_with_its_rest() {
    let platform = with_net(1, 9000);
    let (_bus, _net, mut pair) = open(&platform);
    let mut room = [0; 9018];
    platform.calls.host().receive_endless(1, 0, &frame(4096));
    assert!(matches!(pair.receive.receive(&mut room), Err(RequestError::PeerFault(HostFault::Frame { .. }))));
    assert_eq!(pair.receive.receive(&mut room), Ok(None));
    // The rest, and then a frame.
    platform.calls.host().receive(1, 0, &frame(200), PLAIN, NOT_HASHED);
    platform.calls.host().receive(1, 0, &frame(77), PLAIN, NOT_HASHED);
    assert_eq!(pair.receive.receive(&mut room).unwrap().unwrap().length, 77);
    assert_eq!(pair.receive.counters().faults, 1);
}

#[test]
fn a_frame_that_goes_on_beyond_the_longest_frame_is_dropped_and_the_buffers_come_back() {
    let platform = with_net(1, 9000);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().receive(1, 0, &frame(20 * 4096), PLAIN, NOT_HASHED);
    let mut room = vec![0; 128 * 1024];
    assert!(matches!(pair.receive.receive(&mut room), Err(RequestError::PeerFault(HostFault::Frame { .. }))));
    assert!(deliver(&platform, &mut pair, PLAIN, NOT_HASHED).is_ok());
    assert!(pair.receive.posted() >= 24);
}

#[test]
fn a_frame_longer_than_the_room_is_dropped_and_counted() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().receive(1, 0, &frame(100), PLAIN, NOT_HASHED);
    assert!(matches!(pair.receive.receive(&mut [0; 99]), Err(RequestError::Misuse(_))));
    assert_eq!(pair.receive.counters().too_long, 1);
    assert!(deliver(&platform, &mut pair, PLAIN, NOT_HASHED).is_ok());
}

#[test]
fn a_poll_passes_over_lies_within_its_budget() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    for length in [1519, 60, 1519, 61, 62] {
        platform.calls.host().receive(1, 0, &frame(length), PLAIN, NOT_HASHED);
    }
    let mut lengths = Vec::new();
    assert_eq!(pair.receive.poll(4, &mut [0; 2048], |frame, _| lengths.push(frame.length)), Ok(2));
    assert_eq!(lengths, [60, 61]);
    assert_eq!(pair.receive.counters().faults, 2);
}

#[test]
fn a_transmit_completion_with_a_detail_is_a_lie() {
    let platform = with_net(1, 1500);
    let (_bus, _net, mut pair) = open(&platform);
    platform.calls.host().devices[0].statuses.push_back(Some((pvkit_abi::status::Status::OK, 5)));
    pair.transmit.send(&frame(60), PLAIN).unwrap();
    assert_eq!(pair.transmit.poll(8), Err(HostFault::Length { asked: 0, claimed: 5 }.into()));
    pair.transmit.send(&frame(60), PLAIN).unwrap();
}

#[test]
fn an_impossible_configuration_is_not_opened() {
    for (mac, mtu) in [([0; 6], 1500), ([1, 0, 0, 0, 0, 1], 1500), ([2; 6], 67), ([2; 6], 9001)] {
        let mut device = Device::net(1, 1500);
        let config = NetConfig { mac, mtu, flags: 1, speed: 0 };
        device.offer.config[..16].copy_from_slice(config.as_bytes());
        let platform = fake::platform(vec![device]);
        let mut bus = Bus::connect(&platform).unwrap();
        let opened = Net::<_, 32, 1>::open(&mut bus, 1, NetOptions::default(), GrantPolicy::Extent, LATE);
        assert!(matches!(opened, Err(BusError::PeerFault(HostFault::Offer { .. }))), "{mac:?} {mtu}");
    }
}

#[test]
fn address_and_mtu_must_not_change() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, _pair) = open(&platform);
    let link = *net.link();
    for (mac, mtu) in [([2; 6], 1500), (link.mac, 1400)] {
        let mut config = [0; CONFIG_BYTES];
        config[..16].copy_from_slice(NetConfig { mac, mtu, flags: 0, speed: 0 }.as_bytes());
        platform.calls.host().change_config(1, config);
        bus.poll().unwrap();
        assert!(matches!(net.refresh(&bus), Err(RequestError::PeerFault(HostFault::Offer { .. }))));
        assert_eq!(*net.link(), link);
    }
}

#[test]
fn a_jumbo_mtu_needs_mergeable_buffers() {
    let platform = with_net(1, 9000);
    let mut bus = Bus::connect(&platform).unwrap();
    let options = NetOptions { features: NetFeatures::INDIRECT, ..NetOptions::default() };
    let opened = Net::<_, 32, 1>::open(&mut bus, 1, options, GrantPolicy::Extent, LATE);
    assert!(matches!(opened, Err(BusError::Unsupported { .. })));
}

#[test]
fn when_the_host_refuses_to_close_nothing_is_freed() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    let live = platform.pages.0.live();
    platform.calls.host().answers_left = 0;
    assert_eq!(net.close(&mut bus, 1 << 22), Err(BusError::TimedOut));
    pair.follow(&net).unwrap();
    assert_eq!(pair.transmit.send(&frame(60), PLAIN), Err(RequestError::Disconnected));
    drop(pair);
    assert_eq!(platform.pages.0.live(), live);
    assert!(platform.pages.0.leaked() >= 32);
}

#[test]
fn after_a_close_that_failed_a_new_epoch_frees_nothing() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    platform.calls.host().answers_left = 0;
    assert_eq!(net.close(&mut bus, 1 << 22), Err(BusError::TimedOut));
    let live = platform.pages.0.live();
    platform.calls.host().disconnect(1);
    platform.calls.host().reconnect(1);
    bus.poll().unwrap();
    net.refresh(&bus).unwrap();
    pair.follow(&net).unwrap();
    assert_eq!((net.is_over(), platform.pages.0.live()), (false, live));
}

#[test]
fn a_backend_that_goes_detaches_the_handles() {
    let platform = with_net(1, 1500);
    let (mut bus, mut net, mut pair) = open(&platform);
    platform.calls.host().disconnect(1);
    bus.poll().unwrap();
    net.refresh(&bus).unwrap();
    pair.follow(&net).unwrap();
    assert_eq!(pair.transmit.send(&frame(60), PLAIN), Err(RequestError::Disconnected));
    assert_eq!(pair.receive.wait(LATE), Err(RequestError::Disconnected));
    drop((net, pair));
    assert_eq!(platform.pages.0.leaked(), 0);
}

#[test]
fn an_open_that_fails_half_way_gives_everything_back() {
    for replies in 1..5 {
        let platform = with_net(1, 1500);
        let mut bus = Bus::connect(&platform).unwrap();
        let live = platform.pages.0.live();
        let mut left = replies;
        platform.calls.host().tamper = Box::new(move |stored, bytes| {
            if stored == Stored::Reply {
                left -= 1;
                if left == 0 {
                    bytes[..4].copy_from_slice(&(-2i32).to_le_bytes());
                }
            }
        });
        let opened = Net::<_, 32, 1>::open(&mut bus, 1, NetOptions::default(), GrantPolicy::Extent, LATE);
        assert!(opened.is_err(), "{replies}");
        drop(opened);
        assert_eq!((platform.pages.0.live(), platform.pages.0.leaked()), (live, 0), "{replies}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn whatever_the_host_stores_only_frames_that_can_be_come_through(
        noise in proptest::collection::vec((0u8..24, any::<u8>()), 1..40),
        lengths in proptest::collection::vec(1usize..9018, 1..12),
    ) {
        let platform = with_net(1, 9000);
        let (_bus, mut net) = open_with(&platform, NetOptions { features: NetFeatures::all(), ..Default::default() });
        let mut pair = net.take_pair(0).unwrap();
        let mut noise = noise.into_iter().cycle();
        platform.calls.host().tamper = Box::new(move |_, bytes| {
            if let Some((at, value)) = noise.next()
                && let Some(byte) = bytes.get_mut(usize::from(at))
            {
                *byte ^= value;
            }
        });
        let mut room = vec![0; 65_554];
        for length in lengths {
            platform.calls.host().receive(1, 0, &pattern(length), PLAIN, NOT_HASHED);
            let _ = pair.transmit.send(&frame(60), PLAIN);
            let _ = pair.receive.poll(64, &mut room, |frame, bytes| {
                let meta = frame.meta;
                assert_eq!(bytes.len(), frame.length);
                assert_eq!(meta.flags() & FrameFlags::MORE.bits(), 0);
                if meta.flags() & FrameFlags::NEEDS_CHECKSUM.bits() != 0 {
                    let end = usize::from(meta.checksum_start()) + usize::from(meta.checksum_offset()) + 2;
                    assert!(end <= frame.length);
                }
            });
        }
    }
}
