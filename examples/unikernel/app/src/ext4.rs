//! A disk under a file system reader that wants to own it for ever.
//!
//! *Purpose.* `ext4-view` keeps its reader as `Box<dyn Ext4Read + 'static>`, but a disk borrows the platform. So the
//! reader sees only [`Windows`], pieces of the disk that are in memory. An operation that needs a piece which is not
//! there fails, the piece is read, and the operation is done again: all of them only read.
//!
//! *Invariants.* Each repetition follows the reading of one more piece, so a repetition ends. Between operations at
//! most [`KEPT`] pieces stay.

use crate::Failure;
use crate::lasting::{Door, Lasting};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use ext4_view::{Ext4, Ext4Error, Ext4Read};
use pvkit_guest_drivers::platform::Platform;

/// Bytes of a piece; a multiple of every logical block size.
const WINDOW: u64 = 64 * 1024;
/// Pieces kept between operations.
const KEPT: usize = 128;

/// The pieces in memory, by number, and the one that was missed.
#[derive(Default)]
struct Windows {
    pieces: BTreeMap<u64, Vec<u8>>,
    missed: Option<u64>,
}

/// A piece is not in memory; or there is no such piece.
#[derive(Debug)]
struct Missed(u64);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "piece {} of the disk is not in memory", self.0)
    }
}

impl core::error::Error for Missed {}

struct Reader(Rc<RefCell<Windows>>);

impl Ext4Read for Reader {
    fn read(&mut self, start: u64, into: &mut [u8]) -> Result<(), Box<dyn core::error::Error + Send + Sync>> {
        let mut windows = self.0.borrow_mut();
        let mut position = start;
        let mut rest = into;
        while !rest.is_empty() {
            let (number, inside) = (position / WINDOW, (position % WINDOW) as usize);
            let part =
                windows.pieces.get(&number).and_then(|piece| piece.get(inside..)).filter(|part| !part.is_empty());
            let Some(part) = part else {
                windows.missed = Some(number);
                return Err(Box::new(Missed(number)));
            };
            let count = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            rest = later;
            position += count as u64;
        }
        Ok(())
    }
}

/// A file system on a disk.
pub(crate) struct FileSystem<'p, P: Platform> {
    disk: Lasting<'p, P>,
    platform: &'p P,
    windows: Rc<RefCell<Windows>>,
    /// Pieces read from the disk.
    pub(crate) reads: u64,
}

impl<'p, P: Platform> FileSystem<'p, P> {
    pub(crate) fn new(disk: Lasting<'p, P>, platform: &'p P) -> Self {
        Self { disk, platform, windows: Rc::default(), reads: 0 }
    }

    /// Reads the super block and what belongs to it.
    pub(crate) fn load(&mut self) -> Result<Ext4, Failure> {
        let windows = self.windows.clone();
        self.repeat(|| Ext4::load(Box::new(Reader(windows.clone()))))
    }

    /// Does `operation` until every piece of the disk that it needs is in memory.
    pub(crate) fn repeat<T>(&mut self, mut operation: impl FnMut() -> Result<T, Ext4Error>) -> Result<T, Failure> {
        if self.windows.borrow().pieces.len() > KEPT {
            self.windows.borrow_mut().pieces.clear();
        }
        loop {
            let result = operation();
            let missed = self.windows.borrow_mut().missed.take();
            match (result, missed) {
                (Err(error), Some(number)) => self.fetch(number, error)?,
                (result, _) => return Ok(result?),
            }
        }
    }

    /// Reads one piece. `error` is what the operation failed with: it stands if there is nothing more to read.
    fn fetch(&mut self, number: u64, error: Ext4Error) -> Result<(), Failure> {
        let position = number.saturating_mul(WINDOW);
        let length = WINDOW.min(self.disk.geometry().capacity.saturating_sub(position));
        let held = self.windows.borrow().pieces.contains_key(&number);
        if length == 0 || held {
            return Err(error.into());
        }
        let mut piece = vec![0; length as usize];
        let deadline = self.platform.now().saturating_add(crate::session::PATIENCE_NS);
        self.disk.read(position, &mut piece, deadline)?;
        self.windows.borrow_mut().pieces.insert(number, piece);
        self.reads += 1;
        Ok(())
    }

    /// The disk, for its counters.
    pub(crate) const fn disk(&self) -> &Lasting<'p, P> {
        &self.disk
    }
}
