//! The console driver: bytes out, bytes in, over one queue.
//!
//! *Owners.* Pages in flight belong to the driver. A read stays posted over a deadline, so that input which comes
//! later is not lost; the next read collects it.
//!
//! *Invariants.* `slots[id]` is occupied exactly while `id` is in flight. At most one read is posted.

use crate::buffer::Buffer;
use crate::bus::Bus;
use crate::device::{GrantPolicy, Link, QueueCounters, Sealed, Wanted};
use crate::error::{BusError, HostFault, RequestError};
use crate::platform::Platform;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::Class;
use pvkit_abi::console::{ConsoleConfig, ConsoleOp};
use pvkit_abi::status::Status;
use pvkit_ring::{Completed, Notify};
use zerocopy::FromBytes;

/// Slots of the queue; one of them is the read's.
const SLOTS: usize = 8;

/// One request that the host has.
#[derive(Debug)]
struct Slot<'p, P: Platform> {
    op: ConsoleOp,
    length: u32,
    buffer: Buffer<'p, P, 1>,
}

/// Input that was not read yet.
#[derive(Debug)]
struct Input<'p, P: Platform> {
    buffer: Buffer<'p, P, 1>,
    next: usize,
    end: usize,
}

/// A console.
#[derive(Debug)]
pub struct Console<'p, P: Platform> {
    link: Link<'p, P, SLOTS>,
    size: ConsoleConfig,
    slots: [Option<Slot<'p, P>>; SLOTS],
    input: Option<Input<'p, P>>,
    spare: Option<Buffer<'p, P, 1>>,
    read_posted: bool,
    writes_posted: usize,
}

impl<'p, P: Platform> Console<'p, P> {
    /// Takes the console and connects its queue. Three hypercalls.
    ///
    /// # Errors
    /// What the host offers that cannot be, refuses, or does not answer before `deadline`.
    pub fn open(bus: &mut Bus<'p, P>, device: u32, policy: GrantPolicy, deadline: u64) -> Result<Self, BusError> {
        let wanted = Wanted { class: Class::CONSOLE, queues: 1, known: 0, depth: SLOTS as u32, policy, deadline };
        let mut link = Link::open(bus, device, &wanted)?;
        let size = bus.device(device).and_then(|offered| parse(&offered.offer.config));
        let Some(size) = size else {
            link.close(bus, deadline)?;
            return Err(HostFault::Offer { field: "configuration", value: 0 }.into());
        };
        let slots = [const { None }; SLOTS];
        Ok(Self { link, size, slots, input: None, spare: None, read_posted: false, writes_posted: 0 })
    }

    /// Writes all of `text`, in requests of up to a page; returns when the host has taken it.
    ///
    /// # Errors
    /// What is not known to be taken may still be.
    pub fn write(&mut self, text: &[u8], deadline: u64) -> Result<(), RequestError> {
        for piece in text.chunks(self.piece()) {
            let mut buffer = self.buffer()?;
            buffer.write(0, piece)?;
            self.post(ConsoleOp::WRITE, piece.len() as u32, buffer, deadline)?;
            self.writes_posted += 1;
        }
        while self.writes_posted > 0 {
            self.step(deadline)?;
        }
        Ok(())
    }

