//! One receive queue: buffers that the guest posted on one side, an inbox on the other.
//!
//! *Invariants.* The buffers that wait are in flight in the ring, so there are never more than the depth. A frame is
//! first made what the guest sealed, then put into one buffer or, with MERGEABLE, into several that become visible
//! together. Memory is looked up when a frame is there: a grant that was revoked meanwhile costs that buffer, and no
//! frame.
//!
//! *A frame that waits.* With MERGEABLE a frame may be larger than all that is posted. It waits for more buffers, at most
//! for [`PATIENCE`] sleeps without any; then it is dropped, so that a guest that has no more gets the next one.

use super::offload::{adapt, largest_plain};
use super::segments::inline_segment;
use super::{Frame, Inbox, Steering, with_needs};
use crate::counters::{QueueCounters, add};
use crate::engine::{Pass, Port, QueueEngine, QueueSetup, serve_visible};
use crate::grants::{GrantTable, Pinned};
use pvkit_abi::grant::{Access, Segment};
use pvkit_abi::net::{FrameFlags, FrameMeta, MAX_FRAME, NetFeatures, NetOp, RECEIVE_COMPLETION_BYTES, Segmentation};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Park, Request};
use pvkit_shared_memory::SharedBytes;
use std::collections::VecDeque;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// Words of a receive completion.
pub const RECEIVE_WORDS: usize = RECEIVE_COMPLETION_BYTES / 8;

/// Sleeps that a frame may wait for more buffers, if none come. One of them may be cut short by an old wake-up.
const PATIENCE: u32 = 3;

/// A receive queue's engine.
pub struct ReceiveQueue {
    port: Port<RECEIVE_WORDS>,
    steering: Arc<Steering>,
    inbox: Arc<Inbox>,
    pair: usize,
    features: NetFeatures,
    mtu: u16,
    buffers: VecDeque<Buffer>,
    /// Bytes of the buffers that wait.
    room: u64,
    /// Frames that the guest takes as they are; the pieces of at most one from the inbox.
    ready: VecDeque<Frame>,
    blocked: u32,
    /// Whether the ring was armed before the last sleep.
    waits_for_buffers: bool,
}

/// A buffer in flight.
#[derive(Clone, Copy)]
struct Buffer {
    id: u16,
    segment: Segment,
}

/// What became of a frame.
enum Placed {
    Delivered,
    Dropped,
    /// More buffers are needed.
    Blocked(Frame),
}

/// The buffers that a frame goes into, or as many as there are.
struct Choice {
    parts: Vec<(u16, SharedBytes)>,
    /// Buffers whose grant is gone.
    bad: Vec<u16>,
    room: usize,
}

impl ReceiveQueue {
    /// An engine for pair number `pair` of a port; `None` if it has no such pair. `features` are the sealed ones, `mtu` is
    /// the offer's.
    #[must_use]
    pub fn new(
        setup: QueueSetup<RECEIVE_WORDS>,
        steering: Arc<Steering>,
        pair: usize,
        features: NetFeatures,
        mtu: u16,
    ) -> Option<Self> {
        let inbox = Arc::clone(steering.inbox(pair)?);
        steering.set_open(pair, true);
        Some(Self {
            port: Port::new(setup),
            steering,
            inbox,
            pair,
            features: with_needs(features),
            mtu,
            buffers: VecDeque::new(),
            room: 0,
            ready: VecDeque::new(),
            blocked: 0,
            waits_for_buffers: false,
        })
    }

    fn is_mergeable(&self) -> bool {
        self.features.contains(NetFeatures::MERGEABLE)
    }

    /// Keeps a buffer, or refuses it at once.
    fn post(&mut self, request: &Request) {
        let id = request.word.id();
        match check(request, &self.port.grants) {
            Ok(segment) => {
                self.room += u64::from(segment.length);
                self.buffers.push_back(Buffer { id, segment });
                self.blocked = 0;
            }
            Err(status) => self.refuse(id, status),
        }
    }

