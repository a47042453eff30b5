//! Whether a queue's thread may take the CPU from the guest that rang, where there are not CPUs enough for both.
//!
//! A thread of the normal policy that is woken by a doorbell often runs at once, in the place of the guest: good if the guest
//! would wait now anyway, as it then finds its answer without having halted. If it had more to submit, each request costs a
//! doorbell, an interrupt and two switches. A thread of the policy for batch work (`SCHED_BATCH`, sched(7)) does not: the
//! guest goes on, without a further doorbell, until it waits or its slice ends, and one pass serves all that it submitted.
//!
//! Which it is shows only when it is tried. So a thread tries the other manner now and then, and keeps to it as long as
//! its wakes find more than one request. (Debian's 6.1 in a guest of one CPU, fio at depth 32, requests submitted one by
//! one: 0.98 doorbells a request in the normal manner, 0.04 to 0.06 in the other; at depth 1 the other costs a halt more.)

use crate::sys;

/// Wakes in a row that find a single request before a courteous thread gives it up.
const SINGLES: u32 = 4;
/// Wakes until courtesy is tried again; doubled each time it was in vain.
const SOON: u32 = 4;
/// As seldom as it gets: what trials cost a guest at depth 1 is then a halt for every hundredth request, and a guest that begins to
/// submit more is known after as many.
const SELDOM: u32 = 128;

/// The manner of one thread.
#[derive(Debug)]
pub struct Courtesy {
    is_courteous: bool,
    /// Wakes until the manner is thought over.
    left: u32,
    /// Wakes between two trials.
    interval: u32,
}

impl Courtesy {
    /// Of a thread that has a CPU of its own, or rather spins: it never changes.
    pub const NONE: Self = Self { is_courteous: false, left: u32::MAX, interval: u32::MAX };
    /// Of a thread that shares a CPU with its guest.
    pub const ADAPTIVE: Self = Self { is_courteous: false, left: SOON, interval: SOON };

    /// A doorbell woke the thread, and its first look found so many requests.
    pub fn woke(&mut self, found: u32) {
        if self.judge(found) {
            // Where that cannot be it is only slower.
            let _ = sys::schedule_as(if self.is_courteous { libc::SCHED_BATCH } else { libc::SCHED_OTHER });
        }
    }

    /// Whether the manner is to change.
    fn judge(&mut self, found: u32) -> bool {
        if self.interval == u32::MAX {
            return false;
        }
        if self.is_courteous && found > 1 {
            (self.left, self.interval) = (SINGLES, SOON);
            return false;
        }
        self.left = self.left.saturating_sub(1);
        if self.left > 0 {
            return false;
        }
        self.is_courteous = !self.is_courteous;
        if self.is_courteous {
            // One wake decides.
            self.left = 1;
            self.interval = (self.interval * 2).min(SELDOM);
        } else {
            self.left = self.interval;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many wakes, each of which finds `alone` requests, or `polite` in a courteous thread; how many were courteous.
    fn courteous(courtesy: &mut Courtesy, wakes: u32, alone: u32, polite: u32) -> u32 {
        let mut count = 0;
        for _ in 0..wakes {
            count += u32::from(courtesy.is_courteous);
            courtesy.judge(if courtesy.is_courteous { polite } else { alone });
        }
        count
    }

    #[test]
    fn a_guest_with_more_to_submit_soon_meets_courtesy_and_keeps_it() {
        let mut courtesy = Courtesy::ADAPTIVE;
        assert!(courteous(&mut courtesy, 100, 1, 16) >= 95);
        assert_eq!(courteous(&mut courtesy, 1000, 1, 2), 1000);
    }

    #[test]
    fn a_guest_that_waits_for_each_request_hardly_ever_meets_it() {
        let mut courtesy = Courtesy::ADAPTIVE;
        assert!(courteous(&mut courtesy, 10_000, 1, 1) < 100);
        assert!(courteous(&mut courtesy, 10_000, 1, 1) < 80);
    }

    #[test]
    fn a_guest_that_changes_its_ways_is_followed_soon_each_time() {
        let mut courtesy = Courtesy::ADAPTIVE;
        for _ in 0..10 {
            // It has waited for long; a trial comes within the longest interval.
            courteous(&mut courtesy, 10_000, 1, 1);
            assert!(courteous(&mut courtesy, SELDOM + 1000, 1, 8) >= 1000);
            assert!(courteous(&mut courtesy, 1000, 1, 1) < 25);
        }
    }

    #[test]
    fn a_thread_with_a_cpu_of_its_own_keeps_its_manner() {
        let mut courtesy = Courtesy::NONE;
        assert_eq!(courteous(&mut courtesy, 10_000, 1, 16), 0);
    }
}
