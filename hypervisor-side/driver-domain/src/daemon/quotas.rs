//! What one monitor may hold and spend, and what it did. Every limit has a name, by which it is told.
//!
//! *Bounds.* What a monitor can make the daemon hold follows from these numbers: a thread and three descriptors for a queue, a
//! table of grants for a device, one window. What it can make the daemon do is bounded by rates: whoever asks for more waits,
//! on its own thread.

use crate::protocol::Spent;
use pvkit_backends::Rate;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// So many at once, and so many more in each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// At once.
    pub burst: u32,
    /// In each second.
    pub per_second: u32,
}

impl Pace {
    pub(super) fn start(self) -> Rate {
        Rate::new(self.burst, self.per_second, Instant::now())
    }
}

/// The limits of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// `connections`: of all monitors at a time.
    pub connections: usize,
    /// `connections of a process`: at a time, where the kernel names the process.
    pub of_process: usize,
    /// `connects of a process`: after more of them a connection waits for its turn.
    pub connects: Pace,
    /// `devices of a monitor`.
    pub devices: usize,
    /// `queues of a monitor`: those of all devices that it has, open or not.
    pub queues: usize,
    /// `messages of a monitor`: after more of them each waits for its turn.
    pub messages: Pace,
    /// `lines of a monitor`: told to the daemon's operator, in one connection.
    pub lines: u32,
    /// `lines of all monitors`.
    pub all_lines: Pace,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            connections: super::MAX_MONITORS,
            of_process: 16,
            connects: Pace { burst: 64, per_second: 16 },
            devices: super::MAX_DEVICES,
            queues: 256,
            messages: Pace { burst: 2048, per_second: 1000 },
            lines: 32,
            all_lines: Pace { burst: 128, per_second: 2 },
        }
    }
}

impl Quotas {
    /// Descriptors of a monitor that makes use of all of this: its socket and its window; of each device its witness or its
    /// interface; of each queue doorbell, interrupt, the thread's own, and of a pair the inbox's.
    #[must_use]
    pub const fn descriptors(&self) -> u64 {
        let (devices, queues) = (self.devices as u64, self.queues as u64);
        devices.saturating_mul(2).saturating_add(queues.saturating_mul(4)).saturating_add(2)
    }
}

/// What monitors asked for and spent, counted.
#[derive(Debug, Default)]
pub(super) struct Account {
    messages: AtomicU64,
    held_back: AtomicU64,
    refused: AtomicU64,
    lines: AtomicU64,
    withheld: AtomicU64,
}

impl Account {
    pub fn spent(&self) -> Spent {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Spent {
            messages: load(&self.messages),
            held_back: load(&self.held_back),
            refused: load(&self.refused),
            lines: load(&self.lines),
            withheld: load(&self.withheld),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    Message,
    HeldBack,
    Refused,
    Line,
    Withheld,
}

impl Account {
    /// One more; how many that makes.
    pub fn add(&self, what: Count) -> u64 {
        let count = match what {
            Count::Message => &self.messages,
            Count::HeldBack => &self.held_back,
            Count::Refused => &self.refused,
            Count::Line => &self.lines,
            Count::Withheld => &self.withheld,
        };
        count.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }
}

/// How long one has to wait for its turn, if at all.
pub(super) fn turn(rate: &mut Rate) -> Option<Duration> {
    rate.take(Instant::now()).err()
}