    fn refuse(&mut self, id: u16, status: Status) {
        self.port.hold(id, CompletionResult::new(status, 0), [0; RECEIVE_WORDS]);
    }

    /// Puts frames into buffers, at most `budget` frames.
    fn deliver(&mut self, budget: u32) -> u32 {
        let mut worked = 0;
        while worked < budget && !self.buffers.is_empty() {
            let Some(frame) = self.next_frame() else { break };
            match self.place(frame) {
                Placed::Delivered => {}
                Placed::Dropped => {
                    add(&self.port.counters.dropped, 1);
                }
                Placed::Blocked(frame) => {
                    self.ready.push_front(frame);
                    break;
                }
            }
            worked += 1;
        }
        worked
    }

    /// The next frame that the guest takes. A frame from the inbox that cannot be made one is dropped.
    fn next_frame(&mut self) -> Option<Frame> {
        if self.ready.is_empty() {
            let frame = self.inbox.pop()?;
            if adapt(frame, self.features, &mut self.ready).is_err() {
                add(&self.port.counters.dropped, 1);
            }
        }
        self.ready.pop_front()
    }

    fn place(&mut self, frame: Frame) -> Placed {
        let length = frame.bytes.len();
        if frame.meta.segmentation() == Segmentation::NONE && length > largest_plain(&frame.bytes, self.mtu) {
            return Placed::Dropped;
        }
        if self.is_mergeable() && self.room < length as u64 {
            return self.wait_for_more(frame);
        }
        let grants = Arc::clone(&self.port.grants);
        let pinned = grants.pin();
        let choice = self.choose(length, &pinned);
        let is_enough = choice.room >= length;
        if is_enough {
            scatter(&frame.bytes, &choice.parts);
        }
        drop(pinned);
        self.discard(&choice.bad);
        if is_enough {
            self.complete(&frame, &choice.parts);
            Placed::Delivered
        } else if self.is_mergeable() || choice.parts.is_empty() {
            self.wait_for_more(frame)
        } else {
            Placed::Dropped
        }
    }

    /// A frame for which too little is posted.
    fn wait_for_more(&self, frame: Frame) -> Placed {
        let is_all = self.buffers.len() >= self.port.depth() as usize;
        if is_all { Placed::Dropped } else { Placed::Blocked(frame) }
    }

    /// The first buffers that hold `length` bytes; without MERGEABLE the first one alone.
    fn choose(&self, length: usize, grants: &Pinned<'_>) -> Choice {
        let mut choice = Choice { parts: Vec::new(), bad: Vec::new(), room: 0 };
        for Buffer { id, segment } in &self.buffers {
            match grants.resolve(segment.grant, segment.offset, segment.length, Access::WRITE) {
                Ok(bytes) => {
                    choice.room += bytes.len();
                    choice.parts.push((*id, bytes));
                    if choice.room >= length || !self.is_mergeable() {
                        break;
                    }
                }
                Err(_) => choice.bad.push(*id),
            }
        }
        choice
    }

    /// Gives buffers back whose grant is gone.
    fn discard(&mut self, bad: &[u16]) {
        if !bad.is_empty() {
            self.forget(|id| bad.contains(&id));
            bad.iter().for_each(|id| self.refuse(*id, Status::BAD_GRANT));
        }
    }

    fn forget(&mut self, is_used: impl Fn(u16) -> bool) {
        self.buffers.retain(|buffer| !is_used(buffer.id));
        self.room = self.buffers.iter().map(|buffer| u64::from(buffer.segment.length)).sum();
    }

