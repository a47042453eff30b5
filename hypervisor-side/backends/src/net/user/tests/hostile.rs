//! Frames that lie: whatever the guest sends, the network lives, stays within its bounds, and serves on.

use super::guest::{ADDRESS, GATEWAY, Guest, MAC, packet};
use super::leases::message;
use super::*;
use proptest::prelude::*;
use pvkit_abi::net::{FrameFlags, FrameMeta, Segmentation};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, EthernetAddress, EthernetFrame, EthernetProtocol,
    IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

/// Few, so that frames of a case meet each other; none of them leads out of this machine.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        Just(GATEWAY),
        Just(Ipv4Addr::new(10, 0, 2, 3)),
        Just(ADDRESS),
        Just(Ipv4Addr::BROADCAST),
        Just(Ipv4Addr::UNSPECIFIED),
        Just(Ipv4Addr::LOCALHOST),
        Just(Ipv4Addr::new(224, 0, 0, 251)),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(53), Just(67), Just(68), Just(0), 1_u16..5]
}

fn from() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![8 => Just(ADDRESS), 1 => address()]
}

fn tcp() -> impl Strategy<Value = Vec<u8>> {
    let control = prop_oneof![
        4 => Just(TcpControl::Syn),
        2 => Just(TcpControl::None),
        1 => Just(TcpControl::Fin),
        1 => Just(TcpControl::Rst),
    ];
    let numbers = (any::<i32>(), any::<Option<i32>>(), any::<u16>(), any::<Option<u16>>(), any::<Option<u8>>());
    let bytes = proptest::collection::vec(any::<u8>(), 0..64);
    (from(), address(), port(), port(), control, numbers, bytes).prop_map(
        |(from, to, source, destination, control, (sequence, ack, window, mss, scale), payload)| {
            let segment = TcpRepr {
                src_port: source,
                dst_port: destination,
                control,
                seq_number: TcpSeqNumber(sequence),
                ack_number: ack.map(TcpSeqNumber),
                window_len: window,
                window_scale: scale,
                max_seg_size: mss,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: &payload,
            };
            packet(from, to, IpProtocol::Tcp, segment.buffer_len(), |bytes| {
                let packet = &mut TcpPacket::new_unchecked(bytes);
                segment.emit(packet, &from.into(), &to.into(), &ChecksumCapabilities::default());
            })
            .bytes
        },
    )
}

fn udp() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..400);
    (from(), address(), port(), port(), payload).prop_map(|(from, to, source, destination, payload)| {
        let ports = UdpRepr { src_port: source, dst_port: destination };
        packet(from, to, IpProtocol::Udp, 8 + payload.len(), |bytes| {
            let packet = &mut UdpPacket::new_unchecked(bytes);
            let fill = |into: &mut [u8]| into.copy_from_slice(&payload);
            ports.emit(packet, &from.into(), &to.into(), payload.len(), fill, &ChecksumCapabilities::default());
        })
        .bytes
    })
}

/// A message to the DHCP server, well-formed until it is mutated.
fn dhcp() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        Just(DhcpMessageType::Discover),
        Just(DhcpMessageType::Request),
        Just(DhcpMessageType::Inform),
        Just(DhcpMessageType::Release),
        any::<u8>().prop_map(DhcpMessageType::from),
    ];
    (kind, address(), proptest::option::of(address())).prop_map(|(kind, wanted, server)| {
        let message = message(kind, Some(wanted), server);
        let ports = UdpRepr { src_port: 68, dst_port: 67 };
        let (from, to, length) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, message.buffer_len());
        packet(from, to, IpProtocol::Udp, 8 + length, |bytes| {
            let fill = |into: &mut [u8]| message.emit(&mut DhcpPacket::new_unchecked(into)).unwrap();
            let packet = &mut UdpPacket::new_unchecked(bytes);
            ports.emit(packet, &from.into(), &to.into(), length, fill, &ChecksumCapabilities::default());
        })
        .bytes
    })
}

