//! What the bus says about a console.

use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::console::{ConsoleConfig, MAX_TRANSFER};
use pvkit_abi::version::CURRENT;
use zerocopy::IntoBytes;

/// The offer of console number `instance`: one queue.
#[must_use]
pub fn offer(instance: u16, size: ConsoleConfig, max_depth: u32) -> Offer {
    Offer {
        class: Class::CONSOLE,
        instance,
        newest: CURRENT,
        minor_oldest: CURRENT.minor,
        max_queues: 1,
        max_depth,
        features: 0,
        required: 0,
        max_segments: 1,
        max_transfer: MAX_TRANSFER,
        alignment: 1,
        reserved: 0,
        config: config_bytes(size),
    }
}

/// A terminal's size as an offer or a CONFIG_CHANGED carries it.
#[must_use]
pub fn config_bytes(size: ConsoleConfig) -> [u8; CONFIG_BYTES] {
    let mut bytes = [0; CONFIG_BYTES];
    for (to, from) in bytes.iter_mut().zip(size.as_bytes()) {
        *to = *from;
    }
    bytes
}
