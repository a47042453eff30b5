//! Device bus: devices are offered, accepted, opened and closed by typed messages over two queues, one per initiator.
//!
//! Each side owns two pages. Page 0 holds the two rings it writes: its requests (area at [`REQUEST_AREA`]) and its
//! completions of the other's requests (area at [`COMPLETION_AREA`]). Page 1 holds its message buffers
//! ([`DEPTH`] of [`MESSAGE_BYTES`]) and its replies ([`DEPTH`] of [`REPLY_BYTES`], from [`REPLIES_OFFSET`]).
//! The message of a request with id `i` is the initiator's buffer `i`; its reply is the other side's reply `i`.

use crate::version::Version;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Requests that may be in flight per initiator.
pub const DEPTH: u32 = 16;
/// Offset in page 0 of the owner's request area.
pub const REQUEST_AREA: usize = 0;
/// Offset in page 0 of the owner's completion area.
pub const COMPLETION_AREA: usize = 2048;
/// Bytes of a message buffer.
pub const MESSAGE_BYTES: usize = 128;
/// Bytes of a reply buffer.
pub const REPLY_BYTES: usize = 64;
/// Offset in page 1 of the first reply.
pub const REPLIES_OFFSET: usize = DEPTH as usize * MESSAGE_BYTES;

const _: () = assert!(crate::ring::HEADER_BYTES + DEPTH as usize * crate::ring::REQUEST_BYTES <= COMPLETION_AREA);
const _: () = assert!(REPLIES_OFFSET + DEPTH as usize * REPLY_BYTES <= crate::PAGE_SIZE);

/// Input of `BUS_SETUP`. Written by the guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BusSetup {
    /// Size of this struct in bytes as the caller knows it.
    pub size: u32,
    /// Event port for host-initiated messages and completions, or `NO_PORT`.
    pub event_port: u32,
    /// Addresses of the guest's two pages, zeroed by the guest.
    pub guest_pages: [u64; 2],
    /// Addresses of the host's two pages; the host zeroes them.
    pub host_pages: [u64; 2],
}
wire_layout!(BusSetup, 40, event_port @ 4, guest_pages @ 8, host_pages @ 24);

open_enum! {
    /// Kind of a message; also the `op` of its request slot.
    pub struct Kind(u8) {
        /// Host: a device is there. Body [`Offer`].
        OFFER = 0x01,
        /// Host: a device goes away. No body.
        RESCIND = 0x02,
        /// Host: the device's configuration changed. Body [`ConfigChanged`].
        CONFIG_CHANGED = 0x03,
        /// Host: the device's state changed. Body [`StateChanged`].
        STATE_CHANGED = 0x04,
        /// Host: messages were dropped; ask with `RESCAN` to get every offer again. No body.
        OVERFLOW = 0x05,

        /// Guest: take the device. Body [`Accept`].
        ACCEPT = 0x41,
        /// Guest: connect one queue. Body [`OpenQueue`]. Reply values: doorbell kind, doorbell address.
        OPEN_QUEUE = 0x42,
        /// Guest: disconnect the device: every queue drained and detached when this completes. No body.
        CLOSE = 0x43,
        /// Guest: share memory with the device's backend. Body [`ShareGrant`]. Reply values: grant.
        GRANT_SHARE = 0x44,
        /// Guest: take it back; completes when the backend can no longer reach it. Body [`NameGrant`].
        GRANT_REVOKE = 0x45,
        /// Guest: ask about a grant. Body [`NameGrant`]. Reply values: base, length, access.
        GRANT_QUERY = 0x46,
        /// Guest: send every offer again. No body.
        RESCAN = 0x47,
        /// Guest: set something of an accepted device. Body [`Control`].
        CONTROL = 0x48,
    }
}

open_enum! {
    /// What kind of device is offered.
    pub struct Class(u16) {
        /// [`crate::block`].
        BLOCK = 1,
        /// [`crate::console`].
        CONSOLE = 2,
        /// [`crate::net`].
        NET = 3,
        /// [`crate::services`].
        SERVICES = 4,
        /// [`crate::entropy`].
        ENTROPY = 5,
    }
}

open_enum! {
    /// Life of a device as the bus sees it.
    pub struct DeviceState(u16) {
        /// Not there.
        ABSENT = 0,
        /// There, not taken.
        OFFERED = 1,
        /// Version and features sealed; no queue is connected.
        ACCEPTED = 2,
        /// At least one queue is connected.
        CONNECTED = 3,
        /// The backend is gone; requests wait for a new epoch.
        DISCONNECTED = 4,
        /// Queues are being drained.
        CLOSING = 5,
    }
}

/// A bus message, in the initiator's page 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Message {
    /// Bytes of the body that are meant.
    pub size: u16,
    /// Same as the slot's `op`.
    pub kind: Kind,
    /// Zero.
    pub reserved: u8,
    /// Which device; 0 for the bus itself. Numbers are never used again while the guest runs.
    pub device: u32,
    /// Epoch that the sender means: the device's, or the bus's for the bus itself.
    pub epoch: u64,
    /// By `kind`; the rest is zero.
    pub body: [u8; BODY_BYTES],
}
wire_layout!(Message, MESSAGE_BYTES, kind @ 2, reserved @ 3, device @ 4, epoch @ 8, body @ 16);

