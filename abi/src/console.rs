//! Console protocol: a byte stream each way over one queue.
//!
//! Slots are laid out as in [`crate::block`], word 1 is zero. A `READ` stays in flight until input arrives.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

open_enum! {
    /// Operation.
    pub struct ConsoleOp(u8) {
        /// Guest to host; the grant needs `READ`; detail = bytes taken (all of them on OK).
        WRITE = 1,
        /// Host to guest; the grant needs `WRITE`; detail = bytes delivered, 0 at end of input.
        READ = 2,
    }
}

/// Longest single console request, in bytes.
pub const MAX_TRANSFER: u32 = 65536;

/// The terminal's size, in `Offer::config` and `ConfigChanged::config`. Written by the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConsoleConfig {
    /// Columns, 0 if unknown.
    pub columns: u16,
    /// Rows, 0 if unknown.
    pub rows: u16,
}
wire_layout!(ConsoleConfig, 4, columns @ 0, rows @ 2);
