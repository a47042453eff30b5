//! What the bus says about a disk.

use crate::block::BlockLimits;
use crate::disk::Disk;
use pvkit_abi::block::BlockConfig;
use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::version::CURRENT;
use zerocopy::IntoBytes;

/// The offer of `disk` as block device number `instance`.
#[must_use]
pub fn offer(disk: &dyn Disk, instance: u16, limits: BlockLimits, max_queues: u16, max_depth: u32) -> Offer {
    Offer {
        class: Class::BLOCK,
        instance,
        newest: CURRENT,
        minor_oldest: CURRENT.minor,
        max_queues,
        max_depth,
        features: disk.features().bits(),
        required: 0,
        max_segments: limits.max_segments,
        max_transfer: limits.max_transfer,
        alignment: limits.alignment,
        reserved: 0,
        config: config_bytes(&disk.config()),
    }
}

/// A configuration as an offer or a CONFIG_CHANGED carries it.
#[must_use]
pub fn config_bytes(config: &BlockConfig) -> [u8; CONFIG_BYTES] {
    let mut bytes = [0; CONFIG_BYTES];
    for (to, from) in bytes.iter_mut().zip(config.as_bytes()) {
        *to = *from;
    }
    bytes
}
