//! Layouts. A struct's size and the offsets of its fields are asserted below it.

use pvkit_abi::bus::{CONFIG_BYTES, CONTROL_BYTES, Class, Offer};
use pvkit_abi::grant::GrantRef;
use pvkit_abi::ring::{MAX_AREA_PAGES, MAX_DEPTH, area_pages};
use pvkit_abi::version::Version;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `Hello::magic`: "pvkit-dd" in memory order.
pub const MAGIC: u64 = u64::from_le_bytes(*b"pvkit-dd");
/// The protocol's version. Another major number is refused; the smaller of both minor numbers is spoken.
pub const VERSION: Version = Version { major: 0, minor: 1 };
/// Most bytes of a message.
pub const MAX_MESSAGE: usize = 8192;
/// Bytes of a name: UTF-8, padded with zeros.
pub const NAME_BYTES: usize = 64;
/// Most pages of both areas of a queue: depth 4096 with completions of 16 bytes.
pub const MAX_QUEUE_PAGES: usize = MAX_AREA_PAGES + area_pages(MAX_DEPTH, 16);
/// Most queues of a device of which counters are told.
pub const MAX_COUNTED: usize = 32;
/// Numbers that are told of each queue.
pub const COUNTERS: usize = pvkit_backends::QueueSnapshot::NAMES.len();

macro_rules! layout {
    ($name:ty, $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = assert!(size_of::<$name>() == $size);
        $(const _: () = assert!(std::mem::offset_of!($name, $field) == $offset);)*
        static_assertions::assert_impl_all!($name: FromBytes, IntoBytes, Immutable);
    };
}

/// What a message is. Unknown values stay values.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Kind(pub u16);

impl Kind {
    /// Monitor: who I am. Answer: [`HelloReply`].
    pub const HELLO: Self = Self(1);
    /// Monitor: this is the window; one descriptor. Takes the place of an earlier one, of which no queue is open any more.
    pub const WINDOW: Self = Self(2);
    /// Monitor: I want this device; for a network on a TAP one descriptor. Answer: [`Attached`], for a disk with a witness.
    pub const ATTACH: Self = Self(3);
    /// Monitor: open a queue; two descriptors, doorbell and interrupt.
    pub const OPEN_QUEUE: Self = Self(4);
    /// Monitor: drain and detach every queue of a device, and forget its grants.
    pub const CLOSE: Self = Self(5);
    /// Monitor: let a device's queues reach an extent of the window.
    pub const SHARE: Self = Self(6);
    /// Monitor: no longer.
    pub const REVOKE: Self = Self(7);
    /// Monitor: set something of a device.
    pub const CONTROL: Self = Self(8);
    /// Monitor: look again how large a disk is. Answer: [`Config`].
    pub const REFRESH: Self = Self(9);
    /// Monitor: what did the queues of a device do? Answer: [`Counters`].
    pub const COUNTERS: Self = Self(10);
    /// An operator, who has neither window nor device: what of the device at this place of all monitors' devices? Answer:
    /// [`Inspected`]; `NOT_FOUND` behind the last.
    pub const INSPECT: Self = Self(11);
    /// An operator: what did the daemon's monitors, those that are gone included, ask for and spend? Answer: [`Totals`].
    pub const TOTALS: Self = Self(12);
    /// Daemon: the answer to a request, which its sequence names.
    pub const REPLY: Self = Self(0x100);
    /// Daemon: I leave in good order. All queues are drained and detached, nothing is in flight, the window is unmapped.
    pub const GOODBYE: Self = Self(0x101);
    /// Daemon: a line for the monitor's operator; rare, see the document.
    pub const LOG: Self = Self(0x102);
}

/// Before every body.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// Bytes of the whole message, this struct included.
    pub size: u32,
    /// What it is.
    pub kind: Kind,
    /// Zero.
    pub reserved: u16,
    /// Of a request: its number, ascending from 1. Of a reply: the request's. Else zero.
    pub sequence: u64,
}
layout!(Header, 16, kind @ 4, reserved @ 6, sequence @ 8);

