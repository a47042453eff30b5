//! A guest's devices: what the bus offers, what the backends need, and the queues that are open.

use crate::carrier::{Carrier, DoorbellAddress};
use crate::config::Device;
use crate::host::Host;
use crate::memory::GuestRam;
use crate::report::QueueReport;
use crate::slot::{Backing, NetPort, OpenQueue, Order, Slot, lock};
use pvkit_abi::bus::CONFIG_BYTES;
use pvkit_abi::console::ConsoleConfig;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::net::{LinkFlags, NetConfig};
use pvkit_abi::ring::MAX_DEPTH;
use pvkit_abi::status::CallError;
use pvkit_backends::net::{self, PortControl};
use pvkit_backends::{BlockLimits, QueueCounters, QueueThread, block, console, entropy, services, spin_for};
use pvkit_core::{DeviceConfig, GuestAddr, GuestMemory};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Queues of a block device.
const BLOCK_QUEUES: u16 = 4;
/// Greatest depth of a console's one queue.
const CONSOLE_DEPTH: u32 = 64;
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
                Slot::new(label, offer, Backing::Block(disk))
            }
            Device::Console { output, input, columns, rows } => {
                consoles += 1;
                let offer = console::offer(consoles - 1, ConsoleConfig { columns, rows }, CONSOLE_DEPTH);
                Slot::new(format!("console{}", consoles - 1), offer, Backing::Console(output, input))
            }
            Device::Services(services) => {
                Slot::new("services".into(), services::offer(&services), Backing::Services(services))
            }
            Device::Entropy => Slot::new("entropy".into(), entropy::offer(), Backing::Entropy),
            Device::Net { network, steering, mtu, label } => {
                ports += 1;
                let config = NetConfig { mac: steering.mac(), mtu, flags: LinkFlags::UP.bits(), speed: 0 };
                let pairs = u16::try_from(steering.pairs()).unwrap_or(u16::MAX);
                let offer = net::offer(&*network, ports - 1, config, pairs, NET_DEPTH);
                let control = PortControl::new(network.clone(), steering.clone());
                Slot::new(label, offer, Backing::Net(NetPort { network, steering, control, mtu }))
            }
        };
        Self { slots: devices.into_iter().map(slot).collect(), guest_threads: vcpus as usize }
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
            Backing::Net(port) => port.control.control(operation, data),
            _ => Err(CallError::UNSUPPORTED),
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
