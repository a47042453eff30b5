//! One transmit queue: copy a frame out, judge it, hand it on. Synchronous: between two passes nothing is in flight.

use super::offload::{OffloadError, Rules, judge};
use super::segments::copy_frame;
use super::{Frame, Network, with_needs};
use crate::counters::{QueueCounters, add};
use crate::engine::{Pass, Port, QueueEngine, QueueSetup, serve_visible};
use pvkit_abi::net::{FrameMeta, NetFeatures, NetOp};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Park, Request};
use std::sync::Arc;

/// A transmit queue's engine.
pub struct TransmitQueue {
    port: Port,
    network: Arc<dyn Network>,
    rules: Rules,
}

impl TransmitQueue {
    /// An engine into `network`. `features` are the sealed ones, `mtu` is the offer's.
    #[must_use]
    pub fn new(setup: QueueSetup, network: Arc<dyn Network>, features: NetFeatures, mtu: u16) -> Self {
        Self { port: Port::new(setup), network, rules: Rules { features: with_needs(features), mtu } }
    }

    fn serve(&mut self, request: &Request) -> Status {
        match self.take_frame(request) {
            Ok(frame) => {
                add(&self.port.counters.frames, 1);
                add(&self.port.counters.bytes_written, frame.bytes.len() as u64);
                self.network.send(frame);
                Status::OK
            }
            Err(status) => status,
        }
    }

    /// The frame in private memory, judged. The grants are pinned no longer than the copy takes.
    fn take_frame(&self, request: &Request) -> Result<Frame, Status> {
        if NetOp(request.word.op()) != NetOp::TRANSMIT {
            return Err(Status::UNSUPPORTED);
        }
        let bytes = copy_frame(request, self.rules.features, &self.port.grants.pin())?;
        let [meta, ..] = request.words;
        let frame = Frame { bytes, meta: FrameMeta(meta) };
        judge(&frame.bytes, frame.meta, &self.rules).map_err(status_of)?;
        Ok(frame)
    }
}

const fn status_of(error: OffloadError) -> Status {
    match error {
        OffloadError::Oversized => Status::TOO_LARGE,
        OffloadError::Flags | OffloadError::NotSealed | OffloadError::Segmentation => Status::UNSUPPORTED,
        _ => Status::INVALID,
    }
}

impl QueueEngine for TransmitQueue {
    fn pass(&mut self, budget: u32) -> Pass {
        let served = serve_visible(
            self,
            |queue| &mut queue.port,
            budget,
            |queue, request| {
                let status = queue.serve(request);
                queue.port.complete(request.word.id(), CompletionResult::new(status, 0));
            },
        );
        let Some(worked) = served else { return Pass::Latched };
        if worked < budget {
            // Nothing is visible any more: what is held back has no reason to wait.
            self.port.flush();
        }
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
