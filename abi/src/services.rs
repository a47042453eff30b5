//! Services protocol: what the host asks of a guest's kernel as a whole, and what the guest tells it.
//!
//! One queue. A [`ServiceOp::LISTEN`] (slots as in [`crate::block`], word 1 zero) posts a buffer for one [`ServiceEvent`]
//! and stays in flight until the host has something to say (detail = bytes written); a [`ServiceOp::REPORT`] tells the
//! host something: `aux` is a [`ServiceReport`], word 1 the sequence number of the event that it answers, 0 if none;
//! words 2 and 3 are zero.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

open_enum! {
    /// Operation.
    pub struct ServiceOp(u8) {
        /// Posts a buffer for an event; the grant needs `WRITE`.
        LISTEN = 1,
        /// Tells the host something.
        REPORT = 2,
    }
}

open_enum! {
    /// What the host asks for or tells.
    pub struct ServiceKind(u32) {
        /// Power off in good order. Answer ACCEPTED, then `SCHED_SHUTDOWN`; or REFUSED.
        SHUTDOWN = 1,
        /// Restart in good order. Likewise.
        REBOOT = 2,
        /// Make file systems consistent and hold writes back, then answer DONE. Ends by itself at the deadline.
        FREEZE = 3,
        /// Writes may go on. Answer DONE.
        THAW = 4,
        /// The wall clock is `wall_clock_ns`; the guest was stopped for a while. Answer DONE.
        TIME_SYNC = 5,
        /// The guest is a copy, or was restored: `generation` is new. Answer DONE after reseeding.
        GENERATION = 6,
        /// Are you alive? Answer DONE.
        HEARTBEAT = 7,
    }
}

open_enum! {
    /// What the guest reports.
    pub struct ServiceReport(u16) {
        /// It will do what was asked.
        ACCEPTED = 1,
        /// It did what was asked.
        DONE = 2,
        /// It will not.
        REFUSED = 3,
        /// It is up: its services run.
        READY = 4,
    }
}

/// One event. Written by the host into a posted buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServiceEvent {
    /// Size of this struct in bytes as the host knows it.
    pub size: u32,
    /// What it is.
    pub kind: ServiceKind,
    /// Number to answer with, never 0, growing.
    pub sequence: u64,
    /// Wall clock when the event was written, nanoseconds since 1970-01-01T00:00:00Z.
    pub wall_clock_ns: u64,
    /// How long the answer may take, in nanoseconds; 0 = no answer is waited for.
    pub patience_ns: u64,
    /// Generation of the machine: changes when the guest is copied or restored.
    pub generation: [u8; 16],
}
wire_layout!(ServiceEvent, 48, kind @ 4, sequence @ 8, wall_clock_ns @ 16, patience_ns @ 24, generation @ 32);

/// Properties of the channel, in `Offer::config` and `ConfigChanged::config`. Written by the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ServicesConfig {
    /// Generation of the machine now.
    pub generation: [u8; 16],
}
wire_layout!(ServicesConfig, 16, generation @ 0);
