//! The fake host's devices: a disk that forgets what was not flushed, and a console.

use super::{Host, Stored};
use crate::platform::test::TestMemory;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::block::{BlockConfig, BlockFeatures, BlockOp};
use pvkit_abi::bus::{Accept, CONFIG_BYTES, Class, Offer, OpenQueue, ShareGrant};
use pvkit_abi::console::ConsoleOp;
use pvkit_abi::grant::{GrantRef, Segment};
use pvkit_abi::net::NetFeatures;
use pvkit_abi::ring::{COMPLETION_BYTES, REQUEST_BYTES, RequestFlags, area_pages};
use pvkit_abi::services::{ServiceEvent, ServiceOp};
use pvkit_abi::status::{CallError, CompletionResult, Status};
use pvkit_abi::version::CURRENT;
use pvkit_ring::{Backend, Park, Request, RingSize};
use pvkit_shared_memory::SharedPages;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

/// What a device keeps.
#[derive(Debug)]
pub enum Kind {
    /// A disk.
    Disk {
        /// What a reader sees.
        cached: Vec<u8>,
        /// What a crash leaves.
        durable: Vec<u8>,
    },
    /// A console.
    Console {
        /// What was written.
        output: Vec<u8>,
        /// What can be read.
        input: VecDeque<u8>,
        /// Reads that wait for input.
        reads: VecDeque<Request>,
        /// Nothing more will be typed.
        ended: bool,
    },
    /// A generator; it counts.
    Entropy(u8),
    /// What the host asks of the guest.
    Services {
        /// Events that wait to be listened for.
        events: VecDeque<ServiceEvent>,
        /// What listens.
        listens: VecDeque<Request>,
        /// What the guest reported: report and sequence.
        reports: Vec<(u16, u64)>,
    },
    /// A network port.
    Net(super::Port),
}

/// One device.
#[derive(Debug)]
pub struct Device {
    /// What is offered; may be changed before the guest connects.
    pub offer: Offer,
    /// What it keeps.
    pub kind: Kind,
    /// Requests that were carried out: operation, flag byte, segments.
    pub seen: Vec<(u8, u8, usize)>,
    /// The next requests end like this, without being carried out; `None` lets one pass.
    pub statuses: VecDeque<Option<(Status, u32)>>,
    pub(crate) epoch: u64,
    pub(crate) accepted: u16,
    pub(crate) features: u64,
    pub(crate) queue: Option<Backend<SharedPages>>,
    grants: Vec<(GrantRef, u64, u64)>,
}

impl Device {
    /// A disk of `bytes`, with every feature.
    #[must_use]
    pub fn disk(instance: u16, bytes: usize, logical_block: u32) -> Self {
        let config = BlockConfig {
            capacity: bytes as u64,
            logical_block,
            physical_block: 4096.max(logical_block),
            flags: 0,
            discard_granularity: logical_block,
            max_discard: 64 * 1024,
            serial: serial(),
        };
        let mut offer = offer(Class::BLOCK, instance, config.as_bytes());
        offer.features = BlockFeatures::all().bits();
        Self::new(offer, Kind::Disk { cached: vec![0; bytes], durable: vec![0; bytes] })
    }

    /// A console with nothing typed.
    #[must_use]
    pub fn console() -> Self {
        let kind = Kind::Console { output: Vec::new(), input: VecDeque::new(), reads: VecDeque::new(), ended: false };
        Self::new(offer(Class::CONSOLE, 0, &[80, 0, 25, 0]), kind)
    }

    /// A generator.
    #[must_use]
    pub fn entropy() -> Self {
        Self::new(offer(Class::ENTROPY, 0, &[]), Kind::Entropy(0))
    }

    /// Services with nothing to say.
    #[must_use]
    pub fn services() -> Self {
        let kind = Kind::Services { events: VecDeque::new(), listens: VecDeque::new(), reports: Vec::new() };
        Self::new(offer(Class::SERVICES, 0, &[]), kind)
    }

    pub(super) const fn new(offer: Offer, kind: Kind) -> Self {
        Self {
            offer,
            kind,
            seen: Vec::new(),
            statuses: VecDeque::new(),
            epoch: 0,
            accepted: 0,
            features: 0,
            queue: None,
            grants: Vec::new(),
        }
    }

