//! A device that a monitor has: its grants, its queues, and their threads.

use super::Enter;
use super::export::Given;
use crate::protocol::{Counted, Counters, MAX_COUNTED, OpenQueue, Share};
use crate::window::Window;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::Class;
use pvkit_abi::grant::Access;
use pvkit_abi::status::CallError;
use pvkit_backends::{
    Backing, Bell, GrantError, GrantTable, QueueCounters, QueueLines, QueueLog, QueueOrder, QueueThread, spin_for,
};
use pvkit_shared_memory::SharedPages;
use std::collections::BTreeMap;
use std::sync::Arc;
use zerocopy::FromZeros;

/// One device of one monitor.
pub struct Device {
    given: Given,
    /// For threads and log lines.
    name: String,
    grants: Arc<GrantTable>,
    open: BTreeMap<u16, Running>,
    /// Outlives the queues.
    counters: BTreeMap<u16, Arc<QueueCounters>>,
}

/// A queue that is open. The thread is dropped, and so stopped, before the window.
struct Running {
    thread: QueueThread,
    _window: Arc<Window>,
}

impl Device {
    pub fn new(given: Given, name: String) -> Self {
        Self { given, name, grants: Arc::default(), open: BTreeMap::new(), counters: BTreeMap::new() }
    }

    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Queues that are open.
    pub fn open_queues(&self) -> usize {
        self.open.len()
    }

    /// Queues that can be opened.
    pub fn queues(&self) -> usize {
        self.given.offer.max_queues.into()
    }

    /// Its kind.
    pub const fn class(&self) -> Class {
        self.given.offer.class
    }

    /// The name by which the operator knows it.
    pub fn id(&self) -> &str {
        &self.name
    }

    /// Opens a queue: rings in the window, a thread.
    ///
    /// # Errors
    /// `BUSY` if it is open, `FAULT` for pages outside the window, `INVALID` for others that cannot be, `BACKEND` if no
    /// thread is to be had.
    pub fn open(
        &mut self,
        asked: &OpenQueue,
        window: &Arc<Window>,
        doorbell: Bell,
        interrupt: Bell,
        log: QueueLog,
        enter: Enter,
    ) -> Result<(), CallError> {
        if asked.queue >= self.given.offer.max_queues {
            return Err(CallError::NOT_FOUND);
        }
        if self.open.contains_key(&asked.queue) {
            return Err(CallError::BUSY);
        }
        let (requests, completions) = (usize::from(asked.request_pages), usize::from(asked.completion_pages));
        let pages = asked.pages.get(..requests.saturating_add(completions)).ok_or(CallError::INVALID)?;
        let (peer, own) = pages.split_at_checked(requests).ok_or(CallError::INVALID)?;
        if asked.depth > self.given.offer.max_depth {
            return Err(CallError::INVALID);
        }
        let order = QueueOrder {
            queue: asked.queue,
            depth: asked.depth,
            completion_bytes: asked.completion_bytes,
            epoch: asked.epoch,
            features: asked.features & self.given.offer.features,
            own: shared_pages(window, own)?,
            peer: shared_pages(window, peer)?,
        };
        let lines = QueueLines {
            grants: Arc::clone(&self.grants),
            interrupt: Arc::new(move || {
                // The monitor may have closed its end; then nobody is to be told.
                let _ = interrupt.ring();
            }),
            counters: Arc::clone(self.counters.entry(asked.queue).or_default()),
            log,
        };
        let engine = self.given.backing.engine(&self.given.offer, order, lines)?;
        let worker = self.given.worker;
        // The guest's own threads are the monitor's; a daemon that spun while one of them waits for a CPU would only be slow.
        let name = thread_name(&self.name, asked.queue);
        let thread = QueueThread::spawn_guarded(&name, engine, doorbell, spin_for(2), move || enter(worker));
        let thread = thread.map_err(|_| CallError::BACKEND)?;
        self.open.insert(asked.queue, Running { thread, _window: Arc::clone(window) });
        Ok(())
    }

    /// Drains and detaches every queue, and forgets the grants.
    pub fn close(&mut self) {
        for queue in std::mem::take(&mut self.open).into_values() {
            queue.thread.stop();
        }
        self.given.backing.closed();
        self.grants.clear();
    }

    /// Lets the queues reach an extent of the window.
    ///
    /// # Errors
    /// `FAULT` outside the window, `INVALID` for rights or a name that are none, `BUSY` if the name is taken.
    pub fn share(&self, asked: &Share, window: &Arc<Window>) -> Result<(), CallError> {
        let access = Access::from_bits(asked.access).ok_or(CallError::INVALID)?;
        let bytes = window.part(asked.offset, asked.length).ok_or(CallError::FAULT)?;
        self.grants.insert(asked.grant, bytes, access).map_err(|error| match error {
            GrantError::Occupied(_) => CallError::BUSY,
            _ => CallError::INVALID,
        })
    }

    /// No longer.
    ///
    /// # Errors
    /// `NOT_FOUND` for a name that is not shared.
    pub fn revoke(&self, asked: &Share) -> Result<(), CallError> {
        self.grants.remove(asked.grant).map_err(|_| CallError::NOT_FOUND)
    }

    /// What there is to work on.
    pub const fn backing(&self) -> &Backing {
        &self.given.backing
    }

    /// What the queues did.
    pub fn counters(&self) -> Counters {
        let mut all = Counters::new_zeroed();
        for (slot, (queue, counters)) in all.queues.iter_mut().zip(self.counters.iter().take(MAX_COUNTED)) {
            *slot = Counted { queue: (*queue).into(), reserved: 0, numbers: counters.snapshot().numbers() };
            all.count += 1;
        }
        all
    }
}

fn shared_pages(window: &Window, offsets: &[u64]) -> Result<SharedPages, CallError> {
    let mut pages = SharedPages::new();
    for offset in offsets {
        if !offset.is_multiple_of(PAGE_SIZE as u64) {
            return Err(CallError::INVALID);
        }
        let page = window.part(*offset, PAGE_SIZE as u64).ok_or(CallError::FAULT)?;
        pages.push(page).map_err(|_| CallError::INVALID)?;
    }
    Ok(pages)
}

/// The end of the name, and the queue: a thread's name holds 15 bytes.
fn thread_name(name: &str, queue: u16) -> String {
    let number = format!(".{queue}");
    let room = 15 - number.len().min(15);
    let letters: Vec<char> = name.chars().filter(char::is_ascii_graphic).collect();
    letters.iter().skip(letters.len().saturating_sub(room)).collect::<String>() + &number
}
