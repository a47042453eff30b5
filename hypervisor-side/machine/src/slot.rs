//! One device of a guest: what it works on, its grants, and its queues that are open.

use crate::carrier::{Carrier, DoorbellAddress};
use crate::host::Host;
use crate::lies;
use crate::memory::GuestRam;
use crate::remote::Remote;
use pvkit_abi::bus::{CONFIG_BYTES, Offer};
use pvkit_abi::status::CallError;
use pvkit_backends::Bell;
use pvkit_backends::{Backing, GrantTable, Interrupt, QueueCounters, QueueEngine, QueueLines, QueueOrder, QueueThread};
use pvkit_core::{GuestAddr, GuestMemory};
use pvkit_shared_memory::SharedPages;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Asks for one queue.
pub struct Order {
    pub queue: u16,
    pub depth: u32,
    /// Bytes of a completion.
    pub completion_bytes: u16,
    pub epoch: u64,
    pub features: u64,
    pub request_pages: Vec<GuestAddr>,
    pub completion_pages: Vec<GuestAddr>,
    pub port: Option<u32>,
}

/// A queue that is open.
pub struct OpenQueue {
    pub thread: QueueThread,
    pub doorbell: Arc<Bell>,
    pub at: DoorbellAddress,
    /// Keeps the memory mapped that the ring and the grants name. Dropped after the thread.
    pub _ram: Arc<GuestRam>,
}

/// Where a device's backend is.
pub enum Side {
    /// In this process.
    Here(Backing),
    /// In another one.
    There(Arc<Remote>),
}

/// One device.
pub struct Slot {
    pub label: String,
    pub offer: Offer,
    pub backing: Side,
    pub grants: Arc<GrantTable>,
    pub open: Mutex<BTreeMap<u16, OpenQueue>>,
    /// Outlives the queues, so that numbers go on over epochs.
    pub counters: Mutex<BTreeMap<u16, Arc<QueueCounters>>>,
    /// Size of a disk as the guest was last told.
    pub announced: AtomicU64,
    /// Configuration of a device whose backend is elsewhere, as the guest was last told.
    pub config: Mutex<[u8; CONFIG_BYTES]>,
}

/// Who a queue's thread talks to.
#[derive(Clone)]
struct Contact {
    host: Weak<Host>,
    device: u32,
    label: String,
}

impl Slot {
    pub fn new(label: String, offer: Offer, backing: Side) -> Self {
        let capacity = match &backing {
            Side::Here(Backing::Block(disk)) => disk.capacity(),
            _ => 0,
        };
        Self {
            label,
            offer,
            backing,
            grants: Arc::default(),
            open: Mutex::default(),
            counters: Mutex::default(),
            announced: AtomicU64::new(capacity),
            config: Mutex::new(offer.config),
        }
    }

    /// The engine of a queue, on fresh rings.
    pub fn engine(
        &self,
        order: &Order,
        ram: &GuestRam,
        host: &Weak<Host>,
        device: u32,
    ) -> Result<Box<dyn QueueEngine>, CallError> {
        let Side::Here(backing) = &self.backing else { return Err(CallError::UNSUPPORTED) };
        let (raiser, port) = (host.clone(), order.port);
        let interrupt: Interrupt = Arc::new(move || {
            if let (Some(host), Some(port)) = (raiser.upgrade(), port) {
                host.raise(port);
            }
        });
        let own = pages(ram, &order.completion_pages)?;
        let (own, interrupt) = lies::between(device, order.queue, own, order.depth, order.completion_bytes, interrupt)?;
        let asked = QueueOrder {
            queue: order.queue,
            depth: order.depth,
            completion_bytes: order.completion_bytes,
            epoch: order.epoch,
            features: order.features,
            own,
            peer: pages(ram, &order.request_pages)?,
        };
        let contact = Contact { host: host.clone(), device, label: self.label.clone() };
        let lines = self.lines(order.queue, contact, interrupt);
        Ok(lies::behind(device, order.queue, backing.engine(&self.offer, asked, lines)?))
    }

    /// The queue's ways to the guest and to the operator.
    fn lines(&self, queue: u16, contact: Contact, interrupt: Interrupt) -> QueueLines {
        QueueLines {
            grants: self.grants.clone(),
            interrupt,
            counters: lock(&self.counters).entry(queue).or_default().clone(),
            log: Arc::new(move |line| {
                let Contact { host, device, label } = &contact;
                if let Some(host) = host.upgrade() {
                    host.log(format!("device {device} ({label}), queue {queue}: {line}"));
                }
            }),
        }
    }

    /// Drains and ends every queue and forgets the grants.
    pub fn close(&self, carrier: &dyn Carrier) {
        let queues = std::mem::take(&mut *lock(&self.open));
        for queue in queues.into_values() {
            carrier.detach(&queue.doorbell, queue.at);
            queue.thread.stop();
        }
        match &self.backing {
            Side::Here(backing) => backing.closed(),
            Side::There(remote) => remote.close_now(carrier),
        }
        self.grants.clear();
    }
}

fn pages(ram: &GuestRam, addresses: &[GuestAddr]) -> Result<SharedPages, CallError> {
    let mut pages = SharedPages::new();
    for address in addresses {
        let page = ram.shared(*address, pvkit_abi::PAGE_SIZE as u64).map_err(|_| CallError::FAULT)?;
        pages.push(page).map_err(|_| CallError::INVALID)?;
    }
    Ok(pages)
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