    /// Completes the buffers of one frame and publishes them together.
    fn complete(&mut self, frame: &Frame, parts: &[(u16, SharedBytes)]) {
        // Those before the chosen ones are discarded by now.
        for buffer in self.buffers.drain(..parts.len().min(self.buffers.len())) {
            self.room -= u64::from(buffer.segment.length);
        }
        let hash = if self.features.contains(NetFeatures::RSS) { self.steering.hash(&frame.bytes).0 } else { 0 };
        let more = u64::from(FrameFlags::MORE.bits()) << 56;
        let mut rest = frame.bytes.len();
        for (index, (id, bytes)) in parts.iter().enumerate() {
            let used = rest.min(bytes.len());
            rest -= used;
            let FrameMeta(meta) = frame.meta;
            let meta = if index + 1 < parts.len() { meta | more } else { meta };
            // A frame's length fits the detail.
            self.port.hold(*id, CompletionResult::new(Status::OK, used as u32), [0, meta, hash, 0]);
        }
        self.port.flush();
        self.blocked = 0;
        add(&self.port.counters.frames, 1);
        add(&self.port.counters.bytes_read, frame.bytes.len() as u64);
    }

    /// About to sleep with a frame that waits for buffers: false when it has waited long enough.
    fn may_wait(&mut self) -> bool {
        self.blocked += 1;
        if self.blocked < PATIENCE {
            return true;
        }
        self.blocked = 0;
        self.ready.pop_front();
        add(&self.port.counters.dropped, 1);
        false
    }
}

/// Judges a posted buffer. That its grant is no good is told now rather than at the first frame.
fn check(request: &Request, grants: &GrantTable) -> Result<Segment, Status> {
    if NetOp(request.word.op()) != NetOp::RECEIVE || request.word.flags() != 0 {
        return Err(Status::UNSUPPORTED);
    }
    let segment = inline_segment(request);
    let [first, ..] = request.words;
    if request.word.aux() != 0 || first != 0 || segment.length == 0 {
        return Err(Status::INVALID);
    }
    if segment.length as usize > MAX_FRAME {
        return Err(Status::TOO_LARGE);
    }
    grants.resolve(segment.grant, segment.offset, segment.length, Access::WRITE)?;
    Ok(segment)
}

/// Writes a frame over the buffers, which have room for it.
fn scatter(frame: &[u8], parts: &[(u16, SharedBytes)]) {
    let mut rest = frame;
    for (_, bytes) in parts {
        let (part, behind) = rest.split_at(rest.len().min(bytes.len()));
        // In range: cut to the buffer.
        let _ = bytes.write(0, part);
        rest = behind;
    }
}

impl QueueEngine for ReceiveQueue {
    fn pass(&mut self, budget: u32) -> Pass {
        let served = serve_visible(
            self,
            |queue| &mut queue.port,
            budget,
            |queue, request| {
                queue.post(request);
            },
        );
        let Some(worked) = served else { return Pass::Latched };
        let worked = worked + self.deliver(budget);
        self.port.flush();
        Pass::after(worked)
    }

    fn park(&mut self) -> Park {
        self.waits_for_buffers = self.buffers.is_empty() || !self.ready.is_empty();
        if self.waits_for_buffers && self.port.park() == Park::Ready {
            return Park::Ready;
        }
        // With buffers only frames matter, and a guest that posts more is spared the doorbell: the pass that a frame wakes takes
        // them. Frames that come later write to the eventfd that the thread waits for.
        self.port.flush();
        let may_sleep = match (self.buffers.is_empty(), self.ready.is_empty()) {
            (true, _) => true,
            (false, true) => self.inbox.is_empty(),
            (false, false) => self.may_wait(),
        };
        if may_sleep { Park::Armed } else { Park::Ready }
    }

    fn waits_for_doorbell(&self) -> bool {
        self.waits_for_buffers
    }

    fn flush(&mut self) {
        self.port.flush();
    }

    fn close(&mut self) {
        self.buffers.clear();
        self.room = 0;
        self.ready.clear();
        self.port.close();
        self.steering.set_open(self.pair, false);
    }

    fn waits_for(&self) -> Option<&EventFd> {
        Some(self.inbox.wake_fd())
    }

    fn depth(&self) -> u32 {
        self.port.depth()
    }

    fn counters(&self) -> &Arc<QueueCounters> {
        &self.port.counters
    }
}
