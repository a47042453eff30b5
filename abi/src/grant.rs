//! Grants: an extent of guest memory that a device's backend may use, under an id with a generation.
//!
//! Descriptors name memory as *(grant, offset, length)*, never by a raw address.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Grants per device.
pub const MAX_GRANTS: usize = 256;

/// A grant's name: index in the low 16 bits, generation (1..=65535, never 0) in the high 16.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantRef(pub u32);

impl GrantRef {
    /// No grant; never valid.
    pub const NONE: Self = Self(0);

    /// Packs an index and a generation.
    #[must_use]
    pub const fn new(index: u16, generation: u16) -> Self {
        Self((generation as u32) << 16 | index as u32)
    }

    /// Slot in the device's grant table.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0 as u16
    }

    /// Changes each time the slot is granted anew, so that a stale name is noticed.
    #[must_use]
    pub const fn generation(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

bitflags::bitflags! {
    /// What the backend may do with the extent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u32 {
        /// The backend may read: data that the guest writes to a device.
        const READ = 1;
        /// The backend may write: data that the guest reads from a device.
        const WRITE = 2;
    }
}

/// One piece of memory. An indirect list is an array of these in granted memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Segment {
    /// Which grant.
    pub grant: GrantRef,
    /// Length in bytes.
    pub length: u32,
    /// Bytes from the start of the grant.
    pub offset: u64,
}
wire_layout!(Segment, 16, length @ 4, offset @ 8);
