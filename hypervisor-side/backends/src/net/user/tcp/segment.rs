//! What a segment of the guest says, as far as the table must know, and the reset that refuses it.

use crate::net::user::hub::Hub;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use std::net::SocketAddrV4;

/// What tells connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::net::user) struct Key {
    /// The other end, as the guest sees it.
    pub(super) remote: SocketAddrV4,
    /// The guest's port.
    pub(super) guest_port: u16,
}

/// A segment of the guest whose checksum was verified.
#[derive(Clone, Copy, Debug)]
pub(in crate::net::user) struct Segment {
    pub(super) key: Key,
    pub(super) reset: bool,
    /// It asks for a connection.
    pub(super) opens: bool,
    sequence: TcpSeqNumber,
    acknowledged: Option<TcpSeqNumber>,
    length: usize,
}

impl Segment {
    /// The segment in a packet whose lengths and checksums are right.
    pub(in crate::net::user) fn new(header: &Ipv4Repr, packet: &TcpPacket<&[u8]>) -> Self {
        Self {
            key: Key { remote: SocketAddrV4::new(header.dst_addr, packet.dst_port()), guest_port: packet.src_port() },
            reset: packet.rst(),
            opens: packet.syn() && !packet.ack() && !packet.rst() && !packet.fin(),
            sequence: packet.seq_number(),
            acknowledged: packet.ack().then(|| packet.ack_number()),
            length: packet.segment_len(),
        }
    }

    /// Sends the reset that belongs to this segment (RFC 9293, section 3.5.2). A reset gets none.
    pub(super) fn refuse(&self, hub: &mut Hub) {
        if self.reset {
            return;
        }
        let reply = TcpRepr {
            src_port: self.key.remote.port(),
            dst_port: self.key.guest_port,
            control: TcpControl::Rst,
            seq_number: self.acknowledged.unwrap_or_default(),
            ack_number: self.acknowledged.is_none().then(|| self.sequence + self.length),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let addresses = (*self.key.remote.ip(), hub.options.guest);
        hub.link.ipv4(None, addresses, IpProtocol::Tcp, reply.buffer_len(), |bytes| {
            let (from, to) = (addresses.0.into(), addresses.1.into());
            reply.emit(&mut TcpPacket::new_unchecked(bytes), &from, &to, &ChecksumCapabilities::default());
        });
    }
}
