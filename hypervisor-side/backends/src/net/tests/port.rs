//! A guest's port for tests: both queues, their rings in plain memory, granted pages.

use crate::fake_guest::{ALL, Ask, Guest, connect, place};
use crate::net::*;
use crate::{GrantTable, Pass, QueueCounters, QueueEngine, QueueSetup};
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::net::{FrameHash, FrameMeta, NetFeatures, NetOp};
use pvkit_abi::ring::{RequestFlags, area_pages};
use pvkit_abi::status::Status;
use pvkit_ring::{RingSize, WideBackend, WideFrontend};
use pvkit_shared_memory::{HeapPages, SharedPages};
use std::sync::{Arc, Mutex};

pub const MTU: u16 = 1500;
/// Pages of memory for received frames.
pub const PAGES: usize = 64;
/// Gone when a test removes it: the last page.
pub const LAST_PAGE: GrantRef = GrantRef::new(1, 1);

/// A network that keeps what was sent.
#[derive(Default)]
pub struct Sink {
    pub frames: Mutex<Vec<Frame>>,
    pub agreed: Mutex<Vec<NetFeatures>>,
}

impl Network for Sink {
    fn send(&self, frame: Frame) {
        self.frames.lock().unwrap().push(frame);
    }

    fn features(&self) -> NetFeatures {
        OFFLOADS
    }

    fn agreed(&self, features: NetFeatures) {
        self.agreed.lock().unwrap().push(features);
    }
}

impl Sink {
    pub fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut self.frames.lock().unwrap())
    }
}

/// A transmit queue into a sink.
pub fn transmit(features: NetFeatures) -> (Guest, TransmitQueue, Arc<Sink>) {
    let (guest, setup) = connect(8);
    let sink = Arc::new(Sink::default());
    let queue = TransmitQueue::new(setup, sink.clone(), features, MTU);
    (guest, queue, sink)
}

/// A request to send `length` bytes from `offset`.
pub fn send(meta: FrameMeta, length: usize, offset: u64) -> Ask {
    Ask { op: NetOp::TRANSMIT.0, flags: 0, aux: 0, words: [meta.0, place(ALL, length as u32), offset] }
}

/// The guest's end of a receive queue.
pub struct Receiver {
    pub front: WideFrontend<SharedPages, 64, RECEIVE_WORDS>,
    pub memory: HeapPages,
    pub grants: Arc<GrantTable>,
    pub counters: Arc<QueueCounters>,
    pub steering: Arc<Steering>,
    pub requests: SharedPages,
    /// By id: where the buffer lies.
    pub posted: Vec<(u64, u32)>,
    /// Doorbells that were due.
    pub doorbells: u32,
    _areas: (HeapPages, HeapPages),
}

/// One completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub id: u16,
    pub status: Status,
    pub bytes: u32,
    pub meta: FrameMeta,
    pub hash: FrameHash,
}

pub fn receive(depth: u32, features: NetFeatures) -> (Receiver, ReceiveQueue) {
    let steering = Steering::new(offload::packets::GUEST_MAC, vec![Inbox::new(16).unwrap()]);
    receive_pair(depth, features, steering, 0)
}

pub fn receive_pair(
    depth: u32,
    features: NetFeatures,
    steering: Arc<Steering>,
    pair: usize,
) -> (Receiver, ReceiveQueue) {
    receive_with(depth, features, steering, pair, |_| ())
}

/// The same with something to do at each interrupt: it gets the completion area.
pub fn receive_with(
    depth: u32,
    features: NetFeatures,
    steering: Arc<Steering>,
    pair: usize,
    on_interrupt: impl Fn(&SharedPages) + Send + Sync + 'static,
) -> (Receiver, ReceiveQueue) {
    let size = RingSize::new(depth).unwrap();
    let areas = (HeapPages::new(area_pages(depth, 32)), HeapPages::new(area_pages(depth, 32)));
    let (requests, completions) = (areas.0.pages().unwrap(), areas.1.pages().unwrap());
    let memory = HeapPages::new(PAGES);
    let grants = Arc::new(GrantTable::new());
    grants.insert(ALL, memory.bytes(), Access::WRITE).unwrap();
    grants.insert(LAST_PAGE, memory.bytes().part((PAGES - 1) * 4096, 4096).unwrap(), Access::WRITE).unwrap();
    let counters = Arc::<QueueCounters>::default();
    let front = WideFrontend::new(requests, completions, size, 1).unwrap();
    let setup = QueueSetup {
        ring: WideBackend::new(completions, requests, size, 1).unwrap(),
        grants: Arc::clone(&grants),
        interrupt: Arc::new(move || on_interrupt(&completions)),
        counters: Arc::clone(&counters),
        log: Arc::new(|_| ()),
    };
    let queue = ReceiveQueue::new(setup, Arc::clone(&steering), pair, features, MTU).unwrap();
    let posted = vec![(0, 0); depth as usize];
    (Receiver { front, memory, grants, counters, steering, requests, posted, doorbells: 0, _areas: areas }, queue)
}

impl Receiver {
    /// Posts buffers of `length` bytes, each in a page of its own.
    pub fn post(&mut self, count: usize, length: u32) {
        for _ in 0..count {
            let at = self.free_page();
            self.ask(NetOp::RECEIVE.0, 0, 0, [0, place(ALL, length), at]);
        }
    }

    /// Offset of a page that no buffer in flight lies in.
    pub fn free_page(&self) -> u64 {
        let used: Vec<_> = self.front.in_flight_ids().map(|id| self.posted[usize::from(id)].0).collect();
        (0..PAGES as u64).map(|page| page * 4096).find(|at| !used.contains(at)).unwrap()
    }

    pub fn ask(&mut self, op: u8, flags: u8, aux: u16, words: [u64; 3]) -> u16 {
        let mut batch = self.front.batch();
        let id = batch.reserve(op, RequestFlags::from_bits_retain(flags), aux, words).unwrap().id();
        self.doorbells += u32::from(batch.commit().is_needed());
        self.posted[usize::from(id)] = (words[2], (words[1] >> 32) as u32);
        id
    }

    pub fn completions(&mut self) -> Vec<Received> {
        let next = || {
            let (done, words) = self.front.take_wide().unwrap()?;
            let (status, bytes) = (done.result.status(), done.result.detail());
            assert_eq!(words[3], 0);
            Some(Received { id: done.id, status, bytes, meta: FrameMeta(words[1]), hash: FrameHash(words[2]) })
        };
        std::iter::from_fn(next).collect()
    }

    pub fn bytes_of(&self, received: &Received) -> Vec<u8> {
        let (at, length) = self.posted[usize::from(received.id)];
        assert!(received.bytes <= length);
        let mut bytes = vec![0; received.bytes as usize];
        self.memory.bytes().read(at as usize, &mut bytes).unwrap();
        bytes
    }

    /// Completions joined to frames as MORE tells.
    pub fn frames(&mut self) -> Vec<(Vec<u8>, FrameMeta)> {
        let (mut frames, mut bytes) = (vec![], vec![]);
        for received in self.completions() {
            assert_eq!(received.status, Status::OK);
            bytes.extend(self.bytes_of(&received));
            if received.meta.flags() & 4 == 0 {
                frames.push((std::mem::take(&mut bytes), received.meta));
            }
        }
        assert_eq!(bytes, [], "the last frame ends");
        frames
    }
}

/// Everything that `engine` can do now.
pub fn run(engine: &mut dyn QueueEngine) {
    while let Pass::Worked(_) = engine.pass(64) {}
}
