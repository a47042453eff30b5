//! Small random numbers that a printed seed brings back.

/// SplitMix64: enough to choose a moment, nothing more.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from `seed`.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in `low..high`; `low` where that is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        match high.checked_sub(low) {
            None | Some(0) => low,
            Some(range) => low + mixed % range,
        }
    }
}

/// A seed that nobody chose.
#[must_use]
pub fn fresh_seed() -> u64 {
    let mut bytes = [0; 4];
    // Without random bytes the process id has to do: the seed is printed, never secret.
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()) {
        Ok(4) => u64::from(u32::from_ne_bytes(bytes)),
        _ => u64::from(std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_within_bounds() {
        let draw = |seed| {
            let mut random = Random::from_seed(seed);
            (0..100).map(|_| random.between(10, 20)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|number| (10..20).contains(number)));
        assert_eq!(Random::from_seed(1).between(5, 5), 5);
    }
}
