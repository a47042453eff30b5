use super::packets::{GUEST_MAC, IDENTIFICATION, Ip, Packet, SEQUENCE, SOURCE_MAC, TCP_FLAGS, Transport, slow_sum};
use super::*;
use proptest::prelude::*;
use pvkit_abi::net::{ETHERNET_HEADER, MAX_FRAME, MIN_SEGMENT};

fn all(mtu: u16) -> Rules {
    Rules { features: crate::net::OFFLOADS, mtu }
}

fn packet(most: usize) -> impl Strategy<Value = Packet> {
    let ip = prop_oneof![Just(Ip::V4), Just(Ip::V6)];
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)];
    (ip, transport, any::<bool>(), 0..11usize, prop::collection::vec(any::<u8>(), 1..most)).prop_map(
        |(ip, transport, tagged, options, payload)| Packet { ip, transport, tagged, options: options * 4, payload },
    )
}

/// Metadata near the truth, or anything.
fn any_meta() -> impl Strategy<Value = FrameMeta> {
    let near = (0..3u8, 0..70u16, 0..20u16, 0..5u8, prop_oneof![Just(0), 26..31u16, any::<u16>()]).prop_map(
        |(flags, start, offset, kind, size)| {
            FrameMeta::new(FrameFlags::from_bits_retain(flags), start, offset, Segmentation(kind), size)
        },
    );
    prop_oneof![3 => near, 1 => any::<u64>().prop_map(FrameMeta)]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_finished_checksum_verifies(packet in packet(3000)) {
        let mut frame = Frame { bytes: packet.partial(), meta: packet.meta(0) };
        prop_assert_eq!(judge(&frame.bytes, frame.meta, &all(9000)), Ok(()));
        prop_assert!(!packet.is_right(&frame.bytes) || frame.bytes.is_empty());
        checksum::finish(&mut frame).unwrap();
        prop_assert!(packet.is_right(&frame.bytes));
        prop_assert_eq!(frame.meta, valid());
    }

    #[test]
    fn any_bytes_sum_as_the_slow_way_does(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff)], 0..200)) {
        let fast = checksum::Sum::default().add_bytes(&bytes).fold();
        prop_assert_eq!(fast, slow_sum(&bytes));
    }

    #[test]
    fn hostile_frames_are_judged_and_adapted_without_a_panic(
        packet in packet(300),
        meta in any_meta(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        features in any::<u64>(),
    ) {
        let mut bytes = packet.partial();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let judged = judge(&bytes, meta, &all(1500));
        let (length, mut out) = (bytes.len(), VecDeque::new());
        let adapted = adapt(Frame { bytes, meta }, NetFeatures::from_bits_truncate(features), &mut out);
        if judged.is_ok() {
            prop_assert_eq!(adapted, Ok(()), "what was judged good is not refused later");
        }
        let most = length.div_ceil(usize::from(MIN_SEGMENT)).max(1);
        prop_assert!(out.len() <= most && out.is_empty() == adapted.is_err());
    }

    #[test]
    fn any_bytes_are_parsed_to_places_inside_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120), v6: bool) {
        let mut bytes = bytes;
        if bytes.len() > 20 {
            bytes[12..15].copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] });
            if v6 { bytes[18] = 0; } else { bytes[16] = 0; }
        }
        if let Ok(Some(layers)) = Layers::parse(&bytes) {
            prop_assert!(layers.network < layers.transport && layers.transport <= layers.payload);
            prop_assert!(layers.payload <= layers.end && layers.end <= bytes.len());
        }
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn pieces_fit_verify_and_join_to_the_original(packet in packet(60_000), size in MIN_SEGMENT..1400) {
        let frame = Frame { bytes: packet.partial(), meta: packet.meta(size) };
        prop_assert_eq!(judge(&frame.bytes, frame.meta, &all(1500)), Ok(()));
        let mut pieces = VecDeque::new();
        adapt(frame.clone(), NetFeatures::empty(), &mut pieces).unwrap();
        prop_assert_eq!(pieces.len(), packet.payload.len().div_ceil(usize::from(size)));
        let mut joined = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            prop_assert!(packet.is_right(&piece.bytes), "piece {}", index);
            prop_assert_eq!(piece.meta, FrameMeta::default());
            prop_assert!(piece.bytes.len() <= largest_plain(&piece.bytes, 1500));
            check_fields(&packet, &piece.bytes, index, pieces.len(), joined.len())?;
            joined.extend_from_slice(&piece.bytes[packet.payload_at()..]);
        }
        prop_assert!(joined == packet.payload);
    }
}

fn check_fields(packet: &Packet, piece: &[u8], index: usize, count: usize, offset: usize) -> Result<(), TestCaseError> {
    prop_assert_eq!(&piece[..12], [GUEST_MAC, SOURCE_MAC].concat());
    let field = |at: usize| u16::from_be_bytes([piece[at], piece[at + 1]]);
    if packet.ip == Ip::V4 {
        prop_assert_eq!(field(packet.network() + 4), IDENTIFICATION.wrapping_add(index as u16));
    }
    let tcp = packet.transport_at();
    if packet.transport == Transport::Tcp {
        let sequence = u32::from(field(tcp + 4)) << 16 | u32::from(field(tcp + 6));
        prop_assert_eq!(sequence, SEQUENCE.wrapping_add(offset as u32));
        let first = if index == 0 { 0 } else { 0x80 };
        let last = if index + 1 == count { 0 } else { 9 };
        prop_assert_eq!(piece[tcp + 13], TCP_FLAGS & !first & !last);
    }
    Ok(())
}

