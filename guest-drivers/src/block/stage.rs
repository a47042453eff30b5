//! From a request to its slot in the ring: judged, described, reserved.

use super::polled::Pending;
use super::{Geometry, Request};
use crate::buffer::Described;
use crate::device::Grant;
use crate::error::{Misuse, RequestError};
use crate::platform::Platform;
use pvkit_abi::block::{BlockFeatures, BlockOp};
use pvkit_abi::ring::RequestFlags;
use pvkit_ring::{Batch, Ticket};
use pvkit_shared_memory::SharedPages;

/// What a request must keep to, beside there being a free slot.
pub(super) struct Rules {
    pub(super) geometry: Geometry,
    pub(super) features: BlockFeatures,
    pub(super) max_segments: u32,
    pub(super) max_transfer: u32,
    pub(super) grant: Grant,
}

impl Rules {
    /// Judges a request, reserves its slot and takes its buffer. On an error the request keeps it.
    pub(super) fn stage<'p, P: Platform, const N: usize, const PAGES: usize>(
        &self,
        batch: &mut Batch<'_, SharedPages, N>,
        pending: &mut Pending<'p, P, N, PAGES>,
        request: &mut Request<'p, P, PAGES>,
    ) -> Result<Ticket, RequestError> {
        self.check(request)?;
        let ticket = self.reserve(batch, request)?;
        pending.keep(ticket.id(), request);
        Ok(ticket)
    }

    /// Describes a request that was judged, and reserves its slot.
    pub(super) fn reserve<P: Platform, const N: usize, const PAGES: usize>(
        &self,
        batch: &mut Batch<'_, SharedPages, N>,
        request: &Request<'_, P, PAGES>,
    ) -> Result<Ticket, RequestError> {
        let described = self.describe(request)?;
        // Without the feature a write is durable at its completion anyway.
        let fua = request.fua && self.features.contains(BlockFeatures::FLUSH);
        let fua = if fua { RequestFlags::FUA } else { RequestFlags::empty() };
        let words = [request.position, described.word2, described.word3];
        Ok(batch.reserve(request.op.0, described.flags() | fua, described.aux, words)?)
    }

    /// Whether it may be submitted, and how its memory is named.
    pub(super) fn judge<P: Platform, const PAGES: usize>(
        &self,
        request: &Request<'_, P, PAGES>,
    ) -> Result<Described, RequestError> {
        self.check(request)?;
        self.describe(request)
    }

    fn check<P: Platform, const PAGES: usize>(&self, request: &Request<'_, P, PAGES>) -> Result<(), RequestError> {
        let (needs, writes, limit) = match request.op {
            BlockOp::READ => (BlockFeatures::empty(), false, self.max_transfer.into()),
            BlockOp::WRITE => (BlockFeatures::empty(), true, self.max_transfer.into()),
            BlockOp::DISCARD => (BlockFeatures::DISCARD, true, self.geometry.max_discard),
            BlockOp::WRITE_ZEROES => (BlockFeatures::WRITE_ZEROES, true, self.geometry.max_discard),
            BlockOp::FLUSH => (BlockFeatures::FLUSH, false, 0),
            _ => (BlockFeatures::empty(), false, request.length),
        };
        if !self.features.contains(needs) {
            return Err(RequestError::Unsupported);
        }
        if writes && self.geometry.read_only {
            return Err(Misuse::ReadOnly.into());
        }
        if request.length > limit {
            return Err(Misuse::BufferLength { limit }.into());
        }
        if matches!(request.op, BlockOp::FLUSH | BlockOp::GET_ID) {
            return Ok(());
        }
        Ok(self.geometry.check_run(request.position, request.length)?)
    }

    fn describe<P: Platform, const PAGES: usize>(
        &self,
        request: &Request<'_, P, PAGES>,
    ) -> Result<Described, RequestError> {
        match &request.buffer {
            Some(buffer) => {
                let length = u32::try_from(request.length).map_err(|_| Misuse::BufferLength { limit: 0 })?;
                buffer.describe(&self.grant, length, self.max_segments)
            }
            None => Ok(Described { word3: request.length, ..Described::default() }),
        }
    }
}
