//! What a queue did, counted.
//!
//! *Owners.* The queue's thread adds; anyone may take a snapshot. The counters outlive the queue, so that a device's
//! numbers go on over a reconnect.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Counters of one queue. Relaxed: each number is exact, their relation to each other is not.
        #[derive(Debug, Default)]
        pub struct QueueCounters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// The counters at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct QueueSnapshot {
            $($(#[$meta])* pub $name: u64,)*
        }

        impl QueueSnapshot {
            /// The counters' names, in the order of the fields.
            pub const NAMES: [&str; [$(stringify!($name)),*].len()] = [$(stringify!($name)),*];

            /// The numbers, in the order of the fields.
            #[must_use]
            pub const fn numbers(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$name),*]
            }

            /// What [`QueueSnapshot::numbers`] made numbers of.
            #[must_use]
            pub const fn from_numbers(numbers: [u64; Self::NAMES.len()]) -> Self {
                let [$($name),*] = numbers;
                Self { $($name),* }
            }

            /// Each number with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                Self::NAMES.into_iter().zip(self.numbers())
            }
        }

        impl QueueCounters {
            /// The numbers now.
            #[must_use]
            pub fn snapshot(&self) -> QueueSnapshot {
                QueueSnapshot { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl std::ops::Add for QueueSnapshot {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name.wrapping_add(other.$name),)* }
            }
        }
    };
}

counters! {
    /// Requests taken from the ring.
    requests,
    /// Completions, good and bad.
    completions,
    /// Completions with a status other than OK.
    errors,
    /// Those because a sync of the disk had failed: the failed sync itself, and what was refused from then on.
    lost,
    /// Doorbell rings that were counted by the eventfd.
    doorbells,
    /// Interrupts raised.
    interrupts,
    /// Times the guest broke the ring's protocol; each latched a queue.
    faults,
    /// Bytes moved to the guest.
    bytes_read,
    /// Bytes moved from the guest.
    bytes_written,
    /// Network frames moved.
    frames,
    /// Network frames dropped by the queue: no buffer that they fit, or not to be made what the guest takes.
    dropped,
    /// Times the thread slept.
    sleeps,
    /// Sleeps that ended by the deadline with a request visible: lost wake-ups, always 0 if both sides keep the rules.
    late,
    /// Wake-ups by a doorbell with nothing there.
    spurious,
    /// Times that doorbells were not listened to for a moment, because too many of them were rung for nothing.
    throttled,
    /// Passes that found the queue full: the guest could submit nothing more until one of them completed it.
    full,
    /// Completions by the end of the queue alone: what the guest submits again, or gives up.
    aborted,
    /// Times that the queue was opened.
    opens,
}

impl QueueSnapshot {
    /// Completions that needed no interrupt of their own, because the guest was looking or one told of several.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.completions.saturating_sub(self.interrupts)
    }

    /// Requests that needed no doorbell of their own, because the queue's thread was looking or one told of several.
    #[must_use]
    pub const fn quiet(&self) -> u64 {
        self.requests.saturating_sub(self.doorbells)
    }
}

/// Adds to one counter and answers its new value.
pub(crate) fn add(counter: &AtomicU64, by: u64) -> u64 {
    counter.fetch_add(by, Ordering::Relaxed).wrapping_add(by)
}

impl std::fmt::Display for QueueSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests ({} failed), {} bytes read, {} bytes written, {} doorbells ({} suppressed), {} interrupts ({} \
             suppressed), {} sleeps",
            self.requests,
            self.errors,
            self.bytes_read,
            self.bytes_written,
            self.doorbells,
            self.quiet(),
            self.interrupts,
            self.suppressed(),
            self.sleeps
        )?;
        if self.frames + self.dropped > 0 {
            write!(f, ", {} frames, {} dropped", self.frames, self.dropped)?;
        }
        let rest = [
            (self.full, "times full"),
            (self.aborted, "aborted"),
            (self.opens.saturating_sub(1), "times opened anew"),
            (self.faults, "protocol faults by the guest"),
            (self.spurious, "doorbells for nothing"),
            (self.throttled, "times throttled"),
            (self.lost, "refused after a failed sync"),
            (self.late, "lost wake-ups"),
        ];
        for (count, what) in rest.iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_guest::{Ask, connect, ok};
    use crate::{BlockLimits, BlockQueue, ConsoleInput, ConsoleQueue, NullDisk, Pass, QueueEngine};
    use pvkit_abi::block::{BlockFeatures, BlockOp};
    use pvkit_abi::console::ConsoleOp;
    use std::sync::{Arc, Mutex};

    #[test]
    fn numbers_come_back_under_their_names() {
        let mut numbers = [0; QueueSnapshot::NAMES.len()];
        numbers.iter_mut().zip(1..).for_each(|(number, count)| *number = count);
        let seen = QueueSnapshot::from_numbers(numbers);
        assert_eq!((seen.requests, seen.completions, seen.opens), (1, 2, numbers.len() as u64));
        assert_eq!(seen.numbers(), numbers);
        assert_eq!(seen.named().map(|(_, number)| number).collect::<Vec<_>>(), numbers);
        assert_eq!(seen.named().next(), Some(("requests", 1)));
    }

    #[test]
    fn a_pass_that_finds_the_queue_full_is_counted_and_one_that_finds_less_is_not() {
        let (mut guest, setup) = connect(8);
        let disk = Arc::new(NullDisk::new(1 << 20));
        let mut queue = BlockQueue::new(setup, disk, BlockLimits::default(), BlockFeatures::all());
        let read = Ask::segment(BlockOp::READ.0, 0, 512, 0);
        for (count, full) in [(7, 0), (8, 1), (1, 1), (8, 2)] {
            guest.submit(&vec![read; count]);
            assert_eq!(queue.pass(64), Pass::Worked(count as u32));
            assert!(guest.completions().iter().all(|done| done.result == ok(0)));
            assert_eq!(guest.counters.snapshot().full, full, "after {count}");
        }
    }

    #[test]
    fn what_the_end_cuts_short_and_each_opening_are_counted() {
        let (mut guest, setup) = connect(8);
        let input = ConsoleInput::new(64).unwrap();
        let mut queue = ConsoleQueue::new(setup, Arc::new(Mutex::new(Vec::new())), input);
        guest.submit(&[Ask::segment(ConsoleOp::READ.0, 0, 8, 0); 3]);
        assert_eq!(queue.pass(64), Pass::Worked(3));
        queue.close();
        let seen = guest.counters.snapshot();
        assert_eq!((seen.aborted, seen.completions, seen.errors, seen.opens), (3, 3, 0, 1));
        assert!(seen.to_string().ends_with("3 aborted"), "{seen}");
    }
}
