//! Buffers of any form that a guest posts, and frames of any form that are put into them.

use crate::input::Input;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::net::{FrameFlags, FrameMeta, NetFeatures, NetOp};
use pvkit_abi::ring::{RequestFlags, area_pages};
use pvkit_abi::status::Status;
use pvkit_backends::fuzzing::{ALL, READ_ONLY, open_steering, place};
use pvkit_backends::net::offload::{Rules, judge};
use pvkit_backends::net::{Frame, Inbox, OFFLOADS, RECEIVE_WORDS, ReceiveQueue};
use pvkit_backends::{GrantTable, Pass, QueueCounters, QueueEngine, QueueSetup};
use pvkit_ring::{RingSize, WideBackend, WideFrontend};
use pvkit_shared_memory::{HeapPages, SharedPages};
use std::sync::Arc;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DEPTH: u32 = 8;
const MTU: u16 = 1500;
const PAGES: usize = 40;
/// Granted like [`ALL`], until it is taken back: the last page.
const LAST_PAGE: GrantRef = GrantRef::new(2, 7);
const LAST: usize = (PAGES - 1) * 4096;

/// The guest's end.
struct Guest {
    front: WideFrontend<SharedPages, 8, RECEIVE_WORDS>,
    memory: HeapPages,
    grants: Arc<GrantTable>,
    /// By id: first byte and length of the buffer in flight.
    posted: [Option<(usize, usize)>; DEPTH as usize],
    /// For each byte of the memory, whether it ever lay in a posted buffer.
    given: Vec<bool>,
    /// Bytes of the frame that is not all there yet.
    part: Vec<u8>,
    frames: Vec<(Vec<u8>, FrameMeta)>,
    _areas: [HeapPages; 2],
}

fn connect() -> (Guest, QueueSetup<RECEIVE_WORDS>) {
    let size = RingSize::new(DEPTH).unwrap();
    let areas = [32, 32].map(|bytes| HeapPages::new(area_pages(DEPTH, bytes)));
    let [requests, completions] = [&areas[0], &areas[1]].map(|area| area.pages().unwrap());
    let (memory, grants) = (HeapPages::new(PAGES), Arc::new(GrantTable::new()));
    grants.insert(ALL, memory.bytes(), Access::WRITE).unwrap();
    grants.insert(READ_ONLY, memory.bytes(), Access::READ).unwrap();
    grants.insert(LAST_PAGE, memory.bytes().part(LAST, 4096).unwrap(), Access::WRITE).unwrap();
    let setup = QueueSetup {
        ring: WideBackend::new(completions, requests, size, 1).unwrap(),
        grants: Arc::clone(&grants),
        interrupt: Arc::new(|| ()),
        counters: Arc::<QueueCounters>::default(),
        log: Arc::new(|_| ()),
    };
    let guest = Guest {
        front: WideFrontend::new(requests, completions, size, 1).unwrap(),
        memory,
        grants,
        posted: [None; DEPTH as usize],
        given: vec![false; PAGES * 4096],
        part: Vec::new(),
        frames: Vec::new(),
        _areas: areas,
    };
    (guest, setup)
}

impl Guest {
    /// Posts a buffer, mostly one that is good; nothing if the ring is full.
    fn post(&mut self, input: &mut Input<'_>, is_plain: bool) {
        let is_good = input.below(4) != 0 || is_plain;
        let length = usize::from(input.byte()) * if input.below(2) == 0 { 1 } else { 17 };
        // No two good ones in flight lie over one another: there are more places than buffers.
        let at = if is_good { self.free_place() } else { input.number() as usize };
        let grant = match input.below(8) {
            0 if !is_plain => LAST_PAGE,
            1 if !is_good => READ_ONLY,
            2 if !is_good => GrantRef(input.u32()),
            _ => ALL,
        };
        let at = if grant == LAST_PAGE { 0 } else { at };
        let (op, flags, aux, first) = match input.below(if is_good { 1 } else { 4 }) {
            0 => (NetOp::RECEIVE.0, 0, 0, 0),
            1 => (input.byte(), 0, 0, 0),
            2 => (NetOp::RECEIVE.0, input.byte(), 0, 0),
            _ => (NetOp::RECEIVE.0, 0, input.u16(), input.u64()),
        };
        let words = [first, place(grant, length as u32), at as u64];
        let mut batch = self.front.batch();
        let Ok(ticket) = batch.reserve(op, RequestFlags::from_bits_retain(flags), aux, words) else { return };
        let id = usize::from(ticket.id());
        let _ = batch.commit();
        let start = if grant == LAST_PAGE { LAST } else { at };
        self.posted[id] = Some((start, length));
        if grant == ALL || grant == LAST_PAGE {
            self.given.iter_mut().skip(start).take(length).for_each(|given| *given = true);
        }
    }