/// Body of `HELLO`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: u64,
    /// Newest version that the monitor speaks.
    pub version: Version,
    /// Zero.
    pub reserved: u32,
    /// The guest's name, for the daemon's operator.
    pub name: [u8; NAME_BYTES],
}
layout!(Hello, 80, version @ 8, name @ 16);

/// Answer to `HELLO`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HelloReply {
    /// [`MAGIC`].
    pub magic: u64,
    /// The version that is spoken from now on.
    pub version: Version,
    /// Zero.
    pub reserved: u32,
    /// A random number of this run of the daemon.
    pub incarnation: u64,
    /// Largest window in bytes.
    pub max_window: u64,
}
layout!(HelloReply, 32, version @ 8, incarnation @ 16, max_window @ 24);

/// Body of `WINDOW`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct WindowBody {
    /// Bytes from the start of the file, whole pages.
    pub length: u64,
}
layout!(WindowBody, 8);

/// Body of `ATTACH`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Attach {
    /// The monitor's number of the device, not 0; names it from now on.
    pub device: u32,
    /// Its kind.
    pub class: Class,
    /// Its number among the guest's devices of this kind.
    pub instance: u16,
    /// For a network: hardware address, MTU, pairs of queues. Else zero.
    pub mac: [u8; 6],
    /// IP packet in bytes.
    pub mtu: u16,
    /// Pairs of queues.
    pub pairs: u16,
    /// Zero.
    pub reserved: [u8; 6],
    /// The name by which the daemon's operator knows it.
    pub id: [u8; NAME_BYTES],
}
layout!(Attach, 88, class @ 4, instance @ 6, mac @ 8, mtu @ 14, pairs @ 16, reserved @ 18, id @ 24);

/// Answer to `ATTACH`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Attached {
    /// As the bus offers it.
    pub offer: Offer,
}
layout!(Attached, 112);

/// Body of `OPEN_QUEUE`. The device's pages are named by their offsets in the window.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OpenQueue {
    /// Which device.
    pub device: u32,
    /// Which queue of it.
    pub queue: u16,
    /// Bytes of a completion.
    pub completion_bytes: u16,
    /// Slots.
    pub depth: u32,
    /// Entries of `pages` that are meant for the request area, which the guest writes.
    pub request_pages: u16,
    /// Entries after those, for the completion area, which the daemon writes.
    pub completion_pages: u16,
    /// The device's epoch, for the ring's header.
    pub epoch: u64,
    /// Sealed features.
    pub features: u64,
    /// Offsets, multiples of the page size.
    pub pages: [u64; MAX_QUEUE_PAGES],
}
layout!(OpenQueue, 32 + 8 * MAX_QUEUE_PAGES, queue @ 4, completion_bytes @ 6, depth @ 8, request_pages @ 12,
    completion_pages @ 14, epoch @ 16, features @ 24, pages @ 32);
const _: () = assert!(size_of::<Header>() + size_of::<OpenQueue>() <= MAX_MESSAGE);

/// Body of `CLOSE`, `REFRESH` and `COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OfDevice {
    /// Which device.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}
layout!(OfDevice, 8);

/// Body of `SHARE`, and of `REVOKE` with offset, length and access zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Share {
    /// Which device.
    pub device: u32,
    /// The extent's name.
    pub grant: GrantRef,
    /// Where it begins in the window.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// [`pvkit_abi::grant::Access`].
    pub access: u32,
    /// Zero.
    pub reserved: u32,
}
layout!(Share, 32, grant @ 4, offset @ 8, length @ 16, access @ 24);

/// Body of `CONTROL`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Control {
    /// Which device.
    pub device: u32,
    /// What to do, by the device's class.
    pub operation: u16,
    /// Bytes of `data` that are meant.
    pub length: u16,
    /// What with.
    pub data: [u8; CONTROL_BYTES],
}
layout!(Control, 8 + CONTROL_BYTES, operation @ 4, length @ 6, data @ 8);

