//! The smallest virtual machine monitor: pvkit's machine as a library, one disk in memory, one console.
//!
//! `cargo run -p smallest-vmm -- IMAGE [DISK [WORDS..]]` boots IMAGE with a copy of the file DISK (writes to it are
//! forgotten), or with an empty disk of 8 MiB, and gives it WORDS as its command line.
#![forbid(unsafe_code)]

use pvkit_backends::{ConsoleInput, RamDisk};
use pvkit_machine::{Control, Device, End, MachineConfig, Program, run};
use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Bytes of the empty disk.
const EMPTY: usize = 8 << 20;

/// Boots what the arguments say, with the guest's console on `output`; the exit status for the process.
///
/// # Errors
/// What is wrong with the arguments, the host or the guest, and what helps.
pub fn boot(
    arguments: impl IntoIterator<Item = String>,
    output: impl Write + Send + 'static,
) -> Result<u8, Box<dyn Error>> {
    let mut arguments = arguments.into_iter();
    let image = arguments.next().ok_or("usage: smallest-vmm IMAGE [DISK [WORDS..]]")?;
    let content = match arguments.next().filter(|path| !path.is_empty()) {
        Some(path) => std::fs::read(&path).map_err(|error| format!("disk {path}: {error}"))?,
        None => vec![0; EMPTY],
    };
    let words: Vec<_> = arguments.collect();

    let input = ConsoleInput::new(4096)?;
    input.end();
    let console = Device::Console { output: Arc::new(Mutex::new(output)), input, columns: 80, rows: 25 };
    let disk = Device::Block { disk: Arc::new(RamDisk::with_content(content)), label: "disk".into() };
    let machine = MachineConfig {
        program: Program::Image(image.into()),
        cmdline: words.join(" "),
        cpus: 1,
        memory: 64 << 20,
        window: 0,
        cpl: None,
        devices: vec![console, disk],
        early_console: Box::new(std::io::stderr()),
    };
    match run(machine, &Control::new())?.end {
        End::PowerOff { code } => Ok(code),
        End::Reboot => Err("the guest wants to be started again".into()),
        End::Stopped => Err("stopped".into()),
        End::Crash { message, registers } => Err(format!("the guest crashed: {message}\n{registers}").into()),
    }
}
