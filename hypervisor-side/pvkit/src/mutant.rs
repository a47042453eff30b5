//! With the feature `mutants`: a volatile disk that breaks its promise, which the demo must notice; images that fail by chance; and
//! a host that lies.

use crate::cli::Mutant;
use crate::failure::Failure;
pub use pvkit_backends::disk::Faults;
use pvkit_backends::disk::{Mutation, OpenError, RawOptions};
use pvkit_backends::{Disk, RawDisk, VolatileDisk};
use pvkit_machine::{SerialLine, hostile};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

/// What a line that gives an order begins with.
const ORDER: &str = "LIE ";
/// No order is longer.
const LONGEST: usize = 400;

/// Opens a raw image; with `faults` it fails by chance, and each error that it gives is a line on standard error.
///
/// # Errors
/// What is wrong with the image.
pub fn open(path: &Path, options: &RawOptions, faults: Option<Faults>) -> Result<Arc<dyn Disk>, OpenError> {
    let log = |line: &str| {
        let _ = writeln!(io::stderr(), "pvkit: {line}");
    };
    Ok(match faults {
        Some(faults) => Arc::new(RawDisk::open_faulty(path, options, faults, Box::new(log))?),
        None => Arc::new(RawDisk::open(path, options)?),
    })
}

/// A volatile cache of `limit` bytes over `raw`, honest unless a mutant is asked for.
///
/// # Errors
/// None in this build.
pub fn volatile(raw: Arc<dyn Disk>, limit: u64, mutant: Option<Mutant>) -> Result<Arc<dyn Disk>, Failure> {
    Ok(match mutant {
        Some(Mutant::BackendNoflush) => {
            Arc::new(VolatileDisk::mutant(raw, limit, Mutation { ignore_flush: true, ignore_fua: true }))
        }
        Some(Mutant::GuestNoflush | Mutant::Hostile) | None => Arc::new(VolatileDisk::new(raw, limit)),
    })
}

/// The serial line, and if the mutant is asked for somebody who listens on it for orders to lie.
///
/// # Errors
/// No thread is to be had.
pub fn serial(line: SerialLine, mutant: Option<Mutant>) -> Result<SerialLine, Failure> {
    if mutant != Some(Mutant::Hostile) {
        return Ok(line);
    }
    hostile::begin();
    let (orders, obeyed) = channel::<String>();
    // Not by the vCPU that writes: an order may have to wait for a queue's thread. It ends with the line.
    std::thread::Builder::new()
        .name("liar".into())
        .spawn(move || {
            for order in obeyed {
                let result = hostile::obey(&order).map_or_else(|why| format!("not done: {why}"), |()| "done".into());
                let _ = writeln!(io::stderr(), "pvkit: lie: {order}: {result}");
            }
        })
        .map_err(Failure::run)?;
    Ok(SerialLine { output: Box::new(Ear { output: line.output, heard: String::new(), orders }), ..line })
}

/// Hears orders in what passes.
struct Ear {
    output: Box<dyn Write + Send>,
    heard: String,
    orders: Sender<String>,
}

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        for byte in bytes.iter().take(written) {
            if *byte != b'\n' && self.heard.len() < LONGEST {
                self.heard.push(char::from(*byte));
                continue;
            }
            if let Some(order) = self.heard.trim().strip_prefix(ORDER) {
                let _ = self.orders.send(order.to_owned());
            }
            self.heard.clear();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
