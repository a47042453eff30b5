//! A backend as the rest of a monitor sees it.

use super::Owner;
use super::keeper::{self, Event};
use super::link::{ANSWER, BackendError, Link, Wanted};
use super::state::{Answerer, BackendCounters, Phase, Remote, State, Wire};
use crate::protocol::{Config, Counters, MAX_COUNTED, Message, OfDevice, OpenQueue};
use pvkit_abi::bus::{CONFIG_BYTES, Offer};
use pvkit_abi::status::CallError;
use pvkit_backends::{Bell, QueueSnapshot};
use rustix::event::epoll;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use zerocopy::FromBytes;

/// Hears how a request ended.
pub type Done = Box<dyn FnOnce(Result<Vec<u8>, CallError>) + Send>;

/// Most devices of a backend; a daemon takes no more.
const MAX_DEVICES: u32 = crate::daemon::MAX_DEVICES as u32;

/// A queue's way in and out.
pub struct QueueWires {
    /// Rung by the guest.
    pub doorbell: OwnedFd,
    /// Rung by the backend.
    pub interrupt: Arc<Bell>,
    /// Where that goes.
    pub port: Option<u32>,
}

/// A backend in another process.
pub struct Backend {
    pub(super) path: PathBuf,
    pub(super) name: String,
    state: Mutex<State>,
    /// The reader's: the socket, every interrupt, and `leave`.
    pub(super) epoll: OwnedFd,
    pub(super) leave: Bell,
    running: Mutex<Option<Running>>,
}

struct Running {
    events: Sender<Event>,
    keeper: JoinHandle<()>,
}

impl Backend {
    /// Connects to the daemon at `path`; `name` is what its operator sees.
    ///
    /// # Errors
    /// Nobody is there, or it is someone else.
    pub fn connect(path: &Path, name: &str) -> Result<Arc<Self>, BackendError> {
        Self::over(Link::open(path, name)?, path, name)
    }

