//! What every queue engine has: its half of the ring, its grants, a way to interrupt the guest, and counters.

use crate::counters::{QueueCounters, add};
use crate::grants::GrantTable;
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Notify, Park, Request, WideBackend};
use pvkit_shared_memory::SharedPages;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use vmm_sys_util::eventfd::EventFd;

/// Raises the queue's interrupt. Called on the queue's thread; must not wait for that thread.
pub type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// Takes a line about a guest's mistakes. Called for the 1st, 2nd, 4th, 8th, .. of each kind only.
pub type QueueLog = Arc<dyn Fn(String) + Send + Sync>;

/// What a queue is made of. `C` words a completion: 1 but where the protocol says more.
pub struct QueueSetup<const C: usize = 1> {
    /// The backend's half of the ring, fresh for this epoch.
    pub ring: WideBackend<SharedPages, C>,
    /// The device's grants.
    pub grants: Arc<GrantTable>,
    /// How to reach the guest.
    pub interrupt: Interrupt,
    /// Where to count.
    pub counters: Arc<QueueCounters>,
    /// Where to tell of lies.
    pub log: QueueLog,
}

/// What one pass over the ring found.
#[must_use = "an idle engine should be parked, a latched one left alone"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Nothing to do.
    Idle,
    /// So many requests were taken, or completed by other means (console input).
    Worked(u32),
    /// The guest broke the protocol; the queue does nothing more in this epoch.
    Latched,
}

impl Pass {
    /// What a pass comes to that did so much.
    pub(crate) const fn after(worked: u32) -> Self {
        if worked == 0 { Self::Idle } else { Self::Worked(worked) }
    }
}

/// Takes at most `budget` requests of the engine's `port` and hands each to `serve`. How many there were; `None` if the
/// queue is latched.
pub(crate) fn serve_visible<E, const C: usize>(
    engine: &mut E,
    port: impl Fn(&mut E) -> &mut Port<C>,
    budget: u32,
    mut serve: impl FnMut(&mut E, &Request),
) -> Option<u32> {
    let mut taken = 0;
    let mut full = false;
    while taken < budget {
        match port(engine).take() {
            Taken::Request(request) => {
                full = full || (taken == 0 && port(engine).is_full());
                serve(engine, &request);
                taken += 1;
            }
            Taken::Nothing => break,
            Taken::Latched => return None,
        }
    }
    if full {
        add(&port(engine).counters.full, 1);
    }
    Some(taken)
}

/// One queue's logic, without a thread of its own: whoever calls it is the queue's thread.
pub trait QueueEngine: Send {
    /// Takes and serves at most `budget` requests. Bounded by it, whatever the guest does.
    fn pass(&mut self, budget: u32) -> Pass;

    /// About to sleep: publishes what is held back, arms the event word and looks once more. An engine for which requests
    /// alone are no work, as for receive buffers, need not arm it.
    fn park(&mut self) -> Park;

    /// Whether the last `park` armed the event word: if not, requests that are published meanwhile wake nobody.
    fn waits_for_doorbell(&self) -> bool {
        true
    }

    /// Publishes what is held back, without going to sleep.
    fn flush(&mut self);

    /// Completes what is in flight with ABORTED and publishes it. Nothing is taken afterwards.
    fn close(&mut self);

    /// A second thing to wait for besides the doorbell.
    fn waits_for(&self) -> Option<&EventFd> {
        None
    }

    /// Slots of the queue.
    fn depth(&self) -> u32;

    /// Where this engine counts.
    fn counters(&self) -> &Arc<QueueCounters>;
}

/// The parts of a setup that every engine uses in the same way.
pub(crate) struct Port<const C: usize = 1> {
    ring: WideBackend<SharedPages, C>,
    pub(crate) grants: Arc<GrantTable>,
    interrupt: Interrupt,
    pub(crate) counters: Arc<QueueCounters>,
    log: QueueLog,
    closed: bool,
}

impl<const C: usize> Port<C> {
    pub(crate) fn new(setup: QueueSetup<C>) -> Self {
        let QueueSetup { ring, grants, interrupt, counters, log } = setup;
        add(&counters.opens, 1);
        Self { ring, grants, interrupt, counters, log, closed: false }
    }

    pub(crate) fn depth(&self) -> u32 {
        self.ring.depth()
    }

    /// Whether the guest can submit nothing more at the moment.
    fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// Takes the next request. A fault of the peer is counted and told once; then the queue is latched.
    fn take(&mut self) -> Taken {
        if self.closed || self.ring.is_latched() {
            return Taken::Latched;
        }
        match self.ring.take() {
            Ok(Some(request)) => {
                add(&self.counters.requests, 1);
                Taken::Request(request)
            }
            Ok(None) => Taken::Nothing,
            Err(fault) => {
                let count = add(&self.counters.faults, 1);
                if count.is_power_of_two() {
                    (self.log)(format!("queue latched until it is opened anew: {fault} (fault {count} of this guest)"));
                }
                // What was completed before the lie is still owed.
                self.flush();
                Taken::Latched
            }
        }
    }

    /// Completes a request that was taken.
    pub(crate) fn complete(&mut self, id: u16, result: CompletionResult) {
        // The ids come from `take`, each is completed once: the ring has nothing to refuse.
        let Ok(notify) = self.ring.complete(id, result) else { return };
        self.count(result);
        if notify.is_needed() {
            self.raise();
        }
    }

    /// Completes a request with all words of the completion but the first; seen by the guest at the next flush, with
    /// all else that is held by then.
    pub(crate) fn hold(&mut self, id: u16, result: CompletionResult, words: [u64; C]) {
        // As in `complete`: nothing to refuse.
        let Ok(()) = self.ring.hold(id, result, words) else { return };
        self.count(result);
    }

    pub(crate) fn flush(&mut self) {
        let notify = self.ring.flush();
        self.answer(notify);
    }

    pub(crate) fn park(&mut self) -> Park {
        let (notify, park) = self.ring.park();
        self.answer(notify);
        if self.closed || self.ring.is_latched() { Park::Armed } else { park }
    }

    /// Aborts what is in flight and takes nothing more.
    pub(crate) fn close(&mut self) {
        let ids: Vec<u16> = self.ring.in_flight_ids().collect();
        for id in ids {
            self.complete(id, CompletionResult::new(Status::ABORTED, 0));
        }
        self.flush();
        self.closed = true;
    }

    /// Tells of what `counter` counts, at powers of two; one more of it happened.
    pub(crate) fn tell(&self, counter: &AtomicU64, what: impl std::fmt::Display) {
        let count = add(counter, 1);
        if count.is_power_of_two() {
            (self.log)(format!("{what} (answer {count} of this kind on this queue)"));
        }
    }

    fn answer(&self, notify: Notify) {
        if notify.is_needed() {
            self.raise();
        }
    }

    fn raise(&self) {
        add(&self.counters.interrupts, 1);
        (self.interrupt)();
    }

    fn count(&self, result: CompletionResult) {
        add(&self.counters.completions, 1);
        match result.status() {
            Status::OK => return,
            // What the end of the queue cuts short is nobody's mistake.
            Status::ABORTED => {
                add(&self.counters.aborted, 1);
                return;
            }
            _ => {}
        }
        let count = add(&self.counters.errors, 1);
        if count.is_power_of_two() {
            let (status, detail) = (result.status(), result.detail());
            (self.log)(format!("request failed: {status:?}, detail {detail} (failure {count} on this queue)"));
        }
    }
}

/// What [`Port::take`] found.
enum Taken {
    Request(Request),
    Nothing,
    Latched,
}
