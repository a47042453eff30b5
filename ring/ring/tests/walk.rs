//! Random walks of both halves beside a reference model that knows nothing of slots, tags or event words.
//!
//! The model is two queues and the sets of ids. Each half may write only through its handle to its own area; a store
//! through the other one panics, as does any offset outside. Walks start anywhere, also just before the index or the
//! tag wraps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use pvkit_abi::ring::{EVENT_WORD, HEADER_BYTES, REQUEST_WORDS, RequestFlags};
use pvkit_abi::status::CompletionResult;
use pvkit_ring::{Backend, Completed, Cursor, Frontend, Full, Memory, Misuse, Notify, Park, RingSize};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

const MOST: usize = 64;

/// An area as one of the sides sees it.
#[derive(Clone, Debug)]
struct Area {
    words: Rc<Vec<Cell<u64>>>,
    writable: bool,
}

impl Area {
    /// As a ring would stand that has been in use up to `cursor`.
    fn at(cursor: Cursor, size: RingSize, words_per_slot: usize, event: u32) -> Self {
        let words = vec![Cell::new(0); size.area_bytes(words_per_slot) / 8];
        words[EVENT_WORD / 8].set(u64::from(event));
        for slot in 0..size.depth() {
            let tag = if slot < cursor.index().slot(size) { cursor.tag() } else { cursor.previous() };
            words[HEADER_BYTES / 8 + slot as usize * words_per_slot].set(u64::from(tag) << 48);
        }
        Self { words: Rc::new(words), writable: true }
    }

    fn read_only(&self) -> Self {
        Self { words: self.words.clone(), writable: false }
    }

    fn snapshot(&self) -> Vec<u64> {
        self.words.iter().map(Cell::get).collect()
    }

    fn event(&self) -> u32 {
        self.words[EVENT_WORD / 8].get() as u32
    }
}

impl Memory for Area {
    fn bytes(&self) -> usize {
        self.words.len() * 8
    }
    fn load(&self, offset: usize) -> u64 {
        assert!(offset.is_multiple_of(8));
        self.words[offset / 8].get()
    }
    fn load_acquire(&self, offset: usize) -> u64 {
        self.load(offset)
    }
    fn store(&self, offset: usize, value: u64) {
        assert!(self.writable, "a store to the peer's area at {offset}");
        assert!(offset.is_multiple_of(8));
        self.words[offset / 8].set(value);
    }
    fn store_release(&self, offset: usize, value: u64) {
        self.store(offset, value);
    }
    fn fence(&self) {}
}

#[derive(Clone, Debug)]
enum Step {
    Submit { count: usize, revert: bool },
    TakeRequests(usize),
    Complete { which: usize, result: u32 },
    CompleteUnknown(u16),
    Flush,
    ParkBackend,
    TakeCompletions(usize),
    ParkFrontend,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..MOST + 2, prop::bool::weighted(0.2)).prop_map(|(count, revert)| Step::Submit { count, revert }),
        3 => (0usize..4).prop_map(|count| Step::Submit { count, revert: false }),
        6 => (0usize..20).prop_map(Step::TakeRequests),
        16 => (any::<usize>(), any::<u32>()).prop_map(|(which, result)| Step::Complete { which, result }),
        1 => any::<u16>().prop_map(Step::CompleteUnknown),
        2 => Just(Step::Flush),
        3 => Just(Step::ParkBackend),
        6 => (0usize..20).prop_map(Step::TakeCompletions),
        3 => Just(Step::ParkFrontend),
    ]
}

/// Ids are few and start small: begin near every wrap as often as anywhere.
fn cursor() -> impl Strategy<Value = Cursor> {
    let index = prop_oneof![Just(0), (0u32..200).prop_map(|back| u32::MAX - back), any::<u32>()];
    let previous = prop_oneof![Just(0u16), (0u16..4).prop_map(|back| u16::MAX - back), any::<u16>()];
    (index, previous).prop_map(|(index, previous)| Cursor::at(index, previous))
}

/// What must be true, told without a ring.
struct Model {
    depth: usize,
    next_number: u64,
    /// Submitted and not yet completed to the frontend.
    frontend_ids: BTreeSet<u16>,
    requests: VecDeque<(u16, u64)>,
    /// Taken by the backend and not completed.
    taken: BTreeMap<u16, u64>,
    held: Vec<Completed>,
    completions: VecDeque<Completed>,
    requests_index: u32,
    completions_index: u32,
}