    /// Over a connection that has been greeted.
    ///
    /// # Errors
    /// No descriptors are to be had.
    pub(super) fn over(link: Link, path: &Path, name: &str) -> Result<Arc<Self>, BackendError> {
        let system = |error: io::Error| {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            BackendError::Socket(errno.into())
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| system(error.into()))?;
        let leave = Bell::new().map_err(system)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            state: Mutex::new(State {
                phase: Phase::Connected,
                sequence: link.sequence,
                link: Some(Arc::new(link)),
                asked: BTreeMap::new(),
                remotes: BTreeMap::new(),
                window: None,
                wires: BTreeMap::new(),
                last_wire: 0,
                counters: BackendCounters::default(),
            }),
            epoll,
            leave,
            running: Mutex::default(),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What happened to the connection so far.
    #[must_use]
    pub fn counters(&self) -> BackendCounters {
        self.state().counters
    }

    /// Asks for a device before the guest starts; answers its number here and its offer.
    ///
    /// # Errors
    /// The daemon does not give it.
    pub fn attach(&self, mut wanted: Wanted) -> Result<(u32, Offer), BackendError> {
        let mut state = self.state();
        let number = state.remotes.len() as u32 + 1;
        if number > MAX_DEVICES {
            return Err(BackendError::Refused(CallError::LIMIT));
        }
        wanted.attach.device = number;
        // Before the start nobody else has the connection.
        let state = &mut *state;
        let link = state.link.as_mut().and_then(Arc::get_mut);
        let link = link.ok_or(BackendError::Lie("it is already serving a guest"))?;
        let (offer, witness) = link.attach(&wanted)?;
        state.sequence = link.sequence;
        let witness = witness.map(Arc::new);
        state.remotes.insert(number, Remote { wanted: Arc::new(wanted), offer, witness, failed: false });
        Ok((number, offer))
    }

    /// A guest starts: its window goes to the daemon, and from now on `owner` hears what happens. If the daemon is gone
    /// meanwhile the owner hears that, and later that it is back.
    ///
    /// # Errors
    /// No threads are to be had.
    pub fn start(self: &Arc<Self>, window: OwnedFd, length: u64, owner: Arc<dyn Owner>) -> io::Result<()> {
        self.stop();
        {
            let state = &mut *self.state();
            let connected = state.phase == Phase::Connected;
            // The threads of an earlier guest have ended: nobody else has the connection.
            if let Some(link) = state.link.as_mut().and_then(Arc::get_mut) {
                link.sequence = state.sequence;
                if connected && link.window(window.as_fd(), length).is_err() {
                    // The reader finds out, and all goes its way as if it had been lost later.
                    link.socket.shut_down();
                }
                state.sequence = link.sequence;
            }
            state.window = Some((window, length));
        }
        let (events, inbox) = channel();
        let (backend, sender) = (Arc::clone(self), events.clone());
        let keeper = std::thread::Builder::new()
            .name("backend keeper".into())
            .spawn(move || keeper::run(&backend, &owner, &inbox, &sender))?;
        *self.running() = Some(Running { events, keeper });
        Ok(())
    }

    /// The guest ended: closes what is open, and waits for it. The devices stay attached.
    pub fn stop(&self) {
        let Some(running) = self.running().take() else { return };
        let devices: Vec<u32> = self.state().remotes.keys().copied().collect();
        for device in devices {
            self.close_and_wait(device, ANSWER);
        }
        let _ = running.events.send(Event::Stop);
        let _ = self.leave.ring();
        let _ = running.keeper.join();
        let _ = self.leave.take();
        let wires = std::mem::take(&mut self.state().wires);
        wires.values().for_each(|wire| self.unwatch(wire));
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_keeper(&self) {
        if let Some(running) = &*self.running() {
            let _ = running.events.send(Event::Asked);
        }
    }

    /// Asks something of a device; `done` hears the answer, from the keeper's thread, and never before this returns.
    pub fn ask(&self, message: &Message, done: Done) {
        self.state().send(message, &[], Answerer::Later(done));
        self.wake_keeper();
    }

    /// Opens a queue.
    pub fn open(&self, asked: Box<OpenQueue>, wires: &QueueWires, done: Done) {
        let device = asked.device;
        let mut state = self.state();
        state.last_wire += 1;
        let number = state.last_wire;
        let wire = Wire { device, bell: Arc::clone(&wires.interrupt), port: wires.port };
        let watched = borrow(&wire.bell).is_some_and(|fd| {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN).is_ok()
        });
        let Some(interrupt) = borrow(&wires.interrupt).filter(|_| watched) else {
            drop(state);
            if let Some(running) = &*self.running() {
                let _ = running.events.send(Event::Answer(done, Err(CallError::BACKEND)));
            }
            return;
        };
        let fds = [wires.doorbell.as_fd(), interrupt];
        state.send(&Message::OpenQueue(asked), &fds, Answerer::Later(done));
        state.wires.insert(number, wire);
        drop(state);
        self.wake_keeper();
    }

    /// The device's queues are closed: their interrupts lead nowhere any more.
    pub fn forget_wires(&self, device: u32) {
        let mut state = self.state();
        let numbers: Vec<u64> = state.wires.iter().filter(|(_, wire)| wire.device == device).map(|(n, _)| *n).collect();
        for number in numbers {
            if let Some(wire) = state.wires.remove(&number) {
                self.unwatch(&wire);
            }
        }
    }

    fn unwatch(&self, wire: &Wire) {
        if let Some(fd) = borrow(&wire.bell) {
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Has a device drained and detached, and waits for it; whether that is certain.
    pub fn close_and_wait(&self, device: u32, patience: Duration) -> bool {
        let closed = self.ask_and_wait(&Message::Close(OfDevice { device, reserved: 0 }), patience).is_some();
        self.forget_wires(device);
        closed
    }

    /// What the queues of a device did, as the daemon says.
    #[must_use]
    pub fn queue_counters(&self, device: u32, patience: Duration) -> Vec<(u16, QueueSnapshot)> {
        let asked = Message::Counters(OfDevice { device, reserved: 0 });
        let Some(Ok(bytes)) = self.ask_and_wait(&asked, patience) else { return Vec::new() };
        let Ok(counters) = Counters::read_from_bytes(&bytes) else { return Vec::new() };
        let count = (counters.count as usize).min(MAX_COUNTED);
        counters
            .queues
            .iter()
            .take(count)
            .map(|one| (one.queue as u16, QueueSnapshot::from_numbers(one.numbers)))
            .collect()
    }

    /// How a disk is now; none if nobody answers.
    #[must_use]
    pub fn refresh(&self, device: u32, patience: Duration) -> Option<[u8; CONFIG_BYTES]> {
        let bytes = self.ask_and_wait(&Message::Refresh(OfDevice { device, reserved: 0 }), patience)?.ok()?;
        let config = Config::read_from_bytes(&bytes).ok()?.config;
        if let Some(remote) = self.state().remotes.get_mut(&device) {
            remote.offer.config = config;
        }
        Some(config)
    }

    fn ask_and_wait(&self, message: &Message, patience: Duration) -> Option<Result<Vec<u8>, CallError>> {
        let (answer, answered) = sync_channel(1);
        {
            let mut state = self.state();
            if state.phase == Phase::Dead {
                let closes = matches!(message, Message::Close(_));
                return Some(if closes { Ok(Vec::new()) } else { Err(CallError::BACKEND) });
            }
            state.send(message, &[], Answerer::Direct(answer));
        }
        self.wake_keeper();
        answered.recv_timeout(patience).ok()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The descriptor of a bell that was made from one; others cannot be lent.
fn borrow(bell: &Bell) -> Option<std::os::fd::BorrowedFd<'_>> {
    debug_assert!(bell.as_raw_fd() >= 0);
    bell.as_given()
}
