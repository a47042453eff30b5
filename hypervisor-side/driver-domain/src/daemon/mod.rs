//! The daemon's end: who may have what, and a thread for each monitor.
//!
//! *Owners.* [`Daemon`] has the exports for as long as it runs; a monitor's connection has what was given to it, and gives it
//! back when it ends, however that happens.
//!
//! *Bounds.* [`Quotas`]. A connection too many is told which quota that was and closed, and that is logged by powers of two.

mod connection;
mod device;
mod export;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod holdings;
mod peers;
mod quotas;

pub use export::{Export, ExportKind, Given};
pub use quotas::{Pace, Quotas};

use crate::protocol::{Inspected, Log as LogBody, Message, Totals, padded};
use crate::socket::PacketSocket;
use connection::{Connection, End};
use holdings::Holdings;
use peers::{Peers, Place};
use pvkit_abi::status::CallError;
use pvkit_backends::LineRate;
use quotas::{Account, Count};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Most monitors at a time, unless its [`Quotas`] say otherwise.
pub const MAX_MONITORS: usize = 64;
/// Most devices of a monitor, likewise.
pub const MAX_DEVICES: usize = 32;
/// How long nobody is let in after somebody was turned away: who tries again at once is not to keep the daemon busy.
const TURNED_AWAY: Duration = Duration::from_millis(1);

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
    quotas: Quotas,
    peers: Arc<Peers>,
    served: AtomicU64,
    late: AtomicU64,
    turned_away: AtomicU64,
    /// All monitors'.
    account: Account,
    /// Those that all monitors together may have told.
    lines: Mutex<LineRate>,
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
        Self::with_quotas(exports, log, enter, Quotas::default())
    }

    /// The same with limits of its own.
    ///
    /// # Errors
    /// As for `new`.
    pub fn with_quotas(
        exports: BTreeMap<String, Arc<Export>>,
        log: Log,
        enter: Enter,
        quotas: Quotas,
    ) -> io::Result<Arc<Self>> {
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
            quotas,
            peers: Arc::default(),
            served: AtomicU64::new(0),
            late: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            account: Account::default(),
            lines: Mutex::new(LineRate::new(quotas.all_lines.start())),
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
                Ok(socket) => threads.extend(self.admit(socket, threads.len())),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.refuse(None, &error.to_string());
                    self.pause(Duration::from_millis(100));
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

    /// Lets a connection in, unless that is one too many.
    fn admit(self: &Arc<Self>, socket: PacketSocket, open: usize) -> Option<JoinHandle<()>> {
        let process = socket.process();
        let Quotas { connections, of_process, .. } = self.quotas;
        if open >= connections {
            let what = format!("{connections} monitors are connected (quota: connections); end one of them");
            self.refuse(Some(socket), &what);
            return None;
        }
        match self.peers.enter(process, &self.quotas) {
            Some(place) => self.start(socket, place),
            None => {
                let process = process.unwrap_or_default();
                self.refuse(
                    Some(socket),
                    &format!(
                        "process {process} has {of_process} connections (quota: connections of a process); close one of them"
                    ),
                );
                None
            }
        }
    }

    fn start(self: &Arc<Self>, socket: PacketSocket, place: Place) -> Option<JoinHandle<()>> {
        let daemon = Arc::clone(self);
        let thread = Builder::new().name("monitor".into()).spawn(move || daemon.monitor(socket, &place));
        thread.inspect_err(|error| self.refuse(None, &error.to_string())).ok()
    }

    /// A monitor's thread.
    fn monitor(self: &Arc<Self>, socket: PacketSocket, place: &Place) {
        self.served.fetch_add(1, Ordering::Relaxed);
        if !self.wait_for_turn(place) {
            return;
        }
        let holdings = Arc::<Mutex<Holdings>>::default();
        let number = self.enroll(&holdings);
        let end = Connection::new(Arc::clone(self), socket, Arc::clone(&holdings)).serve();
        lock(&self.monitors).remove(&number);
        let (name, account) = {
            let mut holdings = lock(&holdings);
            (std::mem::take(&mut holdings.name), Arc::clone(&holdings.account))
        };
        match end {
            End::Gone | End::Stopped => {}
            end => self.tell(&account, &format!("{} {end}", if name.is_empty() { "a monitor" } else { &name })),
        }
    }

    /// A process that connects too often waits, each time. False if the daemon leaves meanwhile.
    fn wait_for_turn(&self, place: &Place) -> bool {
        let mut first = true;
        while let Some(pause) = place.turn() {
            self.late.fetch_add(u64::from(std::mem::take(&mut first)), Ordering::Relaxed);
            if self.pause(pause) {
                return false;
            }
        }
        true
    }

    /// Turns somebody away, and says why.
    fn refuse(&self, socket: Option<PacketSocket>, why: &str) {
        let count = self.turned_away.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            self.log(&format!("a connection was refused: {why} ({count} so far)"));
        }
        if let Some(socket) = socket {
            // To one that takes nothing nothing is told.
            let _ = socket.send(&Message::Log(LogBody { line: padded(why) }).emit(0), &[], Duration::ZERO);
            self.pause(TURNED_AWAY);
        }
    }

    /// Waits; true if the daemon leaves.
    fn pause(&self, time: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.stopped(), PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timespec(time))), Ok(1..))
    }

    /// Tells the operator a line about a monitor, unless there were too many of this one, or of all.
    fn tell(&self, account: &Account, line: &str) {
        let limit = u64::from(self.quotas.lines);
        let lines = account.spent().lines;
        let missed = if lines < limit { lock(&self.lines).take(Instant::now()) } else { None };
        let Some(missed) = missed else {
            account.add(Count::Withheld);
            self.account.add(Count::Withheld);
            return;
        };
        self.account.add(Count::Line);
        let rest = match (account.add(Count::Line) >= limit, missed) {
            (true, _) => format!("; no more about this one (quota: lines of a monitor, {limit})"),
            (false, 0) => String::new(),
            (false, missed) => format!(" (before it {missed} others could not be told; quota: lines of all monitors)"),
        };
        self.log(&format!("{line}{rest}"));
    }

    /// What all monitors did and spent.
    pub(crate) fn totals(&self) -> Totals {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            open: lock(&self.monitors).len() as u64,
            connections: load(&self.served),
            late: load(&self.late),
            turned_away: load(&self.turned_away),
            spent: self.account.spent(),
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
