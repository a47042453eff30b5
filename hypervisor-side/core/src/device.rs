//! One device as the bus sees it: its state, its epoch, what was sealed, its queues and grants.
//!
//! ```text
//!                    ACCEPT            first queue opened
//!         Offered ──────────▶ Accepted ──────────▶ Connected
//!            ▲                    │                    │
//!            │ drained            └──────┬─────────────┘
//!            │                           │ CLOSE
//!            └───────── Closing ◀────────┘
//!
//! any but Absent ── backend gone ──▶ Disconnected ── backend back ──▶ Offered
//! any but Absent ── rescind, drained ──▶ Absent
//! any but Absent ── BUS_SETUP ──▶ Offered, or Disconnected without a backend
//! ```
//!
//! Every arrow but "first queue opened" and `CLOSE` comes with a new epoch. While Closing the old queues may still be
//! served, so their ports, pages and grants are held until the machine says that they are drained; what was asked before
//! the `CLOSE` is answered first.

use crate::class::{completion_bytes, missing_features, queues_fit};
use crate::grants::Grants;
use crate::negotiation::judge_features;
use crate::{GuestAddr, Sealed};
use pvkit_abi::bus::{Accept, DeviceState, Offer, OpenQueue};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::ring::{MAX_DEPTH, MIN_DEPTH};
use pvkit_abi::status::CallError;
use pvkit_abi::version::RefusalReason;

/// A queue that is open or being opened.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) number: u16,
    pub(crate) depth: u32,
    pub(crate) completion_bytes: u16,
    pub(crate) port: Option<u32>,
    /// Ring pages of both sides.
    pub(crate) pages: Vec<GuestAddr>,
    pub(crate) open: bool,
}

/// Who waits for the end of a device that is Closing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// The guest's `CLOSE`, unless it is the host that takes the device away.
    pub(crate) request: Option<u16>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) offer: Offer,
    pub(crate) state: DeviceState,
    pub(crate) epoch: u64,
    /// Whether its backend is there.
    pub(crate) backend: bool,
    /// Whether it goes away once it is drained.
    pub(crate) rescinded: bool,
    /// While Closing: who waits, until the machine has answered what was asked before and can be asked to drain.
    pub(crate) drain: Option<Drain>,
    /// Survives the backend's end: a guest reconnects with what it had.
    pub(crate) seal: Option<Accept>,
    pub(crate) queues: Vec<Queue>,
    pub(crate) grants: Grants,
}

/// Why an `ACCEPT` failed, with what the reply says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: CallError,
    pub(crate) reason: RefusalReason,
    pub(crate) features: u64,
}

impl From<CallError> for Refusal {
    fn from(error: CallError) -> Self {
        Self { error, reason: RefusalReason::NONE, features: 0 }
    }
}

impl Device {
    /// Before the first `BUS_SETUP`: offered to nobody yet.
    pub(crate) fn new(offer: Offer) -> Self {
        Self {
            offer,
            state: DeviceState::OFFERED,
            epoch: 0,
            backend: true,
            rescinded: false,
            drain: None,
            seal: None,
            queues: Vec::new(),
            grants: Grants::default(),
        }
    }

    /// The state without queues, grants or a guest that took it.
    pub(crate) const fn idle_state(&self) -> DeviceState {
        match (self.rescinded, self.backend) {
            (true, _) => DeviceState::ABSENT,
            (false, true) => DeviceState::OFFERED,
            (false, false) => DeviceState::DISCONNECTED,
        }
    }

    /// Whether a guest holds it: the machine may have something attached.
    pub(crate) const fn is_taken(&self) -> bool {
        matches!(self.state, DeviceState::ACCEPTED | DeviceState::CONNECTED | DeviceState::CLOSING)
    }

    /// Goes to rest under a new epoch; the queues that it had, for their ports and pages.
    pub(crate) fn end(&mut self, epoch: u64) -> Vec<Queue> {
        self.state = self.idle_state();
        self.epoch = epoch;
        self.drain = None;
        self.grants.clear();
        core::mem::take(&mut self.queues)
    }

