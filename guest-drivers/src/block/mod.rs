//! The block driver: one queue of one disk.
//!
//! *Purpose.* Reads, writes, flushes, discards; blocking ([`Block::read`] and its kin) or by submitting and polling
//! ([`Block::submit`], [`Block::poll`]). Both doors stand on `polled.rs`.
//!
//! *Owners.* A submitted [`Buffer`] belongs to the driver until [`Block::poll`] hands it back. After a fault or a
//! deadline that passed it stays here, quarantined, until its completion comes or [`Block::close`] succeeds.
//! Dropping a `Block` with requests in flight leaks their pages and says so to the platform.
//!
//! *Invariants.* `pending.slots[id]` is occupied exactly while `id` is in flight.

#[cfg(feature = "async")]
mod asynchronous;
mod blocking;
mod geometry;
mod over;
mod poison;
mod polled;
mod recovery;
mod request;
mod stage;

#[cfg(feature = "async")]
pub use asynchronous::{AsyncBlock, Ended, Operation};
pub use geometry::Geometry;
pub use over::Over;
pub use poison::Suspicion;
pub use polled::{Completed, Progress, Rejected};
pub use request::Request;

use crate::buffer::{Buffer, LIST_ENTRIES};
use crate::bus::Bus;
use crate::device::{GrantPolicy, Link, QueueCounters, Sealed, Wanted};
use crate::error::{BusError, HostFault, RequestError};
use crate::platform::Platform;
use poison::Lives;
use polled::{Pending, Slot};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::block::BlockFeatures;
use pvkit_abi::bus::Class;

/// A disk with up to `N` requests in flight, whose buffers have up to `PAGES` pages.
#[derive(Debug)]
pub struct Block<'p, P: Platform, const N: usize = 32, const PAGES: usize = 16> {
    link: Link<'p, P, N>,
    policy: GrantPolicy,
    geometry: Geometry,
    features: BlockFeatures,
    max_segments: u32,
    pending: Pending<'p, P, N, PAGES>,
    /// Occupied slots that someone waits for.
    outstanding: usize,
    /// What is in flight when the backend goes waits for [`Block::recover`].
    replays: bool,
    lives: Lives,
    /// The blocking calls' buffer, while none of them is under way.
    bounce: Option<Buffer<'p, P, PAGES>>,
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Block<'p, P, N, PAGES> {
    /// Takes the disk and connects one queue of at most `depth` slots. Three hypercalls.
    ///
    /// # Errors
    /// What the host offers that cannot be, refuses, or does not answer before `deadline`.
    pub fn open(
        bus: &mut Bus<'p, P>,
        device: u32,
        depth: u32,
        policy: GrantPolicy,
        deadline: u64,
    ) -> Result<Self, BusError> {
        let offered = bus.device(device).ok_or(crate::error::Misuse::NoSuchDevice(device))?;
        let config = offered.offer.config;
        let known = BlockFeatures::all().bits();
        let wanted = Wanted { class: Class::BLOCK, queues: 1, known, depth, policy, deadline, before: None };
        let mut link = Link::open(bus, device, &wanted)?;
        link.drain_after_the_end();
        match Self::judge(&link, &config) {
            Ok((geometry, features, max_segments)) => Ok(Self {
                link,
                policy,
                geometry,
                features,
                max_segments,
                pending: Pending::new(),
                outstanding: 0,
                replays: false,
                lives: Lives::new(),
                bounce: None,
            }),
            Err(fault) => {
                link.close(bus, deadline)?;
                Err(fault.into())
            }
        }
    }

    fn judge(
        link: &Link<'p, P, N>,
        config: &[u8; pvkit_abi::bus::CONFIG_BYTES],
    ) -> Result<(Geometry, BlockFeatures, u32), HostFault> {
        let geometry = Geometry::check(config)?;
        let sealed = link.sealed();
        let features = BlockFeatures::from_bits_truncate(sealed.features);
        if sealed.max_transfer < geometry.logical_block {
            return Err(HostFault::Offer { field: "max_transfer", value: sealed.max_transfer.into() });
        }
        let indirect = features.contains(BlockFeatures::INDIRECT);
        let max_segments = if indirect { sealed.max_segments.clamp(1, LIST_ENTRIES as u32) } else { 1 };
        Ok((geometry, features, max_segments))
    }

    /// The disk's properties. They change only in [`Block::refresh`].
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Features that were sealed.
    #[must_use]
    pub const fn features(&self) -> BlockFeatures {
        self.features
    }

    /// What was sealed.
    #[must_use]
    pub const fn sealed(&self) -> &Sealed {
        self.link.sealed()
    }

    /// Event port of the queue; `None` once it is closed.
    #[must_use]
    pub const fn port(&self) -> Option<u32> {
        self.link.port()
    }

    /// Counts so far.
    #[must_use]
    pub const fn counters(&self) -> QueueCounters {
        self.link.counters
    }

    /// Follows what the bus has learnt of the disk: a new size, or that it is gone. Says whether the geometry changed.
    /// If the queue is detached, [`Block::poll`] hands on what had completed before, then hands back what was in flight.
    ///
    /// # Errors
    /// A configuration that cannot be, or that changes what is fixed for the device's life: the old one stays.
    pub fn refresh(&mut self, bus: &Bus<'p, P>) -> Result<bool, RequestError> {
        let config = self.link.refresh(bus);
        self.reclaim();
        let Some(config) = config else { return Ok(false) };
        let geometry = Geometry::check(&config)?;
        if geometry.logical_block != self.geometry.logical_block {
            let value = geometry.logical_block.into();
            return Err(HostFault::Offer { field: "changed logical_block", value }.into());
        }
        Ok(core::mem::replace(&mut self.geometry, geometry) != geometry)
    }

    /// Has the host drain and detach the queue. Then nothing is in quarantine any more, and [`Block::poll`] hands back
    /// what was outstanding.
    ///
    /// # Errors
    /// What the host refused or did not answer in time: what was in flight stays with the host.
    pub fn close(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let closed = self.link.close(bus, deadline);
        self.reclaim();
        closed
    }

    /// What is in quarantine on a queue that is detached is free.
    fn reclaim(&mut self) {
        if self.link.is_detached() {
            self.pending
                .slots
                .iter_mut()
                .filter(|slot| slot.as_ref().is_some_and(Slot::is_abandoned))
                .for_each(|slot| *slot = None);
            self.link.counters.quarantined = 0;
        }
    }

    /// Most bytes that one request can move.
    fn request_limit(&self) -> usize {
        let limit = (self.link.sealed().max_transfer as usize).min(PAGES * PAGE_SIZE);
        limit - limit % self.geometry.logical_block as usize
    }
}

impl<P: Platform, const N: usize, const PAGES: usize> Drop for Block<'_, P, N, PAGES> {
    fn drop(&mut self) {
        if self.link.is_detached() {
            return;
        }
        for slot in self.pending.slots.iter_mut().filter_map(Option::take) {
            slot.leak(self.link.platform());
        }
    }
}