/// First part of a `REPLY`; what the request's answer says, if anything, stands behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ReplyHead {
    /// 0, or a [`pvkit_abi::status::CallError`].
    pub error: u32,
    /// Kind of the request that is answered.
    pub to: Kind,
    /// Zero.
    pub reserved: u16,
}
layout!(ReplyHead, 8, to @ 4);

/// Answer to `REFRESH`: the newest configuration.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// As in the offer.
    pub config: [u8; CONFIG_BYTES],
}
layout!(Config, CONFIG_BYTES);

/// What one queue did.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counted {
    /// Which queue.
    pub queue: u32,
    /// Zero.
    pub reserved: u32,
    /// In the order of `pvkit_backends::QueueSnapshot`'s fields.
    pub numbers: [u64; COUNTERS],
}
layout!(Counted, 8 + 8 * COUNTERS, numbers @ 8);

/// Answer to `COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Counters {
    /// Entries that are meant.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
    /// The queues.
    pub queues: [Counted; MAX_COUNTED],
}
layout!(Counters, 8 + MAX_COUNTED * size_of::<Counted>(), queues @ 8);
const _: () = assert!(size_of::<Header>() + size_of::<ReplyHead>() + size_of::<Counters>() <= MAX_MESSAGE);

/// Body of `INSPECT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Inspect {
    /// From 0, in the order in which monitors came; each answer is about one device, as it is then.
    pub place: u32,
    /// Zero.
    pub reserved: u32,
}
layout!(Inspect, 8);

/// What a monitor, or all of them, asked of the daemon, and what it was denied by quotas.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Spent {
    /// Messages that were taken.
    pub messages: u64,
    /// Messages that had to wait because there were too many.
    pub held_back: u64,
    /// Requests that were refused because of a quota.
    pub refused: u64,
    /// Lines that were told to the daemon's operator.
    pub lines: u64,
    /// Lines that were not told because there were too many.
    pub withheld: u64,
}
layout!(Spent, 40, messages @ 0, held_back @ 8, refused @ 16, lines @ 24, withheld @ 32);

/// Answer to `TOTALS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Totals {
    /// Connections that are open.
    pub open: u64,
    /// Connections that were served, open ones included.
    pub connections: u64,
    /// Connections that had to wait because their process makes too many.
    pub late: u64,
    /// Connections that were turned away.
    pub turned_away: u64,
    /// All monitors'.
    pub spent: Spent,
}
layout!(Totals, 72, connections @ 8, late @ 16, turned_away @ 24, spent @ 32);

/// Answer to `INSPECT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Inspected {
    /// The monitor's number of the device.
    pub device: u32,
    /// Its kind.
    pub class: Class,
    /// Queues that are open.
    pub open: u16,
    /// Bytes of the monitor's window; 0 without one.
    pub window: u64,
    /// As the monitor calls itself.
    pub monitor: [u8; NAME_BYTES],
    /// The name by which the daemon's operator knows the device.
    pub id: [u8; NAME_BYTES],
    /// What the monitor asked for and spent, for all of its devices together.
    pub spent: Spent,
    /// What the device's queues did.
    pub counters: Counters,
}
layout!(Inspected, 184 + size_of::<Counters>(), class @ 4, open @ 6, window @ 8, monitor @ 16, id @ 80, spent @ 144,
    counters @ 184);
const _: () = assert!(size_of::<Header>() + size_of::<ReplyHead>() + size_of::<Inspected>() <= MAX_MESSAGE);

/// Body of `LOG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Log {
    /// UTF-8, padded with zeros.
    pub line: [u8; 256],
}
layout!(Log, 256);

/// A text as the wire has it: cut to its length at a character's boundary, padded with zeros.
#[must_use]
pub fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(text.bytes().take(end)) {
        *to = from;
    }
    bytes
}

/// A text of the wire: up to its first zero, what is no UTF-8 or no printable character replaced.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let lossy = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    lossy.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
