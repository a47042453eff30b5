//! The platform function: how a stock kernel in a fully virtualized machine finds the host (PV-on-HVM). x86-64.
//!
//! One PCI function with one memory BAR. Its first page is [`PlatformInfo`] and a register; an MSI-X table with one entry
//! per event port follows. Hypercalls are transport 1 from CPL 0; doorbells are what `OPEN_QUEUE` answers.

use crate::discovery::{MAX_REGIONS, Region, Transport};
use crate::version::{GroupOffer, MAX_GROUPS};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Vendor of the function. Not assigned by the PCI-SIG (nor to anybody else, as of 2026): a number of our own until
/// the project has one.
pub const VENDOR_ID: u16 = 0x7076;
/// Device of the function.
pub const DEVICE_ID: u16 = 0x0001;
/// Class code: base system peripheral, other.
pub const CLASS_CODE: u32 = 0x08_8000;

/// The BAR that holds everything; 32-bit memory, not prefetchable.
pub const BAR: u8 = 0;
/// Bytes of the BAR.
pub const BAR_BYTES: u32 = 0x4000;
/// Where [`PlatformInfo`] starts in the BAR. Read in naturally aligned words of 4 bytes.
pub const INFO_OFFSET: u32 = 0;
/// Register of 4 bytes. Writing [`RESET_ALL`] ends every epoch: when the write is over, every queue is drained and
/// detached, every grant is revoked, every port is free, and nothing is negotiated. Reads as zero.
pub const RESET_OFFSET: u32 = 0xf00;
/// What is written to [`RESET_OFFSET`]; any other value has no effect.
pub const RESET_ALL: u32 = 0x7465_7372;
/// Where the MSI-X table starts in the BAR.
pub const MSIX_TABLE_OFFSET: u32 = 0x1000;
/// Where the pending bits of MSI-X start in the BAR.
pub const MSIX_PBA_OFFSET: u32 = 0x2000;
/// Entries of the MSI-X table: entry `n` is event port `n`.
pub const MSIX_ENTRIES: u16 = 256;

const _: () = assert!(MSIX_ENTRIES as u32 == crate::event::MAX_PORTS);
const _: () = assert!(MSIX_TABLE_OFFSET + MSIX_ENTRIES as u32 * 16 <= MSIX_PBA_OFFSET);
const _: () = assert!(MSIX_PBA_OFFSET + MSIX_ENTRIES as u32 / 8 <= BAR_BYTES);
const _: () = assert!(INFO_OFFSET + size_of::<PlatformInfo>() as u32 <= RESET_OFFSET);

/// `PlatformInfo::magic`: "pvkit-pf" in memory order.
pub const PLATFORM_MAGIC: u64 = u64::from_le_bytes(*b"pvkit-pf");

/// What the host says of itself. Written by the host before the first vCPU runs; the guest only reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PlatformInfo {
    /// [`PLATFORM_MAGIC`].
    pub magic: u64,
    /// Size of this struct in bytes as the host knows it; a guest reads the smaller of this and its own.
    pub size: u32,
    /// Version of the ABI, `major << 16 | minor`.
    pub version: u32,
    /// How hypercalls trap.
    pub transport: Transport,
    /// The hypercall port, for [`Transport::PORT_REGISTERS`].
    pub port: u32,
    /// Entries of `groups` that are meant.
    pub group_count: u32,
    /// Entries of `regions` that are meant.
    pub region_count: u32,
    /// Zero.
    pub reserved: [u64; 4],
    /// What the host offers.
    pub groups: [GroupOffer; MAX_GROUPS],
    /// Memory that grants may name: RAM, and the window if there is one. Ascending, not overlapping.
    pub regions: [Region; MAX_REGIONS],
}
wire_layout!(PlatformInfo, 832, size @ 8, version @ 12, transport @ 16, port @ 20, group_count @ 24, region_count @ 28,
    groups @ 64, regions @ 448);
