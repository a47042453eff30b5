//! An honest engine behind a relay that lies.

use super::relay::{SharedRelay, lock};
use crate::counters::QueueCounters;
use crate::engine::{Pass, QueueEngine};
use pvkit_ring::Park;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// The engine that a queue's thread runs.
pub struct HostileQueue {
    honest: Box<dyn QueueEngine>,
    relay: SharedRelay,
}

impl HostileQueue {
    /// `honest` must publish into the relay's shadow, and raise no interrupts of its own.
    #[must_use]
    pub fn new(honest: Box<dyn QueueEngine>, relay: SharedRelay) -> Self {
        Self { honest, relay }
    }
}

impl QueueEngine for HostileQueue {
    fn pass(&mut self, budget: u32) -> Pass {
        let pass = self.honest.pass(budget);
        lock(&self.relay).relay();
        pass
    }

    fn park(&mut self) -> Park {
        let park = self.honest.park();
        lock(&self.relay).relay();
        // The guest sees the event word only now: what it published before that rang no bell.
        match self.honest.pass(1) {
            Pass::Worked(_) => {
                lock(&self.relay).relay();
                Park::Ready
            }
            _ => park,
        }
    }

    fn flush(&mut self) {
        self.honest.flush();
        lock(&self.relay).relay();
    }

    fn close(&mut self) {
        self.honest.close();
        let mut relay = lock(&self.relay);
        relay.relay();
        relay.end();
    }

    fn waits_for(&self) -> Option<&EventFd> {
        self.honest.waits_for()
    }

    fn depth(&self) -> u32 {
        self.honest.depth()
    }

    fn counters(&self) -> &Arc<QueueCounters> {
        self.honest.counters()
    }
}
