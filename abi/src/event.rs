//! Event channels: how the host interrupts a vCPU, and one vCPU another.
//!
//! A *port* is a number below [`MAX_PORTS`], bound to one vCPU. Its pending bit stands in that vCPU's [`VcpuArea`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Ports per guest.
pub const MAX_PORTS: u32 = 256;
/// Words in a pending bitmap.
pub const PENDING_WORDS: usize = (MAX_PORTS / 64) as usize;
/// "No port": a queue or bus without an event channel is polled.
pub const NO_PORT: u32 = u32::MAX;

/// One page per vCPU, in guest memory at `BootInfo::vcpu_areas + vcpu * PAGE_SIZE`. Each field has a line of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuArea {
    /// Pending ports. Both sides change it by atomic read-modify-write only: the host sets bits (Release), the guest
    /// takes a whole word by exchanging it with zero (Acquire).
    pub pending: [u64; PENDING_WORDS],
    /// Zero.
    pub reserved0: [u64; 12],
    /// Upcalls are held back while this is not zero. Written by the guest; by the host only while the vCPU does not
    /// run: it stores 1 when it delivers an upcall and 0 when it carries out `EVENT_UPCALL_RETURN`.
    pub upcall_mask: u64,
    /// Zero.
    pub reserved1: [u64; 15],
}
wire_layout!(VcpuArea, 256, pending @ 0, upcall_mask @ 128);

/// What the host stores on the upcall stack before it switches the vCPU to the upcall entry. Written by the host;
/// the guest may change it before it hands it back in `EVENT_UPCALL_RETURN`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UpcallFrame {
    /// rax rbx rcx rdx rsi rdi rsp rbp r8 .. r15 of the interrupted code.
    pub gpr: [u64; 16],
    /// Interrupted instruction.
    pub rip: u64,
    /// Flags. At return only the bits in [`crate::entry::RFLAGS_GUEST`] are taken.
    pub rflags: u64,
    /// Zero.
    pub reserved: [u64; 2],
}
wire_layout!(UpcallFrame, 160, rip @ 128, rflags @ 136);

bitflags::bitflags! {
    /// State of a port as `EVENT_STATUS` reports it in bits 32 and up.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PortStatus: u32 {
        /// Masked by `EVENT_MASK`.
        const MASKED = 1;
        /// An event is latched behind the mask.
        const LATCHED = 2;
        /// A queue or the bus signals this port.
        const IN_USE = 4;
    }
}
