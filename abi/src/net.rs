//! Network protocol: Ethernet frames over pairs of queues, with offload metadata in the slot.
//!
//! Pair `i` of a device is queue `2 * i` (receive) and queue `2 * i + 1` (transmit). Slots are laid out as in
//! [`crate::block`]: word 2 = grant | length << 32, word 3 = offset; with INDIRECT the segment names a list of `aux`
//! segments. Word 1 is a [`FrameMeta`].
//!
//! *Transmit.* One request is one frame, without its frame check sequence. Completions are 8 bytes; the detail is 0.
//! *Receive.* A request posts one buffer, word 1 zero. Completions are 32 bytes: word 0 as everywhere, detail = bytes in
//! this buffer; word 1 a [`FrameMeta`]; word 2 a [`FrameHash`]; word 3 zero. With [`NetFeatures::MERGEABLE`] a frame may
//! fill several buffers: all but the last completion carry [`FrameFlags::MORE`], and they are published as one batch.
//! Metadata and hash stand in each of them; those of the first are meant.
//!
//! Frames in flight may be lost when the backend goes; they are never repeated.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

open_enum! {
    /// Operation.
    pub struct NetOp(u8) {
        /// Memory to wire; the grant needs `READ`.
        TRANSMIT = 1,
        /// Posts a buffer for a received frame; the grant needs `WRITE`.
        RECEIVE = 2,
    }
}

bitflags::bitflags! {
    /// Features of the protocol.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct NetFeatures: u64 {
        /// The host finishes checksums that the guest leaves partial ([`FrameFlags::NEEDS_CHECKSUM`] on transmit).
        const TX_CHECKSUM = 1;
        /// The guest takes frames whose checksum is partial or already verified.
        const RX_CHECKSUM = 2;
        /// The host segments TCP over IPv4. Needs TX_CHECKSUM.
        const TX_TSO4 = 4;
        /// The host segments TCP over IPv6. Needs TX_CHECKSUM.
        const TX_TSO6 = 8;
        /// The host segments UDP. Needs TX_CHECKSUM.
        const TX_USO = 16;
        /// The guest takes unsegmented TCP over IPv4. Needs RX_CHECKSUM and MERGEABLE.
        const RX_TSO4 = 32;
        /// The guest takes unsegmented TCP over IPv6. Needs RX_CHECKSUM and MERGEABLE.
        const RX_TSO6 = 64;
        /// The guest takes unsegmented UDP. Needs RX_CHECKSUM and MERGEABLE.
        const RX_USO = 128;
        /// A received frame may fill several buffers.
        const MERGEABLE = 256;
        /// Indirect segment lists on transmit.
        const INDIRECT = 512;
        /// Receive modes and multicast filter by [`NetControl`].
        const FILTER = 1024;
        /// Receive-side scaling by [`NetControl::SET_RSS`]; completions carry hashes.
        const RSS = 2048;
        /// The host asks the guest to announce itself after a move, by [`LinkFlags::ANNOUNCE`].
        const ANNOUNCE = 4096;
    }
}

impl NetFeatures {
    /// Features that the chosen ones need and that were not chosen. The host refuses such a choice.
    #[must_use]
    pub const fn missing(self) -> Self {
        let mut needed = Self::empty();
        if self.intersects(Self::TX_TSO4.union(Self::TX_TSO6).union(Self::TX_USO)) {
            needed = needed.union(Self::TX_CHECKSUM);
        }
        if self.intersects(Self::RX_TSO4.union(Self::RX_TSO6).union(Self::RX_USO)) {
            needed = needed.union(Self::RX_CHECKSUM).union(Self::MERGEABLE);
        }
        needed.difference(self)
    }
}

bitflags::bitflags! {
    /// Flags of a frame.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FrameFlags: u8 {
        /// The checksum from `checksum_start` to the end is to be stored at `checksum_start + checksum_offset`; the field
        /// holds the sum of the pseudo header, with the length that the frame has before it is cut. Both fields are
        /// zero without this flag.
        const NEEDS_CHECKSUM = 1;
        /// Receive: the outermost transport checksum was verified. Never with `NEEDS_CHECKSUM`, which says that the
        /// data never left this host and need no verification.
        const CHECKSUM_VALID = 2;
        /// Receive: the frame goes on in the next completion.
        const MORE = 4;
    }
}

open_enum! {
    /// How an oversized frame is to be cut. Always together with [`FrameFlags::NEEDS_CHECKSUM`].
    pub struct Segmentation(u8) {
        /// It is not oversized.
        NONE = 0,
        /// TCP over IPv4.
        TCP4 = 1,
        /// TCP over IPv6.
        TCP6 = 2,
        /// UDP, over IPv4 or IPv6, into datagrams of their own, not into IP fragments.
        UDP = 3,
    }
}

/// Offload metadata: `checksum_start | checksum_offset << 16 | segment_size << 32 | segmentation << 48 | flags << 56`.
///
/// Offsets are in bytes, the start from the first byte of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta(pub u64);

impl FrameMeta {
    /// Packs the fields.
    #[must_use]
    pub const fn new(
        flags: FrameFlags,
        checksum_start: u16,
        checksum_offset: u16,
        segmentation: Segmentation,
        segment_size: u16,
    ) -> Self {
        Self(
            checksum_start as u64
                | (checksum_offset as u64) << 16
                | (segment_size as u64) << 32
                | (segmentation.0 as u64) << 48
                | (flags.bits() as u64) << 56,
        )
    }

