//! Which request ids are in flight.

use pvkit_abi::ring::MAX_DEPTH;

const WORDS: usize = MAX_DEPTH as usize / 64;

/// One bit per possible request id.
#[derive(Debug)]
pub(crate) struct Bitmap([u64; WORDS]);

impl Bitmap {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// Sets the bit; false if it was set already or lies outside.
    #[inline]
    pub(crate) fn insert(&mut self, id: u16) -> bool {
        let mask = 1 << (id % 64);
        match self.0.get_mut(usize::from(id / 64)) {
            Some(word) if *word & mask == 0 => {
                *word |= mask;
                true
            }
            _ => false,
        }
    }

    /// Clears the bit; false if it was clear already or lies outside.
    #[inline]
    pub(crate) fn remove(&mut self, id: u16) -> bool {
        let mask = 1 << (id % 64);
        match self.0.get_mut(usize::from(id / 64)) {
            Some(word) if *word & mask != 0 => {
                *word &= !mask;
                true
            }
            _ => false,
        }
    }

    /// Ids that are set, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..MAX_DEPTH as u16)
            .filter(|id| self.0.get(usize::from(id / 64)).is_some_and(|word| word >> (id % 64) & 1 != 0))
    }
}