    pub(crate) fn accept(&mut self, accept: &Accept, epoch: u64) -> Result<[u64; 6], CallError> {
        let fits = match self.offer.class {
            Class::NET => accept.queues.is_multiple_of(2) && (2..=self.offer.max_queues).contains(&accept.queues),
            _ => accept.queues == 1,
        };
        let missing = match self.offer.class {
            Class::NET => !NetFeatures::from_bits_retain(accept.features).missing().is_empty(),
            _ => false,
        };
        if accept.features & !self.offer.features != 0 || !fits || missing {
            return Err(CallError::REFUSED);
        }
        (self.accepted, self.features) = (accept.queues, accept.features);
        self.epoch = epoch;
        Ok([0; 6])
    }

    pub(crate) fn share(&mut self, share: &ShareGrant) -> Result<[u64; 6], CallError> {
        let name = GrantRef::new(self.grants.len() as u16, 7);
        self.grants.push((name, share.base, share.length));
        Ok([name.0.into(), 0, 0, 0, 0, 0])
    }

    pub(crate) fn open(&mut self, open: &OpenQueue, memory: &TestMemory) -> Result<(), CallError> {
        let size = RingSize::new(open.depth).filter(|_| open.depth <= self.offer.max_depth);
        let size = size.ok_or(CallError::INVALID)?;
        if self.offer.class == Class::NET {
            return self.open_net(open, size, memory);
        }
        let (requests, completions) = (area_pages(open.depth, REQUEST_BYTES), area_pages(open.depth, COMPLETION_BYTES));
        let peer = area(memory, open.page_list, 0, requests).ok_or(CallError::FAULT)?;
        let own = area(memory, open.page_list, requests, completions).ok_or(CallError::FAULT)?;
        let queue = Backend::new(own, peer, size, self.epoch).map_err(|_| CallError::INVALID)?;
        if queue.peer_epoch() != self.epoch {
            return Err(CallError::STALE);
        }
        self.queue = Some(queue);
        Ok(())
    }

    /// Nothing is drained: the fake carries everything out at once, and what waits for input is forgotten.
    pub(crate) fn close(&mut self, epoch: u64) {
        self.queue = None;
        self.grants.clear();
        self.epoch = epoch;
        self.forget();
    }

    /// What was in flight is gone.
    pub(crate) fn forget(&mut self) {
        match &mut self.kind {
            Kind::Console { reads, .. } => reads.clear(),
            Kind::Net(port) => port.close(),
            Kind::Services { listens, .. } => listens.clear(),
            Kind::Disk { .. } | Kind::Entropy(_) => {}
        }
    }

    /// The bytes of a request's segments, as addresses; `Err` is the status that it ends with.
    pub(super) fn resolve(&self, request: &Request, memory: &TestMemory) -> Result<Vec<(u64, usize)>, Status> {
        let [_, word2, word3] = request.words;
        let named = Segment { grant: GrantRef(word2 as u32), length: (word2 >> 32) as u32, offset: word3 };
        let mut segments = vec![named];
        if request.word.flags() & RequestFlags::INDIRECT.bits() != 0 {
            let count = usize::from(request.word.aux());
            let size = size_of::<Segment>();
            if count > self.offer.max_segments as usize || named.length as usize != count * size {
                return Err(Status::TOO_LARGE);
            }
            let (at, length) = self.address(&named)?;
            let list = memory.host(at, length).ok_or(Status::BAD_GRANT)?;
            segments = vec![Segment::default(); count];
            list.read(0, segments.as_mut_bytes()).map_err(|_| Status::BAD_GRANT)?;
        }
        if segments.iter().any(|segment| !segment.offset.is_multiple_of(self.offer.alignment.into())) {
            return Err(Status::MISALIGNED);
        }
        segments.iter().map(|segment| self.address(segment)).collect()
    }

    fn address(&self, segment: &Segment) -> Result<(u64, usize), Status> {
        let (_, base, length) =
            self.grants.iter().find(|(name, ..)| *name == segment.grant).ok_or(Status::BAD_GRANT)?;
        let end = segment.offset.checked_add(segment.length.into()).ok_or(Status::BAD_GRANT)?;
        if end > *length { Err(Status::BAD_GRANT) } else { Ok((base + segment.offset, segment.length as usize)) }
    }

