//! What every driver has in common: one open queue of one device, with its doorbell, its port and its grant.
//!
//! *Owners.* The ring pages belong to the link until the host confirmed that the queue is closed.
//!
//! *Waiting.* [`Link::next`] spins adaptively, then arms the ring's event word, looks once more, and only then sleeps.

mod close;
mod grant;
mod offer;
mod open;
mod reopen;

pub(crate) use close::close_device;
pub(crate) use grant::Grant;
pub use grant::GrantPolicy;
pub(crate) use offer::choose;
pub(crate) use open::{Failed, Place, Wanted, accept};
pub(crate) use reopen::{bus_failure, is_back, is_over_for_close, when_back};

use crate::error::{HostFault, RequestError};
use crate::page_list::PageList;
use crate::platform::{Doorbell, Platform};
use pvkit_abi::bus::{Class, DoorbellKind};
use pvkit_abi::net::RECEIVE_COMPLETION_BYTES;
use pvkit_abi::ring::{MAX_AREA_PAGES, MAX_DEPTH, area_pages};
use pvkit_abi::version::Version;
use pvkit_ring::{AdaptiveSpin, Completed, Notify, Park, WideFrontend};
use pvkit_shared_memory::SharedPages;

/// Most pages of both areas of a queue, and one that lists them while it is opened.
pub(crate) const RING_PAGES: usize = MAX_AREA_PAGES + area_pages(MAX_DEPTH, RECEIVE_COMPLETION_BYTES) + 1;

/// What was agreed for a device's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Number on the bus.
    pub device: u32,
    /// Kind.
    pub class: Class,
    /// Protocol version.
    pub version: Version,
    /// Features, by class.
    pub features: u64,
    /// Slots of the queue.
    pub depth: u32,
    /// Most entries of an indirect list.
    pub max_segments: u32,
    /// Most bytes of one request.
    pub max_transfer: u32,
    /// Epoch of the queue.
    pub epoch: u64,
}

/// What a queue did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Requests published.
    pub requests: u64,
    /// Completions taken.
    pub completions: u64,
    /// Doorbells rung.
    pub doorbells: u64,
    /// Publications that needed none, because the host was looking.
    pub suppressed: u64,
    /// Times that a caller was told that the queue is full.
    pub full: u64,
    /// Times that the host broke the ring's protocol.
    pub faults: u64,
    /// Sleeps.
    pub waits: u64,
    /// Sleeps that ended by their deadline although work was visible: a lost wake-up each.
    pub lost_wakeups: u64,
    /// Times that the queue was opened anew after its backend was lost.
    pub reconnects: u64,
    /// Requests that were submitted again after that.
    pub replays: u64,
    /// Buffers that stay with the driver because the host may still write to them.
    pub quarantined: u64,
}

/// Whose the queue's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Connected.
    Open,
    /// No requests are served any more, and the host may still write to what it was given.
    Gone,
    /// As `Gone`, by a `CLOSE` that the host did not confirm: it keeps what it was given, whatever it says afterwards.
    Kept,
    /// The host confirmed that it is drained and detached: all memory is the guest's, the ring pages are free.
    Detached,
}

/// One open queue, of completions with `C` words.
#[derive(Debug)]
pub(crate) struct Link<'p, P: Platform, const N: usize, const C: usize = 1> {
    platform: &'p P,
    queue: WideFrontend<SharedPages, N, C>,
    /// Taken while waiting, not handed on yet.
    held: Option<(Completed, [u64; C])>,
    rings: PageList<RING_PAGES>,
    doorbell: Doorbell,
    /// Event port, until it is given back.
    port: Option<u32>,
    grant: Grant,
    sealed: Sealed,
    life: Life,
    /// Completions that were published before the end are still taken after it; the ring pages stay until then.
    drains: bool,
    revision: u32,
    spin: AdaptiveSpin,
    pub(crate) counters: QueueCounters,
}

