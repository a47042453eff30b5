//! What one block request may ask for, as offered and sealed.

use pvkit_abi::bus::Offer;

/// Limits of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// Most entries of an indirect list.
    pub max_segments: u32,
    /// Most bytes that one request moves.
    pub max_transfer: u32,
    /// What the offset of every data segment must be a multiple of; a power of two.
    pub alignment: u32,
}

impl BlockLimits {
    /// The limits that an offer named.
    #[must_use]
    pub const fn of(offer: &Offer) -> Self {
        Self { max_segments: offer.max_segments, max_transfer: offer.max_transfer, alignment: offer.alignment }
    }
}

impl Default for BlockLimits {
    /// 256 segments, 4 MiB, offsets in multiples of eight.
    fn default() -> Self {
        Self { max_segments: 256, max_transfer: 4 << 20, alignment: 8 }
    }
}
