//! What a sender says of a frame.

use crate::input::Input;
use crate::reference::{folded, is_sealed};
use pvkit_abi::net::{FrameFlags, FrameMeta, HashKind, MIN_SEGMENT, NetFeatures, RSS_KEY_BYTES, RSS_TABLE, Rss};
use pvkit_abi::net::{MAX_FRAME, Segmentation};
use pvkit_backends::net::offload::toeplitz::hash_frame;
use pvkit_backends::net::offload::{Layers, Rules, adapt, judge as judge_frame};
use pvkit_backends::net::{Frame, OFFLOADS};
use std::collections::VecDeque;

const MTU: u16 = 1500;
/// An Ethernet header with its tag.
const MOST_LINK: usize = 18;

/// A frame whose first bytes look like one more often than chance has it.
fn frame(input: &mut Input<'_>) -> Vec<u8> {
    let look = input.below(4);
    let mut bytes = input.rest().to_vec();
    if bytes.len() > 24 {
        match look {
            1 => bytes[12..15].copy_from_slice(&[8, 0, 0x45]),
            2 => bytes[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]),
            3 => bytes[12..19].copy_from_slice(&[0x81, 0, 0, 7, 8, 0, 0x45]),
            _ => {}
        }
    }
    bytes
}

/// What is judged good can be finished and cut, into a bounded number of pieces; what is refused leaves nothing.
pub fn judge(data: &[u8]) {
    let mut input = Input::new(data);
    let features = NetFeatures::from_bits_truncate(u64::from(input.u16()));
    let meta = FrameMeta(input.u64());
    let bytes = frame(&mut input);
    let judged = judge_frame(&bytes, meta, &Rules { features: OFFLOADS, mtu: MTU });
    let mut pieces = VecDeque::new();
    let adapted = adapt(Frame { bytes: bytes.clone(), meta }, features, &mut pieces);
    assert!(judged.is_err() || adapted.is_ok(), "{judged:?}, then {adapted:?}");
    assert_eq!(pieces.is_empty(), adapted.is_err());
    assert!(pieces.len() <= bytes.len().div_ceil(usize::from(MIN_SEGMENT)).max(1));
    if judged.is_ok() {
        let place = usize::from(meta.checksum_start()) + usize::from(meta.checksum_offset());
        assert!(bytes.len() <= MAX_FRAME && (meta.0 == 0 || place + 2 <= bytes.len()), "{meta:?} reaches outside");
        finished(&bytes, meta, pieces.make_contiguous());
    }
}

/// A frame that was judged good became these pieces: what is finished is right, and nothing of it is lost.
fn finished(bytes: &[u8], meta: FrameMeta, pieces: &[Frame]) {
    let needs_checksum = |meta: FrameMeta| meta.flags() & FrameFlags::NEEDS_CHECKSUM.bits() != 0;
    if let [whole] = pieces
        && (meta.segmentation() == Segmentation::NONE || whole.meta == meta)
    {
        let mut expected = bytes.to_vec();
        if needs_checksum(meta) && !needs_checksum(whole.meta) {
            let covered = &mut expected[usize::from(meta.checksum_start())..];
            let sum = !folded([&covered[..]]);
            // Zero is the other zero: UDP means "none" by it.
            let sum = if sum == 0 { 0xffff } else { sum };
            let at = usize::from(meta.checksum_offset());
            covered[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        assert_eq!(whole.bytes, expected);
        return;
    }
    let read = |frame: &[u8]| Layers::parse(frame).expect("headers").expect("an IP packet");
    let payload = |frame: &[u8]| frame[read(frame).payload..read(frame).end].to_vec();
    // TCP's; of a datagram these bytes are its length and sum.
    let sequence = |frame: &[u8]| {
        let at = read(frame).transport + 4;
        u32::from_be_bytes(frame[at..at + 4].try_into().expect("a header"))
    };
    let mut next = sequence(bytes);
    for piece in pieces {
        assert!(piece.bytes.len() <= MOST_LINK + usize::from(MTU) && !needs_checksum(piece.meta));
        assert!(is_sealed(&piece.bytes), "{piece:?}");
        assert!(meta.segmentation() == Segmentation::UDP || sequence(&piece.bytes) == next, "{piece:?}");
        next = next.wrapping_add(payload(&piece.bytes).len() as u32);
    }
    let joined: Vec<u8> = pieces.iter().flat_map(|piece| payload(&piece.bytes)).collect();
    assert!(joined == payload(bytes), "the pieces are not what was cut");
}

/// Layers lie in order, inside the frame.
pub fn layers(data: &[u8]) {
    let bytes = frame(&mut Input::new(data));
    if let Ok(Some(layers)) = Layers::parse(&bytes) {
        assert!(layers.network < layers.transport && layers.transport <= layers.payload);
        assert!(layers.payload <= layers.end && layers.end <= bytes.len());
    }
}

/// A hash is of a kind that was asked for.
pub fn hash(data: &[u8]) {
    let mut input = Input::new(data);
    let kinds = input.u32() & 0x7e;
    let rss = Rss { kinds, key: input.array::<RSS_KEY_BYTES>(), table: [0; RSS_TABLE] };
    if let Some((_, kind)) = hash_frame(&frame(&mut input), &rss) {
        assert!(kind != HashKind::NONE && kinds & 1 << kind.0 != 0);
    }
}
