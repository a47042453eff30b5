//! What can go wrong, by whose fault it is.
//!
//! [`HostFault`] is the host's lie, [`Misuse`] the caller's own mistake. Neither is ever mixed with `Full` (take
//! completions first), `Io` (the device's answer), `Unsupported` (not offered), `Disconnected` or `TimedOut`.

use crate::platform::NoMemory;
use core::fmt;
use pvkit_abi::bus::Class;
use pvkit_abi::status::{CallError, Status};
use pvkit_abi::version::{Group, RefusalReason};

/// The host broke the protocol. The queue or bus that saw it is latched until it is set up anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFault {
    /// A ring was written out of turn.
    Ring(pvkit_ring::PeerFault),
    /// A number in an offer or a configuration is impossible.
    Offer {
        /// Which field.
        field: &'static str,
        /// What stood there.
        value: u64,
    },
    /// A reply or a hypercall's result is impossible.
    Reply {
        /// Which field.
        field: &'static str,
        /// What stood there.
        value: u64,
    },
    /// A received frame cannot be as described. It was dropped; the queue goes on.
    Frame {
        /// What about it.
        what: &'static str,
        /// What stood there.
        value: u64,
    },
    /// A completion says that more, or fewer, bytes moved than was asked for.
    Length {
        /// Bytes asked for.
        asked: u32,
        /// Bytes claimed.
        claimed: u32,
    },
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ring(fault) => write!(f, "host broke the ring protocol: {fault}"),
            Self::Offer { field, value } => write!(f, "host offers an impossible {field}: {value:#x}"),
            Self::Reply { field, value } => write!(f, "host replies with an impossible {field}: {value:#x}"),
            Self::Frame { what, value } => write!(f, "host delivers a frame with an impossible {what}: {value:#x}"),
            Self::Length { asked, claimed } => write!(f, "host claims {claimed} bytes of a request of {asked}"),
        }
    }
}

/// The caller's own mistake; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// The bus has no such device.
    NoSuchDevice(u32),
    /// The device is of another class.
    WrongClass(Class),
    /// The device is open already, or goes away.
    NotOffered(u32),
    /// Position or length is not a multiple of the logical block size, or the length is zero.
    Misaligned {
        /// The logical block size.
        block: u32,
    },
    /// The request reaches beyond the end of the device.
    OutOfRange {
        /// Bytes on the device.
        capacity: u64,
    },
    /// The device is read-only.
    ReadOnly,
    /// The buffer is shorter than the request, or longer than a request may be.
    BufferLength {
        /// Most bytes that would do.
        limit: u64,
    },
    /// The frame's metadata contradict the frame.
    Metadata(&'static str),
    /// The buffer's pages lie outside the memory that is granted to the device.
    OutsideGrant(u64),
    /// A blocking call while submitted requests have not been taken; take their completions first.
    RequestsInFlight,
    /// The ring refused; a driver's own bug.
    Ring(pvkit_ring::Misuse),
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSuchDevice(device) => write!(f, "no device {device} on the bus; look with Bus::devices"),
            Self::WrongClass(class) => write!(f, "the device is a {class:?}"),
            Self::NotOffered(device) => write!(f, "device {device} is open already or goes away"),
            Self::Misaligned { block } => write!(f, "position and length must be multiples of {block} and not zero"),
            Self::OutOfRange { capacity } => write!(f, "the request reaches beyond the device's {capacity} bytes"),
            Self::ReadOnly => f.write_str("the device is read-only"),
            Self::BufferLength { limit } => write!(f, "the buffer does not fit the request; at most {limit} bytes"),
            Self::Metadata(field) => write!(f, "the frame's metadata have an impossible {field}"),
            Self::OutsideGrant(address) => write!(f, "page {address:#x} is not in the memory shared with the device"),
            Self::RequestsInFlight => f.write_str("submitted requests are in flight; take their completions first"),
            Self::Ring(misuse) => write!(f, "{misuse}"),
        }
    }
}

/// Why the host was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Boot info without its magic: this is no pvkit host, or the pointer is wrong.
    NotAHost(u64),
    /// The host lacks a group, or the version of it, that the drivers need.
    GroupMissing(Group),
    /// The host demands features of a needed group that these drivers do not know.
    FeaturesUnknown {
        /// Which group.
        group: Group,
        /// Which feature bits.
        features: u64,
    },
    /// The host refused what was chosen from its own offer.
    Refused {
        /// Which group.
        group: Group,
        /// Why.
        reason: RefusalReason,
        /// Which feature bits.
        features: u64,
    },
    /// Setting up the bus failed.
    Bus(BusError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAHost(magic) => write!(f, "boot info begins with {magic:#x}: not started by a pvkit host"),
            Self::GroupMissing(group) => write!(f, "host does not offer group {group:?} in a version known here"),
            Self::FeaturesUnknown { group, features } => {
                write!(f, "host demands unknown features {features:#x} of group {group:?}; a newer guest is needed")
            }
            Self::Refused { group, reason, features } => {
                write!(f, "host refused group {group:?}: {reason:?}, features {features:#x}")
            }
            Self::Bus(error) => write!(f, "bus: {error}"),
        }
    }
}

