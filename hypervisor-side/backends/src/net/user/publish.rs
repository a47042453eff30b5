//! Published TCP ports: listeners of the host whose clients are led to the guest.

use super::UserError;
use super::hub::Hub;
use super::options::{Protocol, Publish};
use super::source::Source;
use super::tcp::TcpTable;
use mio::net::{TcpListener, UdpSocket};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections taken in a turn.
const TURN: usize = 64;
/// Wait after a failure that is the host's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// The sockets of what is published, bound before the network starts.
#[derive(Debug)]
pub(super) enum Bound {
    /// TCP.
    Tcp(TcpListener, u16),
    /// UDP.
    Udp(UdpSocket, u16),
}

impl Bound {
    /// Listens on a port of the host.
    pub(super) fn new(publish: &Publish) -> Result<Self, UserError> {
        match publish.protocol {
            Protocol::Tcp => TcpListener::bind(publish.host).map(|socket| Self::Tcp(socket, publish.guest_port)),
            Protocol::Udp => UdpSocket::bind(publish.host).map(|socket| Self::Udp(socket, publish.guest_port)),
        }
        .map_err(|source| UserError::publishing(publish, source))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(socket, _) => socket.local_addr(),
            Self::Udp(socket, _) => socket.local_addr(),
        }
    }
}

/// One published TCP port.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    guest_port: u16,
    number: usize,
    ready: bool,
    due: Option<Instant>,
}

impl Listener {
    pub(super) fn new(hub: &Hub, mut socket: TcpListener, guest_port: u16, number: usize) -> io::Result<Self> {
        hub.watch(&mut socket, Source::Listener(number))?;
        Ok(Self { socket, guest_port, number, ready: false, due: None })
    }

    /// Clients may wait.
    pub(super) fn event(&mut self) {
        self.ready = true;
    }

    /// The deadline after a failure has passed.
    pub(super) fn timer(&mut self) {
        self.due = None;
        self.ready = true;
    }

    /// Takes the clients that wait. True if there may be more.
    pub(super) fn run(&mut self, hub: &mut Hub, tcp: &mut TcpTable) -> bool {
        for _ in 0..TURN {
            if !self.ready {
                return false;
            }
            match self.socket.accept() {
                Ok((stream, _)) => tcp.accept(hub, stream, self.guest_port),
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => self.ready = false,
                // A client that went away again.
                Err(problem) if matches!(problem.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(_) => {
                    self.ready = false;
                    let due = hub.now.checked_add(PAUSE);
                    hub.timers.arm(Source::Listener(self.number), &mut self.due, due);
                }
            }
        }
        self.ready
    }
}
