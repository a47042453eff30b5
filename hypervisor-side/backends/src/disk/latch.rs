//! Closed for good by the first sync that failed.
//!
//! *Purpose.* A kernel tells a lost write once. After that the pages count as clean, and the next sync of the same file succeeds
//! though the data is gone: whoever took that for an answer would acknowledge what is lost.

use super::DiskError;
use std::sync::atomic::{AtomicI32, Ordering};

/// What keeps writes and syncs away from a medium that has lost some.
#[derive(Debug, Default)]
pub(super) struct Latch {
    /// Errno of the sync that failed; 0 while none did.
    errno: AtomicI32,
}

impl Latch {
    /// Before anything that stores or makes durable.
    pub(super) fn check(&self) -> Result<(), DiskError> {
        // ORDER: pairs with `close`; a queue that saw the failed sync's answer sees the latch too, by way of the guest.
        match self.errno.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(DiskError::Lost(errno)),
        }
    }

    /// A sync failed; what the guest is to be told.
    pub(super) fn close(&self, error: DiskError) -> DiskError {
        let errno = match error {
            DiskError::Io(errno) | DiskError::Lost(errno) if errno != 0 => errno,
            DiskError::NoSpace => libc::ENOSPC,
            _ => libc::EIO,
        };
        // The first one names it. ORDER: pairs with `check`.
        match self.errno.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => DiskError::Lost(errno),
            Err(first) => DiskError::Lost(first),
        }
    }
}
