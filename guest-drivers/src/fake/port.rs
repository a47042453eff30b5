//! The fake host's network port: keeps what was sent, delivers what a test gives it.

use super::device::{area, gather, offer, scatter};
use super::{Device, Host, Kind, Stored};
use crate::platform::test::TestMemory;
use pvkit_abi::bus::{Class, Control, OpenQueue};
use pvkit_abi::net::{FrameFlags, FrameHash, FrameMeta, LinkFlags, NetConfig, NetFeatures, NetOp};
use pvkit_abi::ring::{COMPLETION_BYTES, REQUEST_BYTES, area_pages};
use pvkit_abi::status::{CallError, CompletionResult, Status};
use pvkit_ring::{Backend, Park, Request, RingSize, WideBackend};
use pvkit_shared_memory::SharedPages;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;
use zerocopy::IntoBytes;

/// A frame that waits for receive buffers.
#[derive(Clone, Debug)]
struct Waiting {
    frame: Vec<u8>,
    meta: FrameMeta,
    hash: FrameHash,
    /// The last part says that there are more.
    endless: bool,
}

/// The queues of a pair.
#[derive(Debug, Default)]
struct Queues {
    inward: Option<WideBackend<SharedPages, 4>>,
    outward: Option<Backend<SharedPages>>,
    posted: VecDeque<Request>,
    waiting: VecDeque<Waiting>,
}

/// A network port.
#[derive(Debug)]
pub struct Port {
    /// Frames that the guest sent: pair, bytes, metadata.
    pub sent: Vec<(usize, Vec<u8>, FrameMeta)>,
    /// What the guest set: operation and data.
    pub controls: Vec<(u16, Vec<u8>)>,
    /// What is sent comes back on the same pair.
    pub loopback: bool,
    pairs: Vec<Queues>,
}

impl Port {
    pub(super) fn close(&mut self) {
        self.pairs.iter_mut().for_each(|pair| *pair = Queues::default());
    }

    /// Buffers that are posted on a pair.
    #[must_use]
    pub fn posted(&self, pair: usize) -> usize {
        self.pairs.get(pair).map_or(0, |pair| pair.posted.len())
    }
}

impl Device {
    /// A network port of `pairs` pairs, with every feature.
    #[must_use]
    pub fn net(pairs: u16, mtu: u16) -> Self {
        let config = NetConfig { mac: [2, 0, 0, 0, 0, 1], mtu, flags: LinkFlags::UP.bits(), speed: 10_000 };
        let mut offer = offer(Class::NET, 0, config.as_bytes());
        offer.features = NetFeatures::all().bits();
        offer.max_queues = 2 * pairs;
        offer.max_segments = 32;
        offer.max_transfer = 128 * 1024;
        offer.alignment = 1;
        let pairs = (0..pairs).map(|_| Queues::default()).collect();
        Self::new(offer, Kind::Net(Port { sent: Vec::new(), controls: Vec::new(), loopback: false, pairs }))
    }

    pub(super) fn open_net(&mut self, open: &OpenQueue, size: RingSize, memory: &TestMemory) -> Result<(), CallError> {
        let inward = open.queue.is_multiple_of(2);
        let words = if inward { 4 } else { 1 };
        if open.queue >= self.accepted || usize::from(open.completion_bytes) != words * COMPLETION_BYTES {
            return Err(CallError::INVALID);
        }
        let requests = area_pages(open.depth, REQUEST_BYTES);
        let completions = area_pages(open.depth, words * COMPLETION_BYTES);
        let peer = area(memory, open.page_list, 0, requests).ok_or(CallError::FAULT)?;
        let own = area(memory, open.page_list, requests, completions).ok_or(CallError::FAULT)?;
        let Kind::Net(port) = &mut self.kind else { return Err(CallError::INVALID) };
        let queues = port.pairs.get_mut(usize::from(open.queue / 2)).ok_or(CallError::NOT_FOUND)?;
        if inward {
            queues.inward = WideBackend::new(own, peer, size, self.epoch).ok();
        } else {
            queues.outward = Backend::new(own, peer, size, self.epoch).ok();
        }
        Ok(())
    }

    pub(super) fn control(&mut self, control: &Control) -> Result<[u64; 6], CallError> {
        let Kind::Net(port) = &mut self.kind else { return Err(CallError::UNSUPPORTED) };
        let data = control.data.get(..control.size.into()).ok_or(CallError::INVALID)?;
        port.controls.push((control.operation, data.to_vec()));
        Ok([0; 6])
    }

    fn queues(&mut self, pair: usize) -> Option<&mut Queues> {
        match &mut self.kind {
            Kind::Net(port) => port.pairs.get_mut(pair),
            _ => None,
        }
    }

    /// One transmitted frame.
    fn transmit(&mut self, pair: usize, request: &Request, memory: &TestMemory) -> CompletionResult {
        if let Some((status, detail)) = self.statuses.pop_front().flatten() {
            return CompletionResult::new(status, detail);
        }
        let segments = match self.resolve(request, memory) {
            Ok(segments) if NetOp(request.word.op()) == NetOp::TRANSMIT => segments,
            Ok(_) => return CompletionResult::new(Status::UNSUPPORTED, 0),
            Err(status) => return CompletionResult::new(status, 0),
        };
        self.seen.push((request.word.op(), request.word.flags(), segments.len()));
        let mut frame = vec![0; segments.iter().map(|(_, length)| *length).sum()];
        if let Err(status) = gather(&mut frame, &segments, memory) {
            return CompletionResult::new(status, 0);
        }
        let [meta, ..] = request.words;
        let meta = FrameMeta(meta);
        if let Kind::Net(port) = &mut self.kind {
            if port.loopback
                && let Some(queues) = port.pairs.get_mut(pair)
            {
                let waiting = Waiting { frame: frame.clone(), meta, hash: FrameHash(0), endless: false };
                queues.waiting.push_back(waiting);
            }
            port.sent.push((pair, frame, meta));
        }
        CompletionResult::new(Status::OK, 0)
    }
}

