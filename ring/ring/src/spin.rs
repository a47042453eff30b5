//! How long to look before sleeping.

/// Learns whether spinning pays: while it finds work it spins up to the limit, each vain spin halves the next one.
///
/// The unit is whatever one look costs; callers translate a wake-up (tens of microseconds) into a number of looks.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveSpin {
    limit: u32,
    budget: u32,
}

impl AdaptiveSpin {
    /// Spins at most `limit` looks; 0 never spins, for hosts whose CPUs are overcommitted.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, budget: limit }
    }

    /// Looks until `look` answers true or the budget is used up; says whether it did.
    pub fn run(&mut self, mut look: impl FnMut() -> bool) -> bool {
        for _ in 0..self.budget {
            if look() {
                self.budget = self.limit;
                return true;
            }
            core::hint::spin_loop();
        }
        // Never quite zero: a sixteenth keeps probing, so that a busy phase is noticed.
        self.budget = (self.budget / 2).max(self.limit / 16);
        false
    }
}
