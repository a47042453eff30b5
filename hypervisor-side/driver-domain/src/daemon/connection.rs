//! One monitor: its messages in order, each answered before the next one is read.
//!
//! *When it lies.* A message that is malformed, out of order or has the wrong descriptors ends the connection. One that asks
//! for what there is not is answered with an error. Either way all that the connection holds is bounded: by the daemon's
//! [`Quotas`](super::Quotas), and to one window. One that asks too often waits, here.

use super::device::Device;
use super::holdings::Holdings;
use super::quotas::{Account, Count, turn};
use super::{Daemon, Quotas, lock};
use crate::protocol::*;
use crate::socket::{Packet, PacketSocket, SocketError};
use crate::window::{MAX_WINDOW, Window};
use pvkit_abi::bus::CONFIG_BYTES;
use pvkit_abi::status::CallError;
use pvkit_backends::{Backing, Bell, QueueLog, Rate, block};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use zerocopy::IntoBytes;

/// How long a monitor may take to say who it is, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    /// The monitor went.
    Gone,
    /// The daemon leaves.
    Stopped,
    /// The monitor broke the protocol.
    Lie(String),
    /// The socket failed.
    Socket(SocketError),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("went"),
            Self::Stopped => f.write_str("was told goodbye"),
            Self::Lie(what) => write!(f, "broke the protocol and was cut off: {what}"),
            Self::Socket(error) => write!(f, "was cut off: {error}"),
        }
    }
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Closed => Self::Gone,
            other => Self::Socket(other),
        }
    }
}

/// What an answer consists of.
type Answer = Result<(Vec<u8>, Option<OwnedFd>), CallError>;

/// A monitor.
pub struct Connection {
    daemon: Arc<Daemon>,
    socket: PacketSocket,
    greeted: bool,
    last: u64,
    holdings: Arc<Mutex<Holdings>>,
    account: Arc<Account>,
    messages: Rate,
}

