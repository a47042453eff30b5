//! Frames of the guest: judged once, here, and handed to the protocol they belong to.
//!
//! *Liar.* Every header is parsed by checked code; a frame that lies about a length, a checksum or its sender is counted
//! and dropped. What a frame claims in its offload metadata only matters in that a partial transport checksum is not
//! verified: nothing that the guest sends leaves the host as it is.

use super::dhcp;
use super::hub::Hub;
use super::link::GATEWAY_MAC;
use super::tcp::{Segment, TcpTable};
use super::udp::{Datagram, UdpTable};
use crate::net::Frame;
use pvkit_abi::net::FrameFlags;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4DstUnreachable,
    Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UdpPacket,
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Why a frame is dropped. All of them are counted alike.
pub(super) struct Refused;

/// Bytes of a refused packet's payload that are quoted: what RFC 792 asks for.
const QUOTE: usize = 8;

/// Takes one frame of the guest.
pub(super) fn take(hub: &mut Hub, tcp: &mut TcpTable, udp: &mut UdpTable, frame: Frame) {
    hub.counters.frames.one();
    if judge(hub, tcp, udp, frame).is_err() {
        hub.counters.refused_frames.one();
    }
}

fn judge(hub: &mut Hub, tcp: &mut TcpTable, udp: &mut UdpTable, frame: Frame) -> Result<(), Refused> {
    let partial = frame.meta.flags() & FrameFlags::NEEDS_CHECKSUM.bits() != 0;
    let ethernet = EthernetFrame::new_checked(&frame.bytes[..]).map_err(|_| Refused)?;
    let (source, destination) = (ethernet.src_addr(), ethernet.dst_addr());
    if !source.is_unicast() || source == GATEWAY_MAC {
        return Err(Refused);
    }
    if destination != GATEWAY_MAC && !destination.is_broadcast() {
        return Err(Refused);
    }
    match ethernet.ethertype() {
        EthernetProtocol::Arp => arp(hub, source, ethernet.payload()),
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(ethernet.payload()).map_err(|_| Refused)?;
            let header = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).map_err(|_| Refused)?;
            if packet.more_frags() || packet.frag_offset() != 0 {
                return Err(Refused);
            }
            let payload = packet.payload();
            if is_dhcp(hub, &header, payload) {
                return dhcp_request(hub, &header, payload, partial);
            }
            if header.src_addr != hub.options.guest {
                return Err(Refused);
            }
            hub.link.learn(source);
            match header.next_header {
                IpProtocol::Icmp => icmp(hub, &header, payload),
                IpProtocol::Udp => datagram(hub, udp, &header, payload, partial),
                IpProtocol::Tcp => {
                    let segment = segment(&header, payload, partial)?;
                    tcp.take(hub, segment, frame.bytes);
                    Ok(())
                }
                _ => Err(Refused),
            }
        }
        _ => Err(Refused),
    }
}

fn arp(hub: &mut Hub, source: EthernetAddress, payload: &[u8]) -> Result<(), Refused> {
    let packet = ArpPacket::new_checked(payload).map_err(|_| Refused)?;
    let Ok(ArpRepr::EthernetIpv4 { operation, source_protocol_addr: asker, target_protocol_addr: wanted, .. }) =
        ArpRepr::parse(&packet)
    else {
        return Err(Refused);
    };
    if asker == hub.options.guest {
        hub.link.learn(source);
    }
    if operation == ArpOperation::Request && (wanted == hub.options.gateway || wanted == hub.options.dns) {
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: GATEWAY_MAC,
            source_protocol_addr: wanted,
            target_hardware_addr: source,
            target_protocol_addr: asker,
        };
        hub.link.arp(source, &reply);
    }
    Ok(())
}

/// Whether a packet is for the DHCP server, whose clients may not have an address yet.
fn is_dhcp(hub: &Hub, header: &Ipv4Repr, payload: &[u8]) -> bool {
    let for_us = [Ipv4Addr::BROADCAST, hub.options.broadcast(), hub.options.gateway].contains(&header.dst_addr);
    for_us
        && header.next_header == IpProtocol::Udp
        && UdpPacket::new_checked(payload).is_ok_and(|udp| udp.dst_port() == dhcp::SERVER_PORT)
}

fn dhcp_request(hub: &mut Hub, header: &Ipv4Repr, payload: &[u8], partial: bool) -> Result<(), Refused> {
    let packet = udp_packet(header, payload, partial)?;
    dhcp::answer(hub, packet.payload());
    Ok(())
}

fn icmp(hub: &mut Hub, header: &Ipv4Repr, payload: &[u8]) -> Result<(), Refused> {
    let packet = Icmpv4Packet::new_checked(payload).map_err(|_| Refused)?;
    let Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) =
        Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default())
    else {
        return Err(Refused);
    };
    if header.dst_addr != hub.options.gateway && header.dst_addr != hub.options.dns {
        return Err(Refused);
    }
    hub.link.icmp(header.dst_addr, header.src_addr, &Icmpv4Repr::EchoReply { ident, seq_no, data });
    Ok(())
}

fn udp_packet<'a>(header: &Ipv4Repr, payload: &'a [u8], partial: bool) -> Result<UdpPacket<&'a [u8]>, Refused> {
    let packet = UdpPacket::new_checked(payload).map_err(|_| Refused)?;
    // Zero means that the sender computed no checksum (RFC 768).
    let unchecked = partial || packet.checksum() == 0;
    if unchecked || packet.verify_checksum(&header.src_addr.into(), &header.dst_addr.into()) {
        Ok(packet)
    } else {
        Err(Refused)
    }
}

fn datagram(
    hub: &mut Hub,
    udp: &mut UdpTable,
    header: &Ipv4Repr,
    payload: &[u8],
    partial: bool,
) -> Result<(), Refused> {
    let packet = udp_packet(header, payload, partial)?;
    let remote = SocketAddrV4::new(header.dst_addr, packet.dst_port());
    if udp.take(hub, &Datagram { remote, guest_port: packet.src_port(), payload: packet.payload() }).is_err() {
        hub.counters.refused_datagrams.one();
        let quoted = payload.get(..QUOTE).unwrap_or(payload);
        unreachable(hub, header, quoted);
    }
    Ok(())
}

/// Tells the guest that a packet of its own cannot be delivered. Groups get no such answer (RFC 1122).
pub(super) fn unreachable(hub: &mut Hub, header: &Ipv4Repr, quoted: &[u8]) {
    if header.dst_addr.is_multicast() || header.dst_addr.is_broadcast() || header.dst_addr == hub.options.broadcast() {
        return;
    }
    let message =
        Icmpv4Repr::DstUnreachable { reason: Icmpv4DstUnreachable::PortUnreachable, header: *header, data: quoted };
    hub.link.icmp(hub.options.gateway, header.src_addr, &message);
}

fn segment(header: &Ipv4Repr, payload: &[u8], partial: bool) -> Result<Segment, Refused> {
    let packet = TcpPacket::new_checked(payload).map_err(|_| Refused)?;
    if !partial && !packet.verify_checksum(&header.src_addr.into(), &header.dst_addr.into()) {
        return Err(Refused);
    }
    if packet.src_port() == 0 || packet.dst_port() == 0 {
        return Err(Refused);
    }
    Ok(Segment::new(header, &packet))
}