fn arp() -> impl Strategy<Value = Vec<u8>> {
    (address(), address(), any::<[u8; 6]>()).prop_map(|(asker, wanted, mac)| {
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: EthernetAddress(mac),
            source_protocol_addr: asker,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: wanted,
        };
        let mut frame = EthernetFrame::new_unchecked(vec![0; 14 + question.buffer_len()]);
        frame.set_src_addr(EthernetAddress(mac));
        frame.set_dst_addr(EthernetAddress::BROADCAST);
        frame.set_ethertype(EthernetProtocol::Arp);
        question.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        frame.into_inner()
    })
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..200)).prop_map(|(ip, bytes)| {
        let kind: [u8; 2] = if ip { [8, 0] } else { [8, 6] };
        [&[0xff; 6][..], &MAC.0, &kind, &bytes].concat()
    })
}

/// A frame, mutated in a few places or cut.
fn frame() -> impl Strategy<Value = Frame> {
    let frame = prop_oneof![4 => tcp(), 3 => udp(), 3 => dhcp(), 1 => arp(), 2 => noise()];
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (frame, changes, any::<Option<prop::sample::Index>>(), any::<u64>(), any::<bool>()).prop_map(
        |(mut bytes, changes, cut, meta, finished)| {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut.filter(|_| meta % 4 == 0) {
                bytes.truncate(cut.index(bytes.len()));
            }
            Frame { bytes, meta: if finished { FrameMeta::default() } else { FrameMeta(meta) } }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if long() { 4096 } else { 64 }, ..ProptestConfig::default() })]

    #[test]
    fn no_frame_ends_the_network(frames in proptest::collection::vec(frame(), 1..100)) {
        let limits = UserLimits { connections: 4, conversations: 4, buffer: 4096, ..UserLimits::default() };
        let mut guest = Guest::with_inbox(UserOptions { limits, ..open_loopback() }, 64);
        for frame in frames {
            guest.network.send(frame);
        }
        // It lives, and did not forget how to answer.
        while guest.inbox.pop().is_some() {}
        guest.until("an inbox that was emptied", |guest| guest.network.counters().frames > 0);
        prop_assert_eq!(guest.ping(GATEWAY), b"are you there?");
        let counters = guest.network.counters();
        prop_assert!(counters.connections + counters.conversations <= counters.frames);
    }
}

/// Numbers that look random.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[test]
fn a_guest_that_garbles_its_connections_is_served_when_it_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    let mut guest = Guest::new(UserOptions { mtu: 576, ..open_loopback() });
    for seed in 0..if long() { 2000 } else { 40 } {
        let mut number = numbers(seed);
        let mut held = None;
        guest.garble(Some(Box::new(move |mut frame| {
            // Transport checksums are not looked at, so that what is wrong gets far.
            frame.meta = FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, 34, 16, Segmentation::NONE, 0);
            let mut frames = vec![frame];
            match number(12) {
                0 | 1 => {
                    let bytes = &mut frames[0].bytes;
                    let at = 34 + number(bytes.len() - 34);
                    bytes[at] = number(256) as u8;
                }
                2 => frames.push(frames[0].clone()),
                3 => frames.extend(held.replace(frames[0].clone())),
                4 => frames.clear(),
                _ => {}
            }
            frames
        })));
        let sockets: Vec<_> = (0..4).map(|_| guest.connect(GATEWAY, port)).collect();
        for round in 0..20 {
            guest.step();
            for &socket in &sockets {
                let _ = guest.tcp(socket).send_slice(&[round; 700]);
                let _ = guest.tcp(socket).recv(|bytes| (bytes.len(), ()));
            }
            guest.sleep(std::time::Duration::from_micros(300));
        }
        guest.garble(None);
        for &socket in &sockets {
            guest.tcp(socket).abort();
        }
        guest.step();
        sockets.into_iter().for_each(|socket| drop(guest.sockets.remove(socket)));
    }
    let socket = guest.connect(GATEWAY, port);
    guest.until("the connection", |guest| guest.tcp(socket).send_slice(b"hello").is_ok());
    guest.until("the echo", |guest| guest.tcp(socket).recv_queue() == 5);
}
