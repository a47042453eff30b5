//! Shared pieces, walked from front to end.

use super::DiskError;
use pvkit_shared_memory::{OutOfRange, SharedBytes};

/// Where a walk over pieces stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces<'a> {
    rest: &'a [SharedBytes],
    offset: usize,
}

impl<'a> Pieces<'a> {
    pub(super) const fn new(pieces: &'a [SharedBytes]) -> Self {
        Self { rest: pieces, offset: 0 }
    }

    /// Copies the next bytes out.
    pub(super) fn take(&mut self, into: &mut [u8]) -> Result<(), DiskError> {
        self.step(into.len(), |piece, offset, done, length| match into.get_mut(done..done + length) {
            Some(part) => piece.read(offset, part),
            None => Err(OutOfRange),
        })
    }

    /// Copies bytes into what comes next.
    pub(super) fn put(&mut self, from: &[u8]) -> Result<(), DiskError> {
        self.step(from.len(), |piece, offset, done, length| match from.get(done..done + length) {
            Some(part) => piece.write(offset, part),
            None => Err(OutOfRange),
        })
    }

    /// Goes on without touching what is passed.
    pub(super) fn skip(&mut self, length: usize) -> Result<(), DiskError> {
        self.step(length, |_, _, _, _| Ok(()))
    }

    /// Calls `act(piece, offset in it, bytes done before, bytes now)` for each part of the next `length` bytes.
    fn step(
        &mut self,
        length: usize,
        mut act: impl FnMut(&SharedBytes, usize, usize, usize) -> Result<(), OutOfRange>,
    ) -> Result<(), DiskError> {
        let mut done = 0;
        while done < length {
            let (piece, rest) = self.rest.split_first().ok_or(DiskError::Io(libc::EFAULT))?;
            let now = (piece.len() - self.offset).min(length - done);
            act(piece, self.offset, done, now).map_err(|_| DiskError::Io(libc::EFAULT))?;
            done += now;
            self.offset += now;
            if self.offset == piece.len() {
                (self.rest, self.offset) = (rest, 0);
            }
        }
        Ok(())
    }
}
