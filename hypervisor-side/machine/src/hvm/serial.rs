//! The serial line: vm-superio's 16550A, the operator's output and input at its ends.

use crate::slot::lock;
use pvkit_backends::ConsoleInput;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial as Uart};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// How often a full receive buffer is tried again, while something is typed.
const RETRY: Duration = Duration::from_millis(10);
/// Longest sleep without a look at whether the machine ends.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes handed over at once.
const CHUNK: usize = 64;

/// Raises the line's interrupt.
pub struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

type Device = Uart<Interrupt, NoEvents, Box<dyn Write + Send>>;

/// The serial line of one machine.
pub struct Serial {
    device: Mutex<Device>,
    ended: AtomicBool,
}

impl Serial {
    /// A line that writes to `output`; the descriptor is to be wired to its interrupt.
    ///
    /// # Errors
    /// No eventfd is to be had.
    pub fn new(output: Box<dyn Write + Send>) -> io::Result<(Arc<Self>, EventFd)> {
        let interrupt = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let wire = interrupt.try_clone()?;
        let device = Mutex::new(Uart::new(Interrupt(interrupt), output));
        Ok((Arc::new(Self { device, ended: AtomicBool::new(false) }), wire))
    }

    /// The guest reads a register.
    pub fn read(&self, offset: u8) -> u8 {
        lock(&self.device).read(offset)
    }

    /// The guest writes a register. Output that the operator's end refuses is lost, as on a real line.
    pub fn write(&self, offset: u8, value: u8) {
        let _ = lock(&self.device).write(offset, value);
    }

    /// Starts to hand over what is typed, until [`Serial::end`] or the end of the input.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn listen(self: &Arc<Self>, input: Arc<ConsoleInput>) -> io::Result<JoinHandle<()>> {
        let serial = self.clone();
        std::thread::Builder::new().name("serial".into()).spawn(move || {
            while !serial.ended.load(Ordering::Relaxed) {
                if !input.wait(LOOK) {
                    continue;
                }
                let room = lock(&serial.device).fifo_capacity().min(CHUNK);
                match input.take(room) {
                    Some(typed) if typed.is_empty() && room > 0 => break,
                    Some(typed) if !typed.is_empty() => {
                        let _ = lock(&serial.device).enqueue_raw_bytes(&typed);
                    }
                    _ => std::thread::sleep(RETRY),
                }
            }
        })
    }

    /// Ends the thread of [`Serial::listen`] soon.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}
