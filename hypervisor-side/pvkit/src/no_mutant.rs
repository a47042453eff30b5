//! The disks of an ordinary build, which has no mutants.

use crate::cli::Mutant;
use crate::failure::Failure;
use pvkit_backends::disk::{OpenError, RawOptions};
use pvkit_backends::{Disk, RawDisk, VolatileDisk};
use pvkit_machine::SerialLine;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

const REFUSED: &str = "this build has no mutants; build it with --features mutants";

/// Faults of an image: here there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {}

impl FromStr for Faults {
    type Err = String;

    fn from_str(_: &str) -> Result<Self, String> {
        Err(REFUSED.into())
    }
}

/// Opens a raw image.
///
/// # Errors
/// What is wrong with the image.
pub fn open(path: &Path, options: &RawOptions, faults: Option<Faults>) -> Result<Arc<dyn Disk>, OpenError> {
    match faults {
        Some(none) => match none {},
        None => Ok(Arc::new(RawDisk::open(path, options)?)),
    }
}

/// A volatile cache of `limit` bytes over `raw`.
///
/// # Errors
/// A mutant is asked for.
pub fn volatile(raw: Arc<dyn Disk>, limit: u64, mutant: Option<Mutant>) -> Result<Arc<dyn Disk>, Failure> {
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
    Failure::user(REFUSED)
}
