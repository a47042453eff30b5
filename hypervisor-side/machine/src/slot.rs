//! One device of a guest: what it works on, its grants, and its queues that are open.

use crate::carrier::{Carrier, DoorbellAddress};
use crate::host::Host;
use crate::lies;
use crate::memory::GuestRam;
use pvkit_abi::block::BlockFeatures;
use pvkit_abi::bus::Offer;
use pvkit_abi::net::NetFeatures;
use pvkit_abi::status::CallError;
use pvkit_backends::entropy::EntropyQueue;
use pvkit_backends::net::{Network, PortControl, RECEIVE_WORDS, ReceiveQueue, Steering, TransmitQueue};
use pvkit_backends::services::{Services, ServicesQueue};
use pvkit_backends::{
    BlockLimits, BlockQueue, ConsoleInput, ConsoleOutput, ConsoleQueue, Disk, GrantTable, Interrupt, QueueCounters,
    QueueEngine, QueueSetup, QueueThread,
};
use pvkit_core::{GuestAddr, GuestMemory};
use pvkit_ring::{RingSize, WideBackend};
use pvkit_shared_memory::SharedPages;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use vmm_sys_util::eventfd::EventFd;

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

/// What a device works on.
pub enum Backing {
    Block(Arc<dyn Disk>),
    Console(ConsoleOutput, Arc<ConsoleInput>),
    Net(NetPort),
    Services(Arc<Services>),
    Entropy,
}

/// A network port.
pub struct NetPort {
    pub network: Arc<dyn Network>,
    pub steering: Arc<Steering>,
    pub control: PortControl,
    pub mtu: u16,
}

/// A queue that is open.
pub struct OpenQueue {
    pub thread: QueueThread,
    pub doorbell: Arc<EventFd>,
    pub at: DoorbellAddress,
    /// Keeps the memory mapped that the ring and the grants name. Dropped after the thread.
    pub _ram: Arc<GuestRam>,
}

/// One device.
pub struct Slot {
    pub label: String,
    pub offer: Offer,
    pub backing: Backing,
    pub grants: Arc<GrantTable>,
    pub open: Mutex<BTreeMap<u16, OpenQueue>>,
    /// Outlives the queues, so that numbers go on over epochs.
    pub counters: Mutex<BTreeMap<u16, Arc<QueueCounters>>>,
    /// Size of a disk as the guest was last told.
    pub announced: AtomicU64,
}

/// Who a queue's thread talks to.
#[derive(Clone)]
struct Contact {
    host: Weak<Host>,
    device: u32,
    label: String,
}

impl Slot {
    pub fn new(label: String, offer: Offer, backing: Backing) -> Self {
        let capacity = match &backing {
            Backing::Block(disk) => disk.capacity(),
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
        let contact = Contact { host: host.clone(), device, label: self.label.clone() };
        let engine: Box<dyn QueueEngine> = match &self.backing {
            Backing::Block(disk) => {
                let features = BlockFeatures::from_bits_truncate(order.features);
                let setup = self.setup::<1>(order, ram, contact)?;
                Box::new(BlockQueue::new(setup, disk.clone(), BlockLimits::of(&self.offer), features))
            }
            Backing::Console(output, input) => {
                Box::new(ConsoleQueue::new(self.setup::<1>(order, ram, contact)?, output.clone(), input.clone()))
            }
            Backing::Services(services) => {
                Box::new(ServicesQueue::new(self.setup::<1>(order, ram, contact)?, services.clone()))
            }
            Backing::Entropy => Box::new(EntropyQueue::new(self.setup::<1>(order, ram, contact)?)),
            Backing::Net(port) => {
                let features = port.control.opened(order.epoch, NetFeatures::from_bits_truncate(order.features));
                let pair = usize::from(order.queue / 2);
                if order.queue.is_multiple_of(2) {
                    let setup = self.setup::<RECEIVE_WORDS>(order, ram, contact)?;
                    let queue = ReceiveQueue::new(setup, port.steering.clone(), pair, features, port.mtu);
                    Box::new(queue.ok_or(CallError::NOT_FOUND)?)
                } else {
                    let setup = self.setup::<1>(order, ram, contact)?;
                    Box::new(TransmitQueue::new(setup, port.network.clone(), features, port.mtu))
                }
            }
        };
        Ok(lies::behind(device, order.queue, engine))
    }

    /// What an engine needs: its half of the ring, with completions of `C` words, and its ways to the guest.
    fn setup<const C: usize>(
        &self,
        order: &Order,
        ram: &GuestRam,
        contact: Contact,
    ) -> Result<QueueSetup<C>, CallError> {
        if usize::from(order.completion_bytes) != C * 8 {
            return Err(CallError::UNSUPPORTED);
        }
        let size = RingSize::new(order.depth).ok_or(CallError::INVALID)?;
        let own = pages(ram, &order.completion_pages)?;
        let peer = pages(ram, &order.request_pages)?;
        let (raiser, port, queue) = (contact.host.clone(), order.port, order.queue);
        let interrupt: Interrupt = Arc::new(move || {
            if let (Some(host), Some(port)) = (raiser.upgrade(), port) {
                host.raise(port);
            }
        });
        let (own, interrupt) = lies::between(contact.device, queue, own, size, C, interrupt)?;
        let ring = WideBackend::new(own, peer, size, order.epoch).map_err(|_| CallError::INVALID)?;
        if ring.peer_epoch() != order.epoch {
            // Rings of an older life of the device, or never made ready.
            return Err(CallError::STALE);
        }
        Ok(QueueSetup {
            ring,
            grants: self.grants.clone(),
            interrupt,
            counters: lock(&self.counters).entry(order.queue).or_default().clone(),
            log: Arc::new(move |line| {
                let Contact { host, device, label } = &contact;
                if let Some(host) = host.upgrade() {
                    host.log(format!("device {device} ({label}), queue {queue}: {line}"));
                }
            }),
        })
    }

    /// Drains and ends every queue and forgets the grants.
    pub fn close(&self, carrier: &dyn Carrier) {
        let queues = std::mem::take(&mut *lock(&self.open));
        for queue in queues.into_values() {
            carrier.detach(&queue.doorbell, queue.at);
            queue.thread.stop();
        }
        if let Backing::Net(port) = &self.backing {
            port.control.closed();
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
