//! Blocking calls with a deadline. Data is copied through one buffer of the driver's own, a piece at a time.
//!
//! They need the queue for themselves: while submitted requests are outstanding they are refused, because a completion
//! that comes meanwhile would have no one to go to. What is in quarantine does not hinder them.

use super::{Block, Completed, Request};
use crate::buffer::Buffer;
use crate::error::{Misuse, RequestError};
use crate::platform::Platform;
use pvkit_abi::block::{BlockFeatures, SERIAL_BYTES};

impl<'p, P: Platform, const N: usize, const PAGES: usize> Block<'p, P, N, PAGES> {
    /// Reads whole blocks at `position`.
    ///
    /// # Errors
    /// On an error some of `into` may have been filled. [`RequestError::TimedOut`] leaves the driver usable.
    pub fn read(&mut self, position: u64, into: &mut [u8], deadline: u64) -> Result<(), RequestError> {
        self.geometry.check_run(position, into.len() as u64)?;
        let mut at = position;
        for piece in into.chunks_mut(self.piece()?) {
            let buffer = self.bounce()?;
            let buffer = self.run(Request::read(at, piece.len() as u32, buffer), deadline)?.buffer;
            if let Some(buffer) = buffer {
                buffer.read(0, piece)?;
                self.bounce = Some(buffer);
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes whole blocks at `position`. Durable after the next [`Block::flush`].
    ///
    /// # Errors
    /// On an error any part may have been written.
    pub fn write(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.write_pieces(position, from, deadline, Request::write)
    }

    /// Writes whole blocks at `position`, durable at return.
    ///
    /// # Errors
    /// As for `write`.
    pub fn write_fua(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.write_pieces(position, from, deadline, Request::write_fua)
    }

    fn write_pieces(
        &mut self,
        position: u64,
        from: &[u8],
        deadline: u64,
        request: impl Fn(u64, u32, Buffer<'p, P, PAGES>) -> Request<'p, P, PAGES>,
    ) -> Result<(), RequestError> {
        self.geometry.check_run(position, from.len() as u64)?;
        let mut at = position;
        for piece in from.chunks(self.piece()?) {
            let mut buffer = self.bounce()?;
            buffer.write(0, piece)?;
            self.bounce = self.run(request(at, piece.len() as u32, buffer), deadline)?.buffer;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Makes every write that returned before this call durable. A disk without [`BlockFeatures::FLUSH`] is durable at
    /// completion: nothing is sent.
    ///
    /// # Errors
    /// The device's answer: what was written since the last flush may be lost.
    pub fn flush(&mut self, deadline: u64) -> Result<(), RequestError> {
        if !self.features.contains(BlockFeatures::FLUSH) {
            return Ok(());
        }
        self.run(Request::flush(), deadline).map(|_| ())
    }

    /// Gives up the content of a run, of any length.
    ///
    /// # Errors
    /// [`RequestError::Unsupported`], or the device's answer.
    pub fn discard(&mut self, position: u64, length: u64, deadline: u64) -> Result<(), RequestError> {
        self.run_pieces(position, length, deadline, Request::discard)
    }

    /// Makes a run of any length read as zeroes. Durable after the next [`Block::flush`].
    ///
    /// # Errors
    /// [`RequestError::Unsupported`], or the device's answer.
    pub fn write_zeroes(&mut self, position: u64, length: u64, deadline: u64) -> Result<(), RequestError> {
        self.run_pieces(position, length, deadline, Request::write_zeroes)
    }

    fn run_pieces(
        &mut self,
        position: u64,
        length: u64,
        deadline: u64,
        request: impl Fn(u64, u64) -> Request<'p, P, PAGES>,
    ) -> Result<(), RequestError> {
        self.geometry.check_run(position, length)?;
        let piece = self.geometry.discard_piece().ok_or(RequestError::Unsupported)?;
        let mut done = 0;
        while done < length {
            let now = piece.min(length - done);
            self.run(request(position + done, now), deadline)?;
            done += now;
        }
        Ok(())
    }

    /// Asks the device for its serial; the bytes beyond the answer are zero.
    ///
    /// # Errors
    /// The device's answer.
    pub fn read_serial(&mut self, deadline: u64) -> Result<[u8; SERIAL_BYTES], RequestError> {
        let buffer = self.bounce()?;
        let ended = self.run(Request::get_id(buffer), deadline)?;
        let mut serial = [0; SERIAL_BYTES];
        if let (Some(buffer), Ok(length)) = (ended.buffer, ended.result) {
            if let Some(part) = serial.get_mut(..length as usize) {
                buffer.read(0, part)?;
            }
            self.bounce = Some(buffer);
        }
        Ok(serial)
    }

    /// Submits and waits for exactly this request.
    fn run(&mut self, request: Request<'p, P, PAGES>, deadline: u64) -> Result<Completed<'p, P, PAGES>, RequestError> {
        if self.outstanding > 0 {
            self.bounce = request.buffer;
            return Err(Misuse::RequestsInFlight.into());
        }
        let ticket = match self.submit(request) {
            Ok(ticket) => ticket,
            Err(rejected) => {
                self.bounce = rejected.request.buffer;
                return Err(rejected.error);
            }
        };
        loop {
            let ended = match self.link.next(deadline) {
                Ok(ended) => ended,
                Err(error) => {
                    self.give_up(&ticket);
                    return Err(error);
                }
            };
            let Some(completed) = self.finish(ended.id, ended.result)? else { continue };
            return match completed.result {
                Ok(_) => Ok(completed),
                Err(error) => {
                    self.bounce = completed.buffer;
                    Err(error)
                }
            };
        }
    }

    /// Bytes of one piece.
    pub(super) fn piece(&self) -> Result<usize, RequestError> {
        match self.request_limit() {
            0 => Err(Misuse::BufferLength { limit: (PAGES * pvkit_abi::PAGE_SIZE) as u64 }.into()),
            limit => Ok(limit),
        }
    }

    /// The driver's own buffer, or a new one if the last one is in quarantine.
    pub(super) fn bounce(&mut self) -> Result<Buffer<'p, P, PAGES>, RequestError> {
        if let Some(buffer) = self.bounce.take() {
            return Ok(buffer);
        }
        Ok(Buffer::allocate(self.link.platform(), self.bounce_bytes())?)
    }

    /// Bytes of the driver's own buffer.
    pub(super) fn bounce_bytes(&self) -> usize {
        self.request_limit().max(SERIAL_BYTES)
    }
}
