//! The shared-memory split ring: both halves of a queue in one crate, without unsafe, so that one model walks both.
//!
//! *Purpose.* A queue is two rings, each written by exactly one side: requests by the [`Frontend`], completions by the
//! [`Backend`]. A slot carries its lap's tag, so the consumer polls the slot itself and there are no shared indices.
//!
//! *Owners.* Each side writes its own area (slots and its own event word) and only reads the other's.
//!
//! *Invariants.* In flight <= depth: a slot is written again only because a completion beyond its request was copied
//! out. One request, one completion. Whatever the peer writes, the result is a value, a "nothing there" or a
//! [`PeerFault`]; after a fault the half is latched until it is made anew for a new epoch.
//!
//! *Ordering.* Publication and the sleep protocol are told in `producer.rs`, their other ends in `consumer.rs`.
//!
//! *Not here.* Doorbells, waiting, buffers: the halves answer [`Notify`] and the caller rings.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(test)]
extern crate std;

mod backend;
mod consumer;
mod cursor;
mod freelist;
mod frontend;
mod ids;
mod memory;
mod producer;
mod spin;
#[cfg(test)]
mod tests;

pub use backend::{Backend, Request, WideBackend};
pub use cursor::{Cursor, RingIndex, RingSize};
pub use frontend::{Batch, Completed, Frontend, Full, Ticket, WideFrontend};
pub use memory::Memory;
pub use spin::AdaptiveSpin;

/// Whether the peer sleeps and must be rung.
#[must_use = "a peer that sleeps is never woken unless the doorbell is rung"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Ring the doorbell (or raise the interrupt).
    Needed,
    /// The peer is awake and will look by itself.
    NotNeeded,
}

impl Notify {
    /// `Needed` if either is.
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Needed => Self::Needed,
            Self::NotNeeded => other,
        }
    }

    /// Whether the doorbell must be rung.
    #[must_use]
    pub const fn is_needed(self) -> bool {
        matches!(self, Self::Needed)
    }
}

/// What a consumer found when it was about to sleep.
#[must_use = "sleep only if armed"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Park {
    /// The event word is armed and nothing is visible: the peer's next publication answers [`Notify::Needed`].
    Armed,
    /// Something is there; do not sleep.
    Ready,
}

/// The peer broke the protocol. The half that saw it is latched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFault {
    /// A slot's tag is neither this lap's nor the last one's.
    Tag {
        /// What this lap's tag is.
        expected: u16,
        /// What stood there.
        found: u16,
    },
    /// The frontend named a request with an id at or above the depth.
    IdOutOfRange(u16),
    /// The frontend used an id that is still in flight.
    IdInFlight(u16),
    /// More requests than the depth.
    Overrun,
    /// The backend completed a request that is not in flight.
    NotInFlight(u16),
    /// Latched by an earlier fault.
    Latched,
}

impl core::fmt::Display for PeerFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::Tag { expected, found } => write!(f, "slot tag {found:#x} where {expected:#x} was due"),
            Self::IdOutOfRange(id) => write!(f, "request id {id} is not below the depth"),
            Self::IdInFlight(id) => write!(f, "request id {id} is already in flight"),
            Self::Overrun => f.write_str("more requests than the depth"),
            Self::NotInFlight(id) => write!(f, "completion of request id {id}, which is not in flight"),
            Self::Latched => f.write_str("the queue is latched by an earlier fault"),
        }
    }
}

impl core::error::Error for PeerFault {}

/// This side's own mistake; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// The area is too small for the depth.
    AreaTooSmall,
    /// The depth exceeds the storage chosen at compile time.
    DepthTooLarge,
    /// A completion for a request that is not in flight.
    NotInFlight(u16),
}

impl core::fmt::Display for Misuse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::AreaTooSmall => f.write_str("the area is too small for the depth"),
            Self::DepthTooLarge => f.write_str("the depth exceeds the storage chosen at compile time"),
            Self::NotInFlight(id) => write!(f, "completion of request id {id}, which is not in flight"),
        }
    }
}

impl core::error::Error for Misuse {}
