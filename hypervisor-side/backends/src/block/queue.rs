//! One block queue: take, judge, carry out, complete. Synchronous: between two passes nothing is in flight.

use crate::block::BlockLimits;
use crate::block::request::{BlockRequest, Rules, Segments};
use crate::counters::{QueueCounters, add};
use crate::disk::{Disk, DiskError};
use crate::engine::{Pass, Port, QueueEngine, QueueSetup, serve_visible};
use pvkit_abi::block::BlockFeatures;
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Park, Request};
use pvkit_shared_memory::SharedBytes;
use std::sync::Arc;

/// A block queue's engine.
pub struct BlockQueue {
    port: Port,
    disk: Arc<dyn Disk>,
    limits: BlockLimits,
    features: BlockFeatures,
    segments: Segments,
}

impl BlockQueue {
    /// An engine for `disk`. `features` are the sealed ones; what the disk cannot do is left out of them.
    #[must_use]
    pub fn new(setup: QueueSetup, disk: Arc<dyn Disk>, limits: BlockLimits, features: BlockFeatures) -> Self {
        let features = features & disk.features();
        Self { port: Port::new(setup), disk, limits, features, segments: Segments::default() }
    }

    /// Judges one request and carries it out. The grants stay pinned for as long as the disk uses memory: a revocation
    /// waits for a transfer, and not for a flush.
    fn serve(&mut self, request: &Request) -> CompletionResult {
        let rules = Rules::of(self.disk.as_ref(), self.features, self.limits);
        let grants = self.port.grants.pin();
        let checked = match BlockRequest::check(request, &rules, &grants, &mut self.segments) {
            Ok(checked) => checked,
            Err(status) => return CompletionResult::new(status, 0),
        };
        let _pinned = checked.uses_memory().then_some(grants);
        let segments = self.segments.as_slice();
        match execute(self.disk.as_ref(), checked, segments, &self.port.counters) {
            Ok(detail) => CompletionResult::new(Status::OK, detail),
            Err(error) => {
                if matches!(error, DiskError::Lost(_)) {
                    self.port.tell(&self.port.counters.lost, error);
                }
                error.to_result()
            }
        }
    }
}

/// Carries out what was checked; answers the completion's detail.
fn execute(
    disk: &dyn Disk,
    request: BlockRequest,
    segments: &[SharedBytes],
    counters: &QueueCounters,
) -> Result<u32, DiskError> {
    match request {
        BlockRequest::Read { position, length } => {
            disk.read(position, segments)?;
            add(&counters.bytes_read, length);
        }
        BlockRequest::Write { position, length, fua } => {
            disk.write(position, segments, fua)?;
            add(&counters.bytes_written, length);
        }
        BlockRequest::Flush => disk.flush()?,
        BlockRequest::Discard { position, length } => disk.discard(position, length)?,
        BlockRequest::WriteZeroes { position, length, fua } => disk.write_zeroes(position, length, fua)?,
        BlockRequest::Identify => return Ok(identify(disk, segments)),
    }
    Ok(0)
}

/// Writes the serial, cut to the segment; answers how many bytes.
fn identify(disk: &dyn Disk, segments: &[SharedBytes]) -> u32 {
    let serial = disk.config().serial;
    let Some(segment) = segments.first() else { return 0 };
    let length = serial.len().min(segment.len());
    let part = serial.get(..length).unwrap_or(&[]);
    // In range: `part` is cut to the segment.
    if segment.write(0, part).is_ok() { length as u32 } else { 0 }
}

impl QueueEngine for BlockQueue {
    fn pass(&mut self, budget: u32) -> Pass {
        let served = serve_visible(
            self,
            |queue| &mut queue.port,
            budget,
            |queue, request| {
                let result = queue.serve(request);
                queue.port.complete(request.word.id(), result);
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