/// Why a bus operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// Every bus request slot is in flight.
    Full,
    /// The host answered with an error.
    Refused(CallError),
    /// The host declined the version or features that were chosen from its own offer.
    Declined {
        /// Why.
        reason: RefusalReason,
        /// Which feature bits.
        features: u64,
    },
    /// The host broke the protocol.
    PeerFault(HostFault),
    /// The caller's mistake.
    Misuse(Misuse),
    /// The offer demands what these drivers do not know, or lacks what they need.
    Unsupported {
        /// What.
        what: &'static str,
        /// Version or feature bits.
        value: u64,
    },
    /// The device is gone.
    Disconnected,
    /// The deadline passed. What was asked for may still happen; its memory stays with the host.
    TimedOut,
    /// The platform has no free page.
    NoMemory,
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Full => f.write_str("every bus request is in flight"),
            Self::Refused(error) => write!(f, "host refused: {error:?}"),
            Self::Declined { reason, features } => write!(f, "host declined: {reason:?}, features {features:#x}"),
            Self::PeerFault(fault) => write!(f, "{fault}"),
            Self::Misuse(misuse) => write!(f, "{misuse}"),
            Self::Unsupported { what, value } => write!(f, "unsupported {what}: {value:#x}"),
            Self::Disconnected => f.write_str("the device is gone"),
            Self::TimedOut => f.write_str("the host did not answer in time"),
            Self::NoMemory => f.write_str("the platform has no free page"),
        }
    }
}

/// Why a request to a device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Every slot of the queue is in flight; take completions first.
    Full,
    /// The device's answer.
    Io {
        /// How it ended.
        status: Status,
        /// The host's errno where the status says so, 0 if unknown.
        detail: u32,
    },
    /// The host broke the protocol; the queue is latched, its buffers are quarantined.
    PeerFault(HostFault),
    /// The caller's mistake.
    Misuse(Misuse),
    /// The operation was not offered.
    Unsupported,
    /// The device is gone or closing.
    Disconnected,
    /// The host does not let the device be opened anew as it was: `SEALED` from a host whose backend is another one.
    Refused(CallError),
    /// The deadline passed. The request may still be carried out; its buffer stays quarantined until it completes.
    TimedOut,
    /// The platform has no free page.
    NoMemory,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Full => f.write_str("every slot of the queue is in flight"),
            Self::Io { status, detail } => write!(f, "device answered {status:?}, detail {detail}"),
            Self::PeerFault(fault) => write!(f, "{fault}"),
            Self::Misuse(misuse) => write!(f, "{misuse}"),
            Self::Unsupported => f.write_str("the device does not offer this operation"),
            Self::Disconnected => f.write_str("the device is gone or closing"),
            Self::Refused(error) => write!(f, "host refuses the device as it was: {error:?}"),
            Self::TimedOut => f.write_str("the device did not answer in time"),
            Self::NoMemory => f.write_str("the platform has no free page"),
        }
    }
}

macro_rules! from_parts {
    ($error:ty) => {
        impl core::error::Error for $error {}
        impl From<HostFault> for $error {
            fn from(fault: HostFault) -> Self {
                Self::PeerFault(fault)
            }
        }
        impl From<pvkit_ring::PeerFault> for $error {
            fn from(fault: pvkit_ring::PeerFault) -> Self {
                Self::PeerFault(HostFault::Ring(fault))
            }
        }
        impl From<Misuse> for $error {
            fn from(misuse: Misuse) -> Self {
                Self::Misuse(misuse)
            }
        }
        impl From<pvkit_ring::Misuse> for $error {
            fn from(misuse: pvkit_ring::Misuse) -> Self {
                Self::Misuse(Misuse::Ring(misuse))
            }
        }
        impl From<pvkit_ring::Full> for $error {
            fn from(_: pvkit_ring::Full) -> Self {
                Self::Full
            }
        }
        impl From<NoMemory> for $error {
            fn from(_: NoMemory) -> Self {
                Self::NoMemory
            }
        }
    };
}
from_parts!(BusError);
from_parts!(RequestError);

impl core::error::Error for ConnectError {}

impl<T: Into<BusError>> From<T> for ConnectError {
    fn from(error: T) -> Self {
        Self::Bus(error.into())
    }
}
