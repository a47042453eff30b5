//! The services engine: LISTENs stay in flight until there is an event, REPORTs are taken at once.

use super::Services;
use crate::counters::QueueCounters;
use crate::engine::{Pass, Port, QueueEngine, QueueSetup, serve_visible};
use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::services::{ServiceEvent, ServiceOp, ServiceReport};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_abi::version::CURRENT;
use pvkit_ring::{Park, Request};
use std::collections::VecDeque;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::IntoBytes;

/// Greatest depth of the queue.
const MAX_DEPTH: u32 = 16;
/// Bytes of an event.
const EVENT: u32 = size_of::<ServiceEvent>() as u32;

/// The offer of the services channel.
#[must_use]
pub fn offer(services: &Services) -> Offer {
    let mut config = [0; CONFIG_BYTES];
    for (to, from) in config.iter_mut().zip(services.config().as_bytes()) {
        *to = *from;
    }
    Offer {
        class: Class::SERVICES,
        instance: 0,
        newest: CURRENT,
        minor_oldest: CURRENT.minor,
        max_queues: 1,
        max_depth: MAX_DEPTH,
        features: 0,
        required: 0,
        max_segments: 1,
        max_transfer: EVENT,
        alignment: 1,
        reserved: 0,
        config,
    }
}

/// A services queue's engine.
pub struct ServicesQueue {
    port: Port,
    services: Arc<Services>,
    listening: VecDeque<Listen>,
}

/// A LISTEN in flight.
#[derive(Clone, Copy)]
struct Listen {
    id: u16,
    grant: GrantRef,
    length: u32,
    offset: u64,
}

impl ServicesQueue {
    /// An engine between the guest and `services`.
    #[must_use]
    pub fn new(setup: QueueSetup, services: Arc<Services>) -> Self {
        Self { port: Port::new(setup), services, listening: VecDeque::new() }
    }

    fn serve(&mut self, request: &Request) {
        let result = match ServiceOp(request.word.op()) {
            _ if request.word.flags() != 0 => Err(Status::UNSUPPORTED),
            ServiceOp::LISTEN => self.listen(request).map(|()| None),
            ServiceOp::REPORT => self.report(request).map(|()| Some(0)),
            _ => Err(Status::UNSUPPORTED),
        };
        match result {
            Ok(None) => {}
            Ok(Some(detail)) => self.port.complete(request.word.id(), CompletionResult::new(Status::OK, detail)),
            Err(status) => self.port.complete(request.word.id(), CompletionResult::new(status, 0)),
        }
    }

    /// Keeps the buffer until there is an event. At most the depth are kept: that many are in flight.
    fn listen(&mut self, request: &Request) -> Result<(), Status> {
        let [position, place, offset] = request.words;
        let (grant, length) = (GrantRef(place as u32), (place >> 32) as u32);
        if position != 0 || request.word.aux() != 0 || length < EVENT {
            return Err(Status::INVALID);
        }
        self.port.grants.resolve(grant, offset, length, Access::WRITE)?;
        self.listening.push_back(Listen { id: request.word.id(), grant, length, offset });
        Ok(())
    }

    fn report(&self, request: &Request) -> Result<(), Status> {
        let [sequence, second, third] = request.words;
        let report = ServiceReport(request.word.aux());
        if second != 0 || third != 0 || report.name().is_none() {
            return Err(Status::INVALID);
        }
        self.services.report(sequence, report);
        Ok(())
    }

    /// Hands events out while there are buffers. Bounded by the buffers.
    fn deliver(&mut self) -> u32 {
        let mut delivered = 0;
        while let (Some(listen), true) = (self.listening.front().copied(), self.services.has_event()) {
            let Some(event) = self.services.take_event() else { break };
            self.listening.pop_front();
            delivered += 1;
            let result = match self.write(listen, &event) {
                Ok(()) => CompletionResult::new(Status::OK, EVENT),
                Err(status) => {
                    self.services.untake_event(event);
                    CompletionResult::new(status, 0)
                }
            };
            self.port.complete(listen.id, result);
        }
        delivered
    }

    fn write(&self, listen: Listen, event: &ServiceEvent) -> Result<(), Status> {
        let grants = self.port.grants.pin();
        let memory = grants.resolve(listen.grant, listen.offset, listen.length, Access::WRITE)?;
        memory.write(0, event.as_bytes()).map_err(|_| Status::BAD_GRANT)
    }
}

impl QueueEngine for ServicesQueue {
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
            // What is asked later writes to the eventfd that the thread waits for.
            Park::Armed if !self.listening.is_empty() && self.services.has_event() => Park::Ready,
            park => park,
        }
    }

    fn flush(&mut self) {
        self.port.flush();
    }

    fn close(&mut self) {
        self.listening.clear();
        self.services.closed();
        self.port.close();
    }

    fn waits_for(&self) -> Option<&EventFd> {
        Some(self.services.wake_fd())
    }

    fn depth(&self) -> u32 {
        self.port.depth()
    }

    fn counters(&self) -> &Arc<QueueCounters> {
        &self.port.counters
    }
}
