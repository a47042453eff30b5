//! How often something may happen: so many times at once, and then so many a second.
//!
//! Whoever asks for more is told how long to wait. What waiting means is the caller's: whatever it is, it must cost the one
//! that asked too often and nobody else.

use std::time::{Duration, Instant};

/// A rate, and what is left of it.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Most that is left.
    burst: u64,
    /// Time in which one more is left.
    each: Duration,
    left: u64,
    /// When `left` was true.
    since: Instant,
}

/// A rate of lines for an operator, and how many could not be told since the last one that could.
#[derive(Clone, Copy, Debug)]
pub struct LineRate {
    rate: Rate,
    missed: u64,
}

impl LineRate {
    /// Lines at that rate.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self { rate, missed: 0 }
    }

    /// Whether one more may be told now; if so, how many were missed before it.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        match self.rate.take(now) {
            Ok(()) => Some(std::mem::take(&mut self.missed)),
            Err(_) => {
                self.missed = self.missed.saturating_add(1);
                None
            }
        }
    }
}

impl Rate {
    /// `burst` at once, which are there at the beginning, and `per_second` more in each second; both at least one.
    #[must_use]
    pub fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let burst = u64::from(burst.max(1));
        Self { burst, each: Duration::from_secs(1) / per_second.max(1), left: burst, since: now }
    }

    /// Once more: takes one, if one is left.
    ///
    /// # Errors
    /// None is; the time until one will be.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.each.saturating_sub(now.saturating_duration_since(self.since))),
        }
    }

    /// One that was taken was earned back.
    pub fn give(&mut self) {
        self.left = self.burst.min(self.left.saturating_add(1));
    }

    /// Whether nothing has been taken that did not come back.
    pub fn is_whole(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left == self.burst
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let more = u64::try_from(passed.as_nanos() / self.each.as_nanos().max(1)).unwrap_or(u64::MAX);
        if more >= self.burst.saturating_sub(self.left) {
            (self.left, self.since) = (self.burst, now);
        } else if let Ok(count) = u32::try_from(more) {
            self.left = self.left.saturating_add(more);
            self.since = self.since.checked_add(self.each.saturating_mul(count)).unwrap_or(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn after_the_burst_one_comes_back_at_a_time() {
        let start = Instant::now();
        let mut rate = Rate::new(3, 1000, start);
        let taken = |rate: &mut Rate, at| (0..100).filter(|_| rate.take(at).is_ok()).count();
        assert_eq!(taken(&mut rate, start), 3);
        assert_eq!(rate.take(start), Err(MS));
        assert_eq!(rate.take(start + MS / 4), Err(MS * 3 / 4));
        assert_eq!(taken(&mut rate, start + MS), 1);
        assert_eq!(taken(&mut rate, start + MS * 5 / 2), 1);
        // What was left of the last millisecond counts.
        assert_eq!(taken(&mut rate, start + MS * 3), 1);
        assert_eq!(taken(&mut rate, start + Duration::from_secs(3600)), 3);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_never_more_than_the_burst() {
        let start = Instant::now();
        let mut rate = Rate::new(2, 1, start);
        (0..9).for_each(|_| rate.give());
        assert!(rate.is_whole(start));
        assert_eq!([rate.take(start), rate.take(start)], [Ok(()); 2]);
        assert!(rate.take(start).is_err() && !rate.is_whole(start));
        rate.give();
        assert_eq!(rate.take(start), Ok(()));
        assert!(rate.take(start).is_err());
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let start = Instant::now() + Duration::from_secs(1);
        let mut rate = Rate::new(1, 1000, start);
        assert_eq!(rate.take(start), Ok(()));
        assert!(rate.take(start - MS).is_err() && rate.take(start).is_err());
    }
}
