//! Numbers by chance: reproducible, so that a failure can be had again.

/// xorshift64 (Marsaglia 2003): the next of a sequence, which never is zero if it does not begin so.
pub fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
