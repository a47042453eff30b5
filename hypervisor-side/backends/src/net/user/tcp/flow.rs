//! One connection: the host's socket and the guest's side, and the bytes between them.
//!
//! *Invariants.* A byte is taken from one side only when the other has room, so each side's window is the other's
//! backpressure. The end of each direction is passed on by itself (half-close); a reset of one side resets the other.

use super::segment::Segment;
use super::side::Side;
use crate::net::user::hub::Hub;
use mio::net::TcpStream;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use smoltcp::socket::tcp::State;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// Frames that may wait for one connection; more are dropped, as a wire drops them.
const MOST_ARRIVED: usize = 1024;
/// Least time to a timer, so that none can make the thread spin.
const TICK: Duration = Duration::from_millis(1);

/// What becomes of a connection after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Stays,
    /// It goes on, and has more for the guest than the guest has room for.
    Blocked,
    /// Both ends are done; late segments may still come.
    Waits,
    /// It is over.
    Over,
    /// It broke: both ends have been told, or are to be.
    Broken,
    /// The host's network did not take it; the guest must be told.
    Refused,
}

/// The SYN that asked for a connection.
pub(super) struct Opening {
    pub(super) segment: Segment,
    pub(super) frame: Vec<u8>,
}

/// One connection.
pub(super) struct Flow {
    stream: Option<TcpStream>,
    /// `None` until the host's connection stands.
    side: Option<Side>,
    /// The SYN that asked for the connection, until it stands.
    opening: Option<Opening>,
    arrived: VecDeque<Vec<u8>>,
    readable: bool,
    writable: bool,
    /// The remote host has sent its last byte.
    remote_done: bool,
    /// The guest has sent its last byte, and the remote host was told.
    guest_done: bool,
    /// Since when an answer of the guest, or of the host's network, is awaited.
    waiting: Option<Instant>,
    /// When the guest was last heard, or the connection made.
    pub(super) heard: Instant,
    /// The deadline that is armed.
    pub(super) due: Option<Instant>,
    /// It is on the list of those that get a turn.
    pub(super) queued: bool,
}

impl Flow {
    /// A connection that the guest asked for; the host's socket is on its way.
    pub(super) fn outbound(stream: TcpStream, opening: Opening, now: Instant) -> Self {
        Self::new(stream, None, Some(opening), now)
    }

    /// A connection that a client of the host asked for.
    pub(super) fn inbound(stream: TcpStream, side: Side, now: Instant) -> Self {
        Self::new(stream, Some(side), None, now)
    }

    fn new(stream: TcpStream, side: Option<Side>, opening: Option<Opening>, now: Instant) -> Self {
        Self {
            stream: Some(stream),
            side,
            opening,
            arrived: VecDeque::new(),
            readable: false,
            writable: false,
            remote_done: false,
            guest_done: false,
            waiting: Some(now),
            heard: now,
            due: None,
            queued: false,
        }
    }

    /// Notes what the host's socket is ready for.
    pub(super) fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether the host's connection does not stand yet.
    pub(super) fn is_connecting(&self) -> bool {
        self.side.is_none()
    }

    /// Takes the SYN that asked for the connection.
    pub(super) fn opening(&mut self) -> Option<Opening> {
        self.opening.take()
    }

    /// Gives the connection its guest's side, and the SYN that asked for it.
    pub(super) fn established(&mut self, side: Side, syn: Vec<u8>) {
        self.side = Some(side);
        self.arrived.push_back(syn);
    }

    /// Whether both ends are done and only late segments may still come.
    pub(super) fn waits(&mut self) -> bool {
        self.side.as_mut().is_some_and(|side| side.socket().state() == State::TimeWait)
    }

    /// Adds a frame of the guest. False if too many wait.
    pub(super) fn push(&mut self, frame: Vec<u8>, now: Instant) -> bool {
        self.heard = now;
        let fits = self.arrived.len() < MOST_ARRIVED;
        if fits {
            self.arrived.push_back(frame);
        }
        fits
    }

    /// Whether the host's connection stands; an error if it never will.
    pub(super) fn connected(&mut self, hub: &Hub) -> io::Result<bool> {
        let Some(stream) = &self.stream else { return Err(ErrorKind::NotConnected.into()) };
        if let Some(problem) = stream.take_error()? {
            return Err(problem);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(problem) if problem.kind() == ErrorKind::NotConnected => {
                if self.out_of_patience(hub) {
                    Err(ErrorKind::TimedOut.into())
                } else {
                    Ok(false)
                }
            }
            Err(problem) => Err(problem),
        }
    }

