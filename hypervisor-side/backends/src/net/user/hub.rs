//! What every part of the network's thread uses: the clock, the wire, the timers and the poller.

use super::counters::Counters;
use super::link::Link;
use super::options::UserOptions;
use super::source::Source;
use super::timers::Timers;
use mio::event::Source as Pollable;
use mio::{Interest, Registry};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// What every part of the network's thread uses.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) options: UserOptions,
    pub(super) counters: Arc<Counters>,
    pub(super) link: Link,
    pub(super) timers: Timers,
    /// Time of this turn.
    pub(super) now: Instant,
    registry: Registry,
    birth: Instant,
    random: RandomState,
    draws: u64,
}

impl Hub {
    pub(super) fn new(options: UserOptions, counters: Arc<Counters>, link: Link, registry: Registry) -> Self {
        let now = Instant::now();
        Self {
            options,
            counters,
            link,
            timers: Timers::default(),
            now,
            registry,
            birth: now,
            random: RandomState::new(),
            draws: 0,
        }
    }

    /// Watches a socket of the host: one event for each change, both ways.
    pub(super) fn watch(&self, socket: &mut impl Pollable, source: Source) -> io::Result<()> {
        self.registry.register(socket, source.token(), Interest::READABLE | Interest::WRITABLE)
    }

    /// Time of this turn for the TCP sockets.
    pub(super) fn tcp_now(&self) -> smoltcp::time::Instant {
        let micros = self.now.saturating_duration_since(self.birth).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// A number that the guest cannot guess.
    pub(super) fn random(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(1);
        self.random.hash_one(self.draws)
    }
}
