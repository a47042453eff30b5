//! Closed for good by the first sync that failed.
//!
//! *Purpose.* A kernel tells a lost write once. After that the pages count as clean, and the next sync of the same file succeeds
//! though the data is gone: whoever took that for an answer would acknowledge what is lost. Of several syncs at once one alone is
//! told; so none has succeeded before those that overlapped it are known to have.

use super::DiskError;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{PoisonError, RwLock};

/// What keeps writes and syncs away from a medium that has lost some.
#[derive(Debug, Default)]
pub(super) struct Latch {
    /// Errno of the sync that failed; 0 while none did.
    errno: AtomicI32,
    /// Shared by the syncs that are under way.
    under_way: RwLock<()>,
}

impl Latch {
    /// Before anything that stores or makes durable.
    pub(super) fn check(&self) -> Result<(), DiskError> {
        // ORDER: pairs with `close`: whoever comes after the failed sync's answer sees it.
        match self.errno.load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(DiskError::Lost(errno)),
        }
    }

    /// Does what syncs; all that it finds out is told by [`Latch::close`] before it returns.
    pub(super) fn during(&self, act: impl FnOnce() -> Result<(), DiskError>) -> Result<(), DiskError> {
        self.check()?;
        let under_way = self.under_way.read().unwrap_or_else(PoisonError::into_inner);
        let result = act();
        drop(under_way);
        result?;
        // Those that began before this one ended may have been told in its place.
        drop(self.under_way.write().unwrap_or_else(PoisonError::into_inner));
        self.check()
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
