//! How long to look before sleeping.

/// After so many vain runs one spins to the limit, to notice that spinning pays again.
const PROBE: u8 = 32;

/// Learns whether spinning pays. While it finds work it spins up to the limit; each vain run halves the next one, down
/// to a sixteenth, and one in 33 vain runs is a full one again.
///
/// The unit is one look with one `spin_loop` hint (tens of nanoseconds); a limit worth about one wake-up of the
/// peer (tens of microseconds) never costs more than twice what sleeping at once would.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveSpin {
    limit: u32,
    budget: u32,
    /// Vain runs since the last full one.
    vain: u8,
}

impl AdaptiveSpin {
    /// Spins at most `limit` looks; 0 never spins, for hosts whose CPUs are overcommitted.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { limit, budget: limit, vain: 0 }
    }

    /// Changes the limit, for instance to 0 while more threads want to run than there are CPUs: spinning would then keep
    /// the very peer from the CPU that it waits for.
    pub const fn set_limit(&mut self, limit: u32) {
        *self = Self::new(limit);
    }

    /// Looks until `look` answers true or the budget is used up; says whether it did.
    pub fn run(&mut self, mut look: impl FnMut() -> bool) -> bool {
        let probe = self.vain >= PROBE;
        for _ in 0..if probe { self.limit } else { self.budget } {
            if look() {
                *self = Self::new(self.limit);
                return true;
            }
            core::hint::spin_loop();
        }
        self.vain = if probe { 0 } else { self.vain + 1 };
        self.budget = (self.budget / 2).max(self.limit / 16);
        false
    }
}
