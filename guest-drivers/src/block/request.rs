//! A request as a caller builds it.

use crate::buffer::Buffer;
use crate::platform::Platform;
use pvkit_abi::block::BlockOp;

/// One request, with the buffer that its data is in or goes to.
#[derive(Debug)]
pub struct Request<'p, P: Platform, const PAGES: usize> {
    pub(super) op: BlockOp,
    pub(super) fua: bool,
    pub(super) position: u64,
    pub(super) length: u64,
    pub(super) buffer: Option<Buffer<'p, P, PAGES>>,
}

impl<'p, P: Platform, const PAGES: usize> Request<'p, P, PAGES> {
    /// Reads `length` bytes at `position` to the beginning of `buffer`.
    #[must_use]
    pub const fn read(position: u64, length: u32, buffer: Buffer<'p, P, PAGES>) -> Self {
        Self { op: BlockOp::READ, fua: false, position, length: length as u64, buffer: Some(buffer) }
    }

    /// Writes the first `length` bytes of `buffer` at `position`.
    #[must_use]
    pub const fn write(position: u64, length: u32, buffer: Buffer<'p, P, PAGES>) -> Self {
        Self { op: BlockOp::WRITE, fua: false, position, length: length as u64, buffer: Some(buffer) }
    }

    /// As [`Request::write`]; durable when it completes.
    #[must_use]
    pub const fn write_fua(position: u64, length: u32, buffer: Buffer<'p, P, PAGES>) -> Self {
        Self { op: BlockOp::WRITE, fua: true, position, length: length as u64, buffer: Some(buffer) }
    }

    /// Makes durable what completed before this was submitted.
    #[must_use]
    pub const fn flush() -> Self {
        Self::without_data(BlockOp::FLUSH, 0, 0)
    }

    /// Gives up the content of a run.
    #[must_use]
    pub const fn discard(position: u64, length: u64) -> Self {
        Self::without_data(BlockOp::DISCARD, position, length)
    }

    /// Makes a run read as zeroes.
    #[must_use]
    pub const fn write_zeroes(position: u64, length: u64) -> Self {
        Self::without_data(BlockOp::WRITE_ZEROES, position, length)
    }

    /// Reads the serial to the beginning of `buffer`.
    pub(super) const fn get_id(buffer: Buffer<'p, P, PAGES>) -> Self {
        let length = pvkit_abi::block::SERIAL_BYTES as u64;
        Self { op: BlockOp::GET_ID, fua: false, position: 0, length, buffer: Some(buffer) }
    }

    /// The same request with its buffer, which this one no longer has.
    pub(super) const fn take(&mut self) -> Self {
        Self { op: self.op, fua: self.fua, position: self.position, length: self.length, buffer: self.buffer.take() }
    }

    const fn without_data(op: BlockOp, position: u64, length: u64) -> Self {
        Self { op, fua: false, position, length, buffer: None }
    }
}