impl Model {
    /// Whether one of the `count` indices from `from` is the armed one; and goes on by as many.
    fn crossed(from: &mut u32, count: usize, armed: u32) -> Notify {
        let hit = (0..count as u32).any(|i| from.wrapping_add(i) == armed);
        *from = from.wrapping_add(count as u32);
        if hit { Notify::Needed } else { Notify::NotNeeded }
    }

    fn flush(&mut self, armed: u32) -> Notify {
        let notify = Self::crossed(&mut self.completions_index, self.held.len(), armed);
        self.completions.extend(self.held.drain(..));
        notify
    }
}

struct Walk {
    frontend: Frontend<Area, MOST>,
    backend: Backend<Area>,
    requests: Area,
    completions: Area,
    model: Model,
}

const fn words_of(number: u64) -> [u64; 3] {
    [number, number ^ 0xaaaa, !number]
}

impl Walk {
    fn new(size: RingSize, cursor: Cursor, events: [u32; 2]) -> Self {
        let requests = Area::at(cursor, size, REQUEST_WORDS, events[0]);
        let completions = Area::at(cursor, size, 1, events[1]);
        Self {
            frontend: Frontend::resume(requests.clone(), completions.read_only(), size, cursor).unwrap(),
            backend: Backend::resume(completions.clone(), requests.read_only(), size, cursor).unwrap(),
            requests,
            completions,
            model: Model {
                depth: size.depth() as usize,
                next_number: 1,
                frontend_ids: BTreeSet::new(),
                requests: VecDeque::new(),
                taken: BTreeMap::new(),
                held: Vec::new(),
                completions: VecDeque::new(),
                requests_index: cursor.index().0,
                completions_index: cursor.index().0,
            },
        }
    }

