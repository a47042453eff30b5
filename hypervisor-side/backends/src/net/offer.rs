//! What the bus says about a network port.

use super::Network;
use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::net::{MAX_FRAME, NetConfig, NetFeatures};
use pvkit_abi::version::CURRENT;
use zerocopy::IntoBytes;

/// Most entries of an indirect list of a transmit request.
pub const MAX_SEGMENTS: u32 = 64;

/// What the queues do by themselves, whatever the network.
const OWN: NetFeatures = NetFeatures::MERGEABLE
    .union(NetFeatures::INDIRECT)
    .union(NetFeatures::FILTER)
    .union(NetFeatures::RSS)
    .union(NetFeatures::ANNOUNCE);

/// The offer of network device number `instance` with `pairs` pairs of queues.
#[must_use]
pub fn offer(network: &dyn Network, instance: u16, config: NetConfig, pairs: u16, max_depth: u32) -> Offer {
    Offer {
        class: Class::NET,
        instance,
        newest: CURRENT,
        minor_oldest: CURRENT.minor,
        max_queues: pairs.saturating_mul(2),
        max_depth,
        features: (network.features() | OWN).bits(),
        required: 0,
        max_segments: MAX_SEGMENTS,
        max_transfer: MAX_FRAME as u32,
        alignment: 1,
        reserved: 0,
        config: config_bytes(config),
    }
}

/// A configuration as an offer or a CONFIG_CHANGED carries it.
#[must_use]
pub fn config_bytes(config: NetConfig) -> [u8; CONFIG_BYTES] {
    let mut bytes = [0; CONFIG_BYTES];
    for (to, from) in bytes.iter_mut().zip(config.as_bytes()) {
        *to = *from;
    }
    bytes
}
