//! Checksums of TCP and UDP over IPv4: what is left to the host, what the host vouches for, and what is verified here.
//!
//! *Not here.* The checksum of the IPv4 header itself, which the stack always computes and verifies, and IPv6, of which the
//! stack does everything.

use crate::net::Received;
use pvkit_abi::net::{ETHERNET_HEADER, FrameFlags, FrameMeta, NetFeatures, Segmentation};
use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket, UdpPacket};

/// Where the checksum field of a TCP or a UDP header is.
const TCP_FIELD: u16 = 16;
const UDP_FIELD: u16 = 6;

/// What the stack has to do by itself.
pub(super) fn left_to_the_stack(sealed: NetFeatures) -> ChecksumCapabilities {
    let mut left = ChecksumCapabilities::default();
    let (sends, takes) = (sealed.contains(NetFeatures::TX_CHECKSUM), sealed.contains(NetFeatures::RX_CHECKSUM));
    let transport = match (sends, takes) {
        (false, false) => Checksum::Both,
        (true, false) => Checksum::Rx,
        (false, true) => Checksum::Tx,
        (true, true) => Checksum::None,
    };
    (left.tcp, left.udp) = (transport, transport);
    left
}

/// Begins the checksum that the stack left out; the metadata by which the host finishes it.
pub(super) fn begin(frame: &mut [u8], sealed: NetFeatures) -> FrameMeta {
    let none = FrameMeta(0);
    if !sealed.contains(NetFeatures::TX_CHECKSUM) {
        return none;
    }
    let Some(packet) = Transport::of(frame) else { return none };
    let (start, field, sum) = (packet.start, packet.field, packet.pseudo_header());
    let at = usize::from(start) + usize::from(field);
    let Some(place) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) else { return none };
    *place = sum.to_be_bytes();
    FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, start, field, Segmentation::NONE, 0)
}

/// Whether the stack may take the frame without a look at its transport checksum. With the feature the stack looks at none.
pub(super) fn is_good(frame: &Received, bytes: &[u8], sealed: NetFeatures) -> bool {
    let vouched = FrameFlags::NEEDS_CHECKSUM | FrameFlags::CHECKSUM_VALID;
    if !sealed.contains(NetFeatures::RX_CHECKSUM) || frame.meta.flags() & vouched.bits() != 0 {
        return true;
    }
    Transport::of(bytes).is_none_or(|packet| packet.is_right())
}

/// An unfragmented TCP or UDP packet over IPv4.
struct Transport<'a> {
    ip: Ipv4Packet<&'a [u8]>,
    protocol: IpProtocol,
    /// Offset of its header in the frame.
    start: u16,
    /// Offset of the checksum in that.
    field: u16,
}

