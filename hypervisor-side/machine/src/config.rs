//! What a machine is made of.

use crate::host::Host;
use crate::in_process::InProcessPlatform;
use crate::report::Inspection;
use pvkit_abi::bus::Offer;
use pvkit_backends::net::{Network, Steering};
use pvkit_backends::services::Services;
use pvkit_backends::{ConsoleInput, ConsoleOutput, Disk};
use pvkit_driver_domain::client::Backend;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A wait that is as good as endless: a day.
const FOREVER: Duration = Duration::from_secs(86_400);

/// What runs in the guest.
pub enum Program {
    /// An ELF image with our note, on KVM.
    Image(PathBuf),
    /// A stock kernel in a fully virtualized machine, on KVM.
    Hvm(Hvm),
    /// A function, on a thread of this process. It gets the platform and the command line; its result is the guest's
    /// exit status.
    InProcess(fn(&InProcessPlatform, &str) -> i32),
}

/// A stock kernel, and what only a fully virtualized machine has.
#[derive(Default)]
pub struct Hvm {
    /// bzImage, or an ELF image with a PVH note.
    pub kernel: PathBuf,
    /// Initial file system.
    pub initramfs: Option<PathBuf>,
    /// The ends of the first serial line; none: its output is lost.
    pub serial: Option<SerialLine>,
}

/// The host's ends of a serial line.
pub struct SerialLine {
    /// Where the guest's output goes.
    pub output: Box<dyn Write + Send>,
    /// Where its input comes from.
    pub input: Option<Arc<ConsoleInput>>,
}

/// One device, in the order in which the bus offers them. A copy is the same device: for a guest that is booted again.
#[derive(Clone)]
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
    /// A device of a backend in another process.
    Remote {
        /// The backend.
        backend: Arc<Backend>,
        /// Its number there.
        number: u32,
        /// As the backend offers it.
        offer: Offer,
        /// Its name in reports.
        label: String,
    },
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
    /// Bytes of the window beside it, in which the guest has what backends in other processes may map: a multiple of 2 MiB; 0:
    /// none.
    pub window: u64,
    /// Privilege level at which the guest is started; `None`: 3 if the image allows it, else 0.
    pub cpl: Option<u8>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Where output goes that the guest writes before it has a console device, and what the host has to say.
    pub early_console: Box<dyn Write + Send>,
}

#[derive(Default)]
struct State {
    stopped: bool,
    done: bool,
    refresh: bool,
    host: Weak<Host>,
    /// Epochs of a guest that is booted again go on growing.
    last_epoch: u64,
}

/// What a machine's main thread is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The guest ended, or is to be stopped.
    End,
    /// Look again how large the disks are.
    RefreshDisks,
}

/// Ends a run from outside, tells it that something changed, or looks at it.
#[derive(Default)]
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

    /// Sleeps, unless the run is stopped meanwhile; whether it is.
    #[must_use]
    pub fn stopped_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.stopped || left.is_zero() {
                return state.stopped;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What can be said of the guest now; none before it is made, and when it is gone.
    #[must_use]
    pub fn inspect(&self) -> Option<Inspection> {
        let host = self.state().host.upgrade();
        host.map(|host| host.inspect())
    }

    /// A guest is made; one control may see several, one after the other.
    pub(crate) fn attach(&self, host: &Arc<Host>) {
        let mut state = self.state();
        (state.host, state.done) = (Arc::downgrade(host), false);
    }

    pub(crate) fn last_epoch(&self) -> u64 {
        self.state().last_epoch
    }

    /// A guest ended with this one.
    pub(crate) fn note_epoch(&self, last: u64) {
        self.state().last_epoch = last;
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
        loop {
            if let Some(request) = self.wait_for(FOREVER) {
                return request;
            }
        }
    }

    /// Waits until there is something to do, or the time is over.
    pub(crate) fn wait_for(&self, time: Duration) -> Option<Request> {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        loop {
            if state.stopped || state.done {
                return Some(Request::End);
            }
            if std::mem::take(&mut state.refresh) {
                return Some(Request::RefreshDisks);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
