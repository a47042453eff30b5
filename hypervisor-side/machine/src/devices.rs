//! A guest's devices: what the bus offers, what the backends need, and the queues that are open.

use crate::carrier::{Carrier, DoorbellAddress};
use crate::config::Device;
use crate::host::Host;
use crate::memory::GuestRam;
use crate::report::QueueReport;
use pvkit_abi::block::BlockFeatures;
use pvkit_abi::bus::{CONFIG_BYTES, Offer};
use pvkit_abi::console::ConsoleConfig;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::ring::{COMPLETION_BYTES, MAX_DEPTH};
use pvkit_abi::status::CallError;
use pvkit_backends::{
    BlockLimits, BlockQueue, ConsoleInput, ConsoleOutput, ConsoleQueue, Disk, GrantTable, QueueCounters, QueueEngine,
    QueueSetup, QueueThread, block, console, spin_for,
};
use pvkit_core::{DeviceConfig, GuestAddr, GuestMemory};
use pvkit_ring::{Backend, RingSize};
use pvkit_shared_memory::SharedPages;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Queues of a block device.
const BLOCK_QUEUES: u16 = 4;
/// Greatest depth of a console's one queue.
const CONSOLE_DEPTH: u32 = 64;
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

enum Backing {
    Block(Arc<dyn Disk>),
    Console(ConsoleOutput, Arc<ConsoleInput>),
}

struct OpenQueue {
    thread: QueueThread,
    doorbell: Arc<EventFd>,
    at: DoorbellAddress,
    /// Keeps the memory mapped that the ring and the grants name. Dropped after the thread.
    _ram: Arc<GuestRam>,
}

/// One device.
struct Slot {
    label: String,
    offer: Offer,
    backing: Backing,
    grants: Arc<GrantTable>,
    open: Mutex<BTreeMap<u16, OpenQueue>>,
    /// Outlives the queues, so that numbers go on over epochs.
    counters: Mutex<BTreeMap<u16, Arc<QueueCounters>>>,
    /// Size of a disk as the guest was last told.
    announced: AtomicU64,
}

/// All devices of a guest. Numbers on the bus are 1, 2, ...
pub struct Devices {
    slots: Vec<Slot>,
    /// Threads of the guest: its vCPUs.
    guest_threads: usize,
}

impl Devices {
    pub fn new(devices: Vec<Device>, vcpus: u32) -> Self {
        let (mut blocks, mut consoles) = (0, 0);
        let slot = |device| match device {
            Device::Block { disk, label } => {
                blocks += 1;
                let offer = block::offer(&*disk, blocks - 1, BlockLimits::default(), BLOCK_QUEUES, MAX_DEPTH);
                Slot::new(label, offer, Backing::Block(disk))
            }
            Device::Console { output, input, columns, rows } => {
                consoles += 1;
                let offer = console::offer(consoles - 1, ConsoleConfig { columns, rows }, CONSOLE_DEPTH);
                Slot::new(format!("console{}", consoles - 1), offer, Backing::Console(output, input))
            }
        };
        Self { slots: devices.into_iter().map(slot).collect(), guest_threads: vcpus as usize }
    }

    /// What the core offers.
    pub fn configs(&self) -> Vec<DeviceConfig> {
        self.slots.iter().map(|slot| DeviceConfig { offer: slot.offer }).collect()
    }

    fn slot(&self, device: u32) -> Result<&Slot, CallError> {
        let index = (device as usize).checked_sub(1).ok_or(CallError::NOT_FOUND)?;
        self.slots.get(index).ok_or(CallError::NOT_FOUND)
    }

    pub fn share(
        &self,
        device: u32,
        grant: GrantRef,
        memory: &GuestRam,
        base: GuestAddr,
        length: u64,
        access: Access,
    ) -> Result<(), CallError> {
        let bytes = memory.shared(base, length).map_err(|_| CallError::FAULT)?;
        self.slot(device)?.grants.insert(grant, bytes, access).map_err(|_| CallError::BUSY)
    }

    pub fn revoke(&self, device: u32, grant: GrantRef) -> Result<(), CallError> {
        self.slot(device)?.grants.remove(grant).map_err(|_| CallError::NOT_FOUND)
    }

    /// Sets something of a device. Block and console devices have nothing to set.
    pub fn control(&self, device: u32, _operation: u16, _data: &[u8]) -> Result<(), CallError> {
        match self.slot(device)?.backing {
            Backing::Block(_) | Backing::Console(..) => Err(CallError::UNSUPPORTED),
        }
    }