    /// Whether requests for an accepted device are served.
    ///
    /// # Errors
    /// `BACKEND` while the backend is gone, `BUSY` in any other state but Accepted and Connected.
    pub(crate) const fn require_taken(&self) -> Result<(), CallError> {
        match self.state {
            DeviceState::ACCEPTED | DeviceState::CONNECTED => Ok(()),
            DeviceState::DISCONNECTED => Err(CallError::BACKEND),
            _ => Err(CallError::BUSY),
        }
    }

    /// Judges an `ACCEPT`.
    ///
    /// # Errors
    /// `SEALED` if it is taken, or was before its backend went, with another choice; `REFUSED` with a reason.
    pub(crate) fn judge_accept(&self, accept: &Accept) -> Result<(), Refusal> {
        match self.state {
            DeviceState::OFFERED => {}
            DeviceState::ACCEPTED | DeviceState::CONNECTED => return Err(CallError::SEALED.into()),
            DeviceState::DISCONNECTED => return Err(CallError::BACKEND.into()),
            _ => return Err(CallError::BUSY.into()),
        }
        let class = self.offer.class;
        let queues_fit = (1..=self.offer.max_queues).contains(&accept.queues) && queues_fit(class, accept.queues);
        if accept.reserved != 0 || !queues_fit {
            return Err(CallError::INVALID.into());
        }
        let refused = |reason, features| Refusal { error: CallError::REFUSED, reason, features };
        let minors = self.offer.minor_oldest..=self.offer.newest.minor;
        if accept.version.major != self.offer.newest.major || !minors.contains(&accept.version.minor) {
            return Err(refused(RefusalReason::VERSION, 0));
        }
        judge_features(accept.features, self.offer.features, self.offer.required)
            .map_err(|(reason, bits)| refused(reason, bits))?;
        let missing = missing_features(class, accept.features);
        if missing != 0 {
            return Err(refused(RefusalReason::REQUIRED_FEATURE, missing));
        }
        match &self.seal {
            Some(seal) if seal != accept => Err(CallError::SEALED.into()),
            _ => Ok(()),
        }
    }

    /// Judges an `OPEN_QUEUE` by its numbers; pages and port are judged by others.
    ///
    /// # Errors
    /// `NOT_FOUND` beyond the accepted queues, `BUSY` if it is open, `INVALID` outside the offer's limits.
    pub(crate) fn judge_open(&self, open: &OpenQueue) -> Result<(), CallError> {
        self.require_taken()?;
        if open.queue >= self.seal.map_or(0, |seal| seal.queues) {
            return Err(CallError::NOT_FOUND);
        }
        if self.queues.iter().any(|queue| queue.number == open.queue) {
            return Err(CallError::BUSY);
        }
        let depths = MIN_DEPTH..=self.offer.max_depth.min(MAX_DEPTH);
        let depth_fits = open.depth.is_power_of_two() && depths.contains(&open.depth);
        let width_fits = usize::from(open.completion_bytes) == completion_bytes(self.offer.class, open.queue);
        if !depth_fits || !width_fits || open.reserved != 0 {
            return Err(CallError::INVALID);
        }
        Ok(())
    }

    /// What was sealed, for a report.
    pub(crate) fn sealed(&self, device: u32) -> Option<Sealed> {
        let seal = self.seal.filter(|_| self.is_taken())?;
        Some(Sealed::Device {
            device,
            class: self.offer.class,
            instance: self.offer.instance,
            version: seal.version,
            features: seal.features,
            queues: seal.queues,
            depths: self.queues.iter().filter(|queue| queue.open).map(|queue| queue.depth).collect(),
        })
    }
}

/// The port that a message names, `NO_PORT` being none.
pub(crate) const fn port_of(number: u32) -> Option<u32> {
    if number == NO_PORT { None } else { Some(number) }
}
