//! The volatile disk of an ordinary build, which has no mutants.

use crate::cli::Mutant;
use crate::failure::Failure;
use pvkit_backends::{Disk, RawDisk, VolatileDisk};
use pvkit_machine::SerialLine;
use std::sync::Arc;

/// A volatile cache of `limit` bytes over `raw`.
///
/// # Errors
/// A mutant is asked for.
pub fn volatile(raw: RawDisk, limit: u64, mutant: Option<Mutant>) -> Result<Arc<dyn Disk>, Failure> {
    match mutant {
        Some(Mutant::BackendNoflush | Mutant::Hostile) => Err(refused()),
        Some(Mutant::GuestNoflush) | None => Ok(Arc::new(VolatileDisk::new(raw, limit))),
    }
}

/// The serial line.
///
/// # Errors
/// A mutant is asked for.
pub fn serial(line: SerialLine, mutant: Option<Mutant>) -> Result<SerialLine, Failure> {
    if mutant == Some(Mutant::Hostile) { Err(refused()) } else { Ok(line) }
}

fn refused() -> Failure {
    Failure::user("this build has no mutants; build it with --features mutants")
}
