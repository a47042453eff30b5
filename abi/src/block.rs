//! Block protocol. One request moves, makes durable or drops a run of bytes.
//!
//! A request slot: word 0 as in [`crate::ring::RequestWord`]; word 1 = position in bytes; word 2 = grant | length << 32;
//! word 3 = offset in the grant. `DISCARD` and `WRITE_ZEROES` carry no segment: word 2 is 0 and word 3 is the length in
//! bytes. `FLUSH` has words 1 to 3 zero. `GET_ID` writes the serial to its segment, detail = bytes written.
//!
//! Position and length are multiples of the logical block size. With `INDIRECT` the segment names the list itself
//! (16 bytes an entry, `aux` entries, length = 16 * aux); the sum of the entries' lengths is the request's length.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

open_enum! {
    /// Operation.
    pub struct BlockOp(u8) {
        /// Device to memory; the grant needs `WRITE`.
        READ = 1,
        /// Memory to device; the grant needs `READ`. With `FUA` durable when completed.
        WRITE = 2,
        /// Everything *completed* before this was submitted is durable when it completes.
        FLUSH = 3,
        /// The run's content is of no interest any more; it reads as anything until written again.
        DISCARD = 4,
        /// The run reads as zeroes. Takes `FUA`.
        WRITE_ZEROES = 5,
        /// Reads the serial string.
        GET_ID = 6,
    }
}

bitflags::bitflags! {
    /// Features of the protocol, in `Offer::features` and `Accept::features`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BlockFeatures: u64 {
        /// `FLUSH` and `FUA`. A device without it is durable at completion.
        const FLUSH = 1;
        /// `DISCARD`.
        const DISCARD = 2;
        /// `WRITE_ZEROES`.
        const WRITE_ZEROES = 4;
        /// Indirect segment lists.
        const INDIRECT = 8;
        /// The capacity may change; announced by CONFIG_CHANGED.
        const RESIZE = 16;
    }
}

bitflags::bitflags! {
    /// Flags in [`BlockConfig`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BlockFlags: u32 {
        /// Writes, discards and zeroes are refused.
        const READ_ONLY = 1;
    }
}

/// Smallest logical block, in bytes.
pub const MIN_BLOCK: u32 = 512;
/// Largest logical block, in bytes.
pub const MAX_BLOCK: u32 = 65536;
/// Length of a serial, in bytes, padded with zeros.
pub const SERIAL_BYTES: usize = 32;

/// The device's properties, in `Offer::config` and `ConfigChanged::config`. Written by the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BlockConfig {
    /// Size in bytes, a multiple of `logical_block`.
    pub capacity: u64,
    /// Unit of position and length: a power of two, [`MIN_BLOCK`]..=[`MAX_BLOCK`].
    pub logical_block: u32,
    /// Preferred unit, a power of two, at least `logical_block`.
    pub physical_block: u32,
    /// [`BlockFlags`].
    pub flags: u32,
    /// Preferred unit of `DISCARD`, in bytes.
    pub discard_granularity: u32,
    /// Longest `DISCARD` or `WRITE_ZEROES`, in bytes.
    pub max_discard: u64,
    /// Serial, padded with zeros.
    pub serial: [u8; SERIAL_BYTES],
}
wire_layout!(BlockConfig, 64, logical_block @ 8, physical_block @ 12, flags @ 16, discard_granularity @ 20,
    max_discard @ 24, serial @ 32);
