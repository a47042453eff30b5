//! Versions and feature negotiation. The host offers ranges, the guest answers with a choice, the host seals it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

open_enum! {
    /// A group of hypercalls, with a version and a feature mask of its own.
    pub struct Group(u16) {
        /// Event channels.
        EVENT = 1,
        /// Device bus.
        BUS = 2,
        /// Grants; their messages travel on the bus.
        GRANT = 3,
        /// Yield, block, shut down, crash.
        SCHED = 4,
        /// Early console output, before any device is open.
        CONSOLE = 5,
        /// Wall clock.
        TIME = 6,
        /// Virtual CPU bring-up.
        VCPU = 8,
    }
}

/// `major.minor`. A new minor only adds; a new major may change anything.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Version {
    /// Incompatible generations.
    pub major: u16,
    /// Compatible additions within a generation.
    pub minor: u16,
}
wire_layout!(Version, 4, major @ 0, minor @ 2);

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version of every group and protocol in this release of the crate. 0.x: not frozen yet.
pub const CURRENT: Version = Version { major: 0, minor: 1 };

/// What the host can do in one group. Written by the host in [`crate::discovery::BootInfo`].
///
/// Several entries with one `group` and different `major` are allowed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GroupOffer {
    /// Which group.
    pub group: Group,
    /// The generation that this entry speaks of.
    pub major: u16,
    /// Oldest minor version still served.
    pub minor_oldest: u16,
    /// Newest minor version served.
    pub minor_newest: u16,
    /// Feature bits the guest may choose.
    pub features: u64,
    /// Feature bits the guest must choose to use the group at all; a subset of `features`.
    pub required: u64,
}
wire_layout!(GroupOffer, 24, major @ 2, minor_oldest @ 4, minor_newest @ 6, features @ 8, required @ 16);

/// What the guest chose for one group. Part of [`Negotiate`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GroupChoice {
    /// Which group.
    pub group: Group,
    /// Chosen generation.
    pub major: u16,
    /// Chosen minor version, within the host's range.
    pub minor: u16,
    /// Zero.
    pub reserved: u16,
    /// Chosen features; bits that the host did not offer are refused by name.
    pub features: u64,
}
wire_layout!(GroupChoice, 16, major @ 2, minor @ 4, reserved @ 6, features @ 8);

/// Most groups in one negotiation.
pub const MAX_GROUPS: usize = 16;

/// Input of hypercall `NEGOTIATE`. Written by the guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Negotiate {
    /// Size of this struct in bytes as the caller knows it. A longer struct's tail must be zero.
    pub size: u32,
    /// How many of `groups` are meant, at most [`MAX_GROUPS`].
    pub count: u32,
    /// The choices; a group not named is not used and its calls are refused.
    pub groups: [GroupChoice; MAX_GROUPS],
}
wire_layout!(Negotiate, 264, count @ 4, groups @ 8);

/// Output of hypercall `NEGOTIATE`. Written by the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NegotiateReply {
    /// Full size in bytes of the host's struct; the guest got the smaller of this and what it asked for.
    pub size: u32,
    /// Group that was refused, 0 if none.
    pub refused_group: Group,
    /// Why: one of [`RefusalReason`].
    pub reason: RefusalReason,
    /// Feature bits that were asked for and are not offered, or required and not chosen.
    pub refused_features: u64,
}
wire_layout!(NegotiateReply, 16, refused_group @ 4, reason @ 6, refused_features @ 8);

open_enum! {
    /// Why a group was refused.
    pub struct RefusalReason(u16) {
        /// Nothing was refused.
        NONE = 0,
        /// The host has no such group.
        UNKNOWN_GROUP = 1,
        /// The chosen version is outside the host's range.
        VERSION = 2,
        /// A chosen feature is not offered.
        UNKNOWN_FEATURE = 3,
        /// A required feature was not chosen.
        REQUIRED_FEATURE = 4,
        /// The group is named twice.
        DUPLICATE = 5,
    }
}
