//! Where a network hands a guest's frames in: the filter judges them, scaling picks the pair.
//!
//! *Owners.* Shared by the network that delivers, the receive queues that take, and the port's control. *Invariants.* A
//! frame goes to the inbox of an open pair or nowhere; what nobody takes is counted, not kept.
//!
//! *Not here.* What the guest may ask for ([`super::PortControl`]); making frames fit what it sealed
//! ([`super::ReceiveQueue`]).

use super::filter::Filter;
use super::offload::toeplitz;
use super::{Frame, Inbox};
use pvkit_abi::net::{FrameHash, HashKind, MulticastFilter, ReceiveMode, Rss};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The way into a guest's port.
#[derive(Debug)]
pub struct Steering {
    mac: [u8; 6],
    inboxes: Vec<Arc<Inbox>>,
    state: RwLock<State>,
    filtered: AtomicU64,
    unwanted: AtomicU64,
}

#[derive(Debug)]
struct State {
    filter: Filter,
    rss: Option<Rss>,
    /// By pair: whether its receive queue is open.
    open: Vec<bool>,
}

/// What became of frames before they reached an inbox, and at its door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringSnapshot {
    /// Not for this guest, as it set its filter.
    pub filtered: u64,
    /// No receive queue was open.
    pub unwanted: u64,
    /// An inbox was full.
    pub overrun: u64,
}

impl Steering {
    /// The way into the port of the guest with address `mac`, one inbox a pair.
    #[must_use]
    pub fn new(mac: [u8; 6], inboxes: Vec<Arc<Inbox>>) -> Arc<Self> {
        let open = vec![false; inboxes.len()];
        // Until a filter is negotiated the guest sorts multicasts out itself.
        let filter = Filter::new(mac, ReceiveMode::ALL_MULTICAST);
        let state = RwLock::new(State { filter, rss: None, open });
        Arc::new(Self { mac, inboxes, state, filtered: AtomicU64::new(0), unwanted: AtomicU64::new(0) })
    }

    /// The guest's address.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Pairs of queues that the port has.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.inboxes.len()
    }

    /// The inbox of a pair.
    #[must_use]
    pub fn inbox(&self, pair: usize) -> Option<&Arc<Inbox>> {
        self.inboxes.get(pair)
    }

    /// Hands a frame in: filtered, steered, dropped and counted if nobody takes it. Never blocks. False if it was
    /// dropped.
    pub fn deliver(&self, frame: Frame) -> bool {
        let state = self.read();
        if !frame.destination().is_some_and(|destination| state.filter.passes(destination)) {
            self.filtered.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.push_to(state.pick(&frame.bytes), frame)
    }

    /// The same without the filter, for networks that know better.
    pub fn push(&self, frame: Frame) -> bool {
        let pair = self.read().pick(&frame.bytes);
        self.push_to(pair, frame)
    }

    /// How many frames certainly find room now, wherever they are steered to; 0 if no receive queue is open.
    #[must_use]
    pub fn room(&self) -> usize {
        let state = self.read();
        let open = self.inboxes.iter().zip(&state.open).filter(|(_, open)| **open);
        open.map(|(inbox, _)| inbox.room()).min().unwrap_or(0)
    }

    fn push_to(&self, pair: Option<usize>, frame: Frame) -> bool {
        match pair.and_then(|pair| self.inboxes.get(pair)) {
            Some(inbox) => inbox.push(frame),
            None => {
                self.unwanted.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// The hash of a frame as the guest set scaling up; zero if it is off or the frame is of no kind that it named.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> FrameHash {
        let state = self.read();
        let hash = state.rss.as_ref().and_then(|rss| toeplitz::hash_frame(bytes, rss));
        hash.map_or(FrameHash::default(), |(hash, kind): (u32, HashKind)| FrameHash::new(hash, kind))
    }

    /// The numbers now.
    #[must_use]
    pub fn counters(&self) -> SteeringSnapshot {
        SteeringSnapshot {
            filtered: self.filtered.load(Ordering::Relaxed),
            unwanted: self.unwanted.load(Ordering::Relaxed),
            overrun: self.inboxes.iter().map(|inbox| inbox.dropped()).sum(),
        }
    }

    /// A new life of the device: nothing that the guest set before holds.
    pub(super) fn reset(&self, mode: ReceiveMode) {
        let mut state = self.write();
        state.filter = Filter::new(self.mac, mode);
        state.rss = None;
    }

    pub(super) fn set_mode(&self, mode: ReceiveMode) {
        self.write().filter.set_mode(mode);
    }

    /// False if the list is none.
    pub(super) fn set_multicast(&self, list: &MulticastFilter) -> bool {
        self.write().filter.set_multicast(list)
    }

    pub(super) fn set_rss(&self, rss: Option<Rss>) {
        self.write().rss = rss;
    }

    /// Tells that a pair's receive queue is there or gone. What waits in its inbox is of another life.
    pub(super) fn set_open(&self, pair: usize, is_open: bool) {
        if let Some(open) = self.write().open.get_mut(pair) {
            *open = is_open;
        }
        if let Some(inbox) = self.inboxes.get(pair) {
            inbox.clear();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The pair for a frame: by its hash if scaling is on, else the first one that is open.
    fn pick(&self, bytes: &[u8]) -> Option<usize> {
        let scaled = self.rss.as_ref().and_then(|rss| {
            let (hash, _) = toeplitz::hash_frame(bytes, rss)?;
            let entry = hash as usize % rss.table.len();
            let pair = usize::from(*rss.table.get(entry)?);
            self.open.get(pair)?.then_some(pair)
        });
        scaled.or_else(|| self.open.iter().position(|open| *open))
    }
}