impl<'p, P: Platform, const N: usize, const C: usize> Link<'p, P, N, C> {
    pub(crate) const fn platform(&self) -> &'p P {
        self.platform
    }

    pub(crate) const fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    pub(crate) const fn grant(&self) -> &Grant {
        &self.grant
    }

    pub(crate) const fn port(&self) -> Option<u32> {
        self.port
    }

    /// The queue, if requests may be put into it.
    ///
    /// # Errors
    /// A queue that a fault latched, or whose backend is gone.
    pub(crate) fn usable(&mut self) -> Result<&mut WideFrontend<SharedPages, N, C>, RequestError> {
        if self.life == Life::Open && self.queue.is_latched() {
            return Err(pvkit_ring::PeerFault::Latched.into());
        }
        if self.life == Life::Open { Ok(&mut self.queue) } else { Err(RequestError::Disconnected) }
    }

    /// After a commit of `count` requests.
    pub(crate) fn published(&mut self, count: usize, notify: Notify) {
        self.counters.requests += count as u64;
        if notify.is_needed() && self.doorbell.kind != DoorbellKind::NONE {
            self.counters.doorbells += 1;
            self.platform.doorbell(self.doorbell);
        } else if count > 0 {
            self.counters.suppressed += 1;
        }
    }

    /// A caller's request was not accepted.
    pub(crate) fn refused(&mut self, error: &RequestError) {
        self.counters.full += u64::from(*error == RequestError::Full);
    }

    /// The host broke the protocol; a queue that is latched by it says so again and again.
    fn faulty(counters: &mut QueueCounters, fault: pvkit_ring::PeerFault) -> HostFault {
        counters.faults += u64::from(fault != pvkit_ring::PeerFault::Latched);
        HostFault::Ring(fault)
    }

    /// The next completion that is there already.
    ///
    /// # Errors
    /// If the host broke the ring protocol: the queue is latched.
    pub(crate) fn take(&mut self) -> Result<Option<Completed>, HostFault> {
        Ok(self.take_wide()?.map(|(completed, _)| completed))
    }

    /// As [`Link::take`], with all words of the completion.
    ///
    /// # Errors
    /// As for `take`.
    pub(crate) fn take_wide(&mut self) -> Result<Option<(Completed, [u64; C])>, HostFault> {
        let over = self.is_detached();
        if over && !self.drains {
            return Ok(None);
        }
        let taken = match self.held.take() {
            Some(held) => Some(held),
            // Nobody is told any more of a host that broke the protocol and is gone.
            None if over => self.queue.take_wide().ok().flatten(),
            None => self.queue.take_wide().map_err(|fault| Self::faulty(&mut self.counters, fault))?,
        };
        if over && taken.is_none() {
            self.drains = false;
            self.rings.free(self.platform);
        }
        self.counters.completions += u64::from(taken.is_some());
        Ok(taken)
    }

    /// About to return to a caller that will sleep: arms the event word. A detached queue has none any more, and
    /// nothing to wait for.
    pub(crate) fn park(&mut self) -> Park {
        if self.is_detached() {
            Park::Armed
        } else if self.held.is_some() {
            Park::Ready
        } else {
            self.queue.park()
        }
    }

    /// About to sleep together with other queues: looks for a while as [`Link::ready`] does, then arms the event word.
    /// [`Park::Ready`] if there is something to take.
    ///
    /// # Errors
    /// A fault as in `take`.
    pub(crate) fn arm(&mut self) -> Result<Park, HostFault> {
        if !self.is_detached() && self.held.is_none() {
            self.held = self.look(false)?;
        }
        Ok(self.park())
    }

    /// The next completion, waited for.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`], or a fault as in `take`.
    pub(crate) fn next(&mut self, deadline: u64) -> Result<Completed, RequestError> {
        self.ready(deadline)?;
        self.take()?.ok_or(RequestError::Disconnected)
    }

    /// Waits until a completion can be taken.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`], or a fault as in `take`.
    pub(crate) fn ready(&mut self, deadline: u64) -> Result<(), RequestError> {
        if self.is_detached() {
            return Err(RequestError::Disconnected);
        }
        let mut slept = false;
        while self.held.is_none() {
            // The clock is read before the look: what came in time is found.
            let late = self.platform.now() >= deadline;
            self.held = self.look(late)?;
            if self.held.is_some() {
                self.counters.lost_wakeups += u64::from(late && slept);
            } else if late {
                return Err(RequestError::TimedOut);
            } else if self.queue.park() == Park::Armed {
                slept = true;
                self.counters.waits += 1;
                self.platform.wait(deadline);
            }
        }
        Ok(())
    }

    fn look(&mut self, once: bool) -> Result<Option<(Completed, [u64; C])>, HostFault> {
        let queue = &mut self.queue;
        let mut found = queue.take_wide();
        if !once && matches!(found, Ok(None)) {
            self.spin.run(|| {
                found = queue.take_wide();
                !matches!(found, Ok(None))
            });
        }
        found.map_err(|fault| Self::faulty(&mut self.counters, fault))
    }
}
