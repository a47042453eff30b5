//! Hypercall numbers. The transport (how the call traps) is in [`crate::discovery`], argument registers are in
//! [`crate::entry`]; numbers and argument types know nothing of x86.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

open_enum! {
    /// A hypercall's number: `group << 8 | index`. The result is an `i64`: negative is a [`crate::status::CallError`].
    pub struct Call(u32) {
        /// `(in: GPA of Negotiate, out: GPA of NegotiateReply, out_size)` -> 0. Works before negotiation. Once only.
        NEGOTIATE = 0x000,

        /// `(vcpu)` -> port. Allocates an event channel bound to `vcpu`, unmasked.
        EVENT_ALLOC = 0x100,
        /// `(port, vcpu)` -> 0. Moves the port to another vCPU; a pending event moves with it.
        EVENT_BIND = 0x101,
        /// `(port)` -> 0. Frees the port. Fails with `BUSY` while a queue uses it.
        EVENT_CLOSE = 0x102,
        /// `(port, masked: 0|1)` -> 0. A masked port latches one pending event, delivered at unmask.
        EVENT_MASK = 0x103,
        /// `(port)` -> 0. Makes the port pending: how one vCPU notifies another.
        EVENT_SIGNAL = 0x104,
        /// `(port)` -> vcpu | [`crate::event::PortStatus`] bits << 32.
        EVENT_STATUS = 0x105,
        /// `(entry, stack_top)` -> 0. Upcall entry and its own stack for the calling vCPU; `(0, 0)` removes it.
        EVENT_SET_UPCALL = 0x106,
        /// `(frame)` does not return: restores the [`crate::event::UpcallFrame`] at `frame` and unmasks, atomically.
        EVENT_UPCALL_RETURN = 0x107,

        /// `(GPA of BusSetup)` -> epoch of the bus (> 0). Ends every older epoch of this guest.
        BUS_SETUP = 0x200,
        /// `()` -> 0. The guest published bus messages or completions.
        BUS_KICK = 0x201,

        /// `()` -> 0. Lets another host thread run.
        SCHED_YIELD = 0x400,
        /// `(timeout_ns)` -> 0 if an event is pending, 1 if the time ended first. At most [`MAX_BLOCK_NS`] per call.
        SCHED_BLOCK = 0x401,
        /// `(reason: ShutdownReason, code)` does not return. `code & 0xff` becomes the exit status of the run. Works before
        /// negotiation.
        SCHED_SHUTDOWN = 0x402,
        /// `(GPA of text, length)` does not return. At most [`MAX_CRASH_MESSAGE`] bytes are taken. Works before
        /// negotiation.
        SCHED_CRASH = 0x403,
        /// `(vector, address of the hardware's exception frame)` does not return: an unhandled processor exception.
        /// The frame starts with the error code where the vector has one.
        SCHED_EXCEPTION = 0x404,

        /// `(GPA of text, length)` -> bytes taken, at most [`MAX_CONSOLE_WRITE`].
        CONSOLE_WRITE = 0x500,

        /// `()` -> wall clock, nanoseconds since 1970-01-01T00:00:00Z.
        TIME_WALL_CLOCK = 0x600,

        /// `(GPA of VcpuStart)` -> 0. Starts a vCPU that was never started.
        VCPU_START = 0x800,
    }
}

impl Call {
    /// The group that the call belongs to; group 0 is negotiation itself and always there. A number whose group does
    /// not fit is in group 0xffff, which does not exist.
    #[must_use]
    pub const fn group(self) -> crate::version::Group {
        let group = self.0 >> 8;
        crate::version::Group(if group < 0xffff { group as u16 } else { 0xffff })
    }
}

/// Longest single `SCHED_BLOCK`, in nanoseconds (one hour); longer waits are shortened to it.
pub const MAX_BLOCK_NS: u64 = 3_600_000_000_000;
/// Longest crash message taken, in bytes.
pub const MAX_CRASH_MESSAGE: u64 = 1024;
/// Most bytes taken by one early console write.
pub const MAX_CONSOLE_WRITE: u64 = 1024;

open_enum! {
    /// Why a guest shuts down.
    pub struct ShutdownReason(u32) {
        /// It is done.
        POWER_OFF = 0,
        /// It wants to be started again.
        REBOOT = 1,
    }
}

/// Input of `VCPU_START`. Written by the guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuStart {
    /// Size of this struct in bytes as the caller knows it.
    pub size: u32,
    /// Which vCPU, below `BootInfo::vcpu_count`.
    pub vcpu: u32,
    /// First instruction.
    pub entry: u64,
    /// Stack pointer at entry.
    pub stack_top: u64,
    /// Passed in the third argument register.
    pub argument: u64,
}
wire_layout!(VcpuStart, 32, vcpu @ 4, entry @ 8, stack_top @ 16, argument @ 24);
