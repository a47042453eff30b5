//! The entropy engine: random bytes of the host's generator into the guest's memory.

use crate::counters::{QueueCounters, add};
use crate::engine::{Pass, Port, QueueEngine, QueueSetup, serve_visible};
use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::entropy::{EntropyOp, MAX_REQUEST};
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_abi::version::CURRENT;
use pvkit_ring::{Park, Request};
use std::sync::Arc;

/// Greatest depth of the queue.
const MAX_DEPTH: u32 = 16;

/// The offer of the entropy device.
#[must_use]
pub fn offer() -> Offer {
    Offer {
        class: Class::ENTROPY,
        instance: 0,
        newest: CURRENT,
        minor_oldest: CURRENT.minor,
        max_queues: 1,
        max_depth: MAX_DEPTH,
        features: 0,
        required: 0,
        max_segments: 1,
        max_transfer: MAX_REQUEST,
        alignment: 1,
        reserved: 0,
        config: [0; CONFIG_BYTES],
    }
}

/// An entropy queue's engine.
pub struct EntropyQueue {
    port: Port,
}

impl EntropyQueue {
    /// An engine over the host's generator.
    #[must_use]
    pub fn new(setup: QueueSetup) -> Self {
        Self { port: Port::new(setup) }
    }

    /// Fills the segment. The numbers are the guest's.
    fn serve(&self, request: &Request) -> Result<u32, Status> {
        let [position, place, offset] = request.words;
        let length = (place >> 32) as u32;
        if EntropyOp(request.word.op()) != EntropyOp::READ || request.word.flags() != 0 {
            return Err(Status::UNSUPPORTED);
        }
        if position != 0 || request.word.aux() != 0 || length == 0 {
            return Err(Status::INVALID);
        }
        if length > MAX_REQUEST {
            return Err(Status::TOO_LARGE);
        }
        let mut bytes = [0; MAX_REQUEST as usize];
        let bytes = bytes.get_mut(..length as usize).ok_or(Status::TOO_LARGE)?;
        getrandom::fill(bytes).map_err(|_| Status::IO_ERROR)?;
        let grants = self.port.grants.pin();
        let memory = grants.resolve(GrantRef(place as u32), offset, length, Access::WRITE)?;
        memory.write(0, bytes).map_err(|_| Status::BAD_GRANT)?;
        add(&self.port.counters.bytes_read, u64::from(length));
        Ok(length)
    }
}

impl QueueEngine for EntropyQueue {
    fn pass(&mut self, budget: u32) -> Pass {
        let served = serve_visible(
            self,
            |queue| &mut queue.port,
            budget,
            |queue, request| {
                let result = match queue.serve(request) {
                    Ok(length) => CompletionResult::new(Status::OK, length),
                    Err(status) => CompletionResult::new(status, 0),
                };
                queue.port.complete(request.word.id(), result);
            },
        );
        let Some(worked) = served else { return Pass::Latched };
        self.port.flush();
        Pass::after(worked)
    }

    fn park(&mut self) -> Park {
        self.port.park()
    }

    fn flush(&mut self) {
        self.port.flush();
    }

    fn close(&mut self) {
        self.port.close();
    }

    fn depth(&self) -> u32 {
        self.port.depth()
    }

    fn counters(&self) -> &Arc<QueueCounters> {
        &self.port.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_guest::{Ask, READ_ONLY, connect, ok, refused};

    fn read(length: u32) -> Ask {
        Ask::segment(EntropyOp::READ.0, 0, length, 0)
    }

    #[test]
    fn bytes_arrive_and_differ() {
        let (mut guest, setup) = connect(4);
        let mut queue = EntropyQueue::new(setup);
        assert_eq!(guest.ask(&mut queue, read(64)), ok(64));
        let first = guest.bytes(0, 64);
        assert_eq!(guest.ask(&mut queue, read(64)), ok(64));
        // Equal only if 512 random bits are: the generator would be broken.
        assert_ne!(first, guest.bytes(0, 64));
        assert_ne!(first, vec![0; 64]);
        assert_eq!(guest.bytes(64, 8), vec![0; 8], "nothing behind what was asked for");
    }

    #[test]
    fn requests_that_cannot_be_are_refused() {
        let (mut guest, setup) = connect(4);
        let mut queue = EntropyQueue::new(setup);
        assert_eq!(guest.ask(&mut queue, read(0)), refused(Status::INVALID));
        assert_eq!(guest.ask(&mut queue, read(MAX_REQUEST + 1)), refused(Status::TOO_LARGE));
        assert_eq!(guest.ask(&mut queue, read(8).grant(READ_ONLY)), refused(Status::BAD_GRANT));
        assert_eq!(guest.ask(&mut queue, Ask { op: 9, ..read(8) }), refused(Status::UNSUPPORTED));
    }
}
