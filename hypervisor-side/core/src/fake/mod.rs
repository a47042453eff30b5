//! The other parties, for tests: a guest's memory, a scripted guest, a machine that carries out nothing but remembers.
//!
//! The guest is written from the ABI and the ring alone; it shares no code with the core that it talks to.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, clippy::expect_used, reason = "for tests")]
#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "for tests")]

mod guest;
mod machine;
mod memory;

pub use guest::{FakeGuest, message, with_body};
pub use machine::FakeMachine;
pub use memory::FakeMemory;

use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::version::CURRENT;

/// An offer as a small device would make it: two queues of up to 64 slots, features 0b1011 of which bit 1 is required.
#[must_use]
pub const fn offer(class: Class, instance: u16) -> Offer {
    Offer {
        class,
        instance,
        newest: CURRENT,
        minor_oldest: CURRENT.minor,
        max_queues: 2,
        max_depth: 64,
        features: 0b1011,
        required: 0b0010,
        max_segments: 16,
        max_transfer: 1 << 20,
        alignment: 1,
        reserved: 0,
        config: [0; CONFIG_BYTES],
    }
}
