//! The daemon's end: who may have what, and a thread for each monitor.
//!
//! *Owners.* [`Daemon`] has the exports for as long as it runs; a monitor's connection has what was given to it, and gives it
//! back when it ends, however that happens.
//!
//! *Bounds.* [`MAX_MONITORS`] connections; one more is told nothing and closed, and that is logged by powers of two.

mod connection;
mod device;
mod export;
mod holdings;

pub use connection::MAX_DEVICES;
pub(crate) use device::snapshot;
pub use export::{Export, ExportKind, Given};

use crate::protocol::Inspected;
use crate::socket::PacketSocket;
use connection::{Connection, End};
use holdings::Holdings;
use pvkit_abi::status::CallError;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Most monitors at a time.
pub const MAX_MONITORS: usize = 64;

/// How long whoever inspects waits for a monitor that is being served.
const INSPECTION: Duration = Duration::from_secs(1);

/// Takes a line for the operator.
pub type Log = Box<dyn Fn(&str) + Send + Sync>;

/// What a queue's thread is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// A disk's queue.
    Disk,
    /// A queue of a network on a TAP.
    Tap,
    /// A queue of user-mode networking.
    User,
}

/// Called by each queue's thread before it looks at the queue; false: it is not to.
pub type Enter = Arc<dyn Fn(Worker) -> bool + Send + Sync>;

/// A daemon.
pub struct Daemon {
    exports: BTreeMap<String, Arc<Export>>,
    enter: Enter,
    incarnation: u64,
    stop: OwnedFd,
    refused: AtomicU64,
    /// In the order in which they came. A monitor that has no device yet, or asks questions only, is one of them.
    monitors: Mutex<BTreeMap<u64, Arc<Mutex<Holdings>>>>,
    log: Log,
}

impl Daemon {
    /// A daemon with these exports.
    ///
    /// # Errors
    /// No eventfd is to be had.
    pub fn new(exports: BTreeMap<String, Arc<Export>>, log: Log, enter: Enter) -> io::Result<Arc<Self>> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut number = [0; 8];
        // Fails only where the system has no random numbers yet; the number is for the eye alone.
        let _ = rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::NONBLOCK);
        let incarnation = u64::from_le_bytes(number);
        Ok(Arc::new(Self {
            exports,
            enter,
            incarnation,
            stop,
            refused: AtomicU64::new(0),
            monitors: Mutex::default(),
            log,
        }))
    }

    /// Serves monitors that connect to `listener` until [`Daemon::stop`]; then every queue is drained and every monitor told
    /// goodbye.
    ///
    /// # Errors
    /// The listening socket fails.
    pub fn serve(self: &Arc<Self>, listener: impl AsFd) -> io::Result<()> {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        let ended = loop {
            let mut fds =
                [PollFd::new(&listener, PollFlags::IN), PollFd::from_borrowed_fd(self.stopped(), PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
            let [_, stop] = &fds;
            if !stop.revents().is_empty() {
                break Ok(());
            }
            threads.retain(|thread| !thread.is_finished());
            match PacketSocket::accept(&listener) {
                Ok(socket) if threads.len() < MAX_MONITORS => threads.extend(self.start(socket)),
                Ok(_) => self.refuse(&format!("{MAX_MONITORS} monitors are connected, which is the limit")),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.refuse(&error.to_string());
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => break Err(error.into()),
            }
        };
        self.stop();
        for thread in threads {
            let _ = thread.join();
        }
        ended
    }

    /// Ends [`Daemon::serve`]. May be called from any thread.
    pub fn stop(&self) {
        // Cannot fail: the counter does not fill up by this.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }

    fn start(self: &Arc<Self>, socket: PacketSocket) -> Option<JoinHandle<()>> {
        let daemon = Arc::clone(self);
        let thread = Builder::new().name("monitor".into()).spawn(move || {
            let holdings = Arc::<Mutex<Holdings>>::default();
            let number = daemon.enroll(&holdings);
            let end = Connection::new(Arc::clone(&daemon), socket, Arc::clone(&holdings)).serve();
            lock(&daemon.monitors).remove(&number);
            let name = std::mem::take(&mut lock(&holdings).name);
            match end {
                End::Gone | End::Stopped => {}
                end => daemon.log(&format!("{} {end}", if name.is_empty() { "a monitor" } else { &name })),
            }
        });
        thread.inspect_err(|error| self.refuse(&error.to_string())).ok()
    }

    fn refuse(&self, why: &str) {
        let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            self.log(&format!("a connection was refused: {why} ({count} so far)"));
        }
    }

    fn stopped(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// A number that is larger than those of all who are there.
    fn enroll(&self, holdings: &Arc<Mutex<Holdings>>) -> u64 {
        let mut monitors = lock(&self.monitors);
        let number = monitors.last_key_value().map_or(0, |(last, _)| last + 1);
        monitors.insert(number, Arc::clone(holdings));
        number
    }

    /// The device at a place among all monitors' devices. `BUSY` if its monitor is being served just now for longer.
    fn inspect(&self, place: u32) -> Result<Inspected, CallError> {
        let monitors: Vec<_> = lock(&self.monitors).values().cloned().collect();
        let mut left = place as usize;
        for monitor in monitors {
            let deadline = Instant::now() + INSPECTION;
            let holdings = loop {
                match monitor.try_lock() {
                    Ok(holdings) => break holdings,
                    Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(TryLockError::WouldBlock) => return Err(CallError::BUSY),
                }
            };
            match holdings.inspect(left) {
                Ok(inspected) => return Ok(inspected),
                Err(devices) => left -= devices,
            }
        }
        Err(CallError::NOT_FOUND)
    }

    fn export(&self, id: &str) -> Option<Arc<Export>> {
        self.exports.get(id).cloned()
    }

    fn log(&self, line: &str) {
        (self.log)(line);
    }
}

pub(crate) const fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos() as i64 }
}

/// A panic elsewhere leaves what is behind a lock as whole as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
