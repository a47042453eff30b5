//! A guest's end of a queue for the tests: a frontend, one run of memory cut into grants, an interrupt that counts.

use crate::{GrantTable, Pass, QueueCounters, QueueEngine, QueueSetup};
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::ring::{RequestFlags, area_pages};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Backend, Completed, Frontend, Notify, RingSize};
use pvkit_shared_memory::{HeapPages, SharedBytes, SharedPages};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Largest depth of a test's queue.
pub const MOST: usize = 64;
/// Pages of granted memory.
pub const PAGES: usize = 64;

/// Readable and writable by the backend: all of the memory.
pub const ALL: GrantRef = GrantRef::new(0, 1);
/// Readable only: the second page.
pub const READ_ONLY: GrantRef = GrantRef::new(1, 7);
/// Writable only: the third page.
pub const WRITE_ONLY: GrantRef = GrantRef::new(2, 7);

pub struct Guest {
    pub front: Frontend<SharedPages, MOST>,
    pub memory: HeapPages,
    pub grants: Arc<GrantTable>,
    pub counters: Arc<QueueCounters>,
    pub interrupts: Arc<AtomicUsize>,
    pub log: Arc<Mutex<Vec<String>>>,
    /// The request area, for guests that write there what they like.
    pub requests: SharedPages,
    /// What the last submission answered.
    pub notify: Notify,
    _areas: (HeapPages, HeapPages),
}

/// A guest and what the host makes its queue of.
pub fn connect(depth: u32) -> (Guest, QueueSetup) {
    connect_with(depth, || ())
}

/// The same with something to do at each interrupt.
pub fn connect_with(depth: u32, on_interrupt: impl Fn() + Send + Sync + 'static) -> (Guest, QueueSetup) {
    let size = RingSize::new(depth).unwrap();
    let areas = (HeapPages::new(area_pages(depth, 32)), HeapPages::new(area_pages(depth, 8)));
    let (requests, completions) = (areas.0.pages().unwrap(), areas.1.pages().unwrap());
    let memory = HeapPages::new(PAGES);
    let grants = Arc::new(GrantTable::new());
    let page = |n: usize| memory.bytes().part(n * 4096, 4096).unwrap();
    grants.insert(ALL, memory.bytes(), Access::all()).unwrap();
    grants.insert(READ_ONLY, page(1), Access::READ).unwrap();
    grants.insert(WRITE_ONLY, page(2), Access::WRITE).unwrap();
    let (counters, interrupts, log) = <(Arc<QueueCounters>, Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>)>::default();
    let front = Frontend::new(requests, completions, size, 1).unwrap();
    let (counted, told) = (Arc::clone(&interrupts), Arc::clone(&log));
    let setup = QueueSetup {
        ring: Backend::new(completions, requests, size, 1).unwrap(),
        grants: Arc::clone(&grants),
        interrupt: Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            on_interrupt();
        }),
        counters: Arc::clone(&counters),
        log: Arc::new(move |line| told.lock().unwrap().push(line)),
    };
    let notify = Notify::NotNeeded;
    (Guest { front, memory, grants, counters, interrupts, log, requests, notify, _areas: areas }, setup)
}

/// A request before it has an id.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub op: u8,
    pub flags: u8,
    pub aux: u16,
    pub words: [u64; 3],
}

impl Ask {
    /// A transfer of one segment of [`ALL`].
    pub fn segment(op: u8, position: u64, length: u32, offset: u64) -> Self {
        Self { op, flags: 0, aux: 0, words: [position, place(ALL, length), offset] }
    }

    pub fn flags(self, flags: RequestFlags) -> Self {
        Self { flags: flags.bits(), ..self }
    }

    /// Its segment in another grant.
    pub fn grant(self, grant: GrantRef) -> Self {
        let [position, old, offset] = self.words;
        Self { words: [position, place(grant, (old >> 32) as u32), offset], ..self }
    }
}

/// Word 2 of a request.
pub fn place(grant: GrantRef, length: u32) -> u64 {
    u64::from(grant.0) | u64::from(length) << 32
}

impl Guest {
    /// Publishes requests as one batch; answers the ids. `notify` then tells whether the doorbell is due.
    pub fn submit(&mut self, asks: &[Ask]) -> Vec<u16> {
        let mut batch = self.front.batch();
        let ids = asks.iter().map(|ask| {
            // Any bits: a hostile guest sets unknown ones too.
            let flags = RequestFlags::from_bits_retain(ask.flags);
            batch.reserve(ask.op, flags, ask.aux, ask.words).unwrap().id()
        });
        let ids = ids.collect();
        self.notify = batch.commit();
        ids
    }

    /// Takes every completion that is visible.
    pub fn completions(&mut self) -> Vec<Completed> {
        std::iter::from_fn(|| self.front.take().unwrap()).collect()
    }

    /// One request through `engine`, start to end.
    pub fn ask(&mut self, engine: &mut dyn QueueEngine, ask: Ask) -> CompletionResult {
        let ids = self.submit(&[ask]);
        assert_eq!(engine.pass(1), Pass::Worked(1));
        engine.flush();
        let done = self.completions();
        assert_eq!(done.iter().map(|done| done.id).collect::<Vec<_>>(), ids);
        done[0].result
    }

    pub fn fill(&self, offset: usize, bytes: &[u8]) {
        self.memory.bytes().write(offset, bytes).unwrap();
    }

    pub fn bytes(&self, offset: usize, length: usize) -> Vec<u8> {
        copy_of(&self.memory.bytes().part(offset, length).unwrap())
    }
}

pub fn copy_of(shared: &SharedBytes) -> Vec<u8> {
    let mut bytes = vec![0; shared.len()];
    shared.read(0, &mut bytes).unwrap();
    bytes
}

/// How a good request ends.
pub fn ok(detail: u32) -> CompletionResult {
    CompletionResult::new(Status::OK, detail)
}

/// How a refused request ends.
pub fn refused(status: Status) -> CompletionResult {
    CompletionResult::new(status, 0)
}
