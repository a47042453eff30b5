//! The guest drivers as a C library: `include/pvkit_guest.h`.
//!
//! *Purpose.* A kernel in C links this as a static library and has the bus, disks, consoles and network cards of `pvkit-guest-drivers`
//! on the x86 call half and a pool of pages that it gives. The header is the documentation; it is written from here.
//!
//! *Owners.* Devices live in static slots, few and bounded, named by handles with a generation. The pool belongs to the
//! library from `pvkit_init` on, for ever: the host may know its pages.
//!
//! *Invariants.* A pointer of the caller becomes Rust memory only in `edge.rs`, and only for the length of one call. No
//! call blocks on a lock: what is in use is refused with `BUSY`, so an interrupt handler cannot deadlock its own vCPU.
//!
//! *Not here.* Interrupt delivery, several queues of one device, submit and poll: kernels that want those use the Rust
//! crate.
#![no_std]
#![allow(unsafe_code, reason = "C edge: exported symbols and pointers of C; listed in SAFETY.md")]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(test)]
extern crate std;

mod block;
mod console;
mod edge;
mod end;
mod error;
mod net;
mod slots;
mod start;
#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may fail by it")]
mod tests;

pub use block::{
    Geometry, pvkit_block_close, pvkit_block_flush, pvkit_block_geometry, pvkit_block_open, pvkit_block_read,
    pvkit_block_write,
};
pub use console::{pvkit_console_close, pvkit_console_open, pvkit_console_read, pvkit_console_write};
pub use end::{pvkit_crash, pvkit_shutdown};
pub use error::{Error, pvkit_strerror};
pub use net::{NetFacts, pvkit_net_close, pvkit_net_facts, pvkit_net_open, pvkit_net_receive, pvkit_net_send};
pub use start::{pvkit_connect, pvkit_init, pvkit_now};
