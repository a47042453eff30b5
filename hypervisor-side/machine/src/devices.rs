//! A guest's devices: what the bus offers, what the backends need, and the queues that are open.

use crate::carrier::{Carrier, DoorbellAddress};
use crate::config::Device;
use crate::host::Host;
use crate::memory::GuestRam;
use crate::remote::Remote;
use crate::report::{BackendReport, QueueReport};
use crate::slot::{OpenQueue, Order, Side, Slot, lock};
use pvkit_abi::bus::{CONFIG_BYTES, Class};
use pvkit_abi::console::ConsoleConfig;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::net::{LinkFlags, NetConfig};
use pvkit_abi::ring::MAX_DEPTH;
use pvkit_abi::status::CallError;
use pvkit_backends::Bell;
use pvkit_backends::net::{self, PortControl};
use pvkit_backends::{
    Backing, BlockLimits, NetPort, QueueCounters, QueueThread, block, console, entropy, services, spin_for,
};
use pvkit_core::{DeviceConfig, GuestAddr, GuestMemory};
use pvkit_driver_domain::client::Backend;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Queues of a block device.
const BLOCK_QUEUES: u16 = 4;
/// Greatest depth of a console's one queue.
const CONSOLE_DEPTH: u32 = 64;
/// How long a backend in another process may take to say something that nobody needs.
const REFRESH: Duration = Duration::from_secs(2);
/// Greatest depth of a network queue.
const NET_DEPTH: u32 = 1024;

/// All devices of a guest. Numbers on the bus are 1, 2, ...
pub struct Devices {
    slots: Vec<Slot>,
    /// Threads of the guest: its vCPUs.
    guest_threads: usize,
}

impl Devices {
    pub fn new(devices: Vec<Device>, vcpus: u32) -> Self {
        let (mut blocks, mut consoles, mut ports) = (0, 0, 0);
        let slot = |device| match device {
            Device::Block { disk, label } => {
                blocks += 1;
                let offer = block::offer(&*disk, blocks - 1, BlockLimits::default(), BLOCK_QUEUES, MAX_DEPTH);
                Slot::new(label, offer, here(Backing::Block(disk)))
            }
            Device::Console { output, input, columns, rows } => {
                consoles += 1;
                let offer = console::offer(consoles - 1, ConsoleConfig { columns, rows }, CONSOLE_DEPTH);
                Slot::new(format!("console{}", consoles - 1), offer, here(Backing::Console(output, input)))
            }
            Device::Services(services) => {
                Slot::new("services".into(), services::offer(&services), here(Backing::Services(services)))
            }
            Device::Entropy => Slot::new("entropy".into(), entropy::offer(), here(Backing::Entropy)),
            Device::Remote { backend, number, mut offer, label } => {
                // Counted here, whatever the backend calls it.
                let count = if offer.class == Class::BLOCK { &mut blocks } else { &mut ports };
                offer.instance = *count;
                *count += 1;
                Slot::new(label, offer, Side::There(Arc::new(Remote::new(backend, number))))
            }
            Device::Net { network, steering, mtu, label } => {
                ports += 1;
                let config = NetConfig { mac: steering.mac(), mtu, flags: LinkFlags::UP.bits(), speed: 0 };
                let pairs = u16::try_from(steering.pairs()).unwrap_or(u16::MAX);
                let offer = net::offer(&*network, ports - 1, config, pairs, NET_DEPTH);
                let control = PortControl::new(network.clone(), steering.clone());
                Slot::new(label, offer, here(Backing::Net(NetPort { network, steering, control, mtu })))
            }
        };
        Self { slots: devices.into_iter().map(slot).collect(), guest_threads: vcpus as usize }
    }

    /// Every backend in another process, with the devices that are there: from its numbers to the bus's.
    pub fn remotes(&self) -> Vec<(Arc<Backend>, BTreeMap<u32, u32>)> {
        let mut all: Vec<(Arc<Backend>, BTreeMap<u32, u32>)> = Vec::new();
        for (device, slot) in (1..).zip(&self.slots) {
            let Side::There(remote) = &slot.backing else { continue };
            match all.iter_mut().find(|(backend, _)| Arc::ptr_eq(backend, &remote.backend)) {
                Some((_, numbers)) => {
                    numbers.insert(remote.number, device);
                }
                None => all.push((Arc::clone(&remote.backend), BTreeMap::from([(remote.number, device)]))),
            }
        }
        all
    }

    /// A device whose backend is in another process.
    pub fn remote(&self, device: u32) -> Option<&Arc<Remote>> {
        match &self.slot(device).ok()?.backing {
            Side::There(remote) => Some(remote),
            Side::Here(_) => None,
        }
    }

    /// Whether the configuration is another than the guest was last told; it is taken to be told now.
    pub fn is_new_config(&self, device: u32, config: [u8; CONFIG_BYTES]) -> bool {
        self.slot(device).is_ok_and(|slot| std::mem::replace(&mut *lock(&slot.config), config) != config)
    }

    /// What the core offers.
    pub fn configs(&self) -> Vec<DeviceConfig> {
        self.slots.iter().map(|slot| DeviceConfig { offer: slot.offer }).collect()
    }

    /// Names, in the order of the numbers.
    pub fn labels(&self) -> Vec<String> {
        self.slots.iter().map(|slot| slot.label.clone()).collect()
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
    pub fn control(&self, device: u32, operation: u16, data: &[u8]) -> Result<(), CallError> {
        match &self.slot(device)?.backing {
            Side::Here(backing) => backing.control(operation, data),
            Side::There(_) => Err(CallError::UNSUPPORTED),
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
        let doorbell = Arc::new(Bell::new().map_err(backend)?);
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
            let device = index as u32 + 1;
            let disk = match &slot.backing {
                Side::Here(Backing::Block(disk)) => disk,
                Side::There(remote) if slot.offer.class == Class::BLOCK => {
                    let config = remote.backend.refresh(remote.number, REFRESH)?;
                    return self.is_new_config(device, config).then_some(Ok((device, config)));
                }
                _ => return None,
            };
            match disk.refresh() {
                Ok(capacity) if slot.announced.swap(capacity, Ordering::Relaxed) == capacity => None,
                Ok(_) => Some(Ok((device, block::config_bytes(&disk.config())))),
                Err(error) => Some(Err(format!("disk {}: its size cannot be read again: {error}", slot.label))),
            }
        };
        self.slots.iter().enumerate().filter_map(changed).collect()
    }

    /// Backends in other processes.
    pub fn backends(&self) -> Vec<BackendReport> {
        let report = |(backend, _): (Arc<Backend>, _)| BackendReport {
            path: backend.path().to_path_buf(),
            counters: backend.counters(),
        };
        self.remotes().into_iter().map(report).collect()
    }

    pub fn reports(&self) -> Vec<QueueReport> {
        let of_slot = |slot: &Slot| -> Vec<QueueReport> {
            if let Side::There(remote) = &slot.backing {
                let counted = remote.backend.queue_counters(remote.number, REFRESH);
                let report = |(queue, counters)| QueueReport { device: slot.label.clone(), queue, counters };
                return counted.into_iter().map(report).collect();
            }
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

const fn here(backing: Backing) -> Side {
    Side::Here(backing)
}
