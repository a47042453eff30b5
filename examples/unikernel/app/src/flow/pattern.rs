//! Bytes that follow from a seed: cheap to make, and no two parts alike.

/// A stream of bytes. (xorshift64*, S. Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".)
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, word: [0; 8], used: 8 }
    }

    /// The next bytes.
    pub(super) fn fill(&mut self, into: &mut [u8]) {
        let mut rest = into;
        while !rest.is_empty() {
            if self.used == 8 {
                self.state ^= self.state >> 12;
                self.state ^= self.state << 25;
                self.state ^= self.state >> 27;
                self.word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
                self.used = 0;
            }
            let part = self.word.get(self.used..).unwrap_or(&[]);
            let count = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            for (to, from) in now.iter_mut().zip(part) {
                *to = *from;
            }
            self.used += count;
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole() {
        let (mut whole, mut pieces) = ([0; 100], [0; 100]);
        Pattern::new(7).fill(&mut whole);
        let mut pattern = Pattern::new(7);
        for piece in pieces.chunks_mut(7) {
            pattern.fill(piece);
        }
        assert_eq!(whole, pieces);
        // The first bytes for seed 1, as any other program makes them.
        let mut first = [0; 8];
        Pattern::new(1).fill(&mut first);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        assert_eq!(u64::from_le_bytes(first), state.wrapping_mul(0x2545_f491_4f6c_dd1d));
    }
}
