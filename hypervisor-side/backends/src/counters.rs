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
}

impl QueueSnapshot {
    /// Completions that needed no interrupt of their own, because the guest was looking or one told of several.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.completions.saturating_sub(self.interrupts)
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
            "{} requests ({} failed), {} bytes read, {} bytes written, {} doorbells, {} interrupts ({} suppressed), {} \
             sleeps",
            self.requests,
            self.errors,
            self.bytes_read,
            self.bytes_written,
            self.doorbells,
            self.interrupts,
            self.suppressed(),
            self.sleeps
        )?;
        if self.frames + self.dropped > 0 {
            write!(f, ", {} frames, {} dropped", self.frames, self.dropped)?;
        }
        if self.faults > 0 {
            write!(f, ", {} protocol faults by the guest", self.faults)?;
        }
        if self.late > 0 {
            write!(f, ", {} lost wake-ups", self.late)?;
        }
        Ok(())
    }
}
