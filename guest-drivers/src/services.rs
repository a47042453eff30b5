//! The services driver: what the host asks of the guest as a whole, and the guest's answers.
//!
//! *Owners.* One page is posted for the next event; it belongs to the driver. Events are private copies.
//!
//! *Invariants.* At most one event is listened for. Sequence numbers handed out only grow.

#[cfg(feature = "async")]
mod asynchronous;

#[cfg(feature = "async")]
pub use asynchronous::AsyncServices;

use crate::buffer::Buffer;
use crate::bus::Bus;
use crate::device::{GrantPolicy, Link, QueueCounters, Sealed, Wanted};
use crate::error::{BusError, HostFault, RequestError};
use crate::platform::Platform;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{CONFIG_BYTES, Class};
use pvkit_abi::ring::RequestFlags;
use pvkit_abi::services::{ServiceEvent, ServiceKind, ServiceOp, ServiceReport, ServicesConfig};
use pvkit_abi::status::Status;
use pvkit_ring::{Completed, Park};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Slots of the queue: one listens, the others report.
const SLOTS: usize = 8;
/// Bytes of an event.
const EVENT_BYTES: u32 = size_of::<ServiceEvent>() as u32;

/// The host's services.
#[derive(Debug)]
pub struct Services<'p, P: Platform> {
    link: Link<'p, P, SLOTS>,
    /// The id that listens, and its page.
    listening: Option<(u16, Buffer<'p, P, 1>)>,
    last: u64,
    generation: [u8; 16],
}

impl<'p, P: Platform> Services<'p, P> {
    /// Takes the device and connects its queue; the first [`Services::poll`] listens. Three hypercalls.
    ///
    /// # Errors
    /// What the host offers that cannot be, refuses, or does not answer before `deadline`.
    pub fn open(bus: &mut Bus<'p, P>, device: u32, policy: GrantPolicy, deadline: u64) -> Result<Self, BusError> {
        let wanted =
            Wanted { class: Class::SERVICES, queues: 1, known: 0, depth: SLOTS as u32, policy, deadline, before: None };
        let link = Link::open(bus, device, &wanted)?;
        let config = bus.device(device).map_or([0; CONFIG_BYTES], |offered| offered.offer.config);
        Ok(Self { link, listening: None, last: 0, generation: generation(&config) })
    }

    /// The next event that is there, checked. One of a kind that these drivers do not know is answered
    /// [`ServiceReport::REFUSED`] here and not handed out.
    ///
    /// # Errors
    /// [`RequestError::PeerFault`] for an event that cannot be; it is dropped.
    pub fn poll(&mut self) -> Result<Option<ServiceEvent>, RequestError> {
        self.listen()?;
        // At most what was in flight at the start: the page is posted again at each event.
        for _ in 0..SLOTS {
            let Some(ended) = self.link.take()? else { break };
            let event = self.finish(ended);
            self.listen()?;
            match event? {
                Some(event) if event.kind.0 == 0 || event.kind.0 > ServiceKind::HEARTBEAT.0 => {
                    self.report(event.sequence, ServiceReport::REFUSED)?;
                }
                Some(event) => return Ok(Some(event)),
                None => {}
            }
        }
        Ok(None)
    }

    /// The next event, waited for.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`]; nothing is lost. As for `poll`.
    pub fn wait(&mut self, deadline: u64) -> Result<ServiceEvent, RequestError> {
        loop {
            if let Some(event) = self.poll()? {
                return Ok(event);
            }
            self.link.ready(deadline)?;
        }
    }

    /// For a caller that sleeps on several queues at once: asks for the next interrupt. True if there is something to
    /// poll for, so that the caller must not sleep.
    pub fn arm(&mut self) -> bool {
        self.link.park() == Park::Ready
    }

