//! What the bus must know of a device's class: how its queues come, how wide their completions are, and which features
//! go together. Everything else about a class is its backend's business.

use pvkit_abi::bus::Class;
use pvkit_abi::net::{NetFeatures, RECEIVE_COMPLETION_BYTES};
use pvkit_abi::ring::COMPLETION_BYTES;

/// Whether a device of the class can be taken with so many queues: a network device has pairs.
pub(crate) const fn queues_fit(class: Class, queues: u16) -> bool {
    match class {
        Class::NET => queues.is_multiple_of(2),
        _ => true,
    }
}

/// Bytes of a completion of the queue: wide for network receive, which has the even numbers.
pub(crate) const fn completion_bytes(class: Class, queue: u16) -> usize {
    match class {
        Class::NET if queue.is_multiple_of(2) => RECEIVE_COMPLETION_BYTES,
        _ => COMPLETION_BYTES,
    }
}

/// Features without which the chosen ones make no sense, and which were not chosen.
pub(crate) const fn missing_features(class: Class, chosen: u64) -> u64 {
    match class {
        Class::NET => NetFeatures::from_bits_retain(chosen).missing().bits(),
        _ => 0,
    }
}