impl<'a> Transport<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        if ip.more_frags() || ip.frag_offset() != 0 {
            return None;
        }
        let (protocol, header) = (ip.next_header(), usize::from(ip.header_len()));
        let (field, least) = match protocol {
            IpProtocol::Tcp => (TCP_FIELD, 20),
            IpProtocol::Udp => (UDP_FIELD, 8),
            _ => return None,
        };
        let fits = usize::from(ip.total_len()).checked_sub(header).is_some_and(|length| length >= least);
        let start = u16::try_from(ETHERNET_HEADER + header).ok()?;
        fits.then_some(Self { ip, protocol, start, field })
    }

    /// The sum of the pseudo header, folded, not inverted (RFC 793, 3.1; RFC 768).
    fn pseudo_header(&self) -> u16 {
        let words = |address: [u8; 4]| {
            let [a, b, c, d] = address;
            u32::from(u16::from_be_bytes([a, b])) + u32::from(u16::from_be_bytes([c, d]))
        };
        let length = u32::from(self.ip.total_len()) - u32::from(self.ip.header_len());
        let protocol = u32::from(u8::from(self.protocol));
        let sum = words(self.ip.src_addr().octets()) + words(self.ip.dst_addr().octets()) + length + protocol;
        let folded = (sum & 0xffff) + (sum >> 16);
        ((folded & 0xffff) + (folded >> 16)) as u16
    }

    fn is_right(&self) -> bool {
        let (from, to) = (self.ip.src_addr().into(), self.ip.dst_addr().into());
        let payload = self.ip.payload();
        match self.protocol {
            IpProtocol::Tcp => TcpPacket::new_checked(payload).is_ok_and(|packet| packet.verify_checksum(&from, &to)),
            // A checksum of 0 says that there is none.
            IpProtocol::Udp => UdpPacket::new_checked(payload)
                .is_ok_and(|packet| packet.checksum() == 0 || packet.verify_checksum(&from, &to)),
            _ => true,
        }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use smoltcp::wire::{EthernetAddress, Ipv4Address, Ipv4Repr, UdpRepr};
    use std::vec;
    use std::vec::Vec;

    const OFFLOADS: NetFeatures = NetFeatures::TX_CHECKSUM.union(NetFeatures::RX_CHECKSUM);

    /// A UDP packet in a frame, as the stack emits it with these capabilities.
    fn udp(left: &ChecksumCapabilities) -> Vec<u8> {
        let (from, to) = (Ipv4Address::new(10, 0, 0, 1), Ipv4Address::new(10, 0, 0, 2));
        let repr = UdpRepr { src_port: 7, dst_port: 9 };
        let ip =
            Ipv4Repr { src_addr: from, dst_addr: to, next_header: IpProtocol::Udp, payload_len: 8 + 5, hop_limit: 64 };
        let mut frame = vec![0; ETHERNET_HEADER + 20 + 8 + 5];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        ethernet.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 1]));
        ethernet.set_dst_addr(EthernetAddress([2, 0, 0, 0, 0, 2]));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.emit(&mut packet, left);
        let mut packet = UdpPacket::new_unchecked(packet.payload_mut());
        repr.emit(&mut packet, &from.into(), &to.into(), 5, |payload| payload.copy_from_slice(b"hello"), left);
        frame
    }

    /// What the host does with a frame that needs it.
    fn finish(frame: &mut [u8], meta: FrameMeta) {
        let start = usize::from(meta.checksum_start());
        let sum: u32 =
            frame[start..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let place = start + usize::from(meta.checksum_offset());
        frame[place..place + 2].copy_from_slice(&(!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes());
    }

    #[test]
    fn host_finishes_what_is_begun_to_what_the_stack_would_have_made() {
        let whole = udp(&ChecksumCapabilities::default());
        let mut begun = udp(&left_to_the_stack(OFFLOADS));
        let meta = begin(&mut begun, OFFLOADS);
        assert_eq!(meta.flags(), FrameFlags::NEEDS_CHECKSUM.bits());
        assert_ne!(begun, whole);
        finish(&mut begun, meta);
        assert_eq!(begun, whole);
    }

    #[test]
    fn without_the_feature_nothing_is_touched() {
        let mut frame = udp(&left_to_the_stack(NetFeatures::empty()));
        let before = frame.clone();
        assert_eq!((begin(&mut frame, NetFeatures::RX_CHECKSUM), frame), (FrameMeta(0), before));
    }

    #[test]
    fn frame_is_verified_unless_the_host_vouches_for_it() {
        let mut frame = udp(&ChecksumCapabilities::default());
        let received = |flags: FrameFlags, length| Received {
            length,
            meta: FrameMeta::new(flags, 0, 0, Segmentation::NONE, 0),
            hash: pvkit_abi::net::FrameHash(0),
        };
        let plain = received(FrameFlags::empty(), frame.len());
        assert!(is_good(&plain, &frame, OFFLOADS));
        *frame.last_mut().unwrap() ^= 1;
        assert!(!is_good(&plain, &frame, OFFLOADS));
        assert!(is_good(&received(FrameFlags::CHECKSUM_VALID, frame.len()), &frame, OFFLOADS));
        assert!(is_good(&plain, &frame, NetFeatures::empty()), "then the stack verifies");
        for length in 0..frame.len() {
            // Cut short anywhere: an answer, whatever it is.
            let _ = is_good(&plain, &frame[..length], OFFLOADS);
            assert!(begin(&mut frame[..length].to_vec(), OFFLOADS).flags() == 0 || length >= 42);
        }
    }
}
