//! Whether what a sender says of its frame can be true.

use super::layers::{Addresses, Layers, Protocol, link_bytes};
use super::{OffloadError, is_partial};
use pvkit_abi::net::{ETHERNET_HEADER, FrameFlags, FrameMeta, MAX_FRAME, MIN_SEGMENT, NetFeatures, Segmentation};

/// What a sender is held to.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What it sealed, of the TX features.
    pub features: NetFeatures,
    /// Largest IP packet, after cutting.
    pub mtu: u16,
}

/// Longest frame that needs no cutting: the MTU behind the header that this frame has.
#[must_use]
pub fn largest_plain(frame: &[u8], mtu: u16) -> usize {
    link_bytes(frame) + usize::from(mtu)
}

/// Judges a frame and its metadata. What passes can be finished, cut and sent on by anyone without another check of
/// these things; all that is relied on elsewhere is that it does not lie about headers that it names.
///
/// # Errors
/// The first thing that cannot be true.
pub fn judge(frame: &[u8], meta: FrameMeta, rules: &Rules) -> Result<(), OffloadError> {
    if frame.len() < ETHERNET_HEADER || frame.len() > MAX_FRAME {
        return Err(OffloadError::Length);
    }
    if meta.flags() & !FrameFlags::NEEDS_CHECKSUM.bits() != 0 {
        return Err(OffloadError::Flags);
    }
    if is_partial(meta) {
        judge_checksum(frame, meta, rules)?;
    } else if meta.0 != 0 {
        return Err(OffloadError::Stray);
    }
    if meta.segmentation() != Segmentation::NONE {
        return judge_segmentation(frame, meta, rules);
    }
    if meta.segment_size() != 0 {
        return Err(OffloadError::Stray);
    }
    if frame.len() > largest_plain(frame, rules.mtu) { Err(OffloadError::Oversized) } else { Ok(()) }
}

/// Any protocol's checksum may be left partial, as long as it lies behind the Ethernet header.
fn judge_checksum(frame: &[u8], meta: FrameMeta, rules: &Rules) -> Result<(), OffloadError> {
    if !rules.features.contains(NetFeatures::TX_CHECKSUM) {
        return Err(OffloadError::NotSealed);
    }
    let start = usize::from(meta.checksum_start());
    let end = start + usize::from(meta.checksum_offset()) + 2;
    if start < link_bytes(frame) || end > frame.len() { Err(OffloadError::ChecksumPlace) } else { Ok(()) }
}

fn judge_segmentation(frame: &[u8], meta: FrameMeta, rules: &Rules) -> Result<(), OffloadError> {
    let feature = match meta.segmentation() {
        Segmentation::TCP4 => NetFeatures::TX_TSO4,
        Segmentation::TCP6 => NetFeatures::TX_TSO6,
        Segmentation::UDP => NetFeatures::TX_USO,
        _ => return Err(OffloadError::Segmentation),
    };
    if !rules.features.contains(feature) {
        return Err(OffloadError::NotSealed);
    }
    let layers = check_segmentation(frame, meta)?;
    let largest = layers.payload - layers.network + usize::from(meta.segment_size());
    if largest > usize::from(rules.mtu) { Err(OffloadError::SegmentSize) } else { Ok(()) }
}

/// Whether the headers are those of the segmentation that the metadata names, without regard to what was sealed.
pub(super) fn check_segmentation(frame: &[u8], meta: FrameMeta) -> Result<Layers, OffloadError> {
    let layers = Layers::parse(frame)?.ok_or(OffloadError::OtherProtocol)?;
    let protocol = layers.protocol.ok_or(OffloadError::OtherProtocol)?;
    let fits = match (meta.segmentation(), protocol, layers.addresses) {
        (Segmentation::TCP4, Protocol::Tcp, Addresses::V4(_))
        | (Segmentation::TCP6, Protocol::Tcp, Addresses::V6(_))
        | (Segmentation::UDP, Protocol::Udp, _) => !layers.is_routed,
        _ => false,
    };
    if !fits {
        return Err(OffloadError::OtherProtocol);
    }
    let named = usize::from(meta.checksum_start()) == layers.transport
        && usize::from(meta.checksum_offset()) == protocol.checksum_offset();
    if !is_partial(meta) || !named {
        return Err(OffloadError::ChecksumPlace);
    }
    if layers.end != frame.len() || layers.payload >= layers.end {
        return Err(OffloadError::Headers);
    }
    if meta.segment_size() < MIN_SEGMENT {
        return Err(OffloadError::SegmentSize);
    }
    Ok(layers)
}
