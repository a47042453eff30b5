//! Offloads in software: judge the metadata of a frame, finish its checksum, cut it into pieces, hash it.
//!
//! *Purpose.* A guest may leave work to the host, and another guest may not take it undone. Here it is judged whether
//! what a sender says of a frame can be true, and here the work is done that nobody further on will do.
//!
//! *Invariants.* Every offset is checked against the frame before it is used, here and nowhere else; a lie is an
//! [`OffloadError`]. Work is bounded by the frame: one pass for a checksum, at most [`MAX_FRAME`] / [`MIN_SEGMENT`]
//! pieces. Nothing here knows of guests or queues.
//!
//! [`MAX_FRAME`]: pvkit_abi::net::MAX_FRAME
//! [`MIN_SEGMENT`]: pvkit_abi::net::MIN_SEGMENT

pub mod checksum;
mod error;
mod judge;
mod layers;
mod segment;
pub mod toeplitz;

pub use error::OffloadError;
pub use judge::{Rules, judge, largest_plain};
pub use layers::{Addresses, Layers, Protocol};
pub use segment::segment;

use super::Frame;
use pvkit_abi::net::{FrameFlags, FrameMeta, NetFeatures, Segmentation};
use std::collections::VecDeque;

/// Makes a frame what a guest that sealed `features` takes, and appends it to `into`, in pieces if it must be cut.
///
/// # Errors
/// Metadata that cannot be true; nothing is appended.
pub fn adapt(mut frame: Frame, features: NetFeatures, into: &mut VecDeque<Frame>) -> Result<(), OffloadError> {
    let needs = match frame.meta.segmentation() {
        Segmentation::NONE => NetFeatures::empty(),
        Segmentation::TCP4 => NetFeatures::RX_TSO4,
        Segmentation::TCP6 => NetFeatures::RX_TSO6,
        Segmentation::UDP => NetFeatures::RX_USO,
        _ => return Err(OffloadError::Segmentation),
    };
    let takes_partial = features.contains(NetFeatures::RX_CHECKSUM);
    if !features.contains(needs) || (!needs.is_empty() && !takes_partial) {
        return segment(&frame, takes_partial, into);
    }
    if is_partial(frame.meta) && !takes_partial {
        checksum::finish(&mut frame)?;
    }
    if !takes_partial {
        frame.meta = FrameMeta::default();
    }
    into.push_back(frame);
    Ok(())
}

fn is_partial(meta: FrameMeta) -> bool {
    meta.flags() & FrameFlags::NEEDS_CHECKSUM.bits() != 0
}

/// The metadata of a frame whose checksum is known to be right.
#[must_use]
pub const fn valid() -> FrameMeta {
    FrameMeta::new(FrameFlags::CHECKSUM_VALID, 0, 0, Segmentation::NONE, 0)
}

#[cfg(test)]
pub(crate) mod packets;
#[cfg(test)]
mod tests;