/// Bytes of a message's body.
pub const BODY_BYTES: usize = MESSAGE_BYTES - 16;

/// The answer to a message, in the answerer's page 1. The completion's result carries the status alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reply {
    /// 0, or a negated [`crate::status::CallError`].
    pub status: i32,
    /// Device of the request.
    pub device: u32,
    /// Epoch now in force for the device.
    pub epoch: u64,
    /// By the request's kind.
    pub values: [u64; 6],
}
wire_layout!(Reply, REPLY_BYTES, device @ 4, epoch @ 8, values @ 16);

/// Bytes of class-specific configuration.
pub const CONFIG_BYTES: usize = 64;

/// Body of `OFFER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Offer {
    /// What it is.
    pub class: Class,
    /// Counts devices of one class, in the order of the command line.
    pub instance: u16,
    /// Newest protocol version served.
    pub newest: Version,
    /// Oldest minor version of that generation still served.
    pub minor_oldest: u16,
    /// Most queues.
    pub max_queues: u16,
    /// Greatest depth of a queue.
    pub max_depth: u32,
    /// Features that may be chosen.
    pub features: u64,
    /// Features that must be chosen.
    pub required: u64,
    /// Most entries of an indirect list.
    pub max_segments: u32,
    /// Most bytes that one request may move.
    pub max_transfer: u32,
    /// Alignment in bytes that the offset of every segment must have.
    pub alignment: u32,
    /// Zero.
    pub reserved: u32,
    /// By `class`.
    pub config: [u8; CONFIG_BYTES],
}
wire_layout!(Offer, 112, instance @ 2, newest @ 4, minor_oldest @ 8, max_queues @ 10, max_depth @ 12, features @ 16,
    required @ 24, max_segments @ 32, max_transfer @ 36, alignment @ 40, config @ 48);

/// Body of `ACCEPT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Accept {
    /// Chosen version.
    pub version: Version,
    /// Queues that the guest will open, 1..=`max_queues`.
    pub queues: u16,
    /// Zero.
    pub reserved: u16,
    /// Chosen features.
    pub features: u64,
}
wire_layout!(Accept, 16, queues @ 4, features @ 8);

/// Body of `OPEN_QUEUE`.
///
/// The page list is one page of `u64` addresses: the pages of the guest's request area, then those of the host's
/// completion area. The host reads it once, during the call. All pages are distinct and page-aligned.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OpenQueue {
    /// Which queue, from 0.
    pub queue: u16,
    /// Bytes of a completion: 8, or 32 for network receive.
    pub completion_bytes: u16,
    /// Slots, a power of two, [`crate::ring::MIN_DEPTH`]..=`max_depth`.
    pub depth: u32,
    /// Event port for completions, or `NO_PORT`.
    pub event_port: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of the page list.
    pub page_list: u64,
}
wire_layout!(OpenQueue, 24, completion_bytes @ 2, depth @ 4, event_port @ 8, page_list @ 16);

open_enum! {
    /// How a queue's doorbell is rung.
    pub struct DoorbellKind(u32) {
        /// Never: the backend polls.
        NONE = 0,
        /// A 32-bit write of any value to an I/O port.
        PORT = 1,
        /// A 32-bit write of any value to a guest-physical address.
        MEMORY = 2,
        /// A token for the in-process machine.
        TOKEN = 3,
    }
}

/// Body of `GRANT_SHARE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ShareGrant {
    /// Guest-physical start, page-aligned.
    pub base: u64,
    /// Bytes, a multiple of the page size.
    pub length: u64,
    /// [`crate::grant::Access`].
    pub access: u32,
    /// Zero.
    pub reserved: u32,
}
wire_layout!(ShareGrant, 24, length @ 8, access @ 16);

/// Body of `GRANT_REVOKE` and `GRANT_QUERY`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NameGrant {
    /// Which grant.
    pub grant: crate::grant::GrantRef,
    /// Zero.
    pub reserved: u32,
}
wire_layout!(NameGrant, 8, reserved @ 4);

/// Body of `CONFIG_CHANGED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ConfigChanged {
    /// By the device's class.
    pub config: [u8; CONFIG_BYTES],
}
wire_layout!(ConfigChanged, 64);

/// Body of `STATE_CHANGED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct StateChanged {
    /// New state.
    pub state: DeviceState,
    /// Zero.
    pub reserved: [u16; 3],
}
wire_layout!(StateChanged, 8);

/// Bytes of a control message's data.
pub const CONTROL_BYTES: usize = BODY_BYTES - 8;

/// Body of `CONTROL`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Control {
    /// By the device's class, for example [`crate::net::NetControl`].
    pub operation: u16,
    /// Bytes of `data` that are meant.
    pub size: u16,
    /// Zero.
    pub reserved: u32,
    /// By `operation`; zero behind `size`.
    pub data: [u8; CONTROL_BYTES],
}
wire_layout!(Control, 112, size @ 2, reserved @ 4, data @ 8);
