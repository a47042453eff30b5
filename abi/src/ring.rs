//! Split rings: two rings per queue, each written by exactly one side.
//!
//! An *area* is a list of pages that read as one run of bytes: a header of [`HEADER_BYTES`], then the slots. The
//! frontend's area holds requests, the backend's area completions. The header's event word is written by the area's
//! owner too: it is the owner's own sleeping position on the *other* ring.
//!
//! Indices are free-running `u32`, starting at 0; slot = index mod depth; the tag tells in which lap a slot was written.

/// Bytes before the first slot of an area.
pub const HEADER_BYTES: usize = 128;
/// Byte offset of the event word (a `u64`, index in the low 32 bits): "wake me when you publish this index".
pub const EVENT_WORD: usize = 0;
/// Byte offset of the epoch word, stored by the owner before the queue is connected.
pub const EPOCH_WORD: usize = 8;

/// Bytes of a request slot.
pub const REQUEST_BYTES: usize = 32;
/// Words of a request slot.
pub const REQUEST_WORDS: usize = REQUEST_BYTES / 8;
/// Bytes of a completion slot; those of network receive are wide ([`crate::net::RECEIVE_COMPLETION_BYTES`]).
pub const COMPLETION_BYTES: usize = 8;

/// Smallest queue.
pub const MIN_DEPTH: u32 = 2;
/// Largest queue.
pub const MAX_DEPTH: u32 = 4096;

/// Tag of the first lap. A zeroed slot (tag 0) is empty.
pub const FIRST_TAG: u16 = 1;

/// Tag of the lap after the one with `tag`: 1, 2, .. 65535, 1, ... It changes when the index passes a multiple of the
/// depth, and does not depend on where the free-running index itself wraps.
#[must_use]
pub const fn next_tag(tag: u16) -> u16 {
    if tag == u16::MAX { FIRST_TAG } else { tag + 1 }
}

/// Pages that an area of `depth` slots of `slot_bytes` needs.
#[must_use]
pub const fn area_pages(depth: u32, slot_bytes: usize) -> usize {
    (HEADER_BYTES + depth as usize * slot_bytes).div_ceil(crate::PAGE_SIZE)
}

/// Most pages of an area: depth 4096, 32-byte slots.
pub const MAX_AREA_PAGES: usize = area_pages(MAX_DEPTH, REQUEST_BYTES);

bitflags::bitflags! {
    /// Flags of a request, common to all protocols (low four bits) and per protocol (high four).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RequestFlags: u8 {
        /// The segment names a list of [`crate::grant::Segment`] instead of data.
        const INDIRECT = 1;
        /// Block write: on stable storage before the completion (force unit access).
        const FUA = 16;
    }
}

/// Word 0 of a request: `op | flags << 8 | id << 16 | aux << 32 | tag << 48`. Stored last, with Release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestWord(pub u64);

impl RequestWord {
    /// Packs all but the tag, which the ring fills in.
    #[must_use]
    pub const fn new(op: u8, flags: RequestFlags, id: u16, aux: u16) -> Self {
        Self(op as u64 | (flags.bits() as u64) << 8 | (id as u64) << 16 | (aux as u64) << 32)
    }

    /// The same word with `tag`.
    #[must_use]
    pub const fn with_tag(self, tag: u16) -> Self {
        Self(self.0 & 0x0000_ffff_ffff_ffff | (tag as u64) << 48)
    }

    /// Operation, per protocol.
    #[must_use]
    pub const fn op(self) -> u8 {
        self.0 as u8
    }

    /// Raw flag byte; unknown bits must be refused.
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The frontend's name for the request, unique among those in flight and below the depth.
    #[must_use]
    pub const fn id(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Sixteen bits per protocol; with INDIRECT the number of segments.
    #[must_use]
    pub const fn aux(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Lap tag.
    #[must_use]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// A completion: `result | id << 32 | tag << 48`. One atomic word, nothing can tear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionWord(pub u64);

impl CompletionWord {
    /// Packs all but the tag.
    #[must_use]
    pub const fn new(id: u16, result: crate::status::CompletionResult) -> Self {
        Self(result.0 as u64 | (id as u64) << 32)
    }

    /// The same word with `tag`.
    #[must_use]
    pub const fn with_tag(self, tag: u16) -> Self {
        Self(self.0 & 0x0000_ffff_ffff_ffff | (tag as u64) << 48)
    }

    /// How it ended.
    #[must_use]
    pub const fn result(self) -> crate::status::CompletionResult {
        crate::status::CompletionResult(self.0 as u32)
    }

    /// Which request.
    #[must_use]
    pub const fn id(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Lap tag.
    #[must_use]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }
}