    /// For an interrupt handler: [`Services::poll`], then asks for the next interrupt. Says whether to call again.
    ///
    /// # Errors
    /// As for `poll`.
    pub fn handle_interrupt(&mut self) -> Result<(Option<ServiceEvent>, bool), RequestError> {
        let event = self.poll()?;
        Ok((event, self.link.park() == Park::Ready))
    }

    /// Answers the event with `sequence`, or says something unasked (sequence 0, [`ServiceReport::READY`]). Does not
    /// wait.
    ///
    /// # Errors
    /// [`RequestError::Full`]: poll first.
    pub fn report(&mut self, sequence: u64, report: ServiceReport) -> Result<(), RequestError> {
        let mut batch = self.link.usable()?.batch();
        batch.reserve(ServiceOp::REPORT.0, RequestFlags::empty(), report.0, [sequence, 0, 0])?;
        let notify = batch.commit();
        self.link.published(1, notify);
        Ok(())
    }

    /// Generation of the machine, as last seen in the configuration or an event. A change says that the guest is a copy.
    #[must_use]
    pub const fn generation(&self) -> [u8; 16] {
        self.generation
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

    /// Follows what the bus has learnt. Says whether the generation changed.
    pub fn refresh(&mut self, bus: &Bus<'p, P>) -> bool {
        let config = self.link.refresh(bus);
        self.reclaim();
        let Some(config) = config else { return false };
        let now = generation(&config);
        core::mem::replace(&mut self.generation, now) != now
    }

    /// Has the host drain and detach the queue.
    ///
    /// # Errors
    /// What the host refused or did not answer in time.
    pub fn close(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let closed = self.link.close(bus, deadline);
        self.reclaim();
        closed
    }

    fn reclaim(&mut self) {
        if self.link.is_detached() {
            self.listening = None;
        }
    }

    /// Posts the page, if it is not posted.
    fn listen(&mut self) -> Result<(), RequestError> {
        if self.listening.is_some() {
            return Ok(());
        }
        let buffer = Buffer::allocate(self.link.platform(), PAGE_SIZE)?;
        let described = buffer.describe(self.link.grant(), EVENT_BYTES, 1)?;
        let mut batch = self.link.usable()?.batch();
        let words = [0, described.word2, described.word3];
        let ticket = batch.reserve(ServiceOp::LISTEN.0, described.flags(), 0, words)?;
        self.listening = Some((ticket.id(), buffer));
        let notify = batch.commit();
        self.link.published(1, notify);
        Ok(())
    }

    /// A completion left the ring: an event, or the receipt of a report.
    fn finish(&mut self, ended: Completed) -> Result<Option<ServiceEvent>, RequestError> {
        let Some((_, buffer)) = self.listening.take_if(|(id, _)| *id == ended.id) else { return Ok(None) };
        buffer.hand_back();
        let claimed = ended.result.detail();
        match ended.result.status() {
            Status::OK if claimed == EVENT_BYTES => {}
            Status::OK => return Err(HostFault::Length { asked: EVENT_BYTES, claimed }.into()),
            Status::ABORTED => return Err(RequestError::Disconnected),
            status => return Err(RequestError::Io { status, detail: claimed }),
        }
        let mut event = ServiceEvent::new_zeroed();
        buffer.read(0, event.as_mut_bytes())?;
        if event.size < EVENT_BYTES {
            return Err(HostFault::Reply { field: "event size", value: event.size.into() }.into());
        }
        if event.sequence <= self.last {
            return Err(HostFault::Reply { field: "event sequence", value: event.sequence }.into());
        }
        (self.last, self.generation) = (event.sequence, event.generation);
        Ok(Some(event))
    }
}

fn generation(config: &[u8; CONFIG_BYTES]) -> [u8; 16] {
    ServicesConfig::read_from_prefix(config).map_or([0; 16], |(config, _)| config.generation)
}

impl<P: Platform> Drop for Services<'_, P> {
    fn drop(&mut self) {
        if let Some((_, buffer)) = self.listening.take() {
            self.link.platform().note_leak(buffer.leak());
        }
    }
}