    /// Carries a request out; `None` if it waits.
    fn carry_out(&mut self, request: &Request, memory: &TestMemory) -> Option<Result<u32, Status>> {
        let has_data = match self.offer.class {
            Class::BLOCK => matches!(BlockOp(request.word.op()), BlockOp::READ | BlockOp::WRITE | BlockOp::GET_ID),
            Class::SERVICES => ServiceOp(request.word.op()) == ServiceOp::LISTEN,
            _ => true,
        };
        let segments = if has_data { self.resolve(request, memory) } else { Ok(Vec::new()) };
        let segments = match segments {
            Ok(segments) => segments,
            Err(status) => return Some(Err(status)),
        };
        if self.offer.class == Class::BLOCK {
            self.seen.push((request.word.op(), request.word.flags(), segments.len()));
            return Some(self.on_disk(request, &segments, memory));
        }
        match &mut self.kind {
            Kind::Entropy(next) => {
                let length = segments.iter().map(|(_, length)| *length).sum();
                let bytes: Vec<u8> = core::iter::repeat_with(|| {
                    *next = next.wrapping_add(1);
                    *next
                })
                .take(length)
                .collect();
                Some(scatter(&bytes, &segments, memory).map(|()| length as u32))
            }
            Kind::Services { events, listens, reports } => {
                if segments.is_empty() {
                    let [sequence, ..] = request.words;
                    reports.push((request.word.aux(), sequence));
                    return Some(Ok(0));
                }
                let Some(event) = events.pop_front() else {
                    listens.push_back(*request);
                    return None;
                };
                Some(scatter(event.as_bytes(), &segments, memory).map(|()| size_of::<ServiceEvent>() as u32))
            }
            _ => self.on_console(request, &segments, memory),
        }
    }

    fn on_disk(&mut self, request: &Request, segments: &[(u64, usize)], memory: &TestMemory) -> Result<u32, Status> {
        let Kind::Disk { cached, durable } = &mut self.kind else { return Err(Status::INVALID) };
        let [position, _, word3] = request.words;
        let op = BlockOp(request.word.op());
        let length = match op {
            BlockOp::READ | BlockOp::WRITE => segments.iter().map(|(_, length)| *length as u64).sum(),
            BlockOp::DISCARD | BlockOp::WRITE_ZEROES => word3,
            _ => 0,
        };
        if length > self.offer.max_transfer.into() {
            return Err(Status::TOO_LARGE);
        }
        let run = position as usize..position.checked_add(length).ok_or(Status::OUT_OF_RANGE)? as usize;
        let part = cached.get_mut(run.clone()).ok_or(Status::OUT_OF_RANGE)?;
        match op {
            BlockOp::READ => scatter(part, segments, memory)?,
            BlockOp::WRITE => gather(part, segments, memory)?,
            BlockOp::DISCARD | BlockOp::WRITE_ZEROES => part.fill(0),
            BlockOp::FLUSH => durable.clone_from(cached),
            BlockOp::GET_ID => {
                scatter(&serial(), segments, memory)?;
                return Ok(serial().len() as u32);
            }
            _ => return Err(Status::UNSUPPORTED),
        }
        if request.word.flags() & RequestFlags::FUA.bits() != 0
            && let (Some(to), Some(from)) = (durable.get_mut(run.clone()), cached.get(run))
        {
            to.copy_from_slice(from);
        }
        Ok(0)
    }

    fn on_console(
        &mut self,
        request: &Request,
        segments: &[(u64, usize)],
        memory: &TestMemory,
    ) -> Option<Result<u32, Status>> {
        let Kind::Console { output, input, reads, ended } = &mut self.kind else { return Some(Err(Status::INVALID)) };
        let length: usize = segments.iter().map(|(_, length)| *length).sum();
        if ConsoleOp(request.word.op()) == ConsoleOp::WRITE {
            let mut text = vec![0; length];
            if let Err(status) = gather(&mut text, segments, memory) {
                return Some(Err(status));
            }
            output.extend(text);
            return Some(Ok(length as u32));
        }
        if input.is_empty() && !*ended {
            reads.push_back(*request);
            return None;
        }
        let count = input.len().min(length);
        let typed: Vec<u8> = input.drain(..count).collect();
        Some(scatter(&typed, segments, memory).map(|()| count as u32))
    }
}

impl Host {
    pub(crate) fn device(&mut self, id: u32) -> Option<&mut Device> {
        self.devices.get_mut((id as usize).checked_sub(1)?)
    }

    /// Serves the queues whose doorbells were rung.
    pub(crate) fn serve_due(&mut self) {
        for token in core::mem::take(&mut self.due) {
            self.serve(token as u32);
        }
    }

    /// Serves a queue as if its doorbell had been rung.
    pub fn ring(&mut self, id: u32) {
        self.serve(id);
    }

    /// Types at a console.
    pub fn type_in(&mut self, id: u32, text: &[u8]) {
        let Some(Kind::Console { input, .. }) = self.device(id).map(|device| &mut device.kind) else { return };
        input.extend(text);
        self.due.push(id.into());
    }