    /// Where no good buffer in flight begins.
    fn free_place(&self) -> usize {
        let mut places = (0..=DEPTH as usize).map(|place| place * 8192);
        let is_free = |at: &usize| self.posted.iter().flatten().all(|(start, _)| start != at);
        places.find(is_free).expect("more places than buffers")
    }

    /// Takes what came; each buffer comes back once, and no fuller than it is large.
    fn take(&mut self) {
        while let Some((done, [_, meta, _, last])) = self.front.take_wide().unwrap() {
            let (start, length) = self.posted[usize::from(done.id)].take().expect("a buffer that is in flight");
            let used = done.result.detail() as usize;
            assert_eq!(last, 0);
            if done.result.status() != Status::OK {
                assert_eq!((used, self.part.len()), (0, 0), "a refusal is no part of a frame");
                continue;
            }
            assert!(used <= length && used > 0);
            let mut bytes = vec![0; used];
            self.memory.bytes().read(start, &mut bytes).expect("memory that was granted");
            self.part.append(&mut bytes);
            let meta = FrameMeta(meta);
            if meta.flags() & FrameFlags::MORE.bits() == 0 {
                self.frames.push((std::mem::take(&mut self.part), meta));
            }
        }
        assert!(self.part.is_empty(), "buffers of one frame become visible together");
    }
}

/// A frame for this guest, with what its sender may say of it: other metadata does not get past the sender's queue.
fn frame(input: &mut Input<'_>, is_plain: bool) -> Frame {
    let mut bytes = [&MAC[..], &[0; 6], &[8, 0, 0x45], input.run()].concat();
    if input.below(4) == 0 {
        bytes.resize(usize::from(input.u16()).max(15), 0x5a);
    }
    let meta = FrameMeta(if is_plain { 0 } else { input.u64() });
    let is_good = judge(&bytes, meta, &Rules { features: OFFLOADS, mtu: MTU }).is_ok();
    Frame { bytes, meta: if is_good { meta } else { FrameMeta(0) } }
}

/// Frames arrive whole, in order and nowhere but in buffers; and the counters tell of each.
pub fn queue(data: &[u8]) {
    let mut input = Input::new(data);
    let features = NetFeatures::from_bits_truncate(u64::from(input.u16()));
    let is_plain = input.below(2) == 0;
    let (mut guest, setup) = connect();
    let counters = Arc::clone(&setup.counters);
    let inbox = Inbox::new(8).unwrap();
    let steering = open_steering(MAC, vec![inbox.clone()]);
    let mut queue = ReceiveQueue::new(setup, steering.clone(), 0, features, MTU).expect("its pair");
    let (mut pushed, mut steps) = (Vec::new(), 0);
    while !input.is_empty() && steps < 200 {
        steps += 1;
        match input.below(8) {
            0..4 => guest.post(&mut input, is_plain),
            7 => drop(guest.grants.remove(LAST_PAGE)),
            _ => {
                let frame = frame(&mut input, is_plain);
                let bytes = frame.bytes.clone();
                if steering.push(frame) {
                    pushed.push(bytes);
                }
            }
        }
        assert_ne!(queue.pass(4), Pass::Latched);
        guest.take();
        if input.below(4) == 0 {
            let _ = queue.park();
        }
    }
    let counted = counters.snapshot();
    assert_eq!(counted.frames, guest.frames.len() as u64);
    assert_eq!(counted.bytes_read, guest.frames.iter().map(|(bytes, _)| bytes.len() as u64).sum::<u64>());
    if is_plain {
        assert!(counted.frames + counted.dropped <= pushed.len() as u64);
        let mut rest = pushed.iter();
        let is_next = |(bytes, _): &(Vec<u8>, FrameMeta)| rest.any(|pushed| pushed == bytes);
        assert!(guest.frames.iter().all(is_next), "a frame is not what was sent");
    }
    let mut memory = vec![0; PAGES * 4096];
    guest.memory.bytes().read(0, &mut memory).unwrap();
    assert!(memory.iter().zip(&guest.given).all(|(byte, given)| *given || *byte == 0), "outside of all buffers");
    queue.close();
    guest.take();
}
