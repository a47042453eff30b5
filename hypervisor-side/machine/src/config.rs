//! What a machine is made of.

use crate::in_process::InProcessPlatform;
use pvkit_backends::net::{Network, Steering};
use pvkit_backends::services::Services;
use pvkit_backends::{ConsoleInput, ConsoleOutput, Disk};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What runs in the guest.
#[derive(Clone, Debug)]
pub enum Program {
    /// An ELF image with our note, on KVM.
    Image(PathBuf),
    /// A function, on a thread of this process. It gets the platform and the command line; its result is the guest's
    /// exit status.
    InProcess(fn(&InProcessPlatform, &str) -> i32),
}

/// One device, in the order in which the bus offers them.
pub enum Device {
    /// A disk.
    Block {
        /// What it works on.
        disk: Arc<dyn Disk>,
        /// Its name in reports.
        label: String,
    },
    /// A console.
    Console {
        /// Where the guest's output goes.
        output: ConsoleOutput,
        /// Where the guest's input comes from.
        input: Arc<ConsoleInput>,
        /// Columns of the terminal, 0 if unknown.
        columns: u16,
        /// Rows of the terminal, 0 if unknown.
        rows: u16,
    },
    /// The services channel.
    Services(Arc<Services>),
    /// Random bytes of the host's generator.
    Entropy,
    /// A network port, with as many pairs of queues as `steering` has inboxes.
    Net {
        /// What it is plugged into.
        network: Arc<dyn Network>,
        /// The way of frames into the guest; its address is the port's.
        steering: Arc<Steering>,
        /// Largest IP packet in bytes.
        mtu: u16,
        /// Its name in reports.
        label: String,
    },
}

/// One guest.
pub struct MachineConfig {
    /// What runs.
    pub program: Program,
    /// Its command line.
    pub cmdline: String,
    /// vCPUs, at least one.
    pub cpus: u32,
    /// Memory in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// Privilege level at which the guest is started; `None`: 3 if the image allows it, else 0.
    pub cpl: Option<u8>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Where output goes that the guest writes before it has a console device, and what the host has to say.
    pub early_console: Box<dyn Write + Send>,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    done: bool,
    refresh: bool,
}

/// What a machine's main thread is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The guest ended, or is to be stopped.
    End,
    /// Look again how large the disks are.
    RefreshDisks,
}

/// Ends a run from outside, or tells it that something changed.
#[derive(Debug, Default)]
pub struct Control {
    state: Mutex<State>,
    bell: Condvar,
}

impl Control {
    /// A control for one run.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Ends the run: the guest is stopped where it is. May be called from any thread, at any time, more than once.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.bell.notify_all();
    }

    /// Has the run look again how large its disks are, and tell the guest of those that changed.
    pub fn refresh_disks(&self) {
        self.state().refresh = true;
        self.bell.notify_all();
    }

    /// Whether `stop` was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Says that the guest ended by itself.
    pub(crate) fn done(&self) {
        self.state().done = true;
        self.bell.notify_all();
    }

    /// Waits until there is something to do. The one wait without a deadline: it is the run itself.
    pub(crate) fn wait(&self) -> Request {
        let mut state = self.state();
        loop {
            if state.stopped || state.done {
                return Request::End;
            }
            if std::mem::take(&mut state.refresh) {
                return Request::RefreshDisks;
            }
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
