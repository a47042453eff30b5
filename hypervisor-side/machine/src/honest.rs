//! What an ordinary build does where one with `mutants` may lie: nothing.

use crate::host::Host;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_backends::{Interrupt, QueueEngine};
use pvkit_shared_memory::SharedPages;

/// The engine's area is the guest's.
///
/// # Errors
/// None in this build.
pub fn between(
    _device: u32,
    _queue: u16,
    own: SharedPages,
    _depth: u32,
    _completion_bytes: u16,
    interrupt: Interrupt,
) -> Result<(SharedPages, Interrupt), CallError> {
    Ok((own, interrupt))
}

/// The engine itself.
pub fn behind(_device: u32, _queue: u16, engine: Box<dyn QueueEngine>) -> Box<dyn QueueEngine> {
    engine
}

/// Nothing.
pub const fn answered(_host: &Host, _call: Call, _args: &[u64; 5]) {}
