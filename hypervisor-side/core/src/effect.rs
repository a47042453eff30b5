//! What the core asks of the machine, and how a hypercall ends.

use crate::GuestAddr;
use pvkit_abi::bus::DoorbellKind;
use pvkit_abi::event::UpcallFrame;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::hypercall::ShutdownReason;

/// Names one effect that wants an answer by [`Domain::finish`](crate::Domain::finish). Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(crate) u64);

/// How a hypercall ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value goes to the result register.
    Return(i64),
    /// Sleep until the vCPU has a pending event (result 0) or the time is over (result 1).
    Block {
        /// At most [`pvkit_abi::hypercall::MAX_BLOCK_NS`].
        timeout_ns: u64,
    },
    /// Let other threads run; result 0.
    Yield,
    /// Result: the wall clock, in nanoseconds since 1970-01-01T00:00:00Z.
    WallClock,
    /// Restore these registers and unmask upcalls, atomically. Only `RFLAGS_GUEST` of the flags may be taken.
    UpcallReturn(UpcallFrame),
    /// The guest is done.
    Shutdown {
        /// Power off or reboot; no other value is handed on.
        reason: ShutdownReason,
        /// Exit status of the run.
        code: u8,
    },
    /// The guest gave up.
    Crash {
        /// Its last words, bytes of its own choice; at most [`pvkit_abi::hypercall::MAX_CRASH_MESSAGE`].
        message: Vec<u8>,
    },
}

/// Something for the machine to do before the vCPU that called goes on.
///
/// *Order.* The effects of one domain are carried out in the order in which the core gave them, across calls and vCPUs:
/// a `CloseDevice` that overtook an `OpenQueue` would leave a queue attached that the core no longer knows.
///
/// *Answers.* An effect with a [`Token`] wants exactly one [`Domain::finish`](crate::Domain::finish); it may come later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Set the port's pending bit in the vCPU's area, then wake or kick the vCPU.
    Raise {
        /// Which vCPU.
        vcpu: u32,
        /// Which port, below [`pvkit_abi::event::MAX_PORTS`].
        port: u32,
    },
    /// The port moved: if its bit is pending at `from`, take it there and raise it at `to`.
    MovePending {
        /// Which port.
        port: u32,
        /// The vCPU it left.
        from: u32,
        /// The vCPU it is bound to now.
        to: u32,
    },
    /// Where upcalls of the vCPU go; both zero: nowhere.
    SetUpcall {
        /// Which vCPU.
        vcpu: u32,
        /// First instruction, of the guest's choice.
        entry: u64,
        /// Stack, of the guest's choice.
        stack_top: u64,
    },
    /// Start a vCPU that was never started.
    StartVcpu {
        /// Which vCPU; not the caller's.
        vcpu: u32,
        /// First instruction, of the guest's choice.
        entry: u64,
        /// Stack pointer, of the guest's choice.
        stack_top: u64,
        /// Third argument register.
        argument: u64,
    },
    /// Early console output, bytes of the guest's choice.
    ConsoleWrite(Vec<u8>),
    /// Make the queue's doorbell and start its backend. Answer [`Finished::Queue`].
    OpenQueue {
        /// To be answered.
        token: Token,
        /// Which device.
        device: u32,
        /// Which queue of it, from 0.
        queue: u16,
        /// Slots; a power of two within the offer's limit.
        depth: u32,
        /// Bytes of a completion: [`pvkit_abi::ring::COMPLETION_BYTES`], or
        /// [`pvkit_abi::net::RECEIVE_COMPLETION_BYTES`] for network receive.
        completion_bytes: u16,
        /// The device's epoch, for the ring's header.
        epoch: u64,
        /// Sealed features.
        features: u64,
        /// Pages of the guest's request area: aligned, distinct, in memory.
        request_pages: Vec<GuestAddr>,
        /// Pages of the host's completion area, likewise.
        completion_pages: Vec<GuestAddr>,
        /// Where completions are announced.
        port: Option<u32>,
    },
    /// Drain and detach every queue of the device and forget its grants. Without a token nobody waits for an answer, but
    /// the epoch has ended: the backend must be off the guest's memory before the guest goes on.
    CloseDevice {
        /// To be answered, if any, with [`Finished::Done`].
        token: Option<Token>,
        /// Which device.
        device: u32,
    },
    /// Let the device's backend reach the extent. Answer [`Finished::Done`].
    ShareGrant {
        /// To be answered.
        token: Token,
        /// Which device.
        device: u32,
        /// Its name.
        grant: GrantRef,
        /// Page-aligned start.
        base: GuestAddr,
        /// Bytes, whole pages, all in memory.
        length: u64,
        /// What for.
        access: Access,
    },
    /// Answer [`Finished::Done`] when the backend can no longer reach the extent.
    RevokeGrant {
        /// To be answered.
        token: Token,
        /// Which device.
        device: u32,
        /// Which grant.
        grant: GrantRef,
    },
    /// Set something of the device. Answer [`Finished::Done`], or an error for what the backend does not know or take.
    Control {
        /// To be answered.
        token: Token,
        /// Which device.
        device: u32,
        /// What to do, by the device's class; of the guest's choice.
        operation: u16,
        /// What with; of the guest's choice, at most [`pvkit_abi::bus::CONTROL_BYTES`].
        data: Vec<u8>,
    },
    /// A peer's lie, for the operator; the core limits their number.
    Log(String),
}

/// How an effect with a token ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The queue is open.
    Queue {
        /// How its doorbell is rung.
        kind: DoorbellKind,
        /// Where.
        address: u64,
    },
    /// Closed, shared, revoked or set.
    Done,
}