impl Host {
    /// The port of device `id`.
    ///
    /// # Panics
    /// If the device is something else.
    #[must_use]
    #[expect(clippy::panic, reason = "a test's own mistake")]
    pub fn port(&mut self, id: u32) -> &mut Port {
        match self.device(id).map(|device| &mut device.kind) {
            Some(Kind::Net(port)) => port,
            _ => panic!("device {id} is a network port"),
        }
    }

    /// A frame for the guest; it waits for buffers.
    pub fn receive(&mut self, id: u32, pair: usize, frame: &[u8], meta: FrameMeta, hash: FrameHash) {
        self.arrive(id, pair, Waiting { frame: frame.to_vec(), meta, hash, endless: false });
    }

    /// A frame whose last part says that it goes on.
    pub fn receive_endless(&mut self, id: u32, pair: usize, frame: &[u8]) {
        let (meta, hash) = (FrameMeta(0), FrameHash(0));
        self.arrive(id, pair, Waiting { frame: frame.to_vec(), meta, hash, endless: true });
    }

    fn arrive(&mut self, id: u32, pair: usize, waiting: Waiting) {
        if let Some(queues) = self.device(id).and_then(|device| device.queues(pair)) {
            queues.waiting.push_back(waiting);
        }
        self.due.push(id.into());
        if !self.lazy {
            self.serve_due();
        }
    }

    /// Serves all queues of a port.
    pub(super) fn serve_net(&mut self, id: u32) {
        let pairs = self.device(id).map_or(0, |device| usize::from(device.accepted / 2));
        let notify = (0..pairs).fold(false, |notify, pair| notify | self.take_sent(id, pair) | self.fill(id, pair));
        if notify {
            self.interrupt();
        }
    }

    fn take_sent(&mut self, id: u32, pair: usize) -> bool {
        let memory = self.memory.clone();
        let Some(mut queue) = self.device(id).and_then(|device| device.queues(pair)?.outward.take()) else {
            return false;
        };
        let mut notify = false;
        loop {
            while let Ok(Some(request)) = queue.take() {
                let Some(device) = self.device(id) else { break };
                let CompletionResult(mut raw) = device.transmit(pair, &request, &memory);
                (self.tamper)(Stored::Completion, raw.as_mut_bytes());
                notify |=
                    queue.complete(request.word.id(), CompletionResult(raw)).is_ok_and(|needed| needed.is_needed());
            }
            let (needed, park) = queue.park();
            notify |= needed.is_needed();
            if park == Park::Armed || queue.is_latched() {
                break;
            }
        }
        if let Some(queues) = self.device(id).and_then(|device| device.queues(pair)) {
            queues.outward = Some(queue);
        }
        notify
    }

    fn fill(&mut self, id: u32, pair: usize) -> bool {
        let memory = self.memory.clone();
        let Some(device) = self.device(id) else { return false };
        let Some(mut queues) = device.queues(pair).map(core::mem::take) else { return false };
        let Some(mut queue) = queues.inward.take() else {
            if let Some(slot) = self.device(id).and_then(|device| device.queues(pair)) {
                *slot = queues;
            }
            return false;
        };
        let mut notify = false;
        loop {
            while let Ok(Some(request)) = queue.take() {
                queues.posted.push_back(request);
            }
            while let Some(waiting) = queues.waiting.pop_front() {
                if !self.deliver_one(id, &waiting, &mut queue, &mut queues.posted, &memory) {
                    queues.waiting.push_front(waiting);
                    break;
                }
                notify |= queue.flush().is_needed();
            }
            let (needed, park) = queue.park();
            notify |= needed.is_needed();
            if park == Park::Armed || queue.is_latched() {
                break;
            }
        }
        queues.inward = Some(queue);
        if let Some(slot) = self.device(id).and_then(|device| device.queues(pair)) {
            *slot = queues;
        }
        notify
    }

    /// Puts one frame into as many buffers as it needs; not if there are too few.
    fn deliver_one(
        &mut self,
        id: u32,
        waiting: &Waiting,
        queue: &mut WideBackend<SharedPages, 4>,
        posted: &mut VecDeque<Request>,
        memory: &TestMemory,
    ) -> bool {
        let Some(device) = self.device(id) else { return false };
        let mut parts = Vec::new();
        let mut rest = &waiting.frame[..];
        for request in posted.iter() {
            let Ok(segments) = device.resolve(request, memory) else { return false };
            let room = segments.iter().map(|(_, length)| *length).sum::<usize>().min(rest.len());
            let (now, later) = rest.split_at(room);
            parts.push((*request, segments, now));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        if !rest.is_empty() || parts.is_empty() {
            return false;
        }
        posted.drain(..parts.len());
        let last = parts.len() - 1;
        for (part, (request, segments, bytes)) in parts.into_iter().enumerate() {
            let status = scatter(bytes, &segments, memory).err().unwrap_or(Status::OK);
            let mut result = CompletionResult::new(status, bytes.len() as u32).0;
            (self.tamper)(Stored::Completion, result.as_mut_bytes());
            let more = if part < last || waiting.endless { u64::from(FrameFlags::MORE.bits()) << 56 } else { 0 };
            let mut words = [waiting.meta.0 | more, waiting.hash.0, 0];
            (self.tamper)(Stored::Words, words.as_mut_bytes());
            let [meta, hash, zero] = words;
            let _ = queue.hold(request.word.id(), CompletionResult(result), [0, meta, hash, zero]);
        }
        true
    }
}
