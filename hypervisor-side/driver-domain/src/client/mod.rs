//! The monitor's end: a backend in another process, with everything that it takes to lose it and to get it back.
//!
//! *Owners.* A [`Backend`] is one socket; its devices are attached before the guest starts ([`Backend::attach`]) and stay
//! the guest's over the life of any daemon. While a guest runs ([`Backend::start`] to [`Backend::stop`]) two threads
//! work: the *reader* takes answers and interrupts and never waits for anyone; the *keeper* tells the [`Owner`], and
//! brings a lost backend back.
//!
//! *When it is gone.* The socket closes. The reader then waits until the process is dead (or had said that it was drained), so
//! that nothing of it can touch memory any more; then the keeper answers what was asked, tells the owner that each device
//! is lost, asks each disk's witness for errors that died with the process, and connects anew. The new daemon has the image's lock before it answers, and the old one's in-flight writes held it:
//! so nothing of the old one can be written after that. See docs/decisions on fencing.

mod backend;
mod covers;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inspect;
mod keeper;
mod link;
mod reader;
mod state;

pub use backend::{Backend, Done, QueueWires};
pub use inspect::{Inspection, Served, inspect};
pub use link::{ANSWER, BackendError, Wanted, process_of};
pub use state::BackendCounters;

use pvkit_abi::bus::CONFIG_BYTES;

/// Who has the devices: a virtual machine.
pub trait Owner: Send + Sync {
    /// A queue's interrupt. Called by the reader: must not wait for another call into the backend.
    fn interrupt(&self, port: u32);

    /// The device's backend is gone and nothing of it is attached any more.
    fn lost(&self, device: u32);

    /// It is there again, the same device; what is not sealed is as `config` says.
    fn back(&self, device: u32, config: [u8; CONFIG_BYTES]);

    /// It will not come back: its medium lost what was acknowledged.
    fn failed(&self, device: u32);

    /// A line for the operator.
    fn log(&self, line: String);
}
