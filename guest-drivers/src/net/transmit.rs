//! Frames out: copied into the driver's pages, published in batches.
//!
//! *Owners.* A frame is the caller's again when the call returns; the pages in flight are the driver's.

use super::metadata::{self, OUT, Wrong};
use super::pool::Pool;
use super::{Net, Pair, Seat};
use crate::block::Progress;
use crate::buffer::{Buffer, LIST_ENTRIES};
use crate::device::{Grant, Life, Link, QueueCounters, Sealed};
use crate::error::{HostFault, Misuse, RequestError};
use crate::platform::Platform;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::net::{FrameMeta, NetFeatures, NetOp};
use pvkit_abi::status::Status;
use pvkit_ring::{Batch, Completed, Park};
use pvkit_shared_memory::SharedPages;

/// What a transmit queue did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransmitCounters {
    /// Frames that the host has taken.
    pub sent: u64,
    /// Frames that were in flight when the backend went: taken or not, they are not sent again.
    pub lost: u64,
    /// Frames that the host refused.
    pub refused: u64,
    /// Status and detail of the last one refused.
    pub last_refusal: Option<(Status, u32)>,
}

/// The transmit queue of a pair.
#[derive(Debug)]
pub struct NetTx<'p, P: Platform, const N: usize = 32, const PAGES: usize = { super::FRAME_PAGES }> {
    pub(super) link: Link<'p, P, N>,
    pub(super) seat: Seat,
    pool: Pool<'p, P, N, PAGES>,
    rules: Rules,
    counters: TransmitCounters,
}

/// What a frame is judged by.
#[derive(Clone, Copy, Debug)]
struct Rules {
    features: NetFeatures,
    mtu: u16,
    max_transfer: u32,
    max_segments: u32,
    grant: Grant,
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> NetTx<'p, P, N, PAGES> {
    pub(super) fn new(link: Link<'p, P, N>, seat: Seat, features: NetFeatures, mtu: u16) -> Self {
        let sealed = *link.sealed();
        let indirect = features.contains(NetFeatures::INDIRECT);
        let max_segments = if indirect { sealed.max_segments.clamp(1, LIST_ENTRIES as u32) } else { 1 };
        let rules = Rules { features, mtu, max_transfer: sealed.max_transfer, max_segments, grant: *link.grant() };
        Self { pool: Pool::new(sealed.depth), link, seat, rules, counters: TransmitCounters::default() }
    }

    /// Sends one frame, without its frame check sequence. Does not wait: [`RequestError::Full`] says that the host has
    /// not taken what was sent before.
    ///
    /// # Errors
    /// The frame was not sent. [`Misuse::Metadata`], [`Misuse::BufferLength`]: it contradicts itself.
    pub fn send(&mut self, frame: &[u8], meta: FrameMeta) -> Result<(), RequestError> {
        self.send_batch([(frame, meta)]).1
    }

    /// Sends frames with at most one doorbell; says how many, and why not all.
    pub fn send_batch<'f>(
        &mut self,
        frames: impl IntoIterator<Item = (&'f [u8], FrameMeta)>,
    ) -> (usize, Result<(), RequestError>) {
        if let Err(error) = self.poll(N as u32) {
            return (0, Err(error));
        }
        let platform = self.link.platform();
        let queue = match self.link.usable() {
            Ok(queue) => queue,
            Err(error) => return (0, Err(error)),
        };
        let mut batch = queue.batch();
        let mut ended = Ok(());
        for (frame, meta) in frames {
            ended = self.rules.stage(platform, &mut batch, &mut self.pool, frame, meta);
            if ended.is_err() {
                break;
            }
        }
        let count = batch.len();
        let notify = batch.commit();
        self.link.published(count, notify);
        if let Err(error) = &ended {
            self.link.refused(error);
        }
        (count, ended)
    }

    /// Takes up to `budget` completions that are there; says how many. [`NetTx::send`] does so by itself.
    ///
    /// # Errors
    /// If the host broke the protocol; what is in flight stays quarantined.
    pub fn poll(&mut self, budget: u32) -> Result<u32, RequestError> {
        let mut count = 0;
        while count < budget
            && let Some(completed) = self.take()?
        {
            self.finish(completed)?;
            count += 1;
        }
        Ok(count)
    }

    /// For an interrupt handler or its bottom half: [`NetTx::poll`], then asks for the next interrupt.
    ///
    /// # Errors
    /// As for `poll`.
    pub fn handle_interrupt(&mut self, budget: u32) -> Result<Progress, RequestError> {
        let completed = self.poll(budget)?;
        Ok(Progress { completed, more: self.link.park() == Park::Ready })
    }

    /// Sleeps until a frame can be sent or the deadline passes.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`], or a fault as in `poll`.
    pub fn wait(&mut self, deadline: u64) -> Result<(), RequestError> {
        while !self.has_room()? {
            self.link.ready(deadline)?;
        }
        Ok(())
    }

    /// Whether a frame can be sent now.
    ///
    /// # Errors
    /// As for `poll`, and [`RequestError::Disconnected`].
    pub fn has_room(&mut self) -> Result<bool, RequestError> {
        self.poll(N as u32)?;
        Ok(self.link.usable()?.room() > 0)
    }