#[test]
fn each_lie_about_a_frame_has_its_name() {
    let tcp = Packet::new(Ip::V4, Transport::Tcp, vec![7; 4000]);
    let udp = Packet::new(Ip::V6, Transport::Udp, vec![7; 100]);
    let (large, small) = (tcp.partial(), udp.partial());
    let needs = FrameFlags::NEEDS_CHECKSUM;
    let meta = FrameMeta::new;
    let none = Segmentation::NONE;
    let plain = Rules { features: NetFeatures::empty(), mtu: 1500 };
    let cases = [
        (&small[..13], FrameMeta::default(), plain, OffloadError::Length),
        (&small, meta(FrameFlags::CHECKSUM_VALID, 0, 0, none, 0), all(1500), OffloadError::Flags),
        (&small, meta(FrameFlags::MORE, 0, 0, none, 0), all(1500), OffloadError::Flags),
        (&small, meta(FrameFlags::from_bits_retain(128), 0, 0, none, 0), all(1500), OffloadError::Flags),
        (&small, FrameMeta(1), all(1500), OffloadError::Stray),
        (&small, meta(FrameFlags::empty(), 0, 0, Segmentation::UDP, 100), all(1500), OffloadError::Stray),
        (&small, meta(needs, 54, 6, none, 9), all(1500), OffloadError::Stray),
        (&small, udp.meta(0), plain, OffloadError::NotSealed),
        (&small, meta(needs, 13, 6, none, 0), all(1500), OffloadError::ChecksumPlace),
        (&small, meta(needs, 54, small.len() as u16 - 55, none, 0), all(1500), OffloadError::ChecksumPlace),
        (&small, meta(needs, u16::MAX, u16::MAX, none, 0), all(1500), OffloadError::ChecksumPlace),
        (&large, tcp.meta(0), all(1500), OffloadError::Oversized),
        (&large, tcp.meta(1461), all(1500), OffloadError::SegmentSize),
        (&large, tcp.meta(MIN_SEGMENT - 1), all(1500), OffloadError::SegmentSize),
        (&large, meta(needs, 34, 16, Segmentation::TCP6, 100), all(1500), OffloadError::OtherProtocol),
        (&large, meta(needs, 34, 16, Segmentation::UDP, 100), all(1500), OffloadError::OtherProtocol),
        (&large, meta(needs, 34, 16, Segmentation(4), 100), all(1500), OffloadError::Segmentation),
        (&large, meta(needs, 35, 16, Segmentation::TCP4, 100), all(1500), OffloadError::ChecksumPlace),
        (&large[..3000], tcp.meta(100), all(1500), OffloadError::Headers),
    ];
    for (frame, meta, rules, error) in cases {
        assert_eq!(judge(frame, meta, &rules), Err(error), "{meta:x?}");
    }
    assert_eq!(judge(&large, tcp.meta(1460), &all(1500)), Ok(()));
    assert_eq!(judge(&large, tcp.meta(0), &all(9000)), Ok(()));
}

#[test]
fn a_frame_of_exactly_the_mtu_passes_with_its_tag_and_one_byte_more_does_not() {
    for tagged in [false, true] {
        let link = if tagged { 18 } else { ETHERNET_HEADER };
        let packet = Packet { tagged, ..Packet::new(Ip::V4, Transport::Udp, vec![0; 1500 - 28]) };
        let mut frame = packet.partial();
        assert_eq!(frame.len(), link + 1500);
        let rules = Rules { features: NetFeatures::empty(), mtu: 1500 };
        assert_eq!(judge(&frame, FrameMeta::default(), &rules), Ok(()));
        frame.push(0);
        assert_eq!(judge(&frame, FrameMeta::default(), &rules), Err(OffloadError::Oversized));
    }
    assert_eq!(judge(&vec![0; MAX_FRAME + 1], FrameMeta::default(), &all(9000)), Err(OffloadError::Length));
}

#[test]
fn a_receiver_gets_the_work_undone_that_it_sealed_and_no_other() {
    let packet = Packet::new(Ip::V4, Transport::Tcp, vec![3; 5000]);
    let frame = Frame { bytes: packet.partial(), meta: packet.meta(1000) };
    let takes = |features| {
        let mut out = VecDeque::new();
        adapt(frame.clone(), features, &mut out).unwrap();
        out
    };
    let whole = takes(NetFeatures::RX_CHECKSUM | NetFeatures::RX_TSO4);
    assert_eq!(whole, std::slice::from_ref(&frame));
    let pieces = takes(NetFeatures::RX_CHECKSUM | NetFeatures::RX_TSO6);
    assert_eq!(pieces.len(), 5);
    assert!(pieces.iter().all(|piece| piece.meta == valid() && packet.is_right(&piece.bytes)));
}