    /// Where the checksum begins.
    #[must_use]
    pub const fn checksum_start(self) -> u16 {
        self.0 as u16
    }

    /// Where it is stored, from its beginning.
    #[must_use]
    pub const fn checksum_offset(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Payload bytes of each piece of an oversized frame.
    #[must_use]
    pub const fn segment_size(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// How an oversized frame is to be cut.
    #[must_use]
    pub const fn segmentation(self) -> Segmentation {
        Segmentation((self.0 >> 48) as u8)
    }

    /// Raw flag byte; unknown bits must be refused.
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

open_enum! {
    /// What a frame's hash covers.
    pub struct HashKind(u8) {
        /// Not hashed.
        NONE = 0,
        /// IPv4 addresses.
        IPV4 = 1,
        /// IPv4 addresses and TCP ports.
        TCP4 = 2,
        /// IPv4 addresses and UDP ports.
        UDP4 = 3,
        /// IPv6 addresses.
        IPV6 = 4,
        /// IPv6 addresses and TCP ports.
        TCP6 = 5,
        /// IPv6 addresses and UDP ports.
        UDP6 = 6,
    }
}

/// A received frame's hash: `hash | kind << 32`. Toeplitz with the guest's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHash(pub u64);

impl FrameHash {
    /// Packs the fields.
    #[must_use]
    pub const fn new(hash: u32, kind: HashKind) -> Self {
        Self(hash as u64 | (kind.0 as u64) << 32)
    }

    /// The hash.
    #[must_use]
    pub const fn hash(self) -> u32 {
        self.0 as u32
    }

    /// What it covers.
    #[must_use]
    pub const fn kind(self) -> HashKind {
        HashKind((self.0 >> 32) as u8)
    }
}

/// Bytes of a receive completion.
pub const RECEIVE_COMPLETION_BYTES: usize = 32;
/// Bytes of an Ethernet header without tags.
pub const ETHERNET_HEADER: usize = 14;
/// Smallest MTU, the least that IPv4 allows a link (RFC 791).
pub const MIN_MTU: u16 = 68;
/// Largest MTU.
pub const MAX_MTU: u16 = 9000;
/// Smallest [`FrameMeta::segment_size`]: what fits behind an IPv4 and a TCP header at the smallest MTU. Bounds the pieces
/// of a frame.
pub const MIN_SEGMENT: u16 = MIN_MTU - 40;
/// Largest frame, oversized ones included: 64 KiB of IP packet behind an Ethernet header with a tag.
pub const MAX_FRAME: usize = 65536 + 18;
/// Most multicast addresses in the filter; more and the guest asks for all.
pub const MAX_MULTICAST: usize = 16;
/// Bytes of a receive-side scaling key.
pub const RSS_KEY_BYTES: usize = 40;
/// Entries of the receive-side scaling table.
pub const RSS_TABLE: usize = 32;

bitflags::bitflags! {
    /// State of the link, in [`NetConfig::flags`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LinkFlags: u32 {
        /// Frames can pass.
        const UP = 1;
        /// The guest should announce its addresses and then send [`NetControl::ANNOUNCED`].
        const ANNOUNCE = 2;
    }
}

/// The device's properties, in `Offer::config` and `ConfigChanged::config`. Written by the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NetConfig {
    /// Address of the guest's port.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes, [`MIN_MTU`]..=[`MAX_MTU`]. Fixed for the device's life.
    pub mtu: u16,
    /// [`LinkFlags`].
    pub flags: u32,
    /// Speed in Mbit/s, 0 if unknown.
    pub speed: u32,
}
wire_layout!(NetConfig, 16, mac @ 0, mtu @ 6, flags @ 8, speed @ 12);

open_enum! {
    /// What a [`crate::bus::Control`] message to a network device asks for, in `Control::operation`.
    pub struct NetControl(u16) {
        /// Data: `u32` of [`ReceiveMode`].
        SET_MODE = 1,
        /// Data: [`MulticastFilter`].
        SET_MULTICAST = 2,
        /// Data: [`Rss`].
        SET_RSS = 3,
        /// No data: the guest has announced itself.
        ANNOUNCED = 4,
    }
}

bitflags::bitflags! {
    /// Which frames reach the guest besides its own and broadcasts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ReceiveMode: u32 {
        /// All of them.
        const PROMISCUOUS = 1;
        /// All multicasts.
        const ALL_MULTICAST = 2;
    }
}

/// Multicast addresses that the guest listens to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MulticastFilter {
    /// Entries that are meant, at most [`MAX_MULTICAST`].
    pub count: u32,
    /// The addresses, each with the group bit.
    pub addresses: [[u8; 6]; MAX_MULTICAST],
}
wire_layout!(MulticastFilter, 100, addresses @ 4);

/// Receive-side scaling: pair = table\[hash mod [`RSS_TABLE`]\]. Frames that are not hashed go to the first pair that is
/// open.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Rss {
    /// Bit `1 << kind` for each [`HashKind`] but `NONE` that is to be used; 0 turns scaling off.
    pub kinds: u32,
    /// Toeplitz key.
    pub key: [u8; RSS_KEY_BYTES],
    /// Pair for each remainder, below the number of pairs accepted.
    pub table: [u8; RSS_TABLE],
}
wire_layout!(Rss, 76, key @ 4, table @ 44);