    /// Frames that the host has not taken.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.link.sealed().depth as usize - self.pool.idle()
    }

    /// Features that were sealed.
    #[must_use]
    pub const fn features(&self) -> NetFeatures {
        self.rules.features
    }

    /// Largest IP packet that is not cut.
    #[must_use]
    pub const fn mtu(&self) -> u16 {
        self.rules.mtu
    }

    /// What was sealed.
    #[must_use]
    pub const fn sealed(&self) -> &Sealed {
        self.link.sealed()
    }

    /// Counts of frames so far.
    #[must_use]
    pub const fn counters(&self) -> TransmitCounters {
        self.counters
    }

    /// Counts of the queue so far.
    #[must_use]
    pub const fn queue_counters(&self) -> QueueCounters {
        self.link.counters
    }

    /// Learns from the device's owner whether the queue is gone or detached; then its pages are free.
    ///
    /// # Errors
    /// `net` is another device.
    pub fn follow<const PAIRS: usize>(&mut self, net: &Net<'p, P, N, PAIRS, PAGES>) -> Result<(), Misuse> {
        self.ended(net.life_for(self.seat, self.link.sealed())?);
        Ok(())
    }

    pub(super) fn ended(&mut self, life: Life) {
        if life == Life::Detached {
            // What was taken before the end is sent. A host that lied is told no more of.
            let _ = self.poll(N as u32);
        }
        self.link.follow(life);
        if self.link.is_detached() {
            self.counters.lost += self.pool.clear() as u64;
            self.link.counters.quarantined = 0;
        }
    }

    /// Another queue in the place of the one that is over.
    pub(super) fn adopt(&mut self, link: Link<'p, P, N>) {
        self.ended(Life::Detached);
        self.rules.grant = *link.grant();
        self.link.succeed(link);
    }

    fn take(&mut self) -> Result<Option<Completed>, RequestError> {
        self.link.take().map_err(|fault| {
            self.link.counters.quarantined = self.outstanding() as u64;
            fault.into()
        })
    }

    /// A completion left the ring: its buffer is the driver's to fill again.
    fn finish(&mut self, completed: Completed) -> Result<(), RequestError> {
        if let Some(index) = self.pool.unbind(completed.id) {
            self.pool.push(index);
        }
        let (status, detail) = (completed.result.status(), completed.result.detail());
        match status {
            Status::OK if detail != 0 => return Err(HostFault::Length { asked: 0, claimed: detail }.into()),
            Status::OK => self.counters.sent += 1,
            _ => {
                self.counters.refused += 1;
                self.counters.last_refusal = Some((status, detail));
            }
        }
        Ok(())
    }
}

impl Rules {
    /// Judges a frame, copies it and reserves its slot.
    fn stage<'p, P: Platform, const N: usize, const PAGES: usize>(
        &self,
        platform: &'p P,
        batch: &mut Batch<'_, SharedPages, N>,
        pool: &mut Pool<'p, P, N, PAGES>,
        frame: &[u8],
        meta: FrameMeta,
    ) -> Result<(), RequestError> {
        metadata::check(meta, frame.len(), self.mtu, self.features, OUT).map_err(own_mistake)?;
        let limit = (PAGES * PAGE_SIZE).min(self.max_transfer as usize);
        if frame.len() > limit {
            return Err(Misuse::BufferLength { limit: limit as u64 }.into());
        }
        let index = pool.pop().ok_or(RequestError::Full)?;
        let staged = self.fill(platform, batch, pool, index, frame, meta);
        match staged {
            Ok(id) => pool.bind(id, index),
            Err(_) => pool.push(index),
        }
        staged.map(|_| ())
    }

    fn fill<'p, P: Platform, const N: usize, const PAGES: usize>(
        &self,
        platform: &'p P,
        batch: &mut Batch<'_, SharedPages, N>,
        pool: &mut Pool<'p, P, N, PAGES>,
        index: u16,
        frame: &[u8],
        meta: FrameMeta,
    ) -> Result<u16, RequestError> {
        let slot = pool.buffer(index).ok_or(RequestError::Full)?;
        if slot.as_ref().is_none_or(|buffer| buffer.len() < frame.len()) {
            *slot = None;
            *slot = Some(Buffer::allocate(platform, frame.len())?);
        }
        let buffer = slot.as_mut().ok_or(RequestError::NoMemory)?;
        buffer.write(0, frame)?;
        let described = buffer.describe(&self.grant, frame.len() as u32, self.max_segments)?;
        let words = [meta.0, described.word2, described.word3];
        Ok(batch.reserve(NetOp::TRANSMIT.0, described.flags(), described.aux, words)?.id())
    }
}

fn own_mistake(wrong: Wrong) -> RequestError {
    match wrong {
        Wrong::Field(field, _) => Misuse::Metadata(field).into(),
        Wrong::Unsealed(..) => RequestError::Unsupported,
    }
}

impl<P: Platform, const N: usize, const PAGES: usize> Drop for NetTx<'_, P, N, PAGES> {
    fn drop(&mut self) {
        if !self.link.is_detached() {
            self.link.platform().note_leak(self.pool.leak());
        }
    }
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Pair<'p, P, N, PAGES> {
    /// Both queues learn what the device's owner knows.
    ///
    /// # Errors
    /// `net` is another device.
    pub fn follow<const PAIRS: usize>(&mut self, net: &Net<'p, P, N, PAIRS, PAGES>) -> Result<(), Misuse> {
        self.transmit.follow(net)?;
        self.receive.follow(net)
    }
}