    /// One turn: frames in, bytes across, frames out.
    pub(super) fn turn(&mut self, hub: &mut Hub) -> Fate {
        let Some(mut side) = self.side.take() else { return Fate::Stays };
        side.poll(hub, &mut self.arrived);
        if self.carry(hub, &mut side).is_err() {
            side.socket().abort();
        }
        let blocked = side.poll(hub, &mut self.arrived);
        let fate = self.fate(hub, &mut side, blocked);
        self.side = Some(side);
        fate
    }

    fn carry(&mut self, hub: &Hub, side: &mut Side) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let socket = side.socket();
        while self.writable && socket.can_recv() {
            let wrote = socket.recv(|bytes| attempt(|| stream.write(bytes))).map_err(|_| ErrorKind::NotConnected)??;
            self.writable = wrote.is_some();
            hub.counters.bytes_out.add(wrote.unwrap_or(0));
        }
        while self.readable && !self.remote_done && socket.can_send() {
            let read = socket.send(|room| attempt(|| stream.read(room))).map_err(|_| ErrorKind::NotConnected)??;
            self.readable = read.is_some();
            hub.counters.bytes_in.add(read.unwrap_or(0));
            if read == Some(0) {
                self.remote_done = true;
                socket.close();
            }
        }
        let no_more = matches!(socket.state(), State::CloseWait | State::Closing | State::LastAck | State::TimeWait);
        if no_more && socket.recv_queue() == 0 && !self.guest_done {
            self.guest_done = true;
            stream.shutdown(Shutdown::Write)?;
        }
        if self.guest_done && self.remote_done {
            // In order: the system sends what it still holds.
            self.stream = None;
        }
        Ok(())
    }

    fn fate(&mut self, hub: &Hub, side: &mut Side, blocked: bool) -> Fate {
        let socket = side.socket();
        let state = socket.state();
        let awaits = socket.send_queue() > 0
            || matches!(state, State::SynSent | State::SynReceived | State::FinWait1 | State::Closing | State::LastAck);
        self.waiting = if awaits { self.waiting.or(Some(hub.now)) } else { None };
        match state {
            // A listening socket returns to listening if the guest takes its SYN back.
            State::Listen => Fate::Broken,
            State::Closed if self.stream.is_none() => Fate::Over,
            State::Closed => Fate::Broken,
            State::TimeWait if self.stream.is_none() => Fate::Waits,
            _ if self.out_of_patience(hub) => {
                socket.abort();
                Fate::Broken
            }
            _ if blocked => Fate::Blocked,
            _ => Fate::Stays,
        }
    }

    /// When the connection needs a turn even if nothing happens.
    pub(super) fn next_turn(&mut self, hub: &Hub, blocked: bool) -> Option<Instant> {
        let patience = self.waiting.and_then(|since| since.max(self.heard).checked_add(hub.options.limits.patience));
        let timer = match &mut self.side {
            // What is blocked is tried again with all others that are.
            Some(side) if !blocked => {
                let delay = side.delay(hub.tcp_now()).map(|delay| TICK.max(delay.into()));
                delay.and_then(|delay| hub.now.checked_add(delay))
            }
            _ => None,
        };
        [patience, timer].into_iter().flatten().min()
    }

    fn out_of_patience(&self, hub: &Hub) -> bool {
        self.waiting.is_some_and(|since| {
            hub.now.saturating_duration_since(since.max(self.heard)) >= hub.options.limits.patience
        })
    }

    /// Ends both sides with a reset.
    pub(super) fn abort(&mut self, hub: &mut Hub) {
        if let Some(side) = &mut self.side {
            side.socket().abort();
            side.poll(hub, &mut VecDeque::new());
        }
        if let Some(stream) = self.stream.take() {
            reset(&stream, true);
        }
    }
}

/// Says whether the end of a socket's life is a reset, or in order.
pub(super) fn reset(stream: &TcpStream, wanted: bool) {
    // If it is refused, the peer sees an orderly end in place of a reset.
    let _ = setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: wanted.into(), l_linger: 0 });
}

/// One read or write, as a buffer of the TCP socket wants it: bytes moved, and the same for the caller. `None` if the
/// host's socket is not ready.
fn attempt(mut transfer: impl FnMut() -> io::Result<usize>) -> (usize, io::Result<Option<u64>>) {
    loop {
        return match transfer() {
            Ok(moved) => (moved, Ok(Some(moved as u64))),
            Err(problem) if problem.kind() == ErrorKind::WouldBlock => (0, Ok(None)),
            Err(problem) if problem.kind() == ErrorKind::Interrupted => continue,
            Err(problem) => (0, Err(problem)),
        };
    }
}
