//! The Toeplitz hash of receive-side scaling.
//!
//! *Reference.* Microsoft, "RSS hashing functions" and "Verifying the RSS hash calculation", whose examples are the
//! tests of this file.

use super::layers::{Addresses, Layers, Protocol};
use pvkit_abi::net::{HashKind, RSS_KEY_BYTES, Rss};

/// Hash of `input`: for each bit that is set, the 32 bits of the key that begin at its place. Bits beyond the key's end
/// are zero.
#[must_use]
pub fn toeplitz(key: &[u8; RSS_KEY_BYTES], input: &[u8]) -> u32 {
    let (head, tail) = key.split_at(4);
    let mut window = head.iter().fold(0, |window, byte| window << 8 | u64::from(*byte)) << 8;
    let mut following = tail.iter();
    let mut hash = 0;
    for byte in input {
        // 40 bits: the 32 of the first bit's place and eight to come.
        window = (window & 0xff_ffff_ff00) | u64::from(following.next().copied().unwrap_or(0));
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= (window >> (8 - bit)) as u32;
            }
        }
        window = window << 8 & 0xff_ffff_ffff;
    }
    hash
}

/// The hash of a frame, over as much as `rss` allows and the frame has; `None` if it is of no kind that `rss` names.
#[must_use]
pub fn hash_frame(frame: &[u8], rss: &Rss) -> Option<(u32, HashKind)> {
    let layers = Layers::parse(frame).ok()??;
    let allowed = |kind: HashKind| rss.kinds & 1 << kind.0 != 0;
    let (narrow, wide) = kinds(&layers);
    let mut input = [0; 36];
    let addresses = layers.addresses.as_bytes();
    let mut length = addresses.len();
    for (to, from) in input.iter_mut().zip(addresses) {
        *to = *from;
    }
    let kind = match wide.filter(|kind| allowed(*kind)) {
        Some(kind) => {
            let ports: &[u8; 4] = frame.get(layers.transport..)?.first_chunk()?;
            *input.get_mut(length..)?.first_chunk_mut()? = *ports;
            length += 4;
            kind
        }
        None if allowed(narrow) => narrow,
        None => return None,
    };
    Some((toeplitz(&rss.key, input.get(..length)?), kind))
}

/// The kind by addresses alone, and the one with ports.
const fn kinds(layers: &Layers) -> (HashKind, Option<HashKind>) {
    match (layers.addresses, layers.protocol) {
        (Addresses::V4(_), Some(Protocol::Tcp)) => (HashKind::IPV4, Some(HashKind::TCP4)),
        (Addresses::V4(_), Some(Protocol::Udp)) => (HashKind::IPV4, Some(HashKind::UDP4)),
        (Addresses::V4(_), None) => (HashKind::IPV4, None),
        (Addresses::V6(_), Some(Protocol::Tcp)) => (HashKind::IPV6, Some(HashKind::TCP6)),
        (Addresses::V6(_), Some(Protocol::Udp)) => (HashKind::IPV6, Some(HashKind::UDP6)),
        (Addresses::V6(_), None) => (HashKind::IPV6, None),
    }
}

#[cfg(test)]
#[path = "toeplitz_tests.rs"]
mod tests;