    fn memory(&self) -> (Vec<u64>, Vec<u64>) {
        (self.requests.snapshot(), self.completions.snapshot())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { count, revert } => self.submit(count, revert),
            Step::TakeRequests(count) => (0..count).for_each(|_| self.take_request()),
            Step::Complete { which, result } => self.complete(which, result),
            Step::CompleteUnknown(id) => self.complete_unknown(id),
            Step::Flush => {
                let due = self.model.flush(self.requests.event());
                assert_eq!(self.backend.flush(), due);
            }
            Step::ParkBackend => self.park_backend(),
            Step::TakeCompletions(count) => (0..count).for_each(|_| self.take_completion()),
            Step::ParkFrontend => self.park_frontend(),
        }
        self.check();
    }

    fn submit(&mut self, count: usize, revert: bool) {
        let before = revert.then(|| self.memory());
        let room = self.model.depth - self.model.frontend_ids.len();
        assert_eq!(self.frontend.room(), room);
        let mut batch = self.frontend.batch();
        let mut reserved = Vec::new();
        for i in 0..count {
            let number = self.model.next_number + i as u64;
            match batch.reserve(number as u8, RequestFlags::FUA, number as u16, words_of(number)) {
                Ok(ticket) => {
                    assert!(!self.model.frontend_ids.contains(&ticket.id()), "id {} given twice", ticket.id());
                    reserved.push((ticket.id(), number));
                }
                Err(Full) => {
                    assert_eq!(reserved.len(), room);
                    break;
                }
            }
        }
        assert_eq!(batch.len(), count.min(room));
        if revert {
            batch.revert();
            assert_eq!(Some(self.memory()), before, "revert touched a shared word");
            return;
        }
        let due = Model::crossed(&mut self.model.requests_index, reserved.len(), self.completions.event());
        assert_eq!(batch.commit(), due);
        for (id, number) in reserved {
            assert!(self.model.frontend_ids.insert(id));
            self.model.requests.push_back((id, number));
            self.model.next_number = number + 1;
        }
    }

    fn take_request(&mut self) {
        let due = self.model.requests.pop_front();
        let got = self.backend.take().unwrap();
        assert_eq!(got.map(|got| got.word.id()), due.map(|due| due.0));
        if let (Some(got), Some((id, number))) = (got, due) {
            assert_eq!(got.words, words_of(number));
            assert_eq!((got.word.op(), got.word.aux()), (number as u8, number as u16));
            assert_eq!(got.word.flags(), RequestFlags::FUA.bits());
            assert_eq!(self.model.taken.insert(id, number), None);
        }
    }

    fn complete(&mut self, which: usize, result: u32) {
        let Some(id) = self.model.taken.keys().nth(which % self.model.taken.len().max(1)).copied() else { return };
        self.model.taken.remove(&id);
        self.model.held.push(Completed { id, result: CompletionResult(result) });
        let due = if self.model.held.len() == 4 { self.model.flush(self.requests.event()) } else { Notify::NotNeeded };
        assert_eq!(self.backend.complete(id, CompletionResult(result)), Ok(due));
    }

    fn complete_unknown(&mut self, id: u16) {
        if !self.model.taken.contains_key(&id) {
            let before = self.memory();
            assert_eq!(self.backend.complete(id, CompletionResult(0)), Err(Misuse::NotInFlight(id)));
            assert_eq!(self.memory(), before);
        }
    }

    fn park_backend(&mut self) {
        let due = self.model.flush(self.requests.event());
        let park = if self.model.requests.is_empty() { Park::Armed } else { Park::Ready };
        assert_eq!(self.backend.park(), (due, park));
        if park == Park::Armed {
            assert_eq!(self.completions.event(), self.model.requests_index);
        }
    }

    fn take_completion(&mut self) {
        let due = self.model.completions.pop_front();
        assert_eq!(self.frontend.take().unwrap(), due);
        if let Some(due) = due {
            assert!(self.model.frontend_ids.remove(&due.id), "completed twice");
        }
    }

    fn park_frontend(&mut self) {
        let park = if self.model.completions.is_empty() { Park::Armed } else { Park::Ready };
        assert_eq!(self.frontend.park(), park);
        if park == Park::Armed {
            assert_eq!(self.requests.event(), self.model.completions_index);
        }
    }

    /// No id is lost or doubled: each is free, or in exactly one place.
    fn check(&self) {
        let model = &self.model;
        assert!(self.frontend.in_flight_ids().eq(model.frontend_ids.iter().copied()));
        assert_eq!(self.frontend.in_flight(), model.frontend_ids.len());
        assert!(self.backend.in_flight_ids().eq(model.taken.keys().copied()));
        assert_eq!(self.backend.in_flight() as usize, model.taken.len());
        let places = model.requests.len() + model.taken.len() + model.held.len() + model.completions.len();
        assert_eq!(model.frontend_ids.len(), places);
    }

    /// Lets everything finish: each request that was submitted is completed exactly once.
    fn drain(&mut self) {
        while !self.model.frontend_ids.is_empty() {
            (0..MOST).for_each(|_| self.take_request());
            while !self.model.taken.is_empty() {
                self.complete(0, 1);
            }
            self.step(Step::Flush);
            (0..MOST).for_each(|_| self.take_completion());
        }
        self.check();
        assert_eq!(self.frontend.room(), self.model.depth);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn both_halves_walk_as_the_model_does(
        log2 in 1u32..=6,
        cursor in cursor(),
        near in any::<[i8; 2]>(),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let events = near.map(|near| cursor.index().0.wrapping_add_signed(i32::from(near)));
        let mut walk = Walk::new(RingSize::new(1 << log2).unwrap(), cursor, events);
        steps.into_iter().for_each(|step| walk.step(step));
        walk.drain();
    }
}

/// Every tag and back to the first, across the index wrap: a lap of depth 2 is two requests.
#[test]
fn all_tags_pass_and_wrap_with_the_index() {
    let cursor = Cursor::at(u32::MAX - 70_001, 65_000);
    let mut walk = Walk::new(RingSize::new(2).unwrap(), cursor, [0; 2]);
    for request in 0..140_000u32 {
        walk.submit(1, false);
        // A lap of the free-running count, told without the ABI's own function.
        let tag = 1 + (65_000 + request / 2) % 65_535;
        let slot = cursor.index().advance(request).slot(RingSize::new(2).unwrap()) as usize;
        assert_eq!((walk.requests.words[HEADER_BYTES / 8 + slot * REQUEST_WORDS].get() >> 48) as u32, tag);
        walk.take_request();
        walk.complete(0, request);
        assert_eq!(walk.backend.flush(), walk.model.flush(walk.requests.event()));
        walk.take_completion();
    }
    walk.check();
}