    /// Takes everything that is there, completes it, and goes to sleep on the ring.
    pub(crate) fn serve(&mut self, id: u32) {
        let memory = self.memory.clone();
        if self.device(id).is_some_and(|device| matches!(device.kind, Kind::Net(_))) {
            return self.serve_net(id);
        }
        let Some(mut queue) = self.device(id).and_then(|device| device.queue.take()) else { return };
        let waiting = match self.device(id).map(|device| &mut device.kind) {
            Some(Kind::Console { reads, .. }) => core::mem::take(reads),
            Some(Kind::Services { listens, .. }) => core::mem::take(listens),
            _ => VecDeque::new(),
        };
        let mut notify = false;
        for request in waiting {
            notify |= self.end(id, &mut queue, &request, &memory);
        }
        loop {
            let mut requests: Vec<_> = core::iter::from_fn(|| queue.take().ok().flatten()).collect();
            if self.reversed {
                requests.reverse();
            }
            for request in requests {
                notify |= self.end(id, &mut queue, &request, &memory);
            }
            let (needed, park) = queue.park();
            notify |= needed.is_needed();
            if park == Park::Armed || queue.is_latched() {
                break;
            }
        }
        if let Some(device) = self.device(id) {
            device.queue = Some(queue);
        }
        if notify {
            self.interrupt();
        }
    }

    fn end(&mut self, id: u32, queue: &mut Backend<SharedPages>, request: &Request, memory: &TestMemory) -> bool {
        let device = self.device(id);
        let result = device.and_then(|device| match device.statuses.pop_front().flatten() {
            Some((status, detail)) => Some(CompletionResult::new(status, detail)),
            None => Some(match device.carry_out(request, memory)? {
                Ok(detail) => CompletionResult::new(Status::OK, detail),
                Err(status) => CompletionResult::new(status, 0),
            }),
        });
        let Some(CompletionResult(mut raw)) = result else { return false };
        (self.tamper)(Stored::Completion, raw.as_mut_bytes());
        queue.complete(request.word.id(), CompletionResult(raw)).is_ok_and(|notify| notify.is_needed())
    }
}

fn serial() -> [u8; 32] {
    let mut serial = [0; 32];
    serial.iter_mut().zip(*b"fake disk").for_each(|(to, from)| *to = from);
    serial
}

pub(super) fn offer(class: Class, instance: u16, config: &[u8]) -> Offer {
    let mut offer = Offer::new_zeroed();
    offer.class = class;
    offer.instance = instance;
    offer.newest = CURRENT;
    offer.minor_oldest = CURRENT.minor;
    offer.max_queues = 1;
    offer.max_depth = 64;
    offer.max_segments = 8;
    offer.max_transfer = 64 * 1024;
    offer.alignment = 512;
    let mut bytes = [0; CONFIG_BYTES];
    bytes.iter_mut().zip(config).for_each(|(to, from)| *to = *from);
    offer.config = bytes;
    offer
}

/// The pages that a page list names.
pub(super) fn area(memory: &TestMemory, list: u64, first: usize, count: usize) -> Option<SharedPages> {
    let list = memory.host(list, PAGE_SIZE)?;
    let mut area = SharedPages::new();
    for entry in first..first + count {
        let mut address = 0u64;
        list.read(entry * 8, address.as_mut_bytes()).ok()?;
        area.push(memory.host(address, PAGE_SIZE)?).ok()?;
    }
    Some(area)
}

pub(super) fn scatter(from: &[u8], segments: &[(u64, usize)], memory: &TestMemory) -> Result<(), Status> {
    let mut rest = from;
    for (address, length) in segments {
        let (now, later) = rest.split_at_checked(*length).unwrap_or((rest, &[]));
        let bytes = memory.host(*address, now.len()).ok_or(Status::BAD_GRANT)?;
        bytes.write(0, now).map_err(|_| Status::BAD_GRANT)?;
        rest = later;
    }
    Ok(())
}

pub(super) fn gather(into: &mut [u8], segments: &[(u64, usize)], memory: &TestMemory) -> Result<(), Status> {
    let mut rest = into;
    for (address, length) in segments {
        let (now, later) = rest.split_at_mut_checked(*length).ok_or(Status::INVALID)?;
        let bytes = memory.host(*address, *length).ok_or(Status::BAD_GRANT)?;
        bytes.read(0, now).map_err(|_| Status::BAD_GRANT)?;
        rest = later;
    }
    Ok(())
}
