//! The hypervisor's logic as pure state machines: a hypercall or a host event in, a state change and effects out.
//!
//! *Purpose.* Everything that a guest can ask of the host is decided here: negotiation, event channels, the device bus,
//! grants and epochs. There is no KVM, no I/O, no thread and no clock; a machine calls [`Domain`] and carries out the
//! [`Effect`]s in the order given, before the guest goes on. So the whole of it runs under a model test and a fuzzer.
//!
//! *Owners.* A [`Domain`] is one guest, and one caller at a time owns it.
//!
//! *Invariants.* Guest memory is copied once, the copy is checked, the copy is used. The work of one call is bounded: at
//! most a ring's depth of messages each way. A guest that lies gets an error code, or its bus is latched until the next
//! `BUS_SETUP`; nothing here panics on what a guest wrote. Epochs only grow, and after a new one nothing of an older one
//! has any effect.
//!
//! *Reading order.* A hypercall goes `domain.rs` → `hypercalls.rs`; a kick of the bus goes on `bus.rs` → `link.rs` (bytes)
//! → `requests.rs` (meaning) → `device.rs`, `class.rs`, `grants.rs`; the machine's answer comes in by `lifecycle.rs`.
//!
//! *Not here.* Data queues (their rings never pass through this crate), interrupts, doorbells, vCPU registers.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod backlog;
mod bus;
mod class;
mod config;
mod context;
mod counters;
mod device;
mod domain;
mod effect;
mod epoch;
mod events;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod grants;
#[cfg(feature = "mutants")]
mod hostile;
mod hypercalls;
mod inspect;
mod lifecycle;
mod link;
mod memory;
mod messages;
mod negotiation;
mod params;
mod pending;
mod requests;
mod sealed;
#[cfg(test)]
mod tests;

pub use config::{DeviceConfig, DomainConfig, EventPath};
pub use counters::Counters;
pub use domain::Domain;
pub use effect::{Effect, Finished, Outcome, Token};
pub use inspect::{BusState, DeviceInspection, GrantState, Inspection, PortState, QueueState};
pub use memory::{Fault, GuestAddr, GuestMemory};
pub use sealed::Sealed;
