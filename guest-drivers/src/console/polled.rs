//! Look now, wait elsewhere: the door that the others are built on.

use super::Console;
use crate::error::RequestError;
use crate::platform::Platform;
use pvkit_abi::console::ConsoleOp;
use pvkit_ring::Park;

impl<P: Platform> Console<'_, P> {
    /// Reads what is there; `None` if nothing is. Never waits. 0 at the end of input, or if `into` is empty.
    ///
    /// # Errors
    /// How the read failed, or a fault of the host; nothing that came is lost.
    pub fn try_read(&mut self, into: &mut [u8]) -> Result<Option<usize>, RequestError> {
        self.look()?;
        self.collect_input(into)
    }

    /// Puts the beginning of `text` on its way, up to a page, and says how many bytes; `None` while the queue is full.
    /// Never waits.
    ///
    /// # Errors
    /// How an earlier write failed, or a fault of the host; nothing of `text` was taken.
    pub fn try_write(&mut self, text: &[u8]) -> Result<Option<usize>, RequestError> {
        self.look()?;
        self.offer(text)
    }

    /// Whether [`Console::try_read`] has an answer.
    ///
    /// # Errors
    /// As there.
    pub fn has_input(&mut self) -> Result<bool, RequestError> {
        self.look()?;
        let there = self.input.is_some() || self.read_failed.is_some();
        if !there {
            self.listen()?;
        }
        Ok(there)
    }

    /// Whether [`Console::try_write`] takes something.
    ///
    /// # Errors
    /// As there.
    pub fn has_room(&mut self) -> Result<bool, RequestError> {
        self.look()?;
        Ok(self.link.usable()?.room() > 0)
    }

    /// Writes that the host has not taken.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        self.writes_posted
    }

    /// For a caller that sleeps on several queues at once: asks for the next interrupt. True if there is something to
    /// look at, so that the caller must not sleep.
    pub fn arm(&mut self) -> bool {
        self.link.park() == Park::Ready
    }

    /// Deals with every completion that is there; says whether there was one. Ends: only what is in flight can come.
    pub(super) fn look(&mut self) -> Result<bool, RequestError> {
        let mut any = false;
        while let Some(ended) = self.link.take()? {
            self.finish(ended);
            any = true;
        }
        Ok(any)
    }

    /// Input that came, or how the read failed; posts a read if there is neither. Takes nothing off the ring.
    pub(super) fn collect_input(&mut self, into: &mut [u8]) -> Result<Option<usize>, RequestError> {
        if into.is_empty() {
            return Ok(Some(0));
        }
        if let Some(input) = self.input.take() {
            return self.deliver(input, into).map(Some);
        }
        if let Some(error) = self.read_failed.take() {
            return Err(error);
        }
        self.listen()?;
        Ok(None)
    }

    /// Posts a read, if none is posted and there is room.
    fn listen(&mut self) -> Result<(), RequestError> {
        if !self.read_posted && self.link.usable()?.room() > 0 {
            let buffer = self.buffer()?;
            self.read_posted = self.post(ConsoleOp::READ, self.piece() as u32, buffer)?;
        }
        Ok(())
    }

    /// As `try_write`, but takes nothing off the ring.
    pub(super) fn offer(&mut self, text: &[u8]) -> Result<Option<usize>, RequestError> {
        if let Some(error) = self.write_failed.take() {
            return Err(error);
        }
        let Some(piece) = text.chunks(self.piece()).next() else { return Ok(Some(0)) };
        if self.link.usable()?.room() == 0 {
            return Ok(None);
        }
        let mut buffer = self.buffer()?;
        buffer.write(0, piece)?;
        if !self.post(ConsoleOp::WRITE, piece.len() as u32, buffer)? {
            return Ok(None);
        }
        self.writes_posted += 1;
        Ok(Some(piece.len()))
    }
}
