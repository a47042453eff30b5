//! A peer that rewrites any shared word, in either area, between any two accesses of a half.
//!
//! *Attacker.* It lives inside the [`Memory`]: before each load it may write zeroes, ones, neighbours of the tag that is
//! due, flipped bits, words that stood somewhere before, ids near every limit. Between the steps it also plays an honest
//! peer, so that the walk gets deep before the first lie.
//!
//! *What must hold.* No panic, no access outside an area, no store to the peer's area, few accesses per call; ids are
//! conserved; after a latch nothing is accepted and what is in flight stays listed.
//!
//! *Long mode.* `PVKIT_HOSTILE_STEPS` steps for each half (default 10^6) in walks of 10,000, walk `n` seeded with `n` from
//! `PVKIT_HOSTILE_SEED` (default 0) on. A failure names its seed; a range is resumed by the number of its first walk.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use pvkit_abi::ring::{CompletionWord, EVENT_WORD, HEADER_BYTES, REQUEST_WORDS, RequestFlags, RequestWord};
use pvkit_abi::status::CompletionResult;
use pvkit_ring::{Backend, Cursor, Frontend, Full, Memory, Misuse, Park, PeerFault, RingSize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

const MOST: usize = 64;
const WALK: u64 = 10_000;
/// No call needs more: four words of a slot, an event word, and as many again to look once more.
const LOADS_PER_CALL: u64 = 8;

/// SplitMix64 (Steele, Lea, Flood 2014): a fixed sequence for each seed.
struct Random(Cell<u64>);

impl Random {
    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn one_in(&self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Both areas and the one who lies in them.
struct World {
    words: [Vec<Cell<u64>>; 2],
    random: Random,
    /// Words that stood somewhere once.
    past: RefCell<Vec<u64>>,
    /// Tag that the half under attack waits for.
    due: Cell<u16>,
    /// Area and word of the slot that it looks at.
    target: Cell<(usize, usize)>,
    size: RingSize,
    /// One access in so many meets a lie; 0: never.
    rate: Cell<u64>,
    loads: Cell<u64>,
    violations: Cell<u64>,
}

impl World {
    /// Tells the attacker where the half stands.
    fn aim(&self, which: usize, words: usize, cursor: Cursor) {
        self.due.set(cursor.tag());
        self.target.set((which, cursor.offset(self.size, words) / 8));
    }

    fn lie(&self) {
        if self.rate.get() == 0 || !self.random.one_in(self.rate.get()) {
            return;
        }
        let random = &self.random;
        let (target, slot) = self.target.get();
        let area = &self.words[if random.one_in(2) { target } else { random.below(2) as usize }];
        let word = match random.below(6) {
            0 => EVENT_WORD / 8,
            1 | 2 => slot % area.len(),
            _ => random.below(area.len() as u64) as usize,
        };
        let word = &area[word];
        let low = random.next() & 0xffff_ffff_ffff;
        let id = [0, 1, u64::from(self.size.depth()) - 1, u64::from(self.size.depth()), 4096, 0xffff]
            [random.below(6) as usize];
        let tag = |by: u16| u64::from(self.due.get().wrapping_add(by)) << 48;
        let value = match random.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => tag(0) | low,
            3 => tag(0) | id << 16,
            4 => tag(0) | id << 32,
            5 => tag(1) | low,
            6 => tag(u16::MAX) | low,
            7 => word.get() ^ 1 << random.below(64),
            8 => word.get() ^ 1 << (48 + random.below(16)),
            9 => random.next(),
            10 => u64::from(u32::MAX) - random.below(4),
            _ => {
                let past = self.past.borrow();
                past[random.below(past.len() as u64) as usize]
            }
        };
        self.set(word, value);
    }

    fn set(&self, word: &Cell<u64>, value: u64) {
        let mut past = self.past.borrow_mut();
        let length = past.len() as u64;
        let place = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        past[(place % length) as usize] = word.get();
        word.set(value);
    }
}

/// One area as the half under attack sees it.
#[derive(Clone)]
struct Area {
    world: Rc<World>,
    which: usize,
    writable: bool,
}

impl Area {
    fn word(&self, offset: usize) -> Option<&Cell<u64>> {
        let word = self.world.words[self.which].get(offset / 8).filter(|_| offset.is_multiple_of(8));
        if word.is_none() {
            self.world.violations.set(self.world.violations.get() + 1);
        }
        word
    }
}

impl Memory for Area {
    fn bytes(&self) -> usize {
        self.world.words[self.which].len() * 8
    }
    fn load(&self, offset: usize) -> u64 {
        self.world.lie();
        self.world.loads.set(self.world.loads.get() + 1);
        self.word(offset).map_or(0, Cell::get)
    }
    fn load_acquire(&self, offset: usize) -> u64 {
        self.load(offset)
    }
    fn store(&self, offset: usize, value: u64) {
        self.world.lie();
        match self.word(offset) {
            Some(word) if self.writable => self.world.set(word, value),
            _ => self.world.violations.set(self.world.violations.get() + 1),
        }
    }
    fn store_release(&self, offset: usize, value: u64) {
        self.store(offset, value);
    }
    fn fence(&self) {
        self.world.lie();
    }
}

/// A half's place in the world: the areas are 0 for requests, 1 for completions.
fn world(seed: u64, rate: u64) -> (Rc<World>, Cursor) {
    let random = Random(Cell::new(seed));
    let size = RingSize::new(2 << random.below(6)).unwrap();
    let previous = if random.one_in(2) { u16::MAX - random.below(3) as u16 } else { random.next() as u16 };
    let index = if random.one_in(2) { u32::MAX - random.below(100) as u32 } else { random.next() as u32 };
    let cursor = Cursor::at(index & !(size.depth() - 1), previous);
    let area = |words| (0..size.area_bytes(words) / 8).map(|_| Cell::new(u64::from(previous) << 48)).collect();
    let world = World {
        words: [area(REQUEST_WORDS), area(1)],
        random,
        past: RefCell::new(vec![0; 256]),
        due: Cell::new(cursor.tag()),
        target: Cell::new((0, 0)),
        size,
        rate: Cell::new(rate),
        loads: Cell::new(0),
        violations: Cell::new(0),
    };
    (Rc::new(world), cursor)
}

fn area(world: &Rc<World>, which: usize, writable: bool) -> Area {
    Area { world: world.clone(), which, writable }
}

/// Runs one call of the half and holds it to its bounds.
fn bounded<T>(world: &World, call: impl FnOnce() -> T) -> T {
    let before = world.loads.get();
    let result = call();
    assert!(world.loads.get() - before <= LOADS_PER_CALL, "{} loads", world.loads.get() - before);
    assert_eq!(world.violations.get(), 0, "access outside the area, or to the peer's");
    result
}

/// What both attacks count, so that a walk that never got anywhere is noticed.
#[derive(Debug, Default)]
struct Reached {
    accepted: u64,
    latched: u64,
}

/// The backend lies; returns steps made.
fn attack_frontend(seed: u64, steps: u64, reached: &mut Reached) -> u64 {
    let (world, mut cursor) = world(seed, 20 + seed.wrapping_mul(7_919) % 3_000);
    let mut half: Frontend<_, MOST> =
        Frontend::resume(area(&world, 0, true), area(&world, 1, false), world.size, cursor).unwrap();
    world.aim(1, 1, cursor);
    let mut in_flight = BTreeSet::new();
    for step in 0..steps {
        let (action, number) = (world.random.below(10), world.random.next());
        match action {
            0..3 => {
                let mut batch = half.batch();
                let mut ids = Vec::new();
                for _ in 0..number % 8 {
                    match batch.reserve(number as u8, RequestFlags::empty(), 0, [number; 3]) {
                        Ok(ticket) => {
                            assert!(u32::from(ticket.id()) < world.size.depth());
                            assert!(!in_flight.contains(&ticket.id()) && !ids.contains(&ticket.id()));
                            ids.push(ticket.id());
                        }
                        Err(Full) => assert_eq!(in_flight.len() + ids.len(), world.size.depth() as usize),
                    }
                }
                if number & 1 << 40 == 0 {
                    batch.revert();
                } else {
                    let _ = bounded(&world, || batch.commit());
                    in_flight.extend(ids);
                }
            }
            // The honest backend: completes one that is in flight.
            3..6 => {
                if let Some(id) = in_flight.iter().nth((number % in_flight.len().max(1) as u64) as usize) {
                    let word = CompletionWord::new(*id, CompletionResult(number as u32)).with_tag(cursor.tag());
                    world.set(&world.words[1][cursor.offset(world.size, 1) / 8], word.0);
                }
            }
            6..9 => match bounded(&world, || half.take()) {
                Ok(None) => {}
                Ok(Some(completed)) => {
                    assert!(in_flight.remove(&completed.id), "completion of {}, which was not asked", completed.id);
                    cursor.step(world.size);
                    world.aim(1, 1, cursor);
                    reached.accepted += 1;
                }
                Err(_) => {
                    reached.latched += 1;
                    latched_frontend(&world, &mut half, &in_flight);
                    return step + 1;
                }
            },
            _ => {
                let _ = bounded(&world, || half.park());
            }
        }
        assert_eq!(half.in_flight(), in_flight.len());
        if step % 64 == 0 {
            assert!(half.in_flight_ids().eq(in_flight.iter().copied()));
        }
    }
    steps
}

fn latched_frontend(world: &World, half: &mut Frontend<Area, MOST>, in_flight: &BTreeSet<u16>) {
    assert!(half.is_latched());
    for _ in 0..20 {
        assert_eq!(bounded(world, || half.take()), Err(PeerFault::Latched));
        assert_eq!(bounded(world, || half.park()), Park::Ready);
        assert_eq!(half.batch().reserve(1, RequestFlags::empty(), 0, [0; 3]), Err(Full));
        assert_eq!(half.room(), 0);
    }
    assert!(half.in_flight_ids().eq(in_flight.iter().copied()), "what must be quarantined");
    assert_eq!(half.in_flight(), in_flight.len());
}

/// The frontend lies; returns steps made.
fn attack_backend(seed: u64, steps: u64, reached: &mut Reached) -> u64 {
    let (world, mut cursor) = world(seed, 20 + seed.wrapping_mul(7_919) % 3_000);
    let mut half = Backend::resume(area(&world, 1, true), area(&world, 0, false), world.size, cursor).unwrap();
    world.aim(0, REQUEST_WORDS, cursor);
    let mut in_flight = BTreeSet::new();
    for step in 0..steps {
        let (action, number) = (world.random.below(12), world.random.next());
        match action {
            // The honest frontend: the lowest id that is not in flight.
            0..3 => {
                if let Some(id) = (0..world.size.depth() as u16).find(|id| !in_flight.contains(id)) {
                    let _ = half.flush();
                    let at = cursor.offset(world.size, REQUEST_WORDS) / 8;
                    let word = RequestWord::new(1, RequestFlags::empty(), id, 0).with_tag(cursor.tag());
                    world.set(&world.words[0][at + 1], number);
                    world.set(&world.words[0][at], word.0);
                }
            }
            3..6 => match bounded(&world, || half.take()) {
                Ok(None) => {}
                Ok(Some(request)) => {
                    assert!(u32::from(request.word.id()) < world.size.depth());
                    assert!(in_flight.insert(request.word.id()), "{} is in flight twice", request.word.id());
                    cursor.step(world.size);
                    world.aim(0, REQUEST_WORDS, cursor);
                    reached.accepted += 1;
                }
                Err(_) => {
                    reached.latched += 1;
                    latched_backend(&world, &mut half, in_flight);
                    return step + 1;
                }
            },
            6..10 => {
                if let Some(id) = in_flight.iter().nth((number % in_flight.len().max(1) as u64) as usize).copied() {
                    assert!(bounded(&world, || half.complete(id, CompletionResult(number as u32))).is_ok());
                    in_flight.remove(&id);
                    let again = bounded(&world, || half.complete(id, CompletionResult(0)));
                    assert_eq!(again, Err(Misuse::NotInFlight(id)));
                }
            }
            10 => {
                let _ = bounded(&world, || half.flush());
            }
            _ => {
                let _ = bounded(&world, || half.park());
            }
        }
        assert_eq!(half.in_flight() as usize, in_flight.len());
        if step % 64 == 0 {
            assert!(half.in_flight_ids().eq(in_flight.iter().copied()));
        }
    }
    steps
}

fn latched_backend(world: &World, half: &mut Backend<Area>, in_flight: BTreeSet<u16>) {
    assert!(half.is_latched());
    for _ in 0..20 {
        assert_eq!(bounded(world, || half.take()), Err(PeerFault::Latched));
        assert_eq!(bounded(world, || half.park()).1, Park::Ready);
    }
    assert!(half.in_flight_ids().eq(in_flight.iter().copied()));
    for id in in_flight {
        assert!(bounded(world, || half.complete(id, CompletionResult(0))).is_ok(), "I/O in flight drains");
    }
    assert_eq!(half.in_flight(), 0);
}

/// A latched walk is followed by one of a fresh epoch until the steps are used up.
fn campaign(attack: fn(u64, u64, &mut Reached) -> u64) -> Reached {
    let number = |name, default| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let steps = number("PVKIT_HOSTILE_STEPS", 1_000_000u64);
    let first = number("PVKIT_HOSTILE_SEED", 0u64);
    let mut reached = Reached::default();
    let (mut made, mut seed) = (0, first);
    while made < steps {
        let walk = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(seed, WALK, &mut reached)));
        match walk {
            Ok(walked) => made += walked,
            Err(panic) => {
                eprintln!("walk {seed} failed: PVKIT_HOSTILE_SEED={seed} PVKIT_HOSTILE_STEPS=1 repeats it");
                std::panic::resume_unwind(panic);
            }
        }
        seed += 1;
        if seed % 100_000 == 0 {
            eprintln!("{made} steps, walks {first}..{seed}, {reached:?}");
        }
    }
    eprintln!("{made} steps, walks {first}..{seed}, {reached:?}");
    reached
}

fn got_somewhere(reached: &Reached) {
    assert!(reached.accepted > 0 || std::env::var_os("PVKIT_HOSTILE_STEPS").is_some(), "{reached:?}");
}

#[test]
fn frontend_survives_a_hostile_backend() {
    got_somewhere(&campaign(attack_frontend));
}

#[test]
fn backend_survives_a_hostile_frontend() {
    got_somewhere(&campaign(attack_backend));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_seed_is_survived_by_both(seed in any::<u64>(), steps in 1u64..3_000) {
        attack_frontend(seed, steps, &mut Reached::default());
        attack_backend(seed, steps, &mut Reached::default());
    }
}

/// The harness itself must see an access outside, and a store to the peer's area.
#[test]
fn harness_counts_what_is_forbidden() {
    let (world, _) = world(1, 0);
    area(&world, 1, true).load(world.words[1].len() * 8);
    area(&world, 1, true).load(4);
    area(&world, 0, false).store(EVENT_WORD, 1);
    area(&world, 0, true).store(HEADER_BYTES, 1);
    assert_eq!(world.violations.get(), 3);
}
