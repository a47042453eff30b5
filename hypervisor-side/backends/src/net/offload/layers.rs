//! Where the headers of a frame lie: Ethernet with at most one tag, IPv4 or IPv6, TCP or UDP.
//!
//! *Invariants.* Every place in a [`Layers`] lies inside the frame that it was parsed from. At most [`MOST_EXTENSIONS`]
//! extension headers are followed.

use super::OffloadError;
use super::checksum::{Sum, load};

const VLAN: u16 = 0x8100;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Extension headers that one packet may have.
pub const MOST_EXTENSIONS: usize = 8;

/// A transport that offloads know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
        }
    }

    /// Where the header's checksum lies.
    #[must_use]
    pub const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// Source and destination, as they stand in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4, source first.
    V4([u8; 8]),
    /// IPv6, source first.
    V6([u8; 32]),
}

impl Addresses {
    /// The bytes, source first.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}

/// The headers of an IP packet in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// First byte of the IP header.
    pub network: usize,
    /// First byte behind it and its extensions.
    pub transport: usize,
    /// First byte behind the packet, as its length field has it.
    pub end: usize,
    /// From where to where.
    pub addresses: Addresses,
    /// TCP or UDP, if the packet is whole and its header all there.
    pub protocol: Option<Protocol>,
    /// First byte behind the transport header; `transport` without a protocol.
    pub payload: usize,
    /// A fragment of a packet.
    pub is_fragment: bool,
    /// IPv6 with a routing header: the destination is not the one that checksums mean.
    pub is_routed: bool,
}

/// Bytes before the network header, tag included, and the type behind them.
fn link(frame: &[u8]) -> Option<(usize, u16)> {
    match load(frame, 12)? {
        VLAN => Some((18, load(frame, 16)?)),
        kind => Some((14, kind)),
    }
}

/// Bytes of the Ethernet header with its tag. What is cut off counts as there.
#[must_use]
pub fn link_bytes(frame: &[u8]) -> usize {
    if load(frame, 12) == Some(VLAN) { 18 } else { 14 }
}

impl Layers {
    /// Finds the headers; `None` if this is no IP packet.
    ///
    /// # Errors
    /// [`OffloadError::Headers`] if they are cut off or contradict one another.
    pub fn parse(frame: &[u8]) -> Result<Option<Self>, OffloadError> {
        let (network, kind) = link(frame).ok_or(OffloadError::Headers)?;
        match kind {
            IPV4 => Self::parse_v4(frame, network).ok_or(OffloadError::Headers).map(Some),
            IPV6 => Self::parse_v6(frame, network).ok_or(OffloadError::Headers).map(Some),
            _ => Ok(None),
        }
    }

    fn parse_v4(frame: &[u8], network: usize) -> Option<Self> {
        let packet = frame.get(network..)?;
        let header: &[u8; 20] = packet.first_chunk()?;
        let &[head, _, _, _, _, _, fragment, _, _, protocol, ..] = header;
        let header_bytes = usize::from(head & 15) * 4;
        let total = usize::from(load(packet, 2)?);
        let is_right = head >> 4 == 4 && header_bytes >= 20 && header_bytes <= total && total <= packet.len();
        if !is_right {
            return None;
        }
        // More fragments, or not the first: flags in the upper three bits, the offset in the lower thirteen.
        let is_fragment = fragment & 0x3f != 0 || load(packet, 6)? & 0x1fff != 0;
        let addresses = Addresses::V4(*packet.get(12..)?.first_chunk()?);
        let place = Place { network, transport: network + header_bytes, end: network + total };
        place.with_transport(frame, addresses, protocol, is_fragment, false)
    }

    fn parse_v6(frame: &[u8], network: usize) -> Option<Self> {
        let packet = frame.get(network..)?;
        let header: &[u8; 40] = packet.first_chunk()?;
        let &[head, _, _, _, _, _, first, ..] = header;
        let end = 40 + usize::from(load(packet, 4)?);
        let packet = packet.get(..end)?;
        if head >> 4 != 6 {
            return None;
        }
        let (mut next, mut at) = (first, 40);
        let (mut is_fragment, mut is_routed) = (false, false);
        for _ in 0..MOST_EXTENSIONS {
            match next {
                // Hop by hop, routing, destination options: next header, length in eights beyond the first.
                0 | 43 | 60 => {
                    let [following, eights]: [u8; 2] = *packet.get(at..)?.first_chunk()?;
                    is_routed |= next == 43;
                    next = following;
                    at += 8 + usize::from(eights) * 8;
                }
                // Fragment; behind it lies the beginning of something, or its middle.
                44 => {
                    next = *packet.get(at..)?.first()?;
                    at += 8;
                    is_fragment = true;
                    break;
                }
                _ => break,
            }
        }
        if at > packet.len() {
            return None;
        }
        let addresses = Addresses::V6(*packet.get(8..)?.first_chunk()?);
        let place = Place { network, transport: network + at, end: network + end };
        place.with_transport(frame, addresses, next, is_fragment, is_routed)
    }

    /// Sum of the pseudo header for a transport header and payload of `length` bytes.
    #[must_use]
    pub fn pseudo_header(&self, protocol: Protocol, length: usize) -> Sum {
        // Lengths are of frames: below 2^17.
        Sum::default()
            .add_bytes(self.addresses.as_bytes())
            .add_number(u32::from(protocol.number()))
            .add_number(length as u32)
    }
}

/// The three places that every packet has.
struct Place {
    network: usize,
    transport: usize,
    end: usize,
}

impl Place {
    fn with_transport(
        self,
        frame: &[u8],
        addresses: Addresses,
        number: u8,
        is_fragment: bool,
        is_routed: bool,
    ) -> Option<Layers> {
        let Self { network, transport, end } = self;
        let segment = frame.get(transport..end)?;
        let header = match number {
            _ if is_fragment => None,
            TCP => tcp_header_bytes(segment).map(|bytes| (Protocol::Tcp, bytes)),
            UDP if segment.len() >= 8 => Some((Protocol::Udp, 8)),
            _ => None,
        };
        let (protocol, bytes) = header.map_or((None, 0), |(protocol, bytes)| (Some(protocol), bytes));
        let payload = transport + bytes;
        Some(Layers { network, transport, end, addresses, protocol, payload, is_fragment, is_routed })
    }
}

/// Bytes of the header with its options, if all of them are there.
fn tcp_header_bytes(segment: &[u8]) -> Option<usize> {
    let bytes = usize::from(segment.first_chunk::<20>()?.get(12)? >> 4) * 4;
    (bytes >= 20 && bytes <= segment.len()).then_some(bytes)
}
