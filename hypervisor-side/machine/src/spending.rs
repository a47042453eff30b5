//! What one guest may spend of the host's time and of its operator's attention, and what it did.
//!
//! A guest's requests on the bus are served by the vCPU that makes them; threads and messages to backends follow from them. One
//! that makes too many has that vCPU wait, which costs nobody else. Lines of a guest, for the operator, have a rate as well.

use crate::slot::lock;
use pvkit_abi::discovery::MAX_DOORBELLS;
use pvkit_abi::status::CallError;
use pvkit_backends::{LineRate, Rate};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Messages on the bus, either way, that a guest's calls may bring about at once, and in each second. A guest with 32 devices
/// opens and closes all of them with some hundreds.
const MESSAGES: (u32, u32) = (4096, 2000);
/// Lines that are told about a guest at once, and in each second.
const LINES: (u32, u32) = (256, 2);
/// Longest wait of a vCPU: it must hear when it is to stop.
const LONGEST: Duration = Duration::from_millis(50);

/// One guest's.
#[derive(Debug)]
pub struct Spending {
    messages: Mutex<Rate>,
    lines: Mutex<LineRate>,
    held_back: AtomicU64,
    withheld: AtomicU64,
    refused_queues: AtomicU64,
}

impl Default for Spending {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            messages: Mutex::new(Rate::new(MESSAGES.0, MESSAGES.1, now)),
            lines: Mutex::new(LineRate::new(Rate::new(LINES.0, LINES.1, now))),
            held_back: AtomicU64::new(0),
            withheld: AtomicU64::new(0),
            refused_queues: AtomicU64::new(0),
        }
    }
}

impl Spending {
    /// A call brought about so many messages; how long its vCPU has to wait for that.
    pub fn messages(&self, count: u64, now: Instant) -> Duration {
        let mut rate = lock(&self.messages);
        let waits = (0..count).filter_map(|_| rate.take(now).err());
        let wait = waits.fold(Duration::ZERO, Duration::saturating_add);
        drop(rate);
        if !wait.is_zero() {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
        wait.min(LONGEST)
    }

    /// A line as it is to be told; none if there were too many.
    pub fn line(&self, line: String, now: Instant) -> Option<String> {
        match lock(&self.lines).take(now) {
            None => {
                self.withheld.fetch_add(1, Ordering::Relaxed);
                None
            }
            Some(0) => Some(line),
            Some(missed) => Some(format!("{line} (before it {missed} others were not told; quota: lines of a guest)")),
        }
    }

    /// A queue could not be opened: what to say of it, by powers of two.
    pub fn refused_queue(&self, device: u32, queue: u16, error: CallError) -> Option<String> {
        let count = self.refused_queues.fetch_add(1, Ordering::Relaxed) + 1;
        let why = match error {
            CallError::LIMIT => format!("quota: doorbells of a guest, {MAX_DOORBELLS}; it has to close a queue"),
            other => format!("{other:?}"),
        };
        let line = || format!("device {device}: queue {queue} could not be opened: {why} ({count} such so far)");
        count.is_power_of_two().then(line)
    }

    /// Calls that had to wait.
    pub fn held_back(&self) -> u64 {
        self.held_back.load(Ordering::Relaxed)
    }

    /// Lines that were not told.
    pub fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_says_too_much_on_the_bus_waits_as_long_as_it_takes_and_is_counted() {
        let (spending, start) = (Spending::default(), Instant::now());
        assert_eq!(spending.messages(u64::from(MESSAGES.0), start), Duration::ZERO);
        assert_eq!(spending.held_back(), 0);
        let each = Duration::from_secs(1) / MESSAGES.1;
        assert!(spending.messages(4, start) > each * 3);
        assert_eq!(spending.messages(u64::MAX >> 40, start), LONGEST);
        assert_eq!(spending.held_back(), 2);
        assert_eq!(spending.messages(10, start + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn lines_too_many_are_withheld_and_the_next_one_says_how_many() {
        let (spending, start) = (Spending::default(), Instant::now());
        let told = (0..1000).filter_map(|_| spending.line("nonsense".into(), start)).count();
        assert_eq!((told, spending.withheld()), (LINES.0 as usize, 1000 - u64::from(LINES.0)));
        let later = start + Duration::from_secs(1);
        let next = spending.line("nonsense".into(), later).unwrap();
        assert!(next.ends_with("before it 744 others were not told; quota: lines of a guest)"), "{next}");
        assert_eq!(spending.line("nonsense".into(), later).unwrap(), "nonsense");
    }

    #[test]
    fn a_queue_without_a_doorbell_is_told_by_the_name_of_the_quota_by_powers_of_two() {
        let spending = Spending::default();
        let told: Vec<_> = (0..100).filter_map(|_| spending.refused_queue(1, 2, CallError::LIMIT)).collect();
        assert_eq!(told.len(), 7);
        assert!(told.iter().all(|line| line.contains("quota: doorbells of a guest, 1024")), "{told:?}");
    }
}
