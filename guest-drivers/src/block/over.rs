//! Blocking calls that survive the loss of the backend: with the bus at hand they see it go, wait until it is back, open the
//! disk anew, and do again what was under way.
//!
//! *Why again is right.* Every operation may be done twice, one is under way at a time, and its data is in the driver's own buffer,
//! which does not change before it completed. What completed before is the host kernel's, whichever process wrote it.
//!
//! *Waiting.* For the queue and the bus together: both event words are armed, both are looked at once more, then it sleeps. Nothing
//! is polled by the clock.

use super::{Block, Completed, Geometry, Request, poison};
use crate::buffer::Buffer;
use crate::bus::Bus;
use crate::device::bus_failure;
use crate::error::{Misuse, RequestError};
use crate::platform::Platform;
use pvkit_abi::block::BlockFeatures;
use pvkit_ring::{Park, Ticket};

/// A disk with its bus. Made for a call or a few, and given up again.
#[derive(Debug)]
pub struct Over<'a, 'p, P: Platform, const N: usize, const PAGES: usize> {
    disk: &'a mut Block<'p, P, N, PAGES>,
    bus: &'a mut Bus<'p, P>,
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Block<'p, P, N, PAGES> {
    /// Blocking calls that wait for a backend that is lost, until their deadline.
    pub const fn over<'a>(&'a mut self, bus: &'a mut Bus<'p, P>) -> Over<'a, 'p, P, N, PAGES> {
        Over { disk: self, bus }
    }
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Over<'_, 'p, P, N, PAGES> {
    /// The disk's properties.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        self.disk.geometry()
    }

    /// As [`Block::read`].
    ///
    /// # Errors
    /// As for `read`; `Disconnected` only if the disk is gone for good.
    pub fn read(&mut self, position: u64, into: &mut [u8], deadline: u64) -> Result<(), RequestError> {
        self.disk.geometry.check_run(position, into.len() as u64)?;
        let mut at = position;
        for piece in into.chunks_mut(self.disk.piece()?) {
            let length = piece.len() as u32;
            let buffer = self.disk.bounce()?;
            let ended =
                self.run(Some(buffer), deadline, |buffer| buffer.map(|buffer| Request::read(at, length, buffer)))?;
            if let Some(buffer) = ended.buffer {
                buffer.read(0, piece)?;
                self.disk.bounce = Some(buffer);
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// As [`Block::write`].
    ///
    /// # Errors
    /// As for `read`.
    pub fn write(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.write_pieces(position, from, deadline, Request::write)
    }

    /// As [`Block::write_fua`].
    ///
    /// # Errors
    /// As for `read`.
    pub fn write_fua(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.write_pieces(position, from, deadline, Request::write_fua)
    }

    /// As [`Block::flush`].
    ///
    /// # Errors
    /// As for `read`.
    pub fn flush(&mut self, deadline: u64) -> Result<(), RequestError> {
        if !self.disk.features.contains(BlockFeatures::FLUSH) {
            return Ok(());
        }
        self.run(None, deadline, |_| Some(Request::flush())).map(|_| ())
    }

    fn write_pieces(
        &mut self,
        position: u64,
        from: &[u8],
        deadline: u64,
        request: impl Fn(u64, u32, Buffer<'p, P, PAGES>) -> Request<'p, P, PAGES>,
    ) -> Result<(), RequestError> {
        self.disk.geometry.check_run(position, from.len() as u64)?;
        let mut at = position;
        for piece in from.chunks(self.disk.piece()?) {
            let mut buffer = self.disk.bounce()?;
            buffer.write(0, piece)?;
            let make = |buffer: Option<_>| buffer.map(|buffer| request(at, piece.len() as u32, buffer));
            self.disk.bounce = self.run(Some(buffer), deadline, make)?.buffer;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Submits and waits, over as many lives of the backend as it takes.
    fn run(
        &mut self,
        mut buffer: Option<Buffer<'p, P, PAGES>>,
        deadline: u64,
        make: impl Fn(Option<Buffer<'p, P, PAGES>>) -> Option<Request<'p, P, PAGES>>,
    ) -> Result<Completed<'p, P, PAGES>, RequestError> {
        if self.disk.outstanding > 0 {
            self.disk.bounce = buffer;
            return Err(Misuse::RequestsInFlight.into());
        }
        let mut lives = 0;
        loop {
            let Some(request) = make(buffer.take()) else { return Err(RequestError::Disconnected) };
            buffer = match self.disk.submit(request) {
                Ok(ticket) => match self.ended(&ticket, deadline)? {
                    Completed { result: Err(RequestError::Disconnected), buffer, .. } => {
                        lives += 1;
                        if self.disk.lives.suspicion.is_some_and(|suspicion| suspicion.is_sure_after(lives)) {
                            self.disk.bounce = buffer;
                            return Err(poison::KILLS);
                        }
                        buffer
                    }
                    Completed { result: Err(error), buffer, .. } => {
                        self.disk.bounce = buffer;
                        return Err(error);
                    }
                    completed => return Ok(completed),
                },
                Err(rejected) if rejected.error == RequestError::Disconnected => rejected.request.buffer,
                Err(rejected) => {
                    self.disk.bounce = rejected.request.buffer;
                    return Err(rejected.error);
                }
            };
            // A backend may die with each request, and each time be back at once.
            if let Err(error) = self.disk.in_time(deadline).and_then(|()| self.disk.reconnect(self.bus, deadline)) {
                self.disk.bounce = buffer;
                return Err(error);
            }
            self.disk.link.counters.replays += 1;
        }
    }

    /// Waits for this request, or for the end of its queue.
    fn ended(&mut self, ticket: &Ticket, deadline: u64) -> Result<Completed<'p, P, PAGES>, RequestError> {
        loop {
            let late = self.disk.link.platform().now() >= deadline;
            if let Some(completed) = self.disk.take()? {
                return Ok(completed);
            }
            self.disk.look(self.bus)?;
            if self.disk.link.is_detached() {
                continue;
            }
            if late {
                self.disk.give_up(ticket);
                return Err(RequestError::TimedOut);
            }
            if self.disk.link.arm()? == Park::Armed {
                self.bus.wait(deadline).map_err(bus_failure)?;
            }
        }
    }
}
