//! Turns the command line's disks and console into backends: here files are opened and locked.

use crate::backends::Backends;
use crate::cli::{Cache, ConsoleOption, DiskFormat, DiskOption, Mutant};
use crate::failure::Failure;
use crate::mutant;
use crate::terminal;
use pvkit_backends::disk::RawOptions;
use pvkit_backends::{ConsoleInput, Disk, NullDisk, RamDisk};
use pvkit_machine::{Device, SerialLine};
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes of writes that a volatile cache holds before it writes them down.
const VOLATILE_LIMIT: u64 = 64 << 20;

/// Opens every disk, in the order of the command line.
///
/// # Errors
/// The first disk that cannot be opened, by name.
pub fn disks(options: &[DiskOption], mutant: Option<Mutant>, backends: &mut Backends) -> Result<Vec<Device>, Failure> {
    options
        .iter()
        .map(|option| match (&option.format, &option.id) {
            (DiskFormat::Backend(socket), Some(id)) => backends.disk(socket, id),
            (_, Some(id)) => Err(Failure::user(format!("id={id} is a disk's name at a backend; add backend=SOCKET"))),
            (_, None) => disk(option, mutant),
        })
        .collect()
}

fn disk(option: &DiskOption, broken: Option<Mutant>) -> Result<Device, Failure> {
    let (disk, label): (Arc<dyn Disk>, String) = match &option.format {
        DiskFormat::Null(size) => (Arc::new(NullDisk::new(size.0)), format!("null disk of {size}")),
        DiskFormat::Ram(size) => {
            (Arc::new(RamDisk::new(size.0).map_err(Failure::user)?), format!("ram disk of {size}"))
        }
        DiskFormat::Raw(path) => {
            let label = option.serial.clone().unwrap_or_else(|| path.display().to_string());
            let raw = mutant::open(path, &raw_options(option), option.faults).map_err(Failure::user)?;
            let disk = match option.cache {
                Cache::Writeback => raw,
                Cache::Volatile => mutant::volatile(raw, VOLATILE_LIMIT, broken)?,
            };
            (disk, label)
        }
        DiskFormat::Backend(socket) => {
            return Err(Failure::user(format!("backend={} without id=NAME", socket.display())));
        }
    };
    Ok(Device::Block { disk, label })
}

/// How the option wants its image opened.
pub fn raw_options(option: &DiskOption) -> RawOptions {
    let serial = option.serial.clone().unwrap_or_default();
    RawOptions { read_only: option.readonly, block_size: option.block_size, serial }
}

/// The console device.
///
/// # Errors
/// The file cannot be made.
pub fn console(option: &ConsoleOption, input: Arc<ConsoleInput>) -> Result<Device, Failure> {
    let (columns, rows) = match option {
        ConsoleOption::Stdio => terminal::window(),
        ConsoleOption::Null | ConsoleOption::File(_) => (0, 0),
    };
    Ok(Device::Console { output: output(option)?, input, columns, rows })
}

/// Where a stock kernel's serial line ends: opened once, for all of the guest's lives.
#[derive(Clone)]
pub struct Wire {
    output: Arc<Mutex<dyn Write + Send>>,
    input: Option<Arc<ConsoleInput>>,
}

impl Wire {
    /// The host's ends.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(option: &ConsoleOption, typed: &Arc<ConsoleInput>) -> Result<Self, Failure> {
        let input = (*option == ConsoleOption::Stdio).then(|| Arc::clone(typed));
        Ok(Self { output: output(option)?, input })
    }

    /// For one life.
    #[must_use]
    pub fn line(&self) -> SerialLine {
        SerialLine { output: Box::new(Shared(Arc::clone(&self.output))), input: self.input.clone() }
    }
}

/// An output behind a lock.
struct Shared(Arc<Mutex<dyn Write + Send>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Where the console's bytes go.
fn output(option: &ConsoleOption) -> Result<Arc<Mutex<dyn Write + Send>>, Failure> {
    Ok(match option {
        ConsoleOption::Stdio => Arc::new(Mutex::new(Prompt(io::stdout()))),
        ConsoleOption::Null => Arc::new(Mutex::new(io::sink())),
        ConsoleOption::File(path) => {
            let file = File::create(path).map_err(|error| {
                Failure::user(error).while_doing(format!(
                    "console file {} cannot be made; check that its folder exists and is writable",
                    path.display()
                ))
            })?;
            Arc::new(Mutex::new(file))
        }
    })
}

/// Where the guest's words go before it has a console device: the same place, but for files, which would be emptied.
#[must_use]
pub fn early_console(option: &ConsoleOption) -> Box<dyn Write + Send> {
    match option {
        ConsoleOption::Stdio => Box::new(Prompt(io::stdout())),
        ConsoleOption::Null => Box::new(io::sink()),
        ConsoleOption::File(_) => Box::new(io::stderr()),
    }
}

/// Shows every write at once: a console's prompt ends without a newline.
struct Prompt<W>(W);

impl<W: Write> Write for Prompt<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.0.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
