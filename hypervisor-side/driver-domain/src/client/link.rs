//! One connection to a daemon: greeting, requests one by one, and what is known of its process.

use crate::protocol::*;
use crate::socket::{Packet, PacketSocket, SocketError};
use pvkit_abi::bus::Offer;
use pvkit_abi::status::CallError;
use pvkit_backends::Bell;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use zerocopy::FromBytes;

/// How long a daemon may take for one answer.
pub const ANSWER: Duration = Duration::from_secs(10);

/// Why a backend cannot be had.
#[derive(Debug)]
pub enum BackendError {
    /// Nobody listens there.
    NoDaemon(rustix::io::Errno),
    /// It speaks another protocol.
    Version,
    /// It has no such device, or will not give it.
    Refused(CallError),
    /// A limit of it is reached, as it says.
    Quota(String),
    /// It has no time just now.
    Busy,
    /// It says what cannot be.
    Lie(&'static str),
    /// It goes away, or does not answer.
    Socket(SocketError),
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon(error) => write!(f, "no backend listens there ({error}); start one with `pvkit backend`"),
            Self::Version => write!(
                f,
                "the backend speaks another major version of the protocol than {VERSION}; run the same pvkit on both sides"
            ),
            Self::Refused(CallError::NOT_FOUND) => {
                f.write_str("the backend has no device of this name; see what it was started with")
            }
            Self::Refused(CallError::BUSY) => {
                f.write_str("another guest has this device, and it is not to be shared; stop that one")
            }
            Self::Refused(CallError::LIMIT) => {
                f.write_str("a quota of the backend is reached: devices or queues of a monitor; its log says which")
            }
            Self::Quota(line) => write!(f, "the backend refuses: {line}"),
            Self::Refused(error) => write!(f, "the backend refuses: {error:?}; its log says more"),
            Self::Busy => f.write_str("a guest's devices are being opened or closed just now; try again"),
            Self::Lie(what) => write!(f, "the backend answers what cannot be: {what}"),
            Self::Socket(error) => write!(f, "the backend does not answer: {error}"),
        }
    }
}

impl std::error::Error for BackendError {}

impl From<SocketError> for BackendError {
    fn from(error: SocketError) -> Self {
        Self::Socket(error)
    }
}

/// A device as a monitor asks for it, now and after each loss of its backend.
#[derive(Debug)]
pub struct Wanted {
    /// Everything but the descriptor.
    pub attach: Attach,
    /// Of a network on a TAP: the interface.
    pub tap: Option<OwnedFd>,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    pub socket: PacketSocket,
    /// The daemon's process; none if the kernel does not name it to us, or if it is our own.
    pub process: Option<OwnedFd>,
    /// Which run of the daemon it is.
    pub incarnation: u64,
    /// Of the last request.
    pub sequence: u64,
}

impl Link {
    /// Connects and greets.
    ///
    /// # Errors
    /// Nobody is there, or it is someone else.
    pub fn open(path: &Path, name: &str) -> Result<Self, BackendError> {
        let socket = PacketSocket::connect(path).map_err(BackendError::NoDaemon)?;
        Self::greet(socket, name)
    }

    /// Greets over a connected socket.
    ///
    /// # Errors
    /// As for `open`.
    pub fn greet(socket: PacketSocket, name: &str) -> Result<Self, BackendError> {
        let mut link = Self { socket, process: None, incarnation: 0, sequence: 0 };
        let hello = Hello { magic: MAGIC, version: VERSION, reserved: 0, name: padded(name) };
        let (reply, packet) = match link.ask(&Message::Hello(hello), &[]) {
            Err(BackendError::Refused(CallError::REFUSED)) => return Err(BackendError::Version),
            other => other?,
        };
        let reply = HelloReply::read_from_bytes(&reply).map_err(|_| BackendError::Lie("a greeting of another size"))?;
        if reply.magic != MAGIC || reply.version.major != VERSION.major || reply.version.minor > VERSION.minor {
            return Err(BackendError::Version);
        }
        link.incarnation = reply.incarnation;
        // The kernel says who sent it. Itself, in a test, would be waited for in vain.
        let sender = packet.sender.map(|sender| sender.pid).filter(|pid| *pid != rustix::process::getpid());
        link.process = sender.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(link)
    }

    /// Hands the window over.
    ///
    /// # Errors
    /// The daemon does not take it.
    pub fn window(&mut self, file: BorrowedFd<'_>, length: u64) -> Result<(), BackendError> {
        self.ask(&Message::Window(WindowBody { length }), &[file]).map(|_| ())
    }

    /// Asks for a device: its offer, and of a disk its witness.
    ///
    /// # Errors
    /// The daemon does not give it.
    pub fn attach(&mut self, wanted: &Wanted) -> Result<(Offer, Option<File>), BackendError> {
        let tap = wanted.tap.as_ref().map(AsFd::as_fd);
        let (reply, packet) = self.ask(&Message::Attach(wanted.attach), tap.as_slice())?;
        let attached = Attached::read_from_bytes(&reply).map_err(|_| BackendError::Lie("an offer of another size"))?;
        if attached.offer.class != wanted.attach.class || attached.offer.instance != wanted.attach.instance {
            return Err(BackendError::Lie("an offer of another device"));
        }
        Ok((attached.offer, packet.descriptors.into_iter().next().map(File::from)))
    }

    /// One request and its answer; nobody else may receive meanwhile.
    pub fn ask(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(Vec<u8>, Packet), BackendError> {
        self.sequence += 1;
        // One that was turned away at the door finds its socket closed, and why behind it.
        match self.socket.send(&message.emit(self.sequence), fds, ANSWER) {
            Err(SocketError::Closed) => {}
            sent => sent?,
        }
        let mut said = None;
        loop {
            let packet = match (self.socket.receive(ANSWER), said.take()) {
                (Err(SocketError::Closed), Some(line)) => return Err(BackendError::Quota(line)),
                (received, line) => {
                    said = line;
                    received?
                }
            };
            match Message::parse(&packet.bytes) {
                Ok((sequence, Message::Reply(to, answer))) if sequence == self.sequence && to == message.kind() => {
                    return match (answer, said) {
                        (Ok(bytes), _) => Ok((bytes, packet)),
                        (Err(CallError::LIMIT), Some(line)) => Err(BackendError::Quota(line)),
                        (Err(error), _) => Err(BackendError::Refused(error)),
                    };
                }
                Ok((_, Message::Log(log))) => said = Some(text(&log.line)),
                Ok((_, Message::Goodbye)) => return Err(SocketError::Closed.into()),
                Ok(_) => return Err(BackendError::Lie("a message out of turn")),
                Err(_) => return Err(BackendError::Lie("a malformed message")),
            }
        }
    }
}

/// The process of the daemon at `path`; none if the kernel does not name it to us.
///
/// # Errors
/// Nobody is there, or it is someone else.
pub fn process_of(path: &Path) -> Result<Option<OwnedFd>, BackendError> {
    Ok(Link::open(path, "a successor")?.process)
}

/// Waits until a process is dead or `leave` rings; whether it is dead. At once for one that nobody named.
pub fn is_dead_within(process: Option<BorrowedFd<'_>>, leave: &Bell, patience: Duration) -> bool {
    let Some(process) = process else { return true };
    let leave = leave.as_given().unwrap_or(process);
    let mut fds = [process, leave].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let limit = crate::daemon::timespec(patience);
    let waited = poll(&mut fds, Some(&limit));
    let [process, _] = &fds;
    waited.is_ok() && !process.revents().is_empty()
}
