//! The ports that take and give bytes. A bounded number of connections; each does a bounded piece of work at a time.

use super::pattern::Pattern;
use alloc::vec;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

/// Takes bytes and answers with their digest.
pub(super) const SINK: u16 = 7000;
/// Gives bytes.
const SOURCE: u16 = 7001;
/// Connections at once, of each kind.
const SINKS: usize = 16;
const SOURCES: usize = 2;
/// Bytes of a socket's buffers.
pub(super) const WINDOW: usize = 256 * 1024;
/// Bytes of a request for bytes.
const REQUEST: usize = 16;

/// One connection's work.
enum Work {
    Sink(Sha256),
    /// The request so far, then what is left to send.
    Source {
        request: Vec<u8>,
        left: Option<(u64, Pattern)>,
    },
}

/// All connections.
pub(super) struct Server {
    connections: Vec<(SocketHandle, u16, Work)>,
    digests: u64,
}

impl Server {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Self {
        let ports = [SINK; SINKS].into_iter().chain([SOURCE; SOURCES]);
        let connections = ports.map(|port| (sockets.add(socket()), port, Work::new(port))).collect();
        Self { connections, digests: 0 }
    }

    /// Digests that were sent.
    pub(super) const fn digests(&self) -> u64 {
        self.digests
    }

    /// Whether no connection is alive.
    pub(super) fn is_idle(&self, sockets: &SocketSet<'_>) -> bool {
        let idle = |state| matches!(state, tcp::State::Listen | tcp::State::TimeWait | tcp::State::Closed);
        self.connections.iter().all(|(handle, ..)| idle(sockets.get::<tcp::Socket<'_>>(*handle).state()))
    }

    /// Does what can be done now; whether that was anything.
    pub(super) fn serve(&mut self, sockets: &mut SocketSet<'_>) -> bool {
        let mut busy = false;
        for (handle, port, work) in &mut self.connections {
            let socket = sockets.get_mut::<tcp::Socket<'_>>(*handle);
            match socket.state() {
                tcp::State::Closed | tcp::State::TimeWait => {
                    // A connection in TIME-WAIT would keep a listener of a few for minutes.
                    socket.abort();
                    *work = Work::new(*port);
                    busy |= socket.listen(*port).is_ok();
                }
                tcp::State::Listen | tcp::State::SynReceived => {}
                _ => {
                    let (moved, digest) = work.go_on(socket);
                    busy |= moved;
                    self.digests += u64::from(digest);
                }
            }
        }
        busy
    }
}

impl Work {
    fn new(port: u16) -> Self {
        if port == SINK { Self::Sink(Sha256::new()) } else { Self::Source { request: Vec::new(), left: None } }
    }

    /// Whether bytes moved, and whether a digest was sent.
    fn go_on(&mut self, socket: &mut tcp::Socket<'_>) -> (bool, bool) {
        match self {
            Self::Sink(hash) => sink(hash, socket),
            Self::Source { request, left } => (source(request, left, socket), false),
        }
    }
}

fn sink(hash: &mut Sha256, socket: &mut tcp::Socket<'_>) -> (bool, bool) {
    let mut moved = false;
    while socket.can_recv() {
        moved |= socket.recv(|bytes| (bytes.len(), hash.update(bytes))).is_ok();
    }
    if socket.may_recv() || !socket.may_send() {
        return (moved, false);
    }
    let digest = hash.finalize_reset();
    // The buffer is empty and larger than a digest.
    let sent = socket.send_slice(&digest).is_ok_and(|count| count == digest.len());
    socket.close();
    (true, sent)
}

fn source(request: &mut Vec<u8>, left: &mut Option<(u64, Pattern)>, socket: &mut tcp::Socket<'_>) -> bool {
    let mut moved = false;
    if left.is_none() {
        let wanted = REQUEST - request.len();
        let taken = socket.recv(|bytes| {
            let part = bytes.get(..bytes.len().min(wanted)).unwrap_or(&[]);
            request.extend_from_slice(part);
            (part.len(), part.len())
        });
        moved = taken.is_ok_and(|count| count > 0);
        let number = |at: usize| request.get(at..at + 8).and_then(|raw| raw.try_into().ok()).map(u64::from_le_bytes);
        if let (Some(count), Some(seed)) = (number(0), number(8)) {
            *left = Some((count, Pattern::new(seed)));
        } else if !socket.may_recv() {
            socket.close();
        }
    }
    let Some((count, pattern)) = left else { return moved };
    while *count > 0 && socket.can_send() {
        let sent = socket.send(|space| {
            let length = space.len().min(usize::try_from(*count).unwrap_or(usize::MAX));
            let part = space.get_mut(..length).unwrap_or(&mut []);
            pattern.fill(part);
            (part.len(), part.len())
        });
        let sent = sent.unwrap_or(0);
        if sent == 0 {
            break;
        }
        *count -= sent as u64;
        moved = true;
    }
    if *count == 0 && socket.may_send() {
        socket.close();
        moved = true;
    }
    moved
}

/// A socket with buffers of its own.
pub(super) fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; WINDOW]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_timeout(Some(Duration::from_secs(30)));
    socket.set_nagle_enabled(false);
    // Whoever is done leaves at once, and its last acknowledgement must be out by then.
    socket.set_ack_delay(None);
    socket
}
