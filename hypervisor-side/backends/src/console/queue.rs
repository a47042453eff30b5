//! One console queue. A WRITE is done at once, a READ stays in flight until something is typed.
//!
//! *Invariants.* The READs that wait are in flight in the ring, so there are never more than the depth. Their memory is
//! looked up when the bytes are there: a grant that was revoked meanwhile costs that READ, and no input.

use crate::console::ConsoleInput;
use crate::console::output::write_all;
use crate::counters::{QueueCounters, add};
use crate::disk::DiskError;
use crate::engine::{Pass, Port, QueueEngine, QueueSetup, serve_visible};
use pvkit_abi::console::{ConsoleOp, MAX_TRANSFER};
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Park, Request};
use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// Where the guest's bytes go. A sink that blocks holds up this console's queue, and with it whatever waits for that
/// queue's end (`CLOSE`, `BUS_SETUP`, the end of a run): give one that fails or times out instead.
pub type ConsoleOutput = Arc<Mutex<dyn Write + Send>>;

/// A console queue's engine.
pub struct ConsoleQueue {
    port: Port,
    output: ConsoleOutput,
    input: Arc<ConsoleInput>,
    waiting: VecDeque<Read>,
    buffer: Vec<u8>,
}

/// A READ in flight.
#[derive(Clone, Copy)]
struct Read {
    id: u16,
    place: Place,
}

/// The segment that a request named.
#[derive(Clone, Copy)]
struct Place {
    grant: GrantRef,
    length: u32,
    offset: u64,
}

impl Place {
    /// Judges what all console requests have in common. A lie is answered with a status.
    fn check(request: &Request) -> Result<Self, Status> {
        let [position, place, offset] = request.words;
        if request.word.flags() != 0 {
            return Err(Status::UNSUPPORTED);
        }
        let length = (place >> 32) as u32;
        if request.word.aux() != 0 || position != 0 || length == 0 {
            return Err(Status::INVALID);
        }
        if length > MAX_TRANSFER {
            return Err(Status::TOO_LARGE);
        }
        Ok(Self { grant: GrantRef(place as u32), length, offset })
    }
}

impl ConsoleQueue {
    /// An engine between `output` and `input`.
    #[must_use]
    pub fn new(setup: QueueSetup, output: ConsoleOutput, input: Arc<ConsoleInput>) -> Self {
        Self { port: Port::new(setup), output, input, waiting: VecDeque::new(), buffer: Vec::new() }
    }

    fn serve(&mut self, request: &Request) {
        let id = request.word.id();
        let served = match ConsoleOp(request.word.op()) {
            ConsoleOp::WRITE => self.write(request).map(Some),
            ConsoleOp::READ => self.read(request).map(|()| None),
            _ => Err(CompletionResult::new(Status::UNSUPPORTED, 0)),
        };
        match served {
            Ok(None) => {}
            Ok(Some(bytes)) => self.port.complete(id, CompletionResult::new(Status::OK, bytes)),
            Err(result) => self.port.complete(id, result),
        }
    }

    /// Copies the bytes out once and writes them. A sink that fails costs the guest an error for this request.
    fn write(&mut self, request: &Request) -> Result<u32, CompletionResult> {
        let refused = |status| CompletionResult::new(status, 0);
        let place = Place::check(request).map_err(refused)?;
        self.buffer.resize(place.length as usize, 0);
        let grants = self.port.grants.pin();
        let bytes = grants.resolve(place.grant, place.offset, place.length, Access::READ).map_err(refused)?;
        bytes.read(0, &mut self.buffer).map_err(|_| refused(Status::BAD_GRANT))?;
        drop(grants);
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        write_all(&mut *output, &self.buffer).map_err(|error| DiskError::from(error).to_result())?;
        add(&self.port.counters.bytes_written, u64::from(place.length));
        Ok(place.length)
    }

    fn read(&mut self, request: &Request) -> Result<(), CompletionResult> {
        let refused = |status| CompletionResult::new(status, 0);
        let place = Place::check(request).map_err(refused)?;
        // Told now rather than at the first key press.
        self.port.grants.resolve(place.grant, place.offset, place.length, Access::WRITE).map_err(refused)?;
        self.waiting.push_back(Read { id: request.word.id(), place });
        Ok(())
    }

    /// Answers READs while there is input. At most as many as wait, so at most the depth.
    fn deliver(&mut self) -> u32 {
        let mut delivered = 0;
        while let Some(read) = self.waiting.front().copied() {
            let Some(result) = self.fill(read.place) else { break };
            self.waiting.pop_front();
            self.port.complete(read.id, result);
            delivered += 1;
        }
        delivered
    }

    /// Fills one READ's memory; `None` if nothing is there yet.
    fn fill(&self, place: Place) -> Option<CompletionResult> {
        if !self.input.is_ready() {
            return None;
        }
        let grants = self.port.grants.pin();
        let Ok(memory) = grants.resolve(place.grant, place.offset, place.length, Access::WRITE) else {
            return Some(CompletionResult::new(Status::BAD_GRANT, 0));
        };
        let bytes = self.input.take(memory.len())?;
        // In range: no more was taken than fits.
        if memory.write(0, &bytes).is_err() {
            return Some(CompletionResult::new(Status::BAD_GRANT, 0));
        }
        add(&self.port.counters.bytes_read, bytes.len() as u64);
        Some(CompletionResult::new(Status::OK, bytes.len() as u32))
    }
}

impl QueueEngine for ConsoleQueue {
    fn pass(&mut self, budget: u32) -> Pass {
        let served = serve_visible(
            self,
            |queue| &mut queue.port,
            budget,
            |queue, request| {
                queue.serve(request);
            },
        );
        let Some(worked) = served else { return Pass::Latched };
        let worked = worked + self.deliver();
        self.port.flush();
        Pass::after(worked)
    }

    fn park(&mut self) -> Park {
        match self.port.park() {
            // What is typed later writes to the eventfd that the thread waits for.
            Park::Armed if !self.waiting.is_empty() && self.input.is_ready() => Park::Ready,
            park => park,
        }
    }

    fn flush(&mut self) {
        self.port.flush();
    }

    fn close(&mut self) {
        self.waiting.clear();
        self.port.close();
    }

    fn waits_for(&self) -> Option<&EventFd> {
        Some(self.input.wake_fd())
    }

    fn depth(&self) -> u32 {
        self.port.depth()
    }

    fn counters(&self) -> &Arc<QueueCounters> {
        &self.port.counters
    }
}
