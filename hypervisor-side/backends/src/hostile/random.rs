//! Random numbers from a seed: the same lies again.

/// Marsaglia's xorshift with the shifts 13, 7 and 17.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// From any seed.
    pub const fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
