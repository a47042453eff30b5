//! Which features are chosen, and whether the queues can carry what they imply.

use super::{HEADERS, LinkState};
use crate::device::Sealed;
use crate::error::BusError;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::Offer;
use pvkit_abi::net::{MAX_FRAME, NetFeatures};

/// The uncut frames that a guest may take.
const LARGE_RECEIVE: NetFeatures = NetFeatures::RX_TSO4.union(NetFeatures::RX_TSO6).union(NetFeatures::RX_USO);
/// The frames that the host cuts.
const LARGE_TRANSMIT: NetFeatures = NetFeatures::TX_TSO4.union(NetFeatures::TX_TSO6).union(NetFeatures::TX_USO);

/// What is wanted and offered, without what lacks its needs or cannot fit the queues.
pub(super) fn choose(wanted: NetFeatures, offer: &Offer, depth: u32) -> NetFeatures {
    let mut chosen = wanted & NetFeatures::from_bits_truncate(offer.features);
    let slots = 1u32.checked_shl(depth.min(offer.max_depth).max(1).ilog2()).unwrap_or(1);
    // A quarter of the buffers may wait to be posted again.
    let room = (slots - slots / 4) as usize * PAGE_SIZE.min(offer.max_transfer as usize);
    if room < MAX_FRAME || !chosen.contains(NetFeatures::RX_CHECKSUM | NetFeatures::MERGEABLE) {
        chosen.remove(LARGE_RECEIVE);
    }
    if !chosen.contains(NetFeatures::TX_CHECKSUM) {
        chosen.remove(LARGE_TRANSMIT);
    }
    chosen
}

/// Whether a frame of the MTU fits what was chosen.
pub(super) fn check_room(features: NetFeatures, sealed: &Sealed, link: &LinkState) -> Result<(), BusError> {
    let frame = usize::from(link.mtu) + HEADERS;
    let buffer = PAGE_SIZE.min(sealed.max_transfer as usize);
    let unsupported = |what, value: u32| Err(BusError::Unsupported { what, value: value.into() });
    if frame > sealed.max_transfer as usize {
        return unsupported("MTU above max_transfer", sealed.max_transfer);
    }
    if frame > PAGE_SIZE && !features.contains(NetFeatures::MERGEABLE) {
        return unsupported("MTU above a page without MERGEABLE", link.mtu.into());
    }
    let slots = sealed.depth - sealed.depth / 4;
    if frame.div_ceil(buffer) > slots as usize {
        return unsupported("MTU above what the receive queue holds", link.mtu.into());
    }
    Ok(())
}
