//! The records that clients append: a door that the tests have a fake of, and the log disk behind it.
//!
//! *Invariants.* A number is given out after the disk vouched for its record. After a write that failed nothing is
//! appended any more: that write may still come to the disk, over whatever stood in its place by then.

use crate::Failure;
use crate::cmdline::Durability;
use crate::lasting::Lasting;
use crate::{log, record};
use pvkit_guest_drivers::platform::Platform;

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// No room is left.
    Full,
    /// The disk failed, now or before.
    Failed,
}

/// Records in order.
pub(super) trait Records {
    /// Appends one; its number, once it is durable. `text` is at most [`record::MAX_TEXT`] bytes.
    fn append(&mut self, text: &[u8]) -> Result<u64, Refused>;
    /// Records that are there.
    fn count(&self) -> u64;
    /// Whether nothing may be written at the moment. What is to be appended waits then.
    fn is_held(&self) -> bool;
}

/// The records of a disk.
pub(super) struct DiskLog<'p, P: Platform> {
    platform: &'p P,
    disk: Lasting<'p, P>,
    mode: Durability,
    next: u64,
    failed: bool,
    held: bool,
}

impl<'p, P: Platform> DiskLog<'p, P> {
    /// Counts the records that are there, and makes them durable.
    pub(super) fn open(platform: &'p P, mut disk: Lasting<'p, P>, mode: Durability) -> Result<Self, Failure> {
        let next = log::count(platform, &mut disk)?;
        log::settle(platform, &mut disk, mode)?;
        Ok(Self { platform, disk, mode, next, failed: false, held: false })
    }

    /// Holds writes back, or lets them go on.
    pub(super) const fn hold(&mut self, held: bool) {
        self.held = held;
    }
}

impl<P: Platform> Records for DiskLog<'_, P> {
    fn append(&mut self, text: &[u8]) -> Result<u64, Refused> {
        if self.failed {
            return Err(Refused::Failed);
        }
        let sequence = self.next;
        if sequence >= log::slots(&self.disk) {
            return Err(Refused::Full);
        }
        let record = record::emit_text(sequence, text);
        log::append(self.platform, &mut self.disk, sequence, &record, self.mode).map_err(|_| {
            self.failed = true;
            Refused::Failed
        })?;
        self.next += 1;
        Ok(sequence)
    }

    fn count(&self) -> u64 {
        self.next
    }

    fn is_held(&self) -> bool {
        self.held
    }
}
