//! What reader, keeper and callers share, under one lock.

use super::backend::Done;
use super::link::{Link, Wanted};
use crate::protocol::{Kind, Message};
use crate::socket::SocketError;
use pvkit_abi::bus::Offer;
use pvkit_abi::status::CallError;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A daemon answers.
    Connected,
    /// The socket is closed; the process may still live.
    Lost,
    /// Nothing of the last daemon is attached any more; the next one is not there yet.
    Dead,
}

/// How an answer gets to who asked.
pub enum Answerer {
    /// By the keeper, in the order of the answers.
    Later(Done),
    /// By the reader, at once: somebody waits.
    Direct(SyncSender<Result<Vec<u8>, CallError>>),
}

/// A request on its way.
pub struct Asked {
    pub kind: Kind,
    pub since: Instant,
    pub answerer: Answerer,
}

/// One device of the backend.
pub struct Remote {
    pub wanted: Arc<Wanted>,
    pub offer: Offer,
    /// Opened before the first write; hears of every error since.
    pub witness: Option<Arc<File>>,
    pub failed: bool,
}

/// The shared state.
pub struct State {
    pub phase: Phase,
    pub link: Option<Arc<Link>>,
    pub sequence: u64,
    pub asked: BTreeMap<u64, Asked>,
    pub remotes: BTreeMap<u32, Remote>,
    pub window: Option<(OwnedFd, u64)>,
    /// Interrupts: by the number of their place in epoll.
    pub wires: BTreeMap<u64, Wire>,
    pub last_wire: u64,
    pub counters: BackendCounters,
}

/// One queue's interrupt.
pub struct Wire {
    pub device: u32,
    pub bell: Arc<pvkit_backends::Bell>,
    pub port: Option<u32>,
}

/// What happened to the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounters {
    /// Times that the backend was lost.
    pub losses: u64,
    /// Times that it came back.
    pub returns: u64,
    /// Interrupts of it.
    pub interrupts: u64,
    /// Times that its interrupts were held back because there were too many.
    pub throttled: u64,
    /// Nanoseconds from the last loss to the last return.
    pub last_gap_ns: u64,
}

impl State {
    /// Sends a request, or keeps it for the keeper to answer while nobody is there.
    pub fn send(&mut self, message: &Message, fds: &[BorrowedFd<'_>], answerer: Answerer) {
        self.sequence += 1;
        let asked = Asked { kind: message.kind(), since: Instant::now(), answerer };
        self.asked.insert(self.sequence, asked);
        if let (Phase::Connected, Some(link)) = (self.phase, &self.link) {
            // No room means that the daemon reads nothing: it is as good as gone, and its end is noticed by the reader.
            match link.socket.send(&message.emit(self.sequence), fds, Duration::ZERO) {
                Ok(()) => {}
                Err(SocketError::Closed) => {}
                Err(_) => link.socket.shut_down(),
            }
        }
    }

    /// The devices that were not taken away from the guest.
    pub fn live(&self) -> impl Iterator<Item = (&u32, &Remote)> {
        self.remotes.iter().filter(|(_, remote)| !remote.failed)
    }

    /// Takes every request that nobody will answer any more.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked).into_values().collect()
    }
}

impl Asked {
    /// How a request ends whose backend is dead: what was to be closed is closed.
    pub fn dead_answer(&self) -> Result<Vec<u8>, CallError> {
        if self.kind == Kind::CLOSE { Ok(Vec::new()) } else { Err(CallError::BACKEND) }
    }
}
