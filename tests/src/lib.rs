//! What tests that cross crates share: guest images built once, and guests run to their end with a deadline.
#![forbid(unsafe_code)]

pub mod capture;
pub mod flow;
mod guest;
mod images;
pub mod own_network;
pub mod tasks;

pub use guest::{Guest, Ran, Sink, unless_kvm};
pub use images::{freestanding, tiny, unikernel};