impl Connection {
    pub fn new(daemon: Arc<Daemon>, socket: PacketSocket, holdings: Arc<Mutex<Holdings>>) -> Self {
        let (messages, account) = (daemon.quotas.messages.start(), Arc::clone(&lock(&holdings).account));
        Self { daemon, socket, greeted: false, last: 0, holdings, account, messages }
    }

    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        lock(&self.holdings)
    }

    /// Serves until the monitor or the daemon leaves; then nothing of the monitor's is attached any more.
    pub fn serve(&mut self) -> End {
        let end = loop {
            if let Err(end) = self.step() {
                break end;
            }
        };
        self.holdings().give_back();
        if matches!(end, End::Stopped) {
            let _ = self.socket.send(&Message::Goodbye.emit(0), &[], PATIENCE);
        }
        end
    }

    /// The next message, and its answer.
    ///
    /// # Errors
    /// Why the connection ends.
    pub fn step(&mut self) -> Result<(), End> {
        self.wait_for_turn()?;
        let packet = self.next()?;
        self.count(Count::Message);
        let (sequence, message) = Message::parse(&packet.bytes).map_err(|error| End::Lie(error.to_string()))?;
        let lie = |what: &str| Err(End::Lie(format!("{what} (message of kind {:#x})", message.kind().0)));
        if sequence <= self.last {
            return lie("a sequence that does not ascend");
        }
        self.last = sequence;
        if self.greeted == matches!(message, Message::Hello(_)) {
            return lie(if self.greeted { "a second greeting" } else { "no greeting" });
        }
        let needed = descriptors_of(&message);
        if !needed.contains(&packet.descriptors.len()) {
            return lie("more or fewer descriptors than belong to it");
        }
        let kind = message.kind();
        let (answer, descriptor) = match self.answer(message, packet)? {
            Ok((bytes, descriptor)) => (Ok(bytes), descriptor),
            Err(error) => (Err(error), None),
        };
        let bytes = Message::Reply(kind, answer).emit(sequence);
        let descriptor = descriptor.as_ref().map(AsFd::as_fd);
        Ok(self.socket.send(&bytes, descriptor.as_slice(), PATIENCE)?)
    }

    /// A monitor that says too much waits before its next message is read.
    fn wait_for_turn(&mut self) -> Result<(), End> {
        let mut first = true;
        while let Some(pause) = turn(&mut self.messages) {
            if std::mem::take(&mut first) {
                self.count(Count::HeldBack);
            }
            if self.daemon.pause(pause) {
                return Err(End::Stopped);
            }
        }
        Ok(())
    }

    fn count(&self, what: Count) -> u64 {
        self.daemon.account.add(what);
        self.account.add(what)
    }

    /// Refuses what a quota forbids: tells both operators, by powers of two.
    fn over(&self, who: &str, quota: &str, remedy: &str) -> CallError {
        let count = self.count(Count::Refused);
        if count.is_power_of_two() {
            let line = format!("quota: {quota}; {remedy} ({count} refusals so far)");
            self.daemon.tell(&self.account, &format!("{who}: {line}"));
            let _ = self.socket.send(&Message::Log(Log { line: padded(&line) }).emit(0), &[], Duration::ZERO);
        }
        CallError::LIMIT
    }

    /// The next message; before the greeting only for a while.
    fn next(&self) -> Result<Packet, End> {
        loop {
            match self.socket.take() {
                Err(SocketError::TimedOut) => {}
                other => return Ok(other?),
            }
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::from_borrowed_fd(self.daemon.stopped(), PollFlags::IN),
            ];
            let limit = if self.greeted { None } else { Some(&super::timespec(PATIENCE)).copied() };
            match poll(&mut fds, limit.as_ref()) {
                Ok(0) => return Err(End::Lie("no greeting in time".into())),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(End::Socket(error.into())),
                Ok(_) => {
                    let [_, stop] = &fds;
                    if !stop.revents().is_empty() {
                        return Err(End::Stopped);
                    }
                }
            }
        }
    }

    fn answer(&mut self, message: Message, packet: Packet) -> Result<Answer, End> {
        let mut descriptors = packet.descriptors.into_iter();
        Ok(match message {
            Message::Hello(hello) => self.hello(&hello),
            Message::Window(body) => match descriptors.next() {
                Some(file) => self.take_window(file, body.length),
                None => Err(CallError::INVALID),
            },
            Message::Attach(asked) => self.attach(&asked, descriptors.next()),
            Message::OpenQueue(asked) => match (descriptors.next(), descriptors.next()) {
                (Some(doorbell), Some(interrupt)) => self.open(&asked, doorbell, interrupt),
                _ => Err(CallError::INVALID),
            },
            Message::Close(asked) => self.holdings().device(asked.device).map(Device::close).map(|()| nothing()),
            Message::Share(asked) => {
                let mut holdings = self.holdings();
                let window = holdings.window.clone().ok_or(CallError::FAULT);
                window.and_then(|window| holdings.device(asked.device)?.share(&asked, &window)).map(|()| nothing())
            }
            Message::Revoke(asked) => {
                self.holdings().device(asked.device).and_then(|device| device.revoke(&asked)).map(|()| nothing())
            }
            Message::Control(asked) => self.control(&asked),
            Message::Refresh(asked) => self.refresh(asked.device),
            Message::Counters(asked) => {
                self.holdings().device(asked.device).map(|device| (device.counters().as_bytes().to_vec(), None))
            }
            Message::Inspect(asked) => self.inspect(asked.place),
            Message::Totals if self.holdings().is_monitor() => Err(CallError::DENIED),
            Message::Totals => Ok((self.daemon.totals().as_bytes().to_vec(), None)),
            Message::Reply(..) | Message::Goodbye | Message::Log(_) => {
                return Err(End::Lie("a message that is the daemon's".into()));
            }
        })
    }

    fn hello(&mut self, hello: &Hello) -> Answer {
        if hello.magic != MAGIC {
            return Err(CallError::INVALID);
        }
        if hello.version.major != VERSION.major {
            return Err(CallError::REFUSED);
        }
        self.greeted = true;
        self.holdings().name = text(&hello.name);
        let mut version = VERSION;
        version.minor = version.minor.min(hello.version.minor);
        let reply = HelloReply {
            magic: MAGIC,
            version,
            reserved: 0,
            incarnation: self.daemon.incarnation,
            max_window: MAX_WINDOW,
        };
        Ok((reply.as_bytes().to_vec(), None))
    }

    /// A monitor, which has something of its own, is nobody to be told of others.
    fn inspect(&self, place: u32) -> Answer {
        if self.holdings().is_monitor() {
            return Err(CallError::DENIED);
        }
        // Nothing of this connection is locked meanwhile.
        let inspected = self.daemon.inspect(place)?;
        Ok((inspected.as_bytes().to_vec(), None))
    }

    fn take_window(&self, file: OwnedFd, length: u64) -> Answer {
        let mut holdings = self.holdings();
        if holdings.devices.values().any(Device::is_open) {
            return Err(CallError::BUSY);
        }
        let window = Window::map(file, length).map_err(|error| {
            self.daemon.tell(&self.account, &format!("{}: {error}", holdings.name));
            CallError::INVALID
        })?;
        // Grants that named the old one went with the queues.
        holdings.devices.values_mut().for_each(Device::close);
        holdings.window = Some(window);
        Ok(nothing())
    }

    fn attach(&self, asked: &Attach, descriptor: Option<OwnedFd>) -> Answer {
        let mut holdings = self.holdings();
        if asked.device == 0 || holdings.devices.contains_key(&asked.device) {
            return Err(CallError::BUSY);
        }
        let Quotas { devices, queues, .. } = self.daemon.quotas;
        if holdings.devices.len() >= devices {
            let quota = format!("devices of a monitor, {devices}");
            return Err(self.over(&holdings.name, &quota, "have another daemon serve the rest"));
        }
        let id = text(&asked.id);
        let export = self.daemon.export(&id).ok_or(CallError::NOT_FOUND)?;
        if holdings.queues() + export.queues(asked) > queues {
            let quota = format!("queues of a monitor, {queues}");
            return Err(self.over(&holdings.name, &quota, "give its networks fewer pairs, or it fewer devices"));
        }
        let name = &holdings.name;
        let mut given = export.give(asked, descriptor).inspect_err(|error| {
            self.daemon.tell(&self.account, &format!("{name}: {id} was not given: {error:?}"));
        })?;
        let witness = given.witness.take();
        let reply = Attached { offer: given.offer };
        holdings.devices.insert(asked.device, Device::new(given, id));
        Ok((reply.as_bytes().to_vec(), witness))
    }

    fn open(&self, asked: &OpenQueue, doorbell: OwnedFd, interrupt: OwnedFd) -> Answer {
        let mut holdings = self.holdings();
        let window = holdings.window.clone().ok_or(CallError::FAULT)?;
        for fd in [&doorbell, &interrupt] {
            // An eventfd has no file type; a file that has one might make its reader wait for ever.
            let about = rustix::fs::fstat(fd).map_err(|_| CallError::INVALID)?;
            if FileType::from_raw_mode(about.st_mode) != FileType::Unknown {
                return Err(CallError::INVALID);
            }
            let flags = rustix::fs::fcntl_getfl(fd).map_err(|_| CallError::INVALID)?;
            rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(|_| CallError::INVALID)?;
            // Others without a type might be readable for ever (an epoll that watches something): they take no number, and
            // this one changes nothing.
            rustix::io::write(fd, &0_u64.to_ne_bytes()).map_err(|_| CallError::INVALID)?;
        }
        let (daemon, name) = (Arc::clone(&self.daemon), format!("{}, device {}", holdings.name, asked.device));
        let (queue, enter) = (asked.queue, Arc::clone(&self.daemon.enter));
        // The engines themselves tell only of the 1st, 2nd, 4th, ... of a kind.
        let account = Arc::clone(&self.account);
        let log: QueueLog = Arc::new(move |line| daemon.tell(&account, &format!("{name}, queue {queue}: {line}")));
        let (doorbell, interrupt) = (Bell::from(doorbell), Bell::from(interrupt));
        holdings.device(asked.device)?.open(asked, &window, doorbell, interrupt, log, enter)?;
        Ok(nothing())
    }

    fn control(&self, asked: &Control) -> Answer {
        let data = asked.data.get(..usize::from(asked.length)).ok_or(CallError::INVALID)?;
        self.holdings().device(asked.device)?.backing().control(asked.operation, data)?;
        Ok(nothing())
    }

    fn refresh(&self, device: u32) -> Answer {
        let mut holdings = self.holdings();
        let Backing::Block(disk) = holdings.device(device)?.backing() else { return Err(CallError::UNSUPPORTED) };
        disk.refresh().map_err(|_| CallError::BACKEND)?;
        let config: [u8; CONFIG_BYTES] = block::config_bytes(&disk.config());
        Ok((config.to_vec(), None))
    }
}

const fn nothing() -> (Vec<u8>, Option<OwnedFd>) {
    (Vec::new(), None)
}

/// How many descriptors belong to a message.
fn descriptors_of(message: &Message) -> &'static [usize] {
    match message {
        Message::Window(_) => &[1],
        Message::Attach(_) => &[0, 1],
        Message::OpenQueue(_) => &[2],
        _ => &[0],
    }
}
