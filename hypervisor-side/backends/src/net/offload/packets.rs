//! Frames for tests, written from the RFCs' pictures and not with the code under test.

use pvkit_abi::net::{FrameFlags, FrameMeta, Segmentation};

/// Checks or makes a checksum the slow way, RFC 1071 section 4.1.
pub fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub ip: Ip,
    pub transport: Transport,
    pub tagged: bool,
    pub options: usize,
    pub payload: Vec<u8>,
}

pub const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const SEQUENCE: u32 = 0xffff_ff00;
pub const IDENTIFICATION: u16 = 0xfffe;
/// CWR, ACK, PSH and FIN.
pub const TCP_FLAGS: u8 = 0x80 | 0x10 | 8 | 1;

impl Packet {
    pub fn new(ip: Ip, transport: Transport, payload: Vec<u8>) -> Self {
        Self { ip, transport, tagged: false, options: 0, payload }
    }

    pub fn network(&self) -> usize {
        if self.tagged { 18 } else { 14 }
    }

    pub fn transport_at(&self) -> usize {
        self.network() + if self.ip == Ip::V4 { 20 } else { 40 }
    }

    pub fn payload_at(&self) -> usize {
        self.transport_at() + if self.transport == Transport::Tcp { 20 + self.options } else { 8 }
    }

    fn addresses(&self) -> Vec<u8> {
        match self.ip {
            Ip::V4 => vec![10, 0, 2, 15, 10, 0, 2, 2],
            Ip::V6 => (0..32).map(|i| 0xf0 ^ (i * 7)).collect(),
        }
    }

    fn number(&self) -> u8 {
        if self.transport == Transport::Tcp { 6 } else { 17 }
    }

    pub fn checksum_offset(&self) -> usize {
        if self.transport == Transport::Tcp { 16 } else { 6 }
    }

    /// Sum of the pseudo header, folded.
    fn pseudo(&self, length: usize) -> u16 {
        let mut header = self.addresses();
        header.extend((length as u32).to_be_bytes());
        header.extend([0, 0, 0, self.number()]);
        slow_sum(&header)
    }

    /// The frame with its checksum partial.
    pub fn partial(&self) -> Vec<u8> {
        let mut frame = [GUEST_MAC, SOURCE_MAC].concat();
        if self.tagged {
            frame.extend([0x81, 0, 0, 5]);
        }
        let header = self.payload_at() - self.transport_at();
        let length = header + self.payload.len();
        match self.ip {
            Ip::V4 => {
                frame.extend([8, 0]);
                let total = ((length + 20) as u16).to_be_bytes();
                let id = IDENTIFICATION.to_be_bytes();
                let mut ip = vec![0x45, 0, total[0], total[1], id[0], id[1], 0x40, 0, 64, self.number(), 0, 0];
                ip.extend(self.addresses());
                let sum = !slow_sum(&ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(ip);
            }
            Ip::V6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((length as u16).to_be_bytes());
                frame.extend([self.number(), 64]);
                frame.extend(self.addresses());
            }
        }
        frame.extend([0x12, 0x34, 0, 80]);
        if self.transport == Transport::Tcp {
            frame.extend(SEQUENCE.to_be_bytes());
            frame.extend([0, 0, 0, 9, (header as u8 / 4) << 4, TCP_FLAGS, 1, 0, 0, 0, 0, 0]);
            frame.extend(vec![1; self.options]);
        } else {
            frame.extend((length as u16).to_be_bytes());
            frame.extend([0, 0]);
        }
        frame.extend(&self.payload);
        let at = self.transport_at() + self.checksum_offset();
        frame[at..at + 2].copy_from_slice(&self.pseudo(length).to_be_bytes());
        frame
    }

    /// Metadata that asks to finish, and to cut if `size` is not 0.
    pub fn meta(&self, size: u16) -> FrameMeta {
        let kind = match (size, self.transport, self.ip) {
            (0, ..) => Segmentation::NONE,
            (_, Transport::Tcp, Ip::V4) => Segmentation::TCP4,
            (_, Transport::Tcp, Ip::V6) => Segmentation::TCP6,
            _ => Segmentation::UDP,
        };
        let (start, offset) = (self.transport_at() as u16, self.checksum_offset() as u16);
        FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, start, offset, kind, size)
    }

    /// Whether a finished frame with the same headers has right lengths and checksums.
    pub fn is_right(&self, frame: &[u8]) -> bool {
        let (network, transport) = (self.network(), self.transport_at());
        let field = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let length = frame.len() - transport;
        let ip_is_right = match self.ip {
            Ip::V4 => field(network + 2) == length + 20 && slow_sum(&frame[network..transport]) == 0xffff,
            Ip::V6 => field(network + 4) == length,
        };
        let udp_is_right = self.transport == Transport::Tcp || field(transport + 4) == length;
        let stored = field(transport + self.checksum_offset());
        let sum = u32::from(slow_sum(&frame[transport..])) + u32::from(self.pseudo(length));
        let sum = (sum & 0xffff) + (sum >> 16);
        ip_is_right && udp_is_right && stored != 0 && sum == 0xffff
    }
}
