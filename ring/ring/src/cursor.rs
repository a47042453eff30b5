//! Where a side stands in a ring: free-running index, slot, lap tag.

use pvkit_abi::ring::{FIRST_TAG, HEADER_BYTES, MAX_DEPTH, MIN_DEPTH, next_tag};

/// A ring's depth. Its constructor is the power-of-two check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Depth - 1.
    mask: u32,
}

impl RingSize {
    /// `None` unless `depth` is a power of two between the ABI's limits.
    #[must_use]
    pub const fn new(depth: u32) -> Option<Self> {
        if depth.is_power_of_two() && depth >= MIN_DEPTH && depth <= MAX_DEPTH {
            Some(Self { mask: depth - 1 })
        } else {
            None
        }
    }

    /// Slots.
    #[must_use]
    pub const fn depth(self) -> u32 {
        self.mask + 1
    }

    /// Bytes that an area with slots of `words` words needs, header included.
    #[must_use]
    pub const fn area_bytes(self, words: usize) -> usize {
        HEADER_BYTES + self.depth() as usize * words * 8
    }
}

/// A free-running position. Wraps at 2^32; there is no `<`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingIndex(pub u32);

impl RingIndex {
    /// The position `by` slots further on.
    #[must_use]
    pub const fn advance(self, by: u32) -> Self {
        Self(self.0.wrapping_add(by))
    }

    /// How far `self` is ahead of `earlier`.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The slot that the position names.
    #[must_use]
    pub const fn slot(self, size: RingSize) -> u32 {
        // The second mask changes nothing; it lets the compiler see that a slot's page is one of the area's.
        self.0 & size.mask & (MAX_DEPTH - 1)
    }

    /// Byte offset in the area of that slot, of `words` words.
    #[inline]
    #[must_use]
    pub const fn offset(self, size: RingSize, words: usize) -> usize {
        HEADER_BYTES + self.slot(size) as usize * words * 8
    }
}

/// A position together with the tags that belong to it: this lap's, and what an unwritten slot still carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    index: RingIndex,
    tag: u16,
    previous: u16,
}

impl Cursor {
    /// The beginning of a fresh, zeroed ring.
    pub const START: Self = Self { index: RingIndex(0), tag: FIRST_TAG, previous: 0 };

    /// A cursor as it would stand at `index` of a ring that has been in use, for tests that begin just before a wrap.
    /// The slots must then carry `previous`.
    #[must_use]
    pub const fn at(index: u32, previous: u16) -> Self {
        Self { index: RingIndex(index), tag: next_tag(previous), previous }
    }

    /// Position.
    #[must_use]
    pub const fn index(self) -> RingIndex {
        self.index
    }

    /// Tag of a slot written in this lap.
    #[must_use]
    pub const fn tag(self) -> u16 {
        self.tag
    }

    /// Tag that the slot carries while it is not yet written in this lap.
    #[must_use]
    pub const fn previous(self) -> u16 {
        self.previous
    }

    /// Byte offset in the area of the slot under the cursor.
    #[inline]
    #[must_use]
    pub const fn offset(self, size: RingSize, words: usize) -> usize {
        self.index.offset(size, words)
    }

    /// Where it stands so many slots further on, at most the depth.
    #[inline]
    #[must_use]
    pub(crate) const fn ahead(self, by: u32, size: RingSize) -> Self {
        let index = self.index.advance(by);
        if (index.0 ^ self.index.0) & !size.mask == 0 {
            return Self { index, ..self };
        }
        Self { index, tag: next_tag(self.tag), previous: self.tag }
    }

    /// One slot further on; a new lap has a new tag.
    #[inline]
    pub const fn step(&mut self, size: RingSize) {
        self.index = self.index.advance(1);
        if self.index.0 & size.mask == 0 {
            self.previous = self.tag;
            self.tag = next_tag(self.tag);
        }
    }
}
