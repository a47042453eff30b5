//! A host that lies to its guest, as somebody orders it to. Behind the feature `mutants` alone; never in a released program.
//!
//! *How.* Everything is done by the true host; where its words reach the guest they are changed: a queue's completions by
//! a relay (`pvkit_backends::hostile`), replies on the bus where they lie in the guest's memory after the call that made
//! them, messages and offers through a door of the core. `order.rs` has the words for all of it.
//!
//! *Owners.* One guest a process: the state is the process's.
//!
//! *Locks.* The state's lock is taken for a moment, and none of the host's is taken under it.

mod fields;
mod order;
mod replies;
mod state;

use crate::host::Host;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_backends::hostile::{HostileQueue, Relay};
use pvkit_backends::{Interrupt, QueueEngine};
use pvkit_ring::RingSize;
use pvkit_shared_memory::SharedPages;
use state::state;
use std::sync::{Arc, Mutex};

pub use order::{begin, obey};

/// An area for the engine and an interrupt for it, between which and the guest's there is a relay.
///
/// # Errors
/// `INVALID` for an area of impossible size.
pub(crate) fn between(
    device: u32,
    queue: u16,
    own: SharedPages,
    depth: u32,
    completion_bytes: u16,
    interrupt: Interrupt,
) -> Result<(SharedPages, Interrupt), CallError> {
    let mut state = state();
    if !state.active {
        return Ok((own, interrupt));
    }
    let size = RingSize::new(depth).ok_or(CallError::INVALID)?;
    let words = usize::from(completion_bytes / 8);
    let relay = Relay::new(own, size, words, state.plan((device, queue)), interrupt).map_err(|_| CallError::INVALID)?;
    let shadow = relay.shadow();
    state.relays.insert((device, queue), Arc::new(Mutex::new(relay)));
    // The relay raises the interrupt, behind what it has told.
    Ok((shadow, Arc::new(|| {})))
}

/// The engine behind its relay.
pub(crate) fn behind(device: u32, queue: u16, engine: Box<dyn QueueEngine>) -> Box<dyn QueueEngine> {
    let mut state = state();
    let lie = state.epochs.remove(&(device, queue));
    let Some(relay) = state.relays.get(&(device, queue)).cloned() else { return engine };
    state::lock(&relay).begin(lie);
    Box::new(HostileQueue::new(engine, relay))
}

/// After each hypercall, before the guest goes on: lies in what the core has written.
pub(crate) fn answered(host: &Host, call: Call, args: &[u64; 5]) {
    if state().active {
        replies::answered(host, call, args);
    }
}
