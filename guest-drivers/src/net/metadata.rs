//! A frame's metadata judged: the guest's own before it is sent, the host's before it is believed.
//!
//! *Who checks.* Whatever passes [`check`] names bytes inside the frame and uses only what was sealed.

use super::HEADERS;
use pvkit_abi::net::{ETHERNET_HEADER, FrameFlags, FrameMeta, MAX_FRAME, MIN_SEGMENT, NetFeatures, Segmentation};

/// Which way a frame goes, with the features that matter there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    checksum: NetFeatures,
    tcp4: NetFeatures,
    tcp6: NetFeatures,
    udp: NetFeatures,
    inward: bool,
}

/// From the guest.
pub(super) const OUT: Way = Way {
    checksum: NetFeatures::TX_CHECKSUM,
    tcp4: NetFeatures::TX_TSO4,
    tcp6: NetFeatures::TX_TSO6,
    udp: NetFeatures::TX_USO,
    inward: false,
};
/// To the guest.
pub(super) const IN: Way = Way {
    checksum: NetFeatures::RX_CHECKSUM,
    tcp4: NetFeatures::RX_TSO4,
    tcp6: NetFeatures::RX_TSO6,
    udp: NetFeatures::RX_USO,
    inward: true,
};

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Impossible, whatever was sealed.
    Field(&'static str, u64),
    /// Something that was not sealed.
    Unsealed(&'static str, u64),
}

/// Judges the metadata of a frame of `length` bytes. `MORE` is not looked at.
pub(super) fn check(meta: FrameMeta, length: usize, mtu: u16, sealed: NetFeatures, way: Way) -> Result<(), Wrong> {
    if !(ETHERNET_HEADER..=MAX_FRAME).contains(&length) {
        return Err(Wrong::Field("length", length as u64));
    }
    let flags = FrameFlags::from_bits(meta.flags()).ok_or(Wrong::Field("flags", meta.flags().into()))?;
    let partial = flags.contains(FrameFlags::NEEDS_CHECKSUM);
    let verified = flags.contains(FrameFlags::CHECKSUM_VALID);
    let inward = FrameFlags::CHECKSUM_VALID | FrameFlags::MORE;
    if (verified && partial) || (!way.inward && flags.intersects(inward)) {
        return Err(Wrong::Field("flags", flags.bits().into()));
    }
    if (partial || verified) && !sealed.contains(way.checksum) {
        return Err(Wrong::Unsealed("flags", flags.bits().into()));
    }
    if !partial {
        let rest = FrameMeta(meta.0 & ((1 << 56) - 1));
        if rest != FrameMeta(0) {
            return Err(Wrong::Field("metadata", rest.0));
        }
        return check_length(length, mtu);
    }
    let start = usize::from(meta.checksum_start());
    if start < ETHERNET_HEADER || start + usize::from(meta.checksum_offset()) + 2 > length {
        return Err(Wrong::Field("checksum place", meta.0 & 0xffff_ffff));
    }
    let needs = match meta.segmentation() {
        Segmentation::NONE if meta.segment_size() != 0 => {
            return Err(Wrong::Field("segment size", meta.segment_size().into()));
        }
        Segmentation::NONE => return check_length(length, mtu),
        Segmentation::TCP4 => way.tcp4,
        Segmentation::TCP6 => way.tcp6,
        Segmentation::UDP => way.udp,
        other => return Err(Wrong::Field("segmentation", other.0.into())),
    };
    if !sealed.contains(needs) {
        return Err(Wrong::Unsealed("segmentation", meta.segmentation().0.into()));
    }
    if meta.segment_size() < MIN_SEGMENT {
        return Err(Wrong::Field("segment size", meta.segment_size().into()));
    }
    Ok(())
}

/// A frame that is not to be cut fits the MTU.
fn check_length(length: usize, mtu: u16) -> Result<(), Wrong> {
    if length > usize::from(mtu) + HEADERS { Err(Wrong::Field("length", length as u64)) } else { Ok(()) }
}
