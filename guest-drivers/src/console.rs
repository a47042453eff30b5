//! The console driver: bytes out, bytes in, over one queue.
//!
//! *Owners.* Pages in flight belong to the driver. A read stays posted over a deadline, so that input which comes
//! later is not lost; the next read collects it.
//!
//! *Invariants.* `slots[id]` is occupied exactly while `id` is in flight. At most one read is posted.

#[cfg(feature = "async")]
mod asynchronous;
#[cfg(feature = "embedded-io")]
mod io;
#[cfg(feature = "embedded-io-async")]
mod io_async;
mod polled;

#[cfg(feature = "async")]
pub use asynchronous::AsyncConsole;
#[cfg(feature = "embedded-io")]
pub use io::ConsoleIo;

use crate::buffer::Buffer;
use crate::bus::Bus;
use crate::device::{GrantPolicy, Link, QueueCounters, Sealed, Wanted};
use crate::error::{BusError, HostFault, RequestError};
use crate::platform::Platform;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::Class;
use pvkit_abi::console::{ConsoleConfig, ConsoleOp};
use pvkit_abi::status::{CompletionResult, Status};
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
    /// How the last read and the last writes failed, until somebody is told.
    read_failed: Option<RequestError>,
    write_failed: Option<RequestError>,
}

impl<'p, P: Platform> Console<'p, P> {
    /// Takes the console and connects its queue. Three hypercalls.
    ///
    /// # Errors
    /// What the host offers that cannot be, refuses, or does not answer before `deadline`.
    pub fn open(bus: &mut Bus<'p, P>, device: u32, policy: GrantPolicy, deadline: u64) -> Result<Self, BusError> {
        let wanted =
            Wanted { class: Class::CONSOLE, queues: 1, known: 0, depth: SLOTS as u32, policy, deadline, before: None };
        let mut link = Link::open(bus, device, &wanted)?;
        let size = bus.device(device).and_then(|offered| parse(&offered.offer.config));
        let Some(size) = size else {
            link.close(bus, deadline)?;
            return Err(HostFault::Offer { field: "configuration", value: 0 }.into());
        };
        let slots = [const { None }; SLOTS];
        Ok(Self {
            link,
            size,
            slots,
            input: None,
            spare: None,
            read_posted: false,
            writes_posted: 0,
            read_failed: None,
            write_failed: None,
        })
    }

    /// Writes all of `text`, in requests of up to a page; returns when the host has taken it.
    ///
    /// # Errors
    /// What is not known to be taken may still be. A write before it that failed since is told here.
    pub fn write(&mut self, text: &[u8], deadline: u64) -> Result<(), RequestError> {
        let mut rest = text;
        while !rest.is_empty() {
            let accepted = self.accept(rest, deadline)?;
            rest = rest.get(accepted..).unwrap_or(&[]);
        }
        self.flush(deadline)
    }

    /// Waits until the host has taken everything that was written.
    ///
    /// # Errors
    /// As for `write`.
    pub fn flush(&mut self, deadline: u64) -> Result<(), RequestError> {
        while self.writes_posted > 0 {
            self.step(deadline)?;
        }
        self.write_failed.take().map_or(Ok(()), Err)
    }

    /// Puts the beginning of `text` on its way, up to a page; waits while the queue is full. Says how many bytes.
    fn accept(&mut self, text: &[u8], deadline: u64) -> Result<usize, RequestError> {
        loop {
            if let Some(count) = self.offer(text)? {
                return Ok(count);
            }
            self.step(deadline)?;
        }
    }

    /// Reads what is there, at least one byte; 0 at the end of input, or if `into` is empty.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`] if nothing came; nothing is lost.
    pub fn read(&mut self, into: &mut [u8], deadline: u64) -> Result<usize, RequestError> {
        loop {
            if let Some(count) = self.collect_input(into)? {
                return Ok(count);
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

    /// Submits. False if there is no free slot: then the buffer is kept for the next.
    fn post(&mut self, op: ConsoleOp, length: u32, buffer: Buffer<'p, P, 1>) -> Result<bool, RequestError> {
        let described = buffer.describe(self.link.grant(), length, 1)?;
        let mut batch = self.link.usable()?.batch();
        let Ok(ticket) = batch.reserve(op.0, described.flags(), 0, [0, described.word2, described.word3]) else {
            batch.revert();
            self.spare = Some(buffer);
            return Ok(false);
        };
        if let Some(slot) = self.slots.get_mut(usize::from(ticket.id())) {
            *slot = Some(Slot { op, length, buffer });
        }
        let notify: Notify = batch.commit();
        self.link.published(1, notify);
        Ok(true)
    }

    /// Waits for one completion and deals with it.
    fn step(&mut self, deadline: u64) -> Result<(), RequestError> {
        let ended = self.link.next(deadline)?;
        self.finish(ended);
        Ok(())
    }

    /// A completion left the ring: what it brought, or how it failed, is kept for whoever waits for it.
    fn finish(&mut self, Completed { id, result }: Completed) {
        let Some(Slot { op, length, buffer }) = self.slots.get_mut(usize::from(id)).and_then(Option::take) else {
            return;
        };
        buffer.hand_back();
        let judged = judge(op, length, result);
        if op == ConsoleOp::READ {
            self.read_posted = false;
            match judged {
                Ok(end) => self.input = Some(Input { buffer, next: 0, end }),
                Err(error) => self.read_failed = Some(error),
            }
        } else {
            self.writes_posted = self.writes_posted.saturating_sub(1);
            self.write_failed = self.write_failed.or(judged.err());
            self.spare = Some(buffer);
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

/// What a completion means for a request: the bytes that were moved.
fn judge(op: ConsoleOp, length: u32, result: CompletionResult) -> Result<usize, RequestError> {
    let claimed = result.detail();
    match result.status() {
        Status::OK if claimed > length || (op == ConsoleOp::WRITE && claimed != length) => {
            Err(HostFault::Length { asked: length, claimed }.into())
        }
        Status::OK => Ok(claimed as usize),
        Status::ABORTED => Err(RequestError::Disconnected),
        status => Err(RequestError::Io { status, detail: claimed }),
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
