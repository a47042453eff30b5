//! Most of these need root and `ip`; each makes a network namespace for its thread, which vanishes with it.

mod namespace;
mod traffic;

use super::*;
use crate::net::Inbox;
use crate::net::offload::packets::{GUEST_MAC, Ip, Packet, Transport};
use namespace::Namespace;
use proptest::prelude::*;
use pvkit_abi::net::Segmentation;
use std::fs::OpenOptions;

fn steering() -> Arc<Steering> {
    Steering::new(GUEST_MAC, vec![Inbox::new(64).unwrap()])
}

fn named(name: &str, mtu: u16) -> Result<Arc<Tap>, TapError> {
    Tap::open(TapOptions { name: Some(name.to_owned()), fd: None, mtu }, steering())
}

#[track_caller]
fn assert_helps(result: Result<Arc<Tap>, TapError>, kind: fn(&TapError) -> bool, remedy: &str) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(kind(&error) && text.contains(remedy), "{error:?}: {text}");
}

#[test]
fn names_and_mtus_that_are_none_are_refused_before_anything_is_opened() {
    for name in ["", "sixteen-letters-", "a b", "a/b", "tap\0", "täp", "tap%d"] {
        assert_helps(named(name, 1500), |error| matches!(error, TapError::BadName(_)), "1 to 15");
    }
    for mtu in [0, 67, 9001, u16::MAX] {
        assert_helps(named("any", mtu), |error| matches!(error, TapError::BadMtu(_)), "68 to 9000");
    }
}

#[test]
fn a_missing_interface_is_named_and_not_made() {
    assert_helps(
        named("pvkit-nowhere", 1500),
        |error| matches!(error, TapError::Missing(_)),
        "ip tuntap add dev pvkit-nowhere",
    );
}

#[test]
fn what_the_host_answers_is_told_by_its_meaning() {
    let os = io::Error::from_raw_os_error;
    let attaching = |name, errno| TapError::of_attaching(name, os(errno));
    assert!(matches!(attaching(None, libc::EPERM), TapError::MayNotMake));
    assert!(matches!(attaching(Some("a"), libc::EPERM), TapError::NotOurs(_)));
    assert!(matches!(attaching(Some("a"), libc::EBUSY), TapError::Busy(_)));
    assert!(matches!(attaching(Some("a"), libc::EINVAL), TapError::NotATap(_)));
    assert!(matches!(attaching(Some("a"), libc::EIO), TapError::System { .. }));
    assert!(matches!(TapError::of_opening(os(libc::ENOENT)), TapError::NoDriver));
    assert!(matches!(TapError::of_opening(os(libc::EACCES)), TapError::NoPermission));
}

#[test]
fn a_descriptor_of_something_else_is_refused() {
    let fd = Some(OpenOptions::new().read(true).open("/dev/null").unwrap().into());
    let result = Tap::open(TapOptions { name: None, fd, mtu: 1500 }, steering());
    assert_helps(result, |error| matches!(error, TapError::NotATap(_)), "the open descriptor");
}

#[test]
fn interfaces_that_cannot_be_used_are_named_with_a_remedy() {
    let Some(namespace) = Namespace::enter() else { return };
    assert_helps(named("lo", 1500), |error| matches!(error, TapError::NotATap(_)), "mode tap");
    namespace.ip("tuntap add dev pvt0 mode tap");
    assert_helps(named("pvt0", 1501), |error| matches!(error, TapError::MtuTooLarge { tap: 1500, .. }), "mtu 1501");
    let tap = named("pvt0", 1500).unwrap();
    assert_helps(named("pvt0", 1500), |error| matches!(error, TapError::Busy(_)), "another process");
    drop(tap);
    drop(named("pvt0", 68).unwrap());
}

#[test]
fn a_tap_that_is_made_vanishes_with_its_owner() {
    let Some(namespace) = Namespace::enter() else { return };
    let tap = Tap::open(TapOptions { name: None, fd: None, mtu: 1500 }, steering()).unwrap();
    assert_eq!(tap.name(), "pvtap0");
    assert!(namespace.has("pvtap0"));
    drop(tap);
    assert!(!namespace.has("pvtap0"));
}

#[test]
fn a_tap_that_is_removed_ends_the_reader_and_is_told() {
    let Some(namespace) = Namespace::enter() else { return };
    namespace.ip("tuntap add dev pvt0 mode tap");
    let tap = named("pvt0", 1500).unwrap();
    namespace.ip("link del pvt0");
    namespace.until(|| tap.counters().is_gone);
    let packet = Packet::new(Ip::V4, Transport::Udp, vec![0; 20]);
    tap.send(Frame { bytes: packet.partial(), meta: packet.meta(0) });
    assert_eq!((tap.counters().sent, tap.counters().refused), (0, 1));
}

/// Headers as a kernel might write them, or anything.
fn header() -> impl Strategy<Value = [u8; 10]> {
    let near = (0..4u8, 0..7u8, any::<u16>(), 0..2000u16, 0..70u16, 0..20u16);
    let near = near.prop_map(|(flags, kind, length, size, start, offset)| {
        let [l, z, s, o] = [length, size, start, offset].map(u16::to_ne_bytes);
        [flags, kind, l[0], l[1], z[0], z[1], s[0], s[1], o[0], o[1]]
    });
    prop_oneof![3 => near, 1 => any::<[u8; 10]>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_refused_or_can_be_written_as_it_was(
        header in header(),
        length in 0..3000usize,
        cut in 0..100usize,
        transport in prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)],
        ip in prop_oneof![Just(Ip::V4), Just(Ip::V6)],
    ) {
        let packet = Packet::new(ip, transport, vec![3; length]).partial();
        let bytes = [header.as_slice(), &packet[..packet.len().saturating_sub(cut / 50 * cut)]].concat();
        if let Ok(frame) = parse(&bytes, 1500) {
            let back = vnet::emit(&frame).unwrap();
            if frame.meta.flags() & 1 != 0 {
                prop_assert_eq!(back[0..2].to_vec(), header[0..2].to_vec());
                prop_assert_eq!(back[6..].to_vec(), header[6..].to_vec());
                let size = if frame.meta.segmentation() == Segmentation::NONE { vec![0, 0] } else { header[4..6].to_vec() };
                prop_assert_eq!(back[4..6].to_vec(), size);
            } else {
                prop_assert_eq!(back, [0; 10]);
                prop_assert_eq!(frame.meta.0 & !(2 << 56), 0);
            }
        }
    }

    #[test]
    fn any_bytes_read_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&bytes, 1500);
    }
}

#[test]
fn a_judged_frame_is_written_with_the_header_that_it_was_read_with() {
    for (ip, transport, kind) in [
        (Ip::V4, Transport::Tcp, 1),
        (Ip::V6, Transport::Tcp, 4),
        (Ip::V4, Transport::Udp, 5),
        (Ip::V6, Transport::Udp, 5),
    ] {
        let packet = Packet::new(ip, transport, vec![7; 4000]);
        let frame = Frame { bytes: packet.partial(), meta: packet.meta(1000) };
        let header = vnet::emit(&frame).unwrap();
        assert_eq!(header[..2], [1, kind]);
        assert_eq!(usize::from(u16::from_ne_bytes([header[2], header[3]])), packet.payload_at());
        assert_eq!(parse(&[header.as_slice(), &frame.bytes].concat(), 1500), Ok(frame));
    }
}
