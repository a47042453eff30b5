//! The daemon's end: who may have what, and a thread for each monitor.
//!
//! *Owners.* [`Daemon`] has the exports for as long as it runs; a monitor's connection has what was given to it, and gives it
//! back when it ends, however that happens.
//!
//! *Bounds.* [`MAX_MONITORS`] connections; one more is told nothing and closed, and that is logged by powers of two.

mod connection;
mod device;
mod export;

pub use connection::MAX_DEVICES;
pub(crate) use device::snapshot;
pub use export::{Export, ExportKind, Given};

use crate::socket::PacketSocket;
use connection::{Connection, End};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Most monitors at a time.
pub const MAX_MONITORS: usize = 64;

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
        Ok(Arc::new(Self { exports, enter, incarnation, stop, refused: AtomicU64::new(0), log }))
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
            let mut connection = Connection::new(Arc::clone(&daemon), socket);
            let end = connection.serve();
            let name = if connection.name.is_empty() { "a monitor" } else { &connection.name };
            match end {
                End::Gone | End::Stopped => {}
                end => daemon.log(&format!("{name} {end}")),
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
