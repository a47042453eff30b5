//! The wire towards the guest: frames are built here and nowhere else.
//!
//! *Invariants.* TCP is sent only if [`Link::room`] says that the guest takes a frame, so that a slow guest costs
//! waiting and not loss; everything else may be dropped. Only this thread
//! hands frames in, so room does not vanish.

use crate::net::{Frame, Steering};
use pvkit_abi::net::ETHERNET_HEADER;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr,
    IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The gateway's own address: locally administered.
pub(super) const GATEWAY_MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 0x0a, 0x00, 0x02, 0x02]);
/// Least time between two questions for the guest's address.
const ASK_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// Bytes of an IPv4 header as we send it.
const IPV4_HEADER: usize = 20;
/// Hops of what we send.
const HOPS: u8 = 64;

/// The wire towards the guest.
#[derive(Debug)]
pub(super) struct Link {
    steering: Arc<Steering>,
    guest: Option<EthernetAddress>,
    mtu: usize,
    asked: Option<Instant>,
}

impl Link {
    pub(super) fn new(steering: Arc<Steering>, mtu: u16) -> Self {
        Self { steering, guest: None, mtu: mtu.into(), asked: None }
    }

    /// Largest IP packet.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Most bytes of a datagram.
    pub(super) fn most_datagram(&self) -> usize {
        self.mtu.saturating_sub(IPV4_HEADER + UDP_HEADER)
    }

    /// Notes the guest's address.
    pub(super) fn learn(&mut self, address: EthernetAddress) {
        if address.is_unicast() {
            self.guest = Some(address);
        }
    }

    /// Whether a packet for the guest can be sent now.
    pub(super) fn room(&self) -> bool {
        self.guest.is_some() && self.steering.room() > 0
    }

    /// Asks for the guest's address if it is not known and was not asked for just now.
    pub(super) fn ask(&mut self, now: Instant, gateway: Ipv4Addr, guest: Ipv4Addr) {
        let recently = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK_INTERVAL);
        if self.guest.is_some() || recently {
            return;
        }
        self.asked = Some(now);
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: GATEWAY_MAC,
            source_protocol_addr: gateway,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: guest,
        };
        self.arp(EthernetAddress::BROADCAST, &question);
    }

    /// Sends an ARP message.
    pub(super) fn arp(&mut self, to: EthernetAddress, message: &ArpRepr) {
        self.frame(to, EthernetProtocol::Arp, message.buffer_len(), |payload| {
            message.emit(&mut ArpPacket::new_unchecked(payload));
        });
    }

    /// Sends an IP packet of `length` bytes to the guest; it is dropped if the guest is not known or has no room.
    pub(super) fn packet<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let to = self.guest.unwrap_or(EthernetAddress::BROADCAST);
        let (frame, result) = build(to, EthernetProtocol::Ipv4, length, fill);
        if self.guest.is_some() {
            self.steering.deliver(frame);
        }
        result
    }

    /// Sends an IP packet with `payload` bytes behind its header. False if it was dropped.
    pub(super) fn ipv4(
        &mut self,
        to: Option<EthernetAddress>,
        (source, destination): (Ipv4Addr, Ipv4Addr),
        protocol: IpProtocol,
        payload_len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        let header =
            Ipv4Repr { src_addr: source, dst_addr: destination, next_header: protocol, payload_len, hop_limit: HOPS };
        let length = header.buffer_len() + payload_len;
        let Some(to) = to.or(self.guest).filter(|_| length <= self.mtu) else { return false };
        self.frame(to, EthernetProtocol::Ipv4, length, |bytes| {
            let mut packet = Ipv4Packet::new_unchecked(bytes);
            header.emit(&mut packet, &ChecksumCapabilities::default());
            fill(packet.payload_mut());
        })
    }

    /// Sends a datagram. False if it was dropped.
    pub(super) fn datagram(
        &mut self,
        to: Option<EthernetAddress>,
        (source, destination): (SocketAddrV4, SocketAddrV4),
        payload: &[u8],
    ) -> bool {
        let ports = UdpRepr { src_port: source.port(), dst_port: destination.port() };
        let (from, towards) = (*source.ip(), *destination.ip());
        self.ipv4(to, (from, towards), IpProtocol::Udp, UDP_HEADER + payload.len(), |bytes| {
            ports.emit(
                &mut UdpPacket::new_unchecked(bytes),
                &from.into(),
                &towards.into(),
                payload.len(),
                |into| into.copy_from_slice(payload),
                &ChecksumCapabilities::default(),
            );
        })
    }

    /// Sends a control message. False if it was dropped.
    pub(super) fn icmp(&mut self, source: Ipv4Addr, destination: Ipv4Addr, message: &Icmpv4Repr<'_>) -> bool {
        self.ipv4(None, (source, destination), IpProtocol::Icmp, message.buffer_len(), |bytes| {
            message.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
        })
    }

    fn frame(
        &mut self,
        to: EthernetAddress,
        protocol: EthernetProtocol,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> bool {
        self.steering.deliver(build(to, protocol, length, fill).0)
    }
}

fn build<R>(
    to: EthernetAddress,
    protocol: EthernetProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]) -> R,
) -> (Frame, R) {
    let mut frame = EthernetFrame::new_unchecked(vec![0; ETHERNET_HEADER + length]);
    frame.set_dst_addr(to);
    frame.set_src_addr(GATEWAY_MAC);
    frame.set_ethertype(protocol);
    let result = fill(frame.payload_mut());
    (Frame::finished(frame.into_inner()), result)
}
