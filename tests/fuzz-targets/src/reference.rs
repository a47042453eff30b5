//! Checksums once more, slow and plain, to compare with.

use pvkit_backends::net::offload::{Layers, Protocol};

/// The sum of RFC 1071, folded and not complemented; 0xffff over bytes that hold their own checksum.
pub fn folded<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

/// Whether every checksum of a frame of TCP, UDP or ICMP is there and right, and a datagram's length. Other frames have none that is known.
pub fn is_sealed(frame: &[u8]) -> bool {
    let layers = Layers::parse(frame).expect("headers that are whole").expect("an IP packet");
    let header = &frame[layers.network..layers.transport];
    if header[0] >> 4 == 4 && folded([header]) != 0xffff {
        return false;
    }
    let packet = &frame[layers.transport..layers.end];
    let Some(protocol) = layers.protocol else {
        return header[0] >> 4 != 4 || header[9] != 1 || folded([packet]) == 0xffff;
    };
    let length = (packet.len() as u32).to_be_bytes();
    let place = if protocol == Protocol::Tcp { 16 } else { 6 };
    let has_length = usize::from(u16::from_be_bytes([packet[4], packet[5]])) == packet.len();
    let is_given = protocol == Protocol::Tcp || has_length && packet[place..place + 2] != [0, 0];
    is_given && folded([layers.addresses.as_bytes(), &length, &[0, protocol.number()], packet]) == 0xffff
}
