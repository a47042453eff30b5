//! The entropy driver: bytes of the host's generator, to be mixed into the guest's own.
//!
//! *Owners.* Pages in flight belong to the driver; one whose deadline passed stays in quarantine until it completes.
//!
//! *Invariants.* `slots[id]` is occupied exactly while `id` is in flight.

use crate::buffer::Buffer;
use crate::bus::Bus;
use crate::device::{GrantPolicy, Link, QueueCounters, Sealed, Wanted};
use crate::error::{BusError, HostFault, RequestError};
use crate::platform::Platform;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::Class;
use pvkit_abi::entropy::{EntropyOp, MAX_REQUEST};
use pvkit_abi::status::Status;

/// Slots of the queue: one in use, the others for what timed out.
const SLOTS: usize = 4;

/// The host's generator.
#[derive(Debug)]
pub struct Entropy<'p, P: Platform> {
    link: Link<'p, P, SLOTS>,
    slots: [Option<Buffer<'p, P, 1>>; SLOTS],
}

impl<'p, P: Platform> Entropy<'p, P> {
    /// Takes the device and connects its queue. Three hypercalls.
    ///
    /// # Errors
    /// What the host offers that cannot be, refuses, or does not answer before `deadline`.
    pub fn open(bus: &mut Bus<'p, P>, device: u32, policy: GrantPolicy, deadline: u64) -> Result<Self, BusError> {
        let wanted =
            Wanted { class: Class::ENTROPY, queues: 1, known: 0, depth: SLOTS as u32, policy, deadline, before: None };
        Ok(Self { link: Link::open(bus, device, &wanted)?, slots: [const { None }; SLOTS] })
    }

    /// Fills `into`. Never use the bytes as they are: mix them into a generator that has other sources too.
    ///
    /// # Errors
    /// On an error some of `into` may have been filled. [`RequestError::TimedOut`] leaves the driver usable.
    pub fn read(&mut self, into: &mut [u8], deadline: u64) -> Result<(), RequestError> {
        let mut rest = into;
        while !rest.is_empty() {
            let most = (MAX_REQUEST.min(self.link.sealed().max_transfer) as usize).min(PAGE_SIZE);
            let asked = rest.len().min(most);
            let (buffer, count) = self.request(asked as u32, deadline)?;
            let Some((now, later)) = rest.split_at_mut_checked(count as usize) else { break };
            buffer.read(0, now)?;
            rest = later;
        }
        Ok(())
    }

    fn request(&mut self, asked: u32, deadline: u64) -> Result<(Buffer<'p, P, 1>, u32), RequestError> {
        let buffer = Buffer::allocate(self.link.platform(), PAGE_SIZE)?;
        let described = buffer.describe(self.link.grant(), asked, 1)?;
        // What timed out earlier may have completed meanwhile.
        while let Some(ended) = self.link.take()? {
            self.unbind(ended.id);
        }
        let mut batch = self.link.usable()?.batch();
        let words = [0, described.word2, described.word3];
        let ticket = batch.reserve(EntropyOp::READ.0, described.flags(), 0, words)?;
        if let Some(slot) = self.slots.get_mut(usize::from(ticket.id())) {
            *slot = Some(buffer);
        }
        let notify = batch.commit();
        self.link.published(1, notify);
        loop {
            let ended = self.link.next(deadline)?;
            let Some(buffer) = self.unbind(ended.id) else { continue };
            if ended.id != ticket.id() {
                continue;
            }
            let claimed = ended.result.detail();
            return match ended.result.status() {
                Status::OK if claimed == 0 || claimed > asked => Err(HostFault::Length { asked, claimed }.into()),
                Status::OK => Ok((buffer, claimed)),
                Status::ABORTED => Err(RequestError::Disconnected),
                status => Err(RequestError::Io { status, detail: claimed }),
            };
        }
    }

    /// A completion left the ring: its page is the guest's again.
    fn unbind(&mut self, id: u16) -> Option<Buffer<'p, P, 1>> {
        let buffer = self.slots.get_mut(usize::from(id))?.take()?;
        buffer.hand_back();
        Some(buffer)
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

    /// Follows what the bus has learnt of the device: that it is gone.
    pub fn refresh(&mut self, bus: &Bus<'p, P>) {
        let _ = self.link.refresh(bus);
        self.reclaim();
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
            self.slots.iter_mut().for_each(|slot| *slot = None);
        }
    }
}

impl<P: Platform> Drop for Entropy<'_, P> {
    fn drop(&mut self) {
        for buffer in self.slots.iter_mut().filter_map(Option::take) {
            self.link.platform().note_leak(buffer.leak());
        }
    }
}
