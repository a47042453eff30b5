//! The driver domain: backends in a process of their own, which may be killed, replaced or hostile.
//!
//! *Purpose.* A daemon ([`daemon`]) serves disks and networks to any number of virtual machine monitors over a UNIX
//! socket; a monitor ([`client`]) hands it one window of guest memory and the queues' eventfds, and outlives it. The
//! messages between the two ([`protocol`]) are versioned and documented like the guest's ABI.
//!
//! *Owners.* The window's memory file is made and sealed by the monitor; the daemon maps it and nothing else of the guest.
//! Images are opened and locked by the daemon alone, anew by each incarnation of it. TAP descriptors belong to the monitor.
//!
//! *Invariants.* What either side sends is copied once, checked, then used; a lie ends the connection. The daemon touches
//! memory only inside the window, and only through a grant or a queue that is open. The monitor tells the guest that a
//! backend is gone only when its process is dead or has said that it is drained.
//!
//! *Not here.* What a request means (`pvkit-backends`), what a guest is told (`pvkit-core`).
#![deny(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod client;
pub mod daemon;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod protocol;
mod socket;
mod window;

pub use socket::{MAX_DESCRIPTORS, Packet, PacketSocket, SocketError};
pub use window::{Window, WindowError};
