//! Discovery: how a guest finds its host, and the host learns what an image needs.

use crate::bus::Class;
use crate::version::{Group, GroupOffer, MAX_GROUPS};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `BootInfo::magic`: "pvkit-bi" in memory order.
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"pvkit-bi");
/// Most entries in the memory map.
pub const MAX_REGIONS: usize = 16;

open_enum! {
    /// How a hypercall traps.
    pub struct Transport(u32) {
        /// A write to an I/O port with the arguments in registers.
        PORT_REGISTERS = 1,
        /// Reserved: a per-vCPU argument page and a doorbell, for guests whose registers are hidden.
        ARGUMENT_PAGE = 2,
        /// Reserved: the HVC instruction.
        HVC = 3,
        /// A function call within one process: the in-process machine.
        DIRECT = 4,
    }
}

open_enum! {
    /// What a range of guest-physical memory is.
    pub struct RegionKind(u32) {
        /// Free for the guest.
        RAM = 1,
        /// The loaded image.
        IMAGE = 2,
        /// Boot info, command line, page tables, boot stack, vCPU areas: stays as the host laid it out.
        BOOT = 3,
        /// Write-back memory beside RAM that backends may be given to map: I/O buffers and rings of a guest that keeps
        /// its RAM to itself. Free for the guest.
        WINDOW = 4,
    }
}

/// One range of guest-physical memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Region {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub kind: RegionKind,
    /// Zero.
    pub reserved: u32,
}
wire_layout!(Region, 24, length @ 8, kind @ 16);

bitflags::bitflags! {
    /// Facts about this start.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BootFlags: u32 {
        /// The guest was started at CPL 3.
        const CPL3 = 1;
        /// The in-process machine: hypercalls are function calls.
        const IN_PROCESS = 2;
    }
}

/// Written by the host before the first vCPU starts; the guest only reads it. Its address is in a register at entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// Size of this struct in bytes as the host knows it; a guest reads the smaller of this and its own.
    pub size: u32,
    /// [`BootFlags`].
    pub flags: u32,
    /// How hypercalls trap.
    pub transport: Transport,
    /// The hypercall port, for [`Transport::PORT_REGISTERS`].
    pub port: u32,
    /// vCPUs that may be started, this one included.
    pub vcpu_count: u32,
    /// Entries of `groups` that are meant.
    pub group_count: u32,
    /// Entries of `regions` that are meant.
    pub region_count: u32,
    /// Bytes of the command line.
    pub cmdline_length: u32,
    /// Address of the command line, UTF-8, no terminator.
    pub cmdline: u64,
    /// Address of the [`crate::event::VcpuArea`] of vCPU 0; the others follow, a page each.
    pub vcpu_areas: u64,
    /// Frequency of the time-stamp counter in kHz, 0 if the guest must not use it.
    pub tsc_khz: u64,
    /// Wall clock at start, nanoseconds since 1970-01-01T00:00:00Z.
    pub wall_clock_ns: u64,
    /// Value of the time-stamp counter at `wall_clock_ns`, as the guest would read it.
    pub tsc_at_start: u64,
    /// Thirty-two random bytes to seed the guest's generators.
    pub seed: [u8; 32],
    /// What the host offers.
    pub groups: [GroupOffer; MAX_GROUPS],
    /// Where memory is, ascending, not overlapping.
    pub regions: [Region; MAX_REGIONS],
}
wire_layout!(BootInfo, 880, size @ 8, flags @ 12, transport @ 16, port @ 20, vcpu_count @ 24, group_count @ 28,
    region_count @ 32, cmdline_length @ 36, cmdline @ 40, vcpu_areas @ 48, tsc_khz @ 56, wall_clock_ns @ 64,
    tsc_at_start @ 72, seed @ 80, groups @ 112, regions @ 496);

/// First CPUID leaf to try; then in steps of [`CPUID_STEP`] up to [`CPUID_LAST`].
///
/// Leaf +0: eax = highest leaf, ebx ecx edx = [`CPUID_SIGNATURE`]. Leaf +1: eax = ABI version (major << 16 | minor),
/// ebx = transport, ecx = hypercall port. Leaf +2: eax, ebx = low, high half of the boot info's address, 0 without one.
/// At CPL 3 the instruction may show the machine's own leaves: a PV guest uses its boot info.
pub const CPUID_FIRST: u32 = 0x4000_0000;
/// Distance of hypervisor leaf blocks.
pub const CPUID_STEP: u32 = 0x100;
/// Last block to try.
pub const CPUID_LAST: u32 = 0x4000_ff00;
/// Twelve bytes in ebx, ecx, edx.
pub const CPUID_SIGNATURE: [u8; 12] = *b"pvkitPVkit\0\0";

/// The hypercall port where nothing else says otherwise. Not 0x7e, which some hypervisors take for themselves.
pub const HYPERCALL_PORT: u16 = 0x0a50;
/// First doorbell port; queue doorbells follow every four ports.
pub const DOORBELL_PORT_BASE: u16 = 0xb000;
/// Doorbells in the port range.
pub const MAX_DOORBELLS: u16 = 1024;

/// Owner name of the ELF note, with its terminator.
pub const NOTE_NAME: [u8; 6] = *b"pvkit\0";
/// Type of the ELF note that holds a [`GuestNote`].
pub const NOTE_TYPE: u32 = 1;
/// Most groups or devices in a note.
pub const MAX_NOTE_ENTRIES: usize = 8;

bitflags::bitflags! {
    /// What an image can do, in [`GuestNote::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NoteFlags: u32 {
        /// May be started at CPL 3, and makes hypercalls from there.
        const CPL3 = 1;
        /// May be started at CPL 0 (built without SSE and without a red zone below an interrupt).
        const CPL0 = 2;
    }
}

/// A group that the image needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NoteGroup {
    /// Which group.
    pub group: Group,
    /// Generation.
    pub major: u16,
    /// Least minor version.
    pub minor: u16,
    /// Zero.
    pub reserved: u16,
    /// Features without which it cannot run.
    pub features: u64,
}
wire_layout!(NoteGroup, 16, major @ 2, minor @ 4, features @ 8);

/// A kind of device that the image drives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NoteDevice {
    /// Which kind.
    pub class: Class,
    /// Generation of its protocol.
    pub major: u16,
    /// Least minor version.
    pub minor: u16,
    /// How many it cannot do without.
    pub required: u16,
}
wire_layout!(NoteDevice, 8, major @ 2, minor @ 4, required @ 6);

/// What a guest image needs; the host checks it before it starts a vCPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GuestNote {
    /// Size of this struct in bytes as the image knows it.
    pub size: u32,
    /// [`NoteFlags`].
    pub flags: u32,
    /// Least memory, in bytes.
    pub memory: u64,
    /// Bytes of the boot stack; 0 means [`crate::entry::BOOT_STACK_BYTES`].
    pub stack: u32,
    /// Entries of `groups` that are meant.
    pub group_count: u16,
    /// Entries of `devices` that are meant.
    pub device_count: u16,
    /// Address of 256 exception stubs of [`crate::entry::EXCEPTION_STUB_BYTES`] each, in vector order, or 0: then a
    /// fault ends the guest and its registers are reported as far as the processor keeps them.
    pub exception_entry: u64,
    /// Groups needed.
    pub groups: [NoteGroup; MAX_NOTE_ENTRIES],
    /// Devices driven.
    pub devices: [NoteDevice; MAX_NOTE_ENTRIES],
}
wire_layout!(GuestNote, 224, flags @ 4, memory @ 8, stack @ 16, group_count @ 20, device_count @ 22,
    exception_entry @ 24, groups @ 32, devices @ 160);
