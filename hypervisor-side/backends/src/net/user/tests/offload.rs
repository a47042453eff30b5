//! Frames that leave work to the network: partial checksums and oversized segments.

use super::guest::{ADDRESS, GATEWAY, Guest, packet};
use super::*;
use pvkit_abi::net::{FrameFlags, FrameMeta, Segmentation};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetFrame, IpProtocol, Ipv4Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use std::io::Read;

const FIRST: TcpSeqNumber = TcpSeqNumber(1000);

/// A segment whose checksum is left to the network.
fn partial(port: u16, control: TcpControl, ack_number: Option<TcpSeqNumber>, payload: &[u8]) -> Frame {
    let segment = TcpRepr {
        src_port: 5000,
        dst_port: port,
        control,
        seq_number: if control == TcpControl::Syn { FIRST } else { FIRST + 1 },
        ack_number,
        window_len: 0xffff,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let mut frame = packet(ADDRESS, GATEWAY, IpProtocol::Tcp, segment.buffer_len(), |bytes| {
        let packet = &mut TcpPacket::new_unchecked(bytes);
        segment.emit(packet, &ADDRESS.into(), &GATEWAY.into(), &ChecksumCapabilities::ignored());
    });
    let segmentation = if payload.len() > 1460 { Segmentation::TCP4 } else { Segmentation::NONE };
    frame.meta = FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, 34, 16, segmentation, 1460);
    frame
}

#[test]
fn an_oversized_segment_with_a_partial_checksum_arrives_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new(open_loopback());
    guest.network.send(partial(port, TcpControl::Syn, None, &[]));
    let acknowledged = guest.frame(|bytes| {
        let packet = Ipv4Packet::new_checked(EthernetFrame::new_checked(bytes).ok()?.payload()).ok()?.payload();
        let segment = TcpPacket::new_checked(packet).ok().filter(|segment| segment.syn() && segment.ack())?;
        Some(segment.seq_number() + 1)
    });
    let payload: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
    guest.network.send(partial(port, TcpControl::Fin, Some(acknowledged), &payload));
    let mut got = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
    assert!(got == payload, "{} bytes of {}", got.len(), payload.len());
}

#[test]
fn a_wrong_checksum_that_is_not_partial_is_refused() {
    let mut guest = Guest::new(open_loopback());
    let mut frame = partial(1, TcpControl::Syn, None, &[]);
    frame.meta = FrameMeta::default();
    guest.network.send(frame);
    guest.until("the refusal", |guest| guest.network.counters().refused_frames == 1);
    assert_eq!(guest.network.counters().refused_connections, 0, "nobody asked for a connection");
}