    /// Reads what is there, at least one byte; 0 at the end of input, or if `into` is empty.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`] if nothing came; nothing is lost.
    pub fn read(&mut self, into: &mut [u8], deadline: u64) -> Result<usize, RequestError> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(input) = self.input.take() {
                return self.deliver(input, into);
            }
            if !self.read_posted {
                let buffer = self.buffer()?;
                self.post(ConsoleOp::READ, self.piece() as u32, buffer, deadline)?;
                self.read_posted = true;
            }
            self.step(deadline)?;
        }
    }

    /// Columns and rows, 0 where unknown.
    #[must_use]
    pub const fn size(&self) -> (u16, u16) {
        (self.size.columns, self.size.rows)
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

    /// Follows what the bus has learnt of the console. Says whether its size changed.
    pub fn refresh(&mut self, bus: &Bus<'p, P>) -> bool {
        let config = self.link.refresh(bus);
        self.reclaim();
        let Some(size) = config.as_ref().and_then(parse) else { return false };
        core::mem::replace(&mut self.size, size) != size
    }

    /// Has the host drain and detach the queue; a posted read ends with it.
    ///
    /// # Errors
    /// What the host refused or did not answer in time.
    pub fn close(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let closed = self.link.close(bus, deadline);
        self.reclaim();
        closed
    }

    /// What was in flight on a queue that is detached will never complete: its pages are free.
    fn reclaim(&mut self) {
        if self.link.is_detached() {
            self.slots.iter_mut().for_each(|slot| *slot = None);
            (self.read_posted, self.writes_posted) = (false, 0);
        }
    }

    /// Copies out what fits and keeps the rest.
    fn deliver(&mut self, input: Input<'p, P>, into: &mut [u8]) -> Result<usize, RequestError> {
        let Input { buffer, next, end } = input;
        let count = into.len().min(end - next);
        if let Some(part) = into.get_mut(..count) {
            buffer.read(next, part)?;
        }
        if next + count < end {
            self.input = Some(Input { buffer, next: next + count, end });
        } else {
            self.spare = Some(buffer);
        }
        Ok(count)
    }

    /// Submits; waits for a free slot if there is none. On an error the buffer is freed: the host has not seen it.
    fn post(
        &mut self,
        op: ConsoleOp,
        length: u32,
        buffer: Buffer<'p, P, 1>,
        deadline: u64,
    ) -> Result<(), RequestError> {
        let described = buffer.describe(self.link.grant(), length, 1)?;
        loop {
            let mut batch = self.link.usable()?.batch();
            let reserved = batch.reserve(op.0, described.flags(), 0, [0, described.word2, described.word3]);
            let Ok(ticket) = reserved else {
                batch.revert();
                self.step(deadline)?;
                continue;
            };
            if let Some(slot) = self.slots.get_mut(usize::from(ticket.id())) {
                *slot = Some(Slot { op, length, buffer });
            }
            let notify: Notify = batch.commit();
            self.link.published(1, notify);
            return Ok(());
        }
    }

    /// Waits for one completion and deals with it.
    fn step(&mut self, deadline: u64) -> Result<(), RequestError> {
        let Completed { id, result } = self.link.next(deadline)?;
        let Some(Slot { op, length, buffer }) = self.slots.get_mut(usize::from(id)).and_then(Option::take) else {
            return Ok(());
        };
        buffer.hand_back();
        if op == ConsoleOp::READ {
            self.read_posted = false;
        } else {
            self.writes_posted = self.writes_posted.saturating_sub(1);
        }
        let claimed = result.detail();
        match result.status() {
            Status::OK if claimed > length || (op == ConsoleOp::WRITE && claimed != length) => {
                Err(HostFault::Length { asked: length, claimed }.into())
            }
            Status::OK if op == ConsoleOp::READ => {
                self.input = Some(Input { buffer, next: 0, end: claimed as usize });
                Ok(())
            }
            Status::OK => {
                self.spare = Some(buffer);
                Ok(())
            }
            Status::ABORTED => Err(RequestError::Disconnected),
            status => Err(RequestError::Io { status, detail: claimed }),
        }
    }

    fn piece(&self) -> usize {
        (self.link.sealed().max_transfer as usize).min(PAGE_SIZE)
    }

    fn buffer(&mut self) -> Result<Buffer<'p, P, 1>, RequestError> {
        match self.spare.take() {
            Some(buffer) => Ok(buffer),
            None => Ok(Buffer::allocate(self.link.platform(), PAGE_SIZE)?),
        }
    }
}

fn parse(config: &[u8; pvkit_abi::bus::CONFIG_BYTES]) -> Option<ConsoleConfig> {
    ConsoleConfig::read_from_prefix(config).ok().map(|(size, _)| size)
}

impl<P: Platform> Drop for Console<'_, P> {
    fn drop(&mut self) {
        for slot in self.slots.iter_mut().filter_map(Option::take) {
            self.link.platform().note_leak(slot.buffer.leak());
        }
    }
}