    /// Opens a queue: ring, doorbell, thread.
    pub fn open(
        &self,
        device: u32,
        order: Order,
        ram: &Arc<GuestRam>,
        carrier: &dyn Carrier,
        host: &Weak<Host>,
    ) -> Result<DoorbellAddress, CallError> {
        let slot = self.slot(device)?;
        let mut open = lock(&slot.open);
        if open.contains_key(&order.queue) {
            return Err(CallError::BUSY);
        }
        let engine = slot.engine(&order, ram, host, device)?;
        let backend = |_| CallError::BACKEND;
        let doorbell = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(backend)?);
        let own = doorbell.try_clone().map_err(backend)?;
        let at = carrier.attach(&doorbell).map_err(|_| CallError::LIMIT)?;
        let name = format!("{}.{}", slot.label, order.queue);
        // Thread names hold 15 bytes.
        let name: String = name.chars().rev().take(15).collect::<Vec<_>>().into_iter().rev().collect();
        // The vCPUs and this queue; the others sleep for the most part.
        match QueueThread::spawn(&name, engine, own, spin_for(self.guest_threads + 1)) {
            Ok(thread) => {
                open.insert(order.queue, OpenQueue { thread, doorbell, at, _ram: ram.clone() });
                Ok(at)
            }
            Err(_) => {
                carrier.detach(&doorbell, at);
                Err(CallError::BACKEND)
            }
        }
    }

    /// Drains and ends every queue of a device and forgets its grants.
    pub fn close(&self, device: u32, carrier: &dyn Carrier) {
        if let Ok(slot) = self.slot(device) {
            slot.close(carrier);
        }
    }

    pub fn close_all(&self, carrier: &dyn Carrier) {
        self.slots.iter().for_each(|slot| slot.close(carrier));
    }

    /// Disks whose size is not what the guest was last told, with their configuration; or why one could not be asked.
    pub fn refresh(&self) -> Vec<Result<(u32, [u8; CONFIG_BYTES]), String>> {
        let changed = |(index, slot): (usize, &Slot)| {
            let Backing::Block(disk) = &slot.backing else { return None };
            match disk.refresh() {
                Ok(capacity) if slot.announced.swap(capacity, Ordering::Relaxed) == capacity => None,
                Ok(_) => Some(Ok((index as u32 + 1, block::config_bytes(&disk.config())))),
                Err(error) => Some(Err(format!("disk {}: its size cannot be read again: {error}", slot.label))),
            }
        };
        self.slots.iter().enumerate().filter_map(changed).collect()
    }

    pub fn reports(&self) -> Vec<QueueReport> {
        let of_slot = |slot: &Slot| -> Vec<QueueReport> {
            let counters = lock(&slot.counters);
            let report = |(queue, counters): (&u16, &Arc<QueueCounters>)| QueueReport {
                device: slot.label.clone(),
                queue: *queue,
                counters: counters.snapshot(),
            };
            counters.iter().map(report).collect()
        };
        self.slots.iter().flat_map(of_slot).collect()
    }
}

impl Slot {
    fn new(label: String, offer: Offer, backing: Backing) -> Self {
        let capacity = match &backing {
            Backing::Block(disk) => disk.capacity(),
            Backing::Console(..) => 0,
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

    fn engine(
        &self,
        order: &Order,
        ram: &GuestRam,
        host: &Weak<Host>,
        device: u32,
    ) -> Result<Box<dyn QueueEngine>, CallError> {
        if usize::from(order.completion_bytes) != COMPLETION_BYTES {
            return Err(CallError::UNSUPPORTED);
        }
        let size = RingSize::new(order.depth).ok_or(CallError::INVALID)?;
        let own = pages(ram, &order.completion_pages)?;
        let peer = pages(ram, &order.request_pages)?;
        let ring = Backend::new(own, peer, size, order.epoch).map_err(|_| CallError::INVALID)?;
        if ring.peer_epoch() != order.epoch {
            // Rings of an older life of the device, or never made ready.
            return Err(CallError::STALE);
        }
        let counters = lock(&self.counters).entry(order.queue).or_default().clone();
        let (raiser, logger) = (host.clone(), host.clone());
        let port = order.port;
        let queue = order.queue;
        let label = self.label.clone();
        let setup = QueueSetup {
            ring,
            grants: self.grants.clone(),
            interrupt: Arc::new(move || {
                if let (Some(host), Some(port)) = (raiser.upgrade(), port) {
                    host.raise(port);
                }
            }),
            counters,
            log: Arc::new(move |line| {
                if let Some(host) = logger.upgrade() {
                    host.log(format!("device {device} ({label}), queue {queue}: {line}"));
                }
            }),
        };
        Ok(match &self.backing {
            Backing::Block(disk) => {
                let features = BlockFeatures::from_bits_truncate(order.features);
                Box::new(BlockQueue::new(setup, disk.clone(), BlockLimits::of(&self.offer), features))
            }
            Backing::Console(output, input) => Box::new(ConsoleQueue::new(setup, output.clone(), input.clone())),
        })
    }

    fn close(&self, carrier: &dyn Carrier) {
        let queues = std::mem::take(&mut *lock(&self.open));
        for queue in queues.into_values() {
            carrier.detach(&queue.doorbell, queue.at);
            queue.thread.stop();
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
