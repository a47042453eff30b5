use super::{HostileQueue, Plan, Relay, SharedRelay, Twist};
use crate::entropy::EntropyQueue;
use crate::{GrantTable, QueueCounters, QueueEngine, QueueSetup};
use pvkit_abi::ring::{EVENT_WORD, RequestFlags, area_pages};
use pvkit_ring::{Backend, Frontend, Memory, PeerFault, RingSize};
use pvkit_shared_memory::{HeapPages, SharedPages};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const DEPTH: u32 = 8;

struct Bench {
    guest: Frontend<SharedPages, { DEPTH as usize }>,
    completions: SharedPages,
    engine: HostileQueue,
    relay: SharedRelay,
    plan: Arc<Mutex<Plan>>,
    interrupts: Arc<AtomicU32>,
}

/// An honest engine that refuses what it does not know, behind a relay.
fn bench() -> Bench {
    let size = RingSize::new(DEPTH).unwrap();
    let requests = HeapPages::new(area_pages(DEPTH, 32)).leak_pages().unwrap();
    let completions = HeapPages::new(area_pages(DEPTH, 8)).leak_pages().unwrap();
    let (plan, interrupts) = (Arc::<Mutex<Plan>>::default(), Arc::<AtomicU32>::default());
    let counted = Arc::clone(&interrupts);
    let interrupt = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let relay = Relay::new(completions, size, 1, Arc::clone(&plan), interrupt).unwrap();
    let setup = QueueSetup {
        ring: Backend::new(relay.shadow(), requests, size, 5).unwrap(),
        grants: Arc::<GrantTable>::default(),
        interrupt: Arc::new(|| {}),
        counters: Arc::<QueueCounters>::default(),
        log: Arc::new(|_| {}),
    };
    let relay = Arc::new(Mutex::new(relay));
    relay.lock().unwrap().begin(None);
    let engine = HostileQueue::new(Box::new(EntropyQueue::new(setup)), Arc::clone(&relay));
    let guest = Frontend::new(requests, completions, size, 5).unwrap();
    Bench { guest, completions, engine, relay, plan, interrupts }
}

impl Bench {
    /// `count` requests through the engine.
    fn requests(&mut self, count: u32) {
        let mut batch = self.guest.batch();
        for _ in 0..count {
            batch.reserve(0, RequestFlags::empty(), 0, [0; 3]).unwrap();
        }
        let _ = batch.commit();
        let _ = self.engine.pass(count);
        self.engine.flush();
    }

    fn lie(&mut self, twist: Twist) {
        self.plan.lock().unwrap().add(twist, 1);
        self.requests(1);
    }

    fn taken(&mut self) -> usize {
        std::iter::from_fn(|| self.guest.take().unwrap()).count()
    }
}

#[test]
fn without_an_order_all_is_handed_on_over_many_laps() {
    let mut bench = bench();
    assert_eq!(bench.guest.peer_epoch(), 5);
    for _ in 0..5 * DEPTH {
        bench.requests(3);
        assert_eq!(bench.taken(), 3);
    }
    assert!(bench.interrupts.load(Ordering::Relaxed) >= 5 * DEPTH);
}

#[test]
fn each_lie_is_the_fault_that_it_is_meant_to_be() {
    let fault = |twist| {
        let mut bench = bench();
        bench.lie(twist);
        bench.guest.take().unwrap_err()
    };
    assert!(matches!(fault(Twist::Tag), PeerFault::Tag { .. }));
    assert_eq!(fault(Twist::Id(0xffff)), PeerFault::NotInFlight(0xffff));
    assert_eq!(fault(Twist::Id(7)), PeerFault::NotInFlight(7));
}

#[test]
fn completion_that_comes_twice_is_true_the_first_time() {
    let mut bench = bench();
    bench.lie(Twist::Twice);
    assert!(bench.guest.take().unwrap().is_some());
    assert!(matches!(bench.guest.take(), Err(PeerFault::NotInFlight(_))));
}

#[test]
fn what_is_withheld_comes_later_and_nothing_after_the_end() {
    let mut bench = bench();
    bench.relay.lock().unwrap().withhold(true);
    bench.requests(2);
    assert_eq!(bench.taken(), 0);
    bench.relay.lock().unwrap().withhold(false);
    assert_eq!(bench.taken(), 2);
    bench.relay.lock().unwrap().end();
    bench.requests(1);
    assert_eq!(bench.taken(), 0);
}

#[test]
fn event_word_is_where_the_engine_sleeps_unless_it_is_a_lie() {
    let mut bench = bench();
    bench.requests(2);
    let _ = bench.engine.park();
    assert_eq!(bench.completions.load(EVENT_WORD) as u32, 2);
    bench.relay.lock().unwrap().sleep_at(Some(0xdead_beef));
    assert_eq!(bench.completions.load(EVENT_WORD), 0xdead_beef);
}

#[test]
fn lie_is_told_as_often_as_it_was_ordered() {
    let mut bench = bench();
    bench.plan.lock().unwrap().add(Twist::Status(0xee), 2);
    bench.requests(3);
    let results: Vec<_> =
        std::iter::from_fn(|| bench.guest.take().unwrap()).map(|done| done.result.status().0).collect();
    assert_eq!(results[..2], [0xee, 0xee]);
    assert_ne!(results[2], 0xee);
}
