//! The volatile disk, and with the feature `mutants` one that breaks its promise: the demo must notice.

use crate::cli::Mutant;
use crate::failure::Failure;
use pvkit_backends::disk::Mutation;
use pvkit_backends::{Disk, RawDisk, VolatileDisk};
use std::sync::Arc;

/// A volatile cache of `limit` bytes over `raw`, honest unless a mutant is asked for.
///
/// # Errors
/// None in this build.
pub fn volatile(raw: RawDisk, limit: u64, mutant: Option<Mutant>) -> Result<Arc<dyn Disk>, Failure> {
    Ok(match mutant {
        Some(Mutant::BackendNoflush) => {
            Arc::new(VolatileDisk::mutant(raw, limit, Mutation { ignore_flush: true, ignore_fua: true }))
        }
        Some(Mutant::GuestNoflush) | None => Arc::new(VolatileDisk::new(raw, limit)),
    })
}
