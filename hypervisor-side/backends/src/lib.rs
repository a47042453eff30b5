//! The host half of the devices: block and console engines over a queue, the disks beneath them, one thread a queue.
//!
//! *Purpose.* A [`BlockQueue`] or [`ConsoleQueue`] takes requests from a ring, checks them against what was sealed, and
//! carries them out on a [`Disk`] or a terminal. A [`QueueThread`] runs one engine: it looks, spins for a while, sleeps
//! on the doorbell, and answers `stop`.
//!
//! *Owners.* The engine alone owns its half of the ring. Grants are shared by the queues of a device
//! ([`GrantTable`]); disks are shared by everyone who holds the `Arc`.
//!
//! *Invariants.* Every request that is taken is completed exactly once, or the queue is latched. Memory is reached only
//! through a grant that allows it, checked for this request. A guest's mistake costs the guest an error and the host a
//! counter; it never costs a panic, an unbounded loop or another guest's time.
//!
//! *Not here.* What was negotiated and by whom (the core), doorbell wiring and interrupts (the machine).
#![deny(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bell;
pub mod block;
pub mod console;
mod counters;
mod device;
pub mod disk;
mod engine;
pub mod entropy;
#[cfg(test)]
mod fake_disk;
#[cfg(any(test, feature = "fuzzing"))]
#[allow(missing_docs, dead_code, reason = "for tests and fuzz targets alone")]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "as in tests: it may fail")]
mod fake_guest;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grants;
#[cfg(feature = "mutants")]
pub mod hostile;
pub mod net;
mod rate;
pub mod services;
mod sys;
mod thread;

pub use bell::Bell;
pub use block::{BlockLimits, BlockQueue};
pub use console::{ConsoleInput, ConsoleOutput, ConsoleQueue};
pub use counters::{QueueCounters, QueueSnapshot};
pub use device::{Backing, NetPort, QueueLines, QueueOrder};
pub use disk::{Disk, DiskError, NullDisk, RamDisk, RawDisk, VolatileDisk};
pub use engine::{Interrupt, Pass, QueueEngine, QueueLog, QueueSetup};
pub use grants::{GrantError, GrantTable, Pinned};
pub use rate::{LineRate, Rate};
pub use thread::{DEFAULT_SPIN, QueueThread, spin_for};
