//! The bus and the ports at one moment, as data: for programs, and by `Display` for people.

use crate::bus::Bus;
use crate::device::Device;
use crate::events::Ports;
use core::fmt;
use pvkit_abi::bus::{Class, DeviceState};
use pvkit_abi::event::PortStatus;
use pvkit_abi::grant::Access;

/// Everything that the core knows of a guest's devices. A copy: the guest goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The bus, if the guest has set it up.
    pub bus: Option<BusState>,
    /// The devices, in the order of their numbers.
    pub devices: Vec<DeviceInspection>,
    /// The ports that are allocated.
    pub ports: Vec<PortState>,
}

/// The bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusState {
    /// Its epoch.
    pub epoch: u64,
    /// Where its messages are announced.
    pub port: Option<u32>,
    /// The guest broke its protocol; it stays so until the guest sets it up again.
    pub latched: bool,
    /// The guest's requests that are not answered.
    pub requests: u32,
    /// The host's messages that the guest has not answered.
    pub messages: usize,
    /// Messages that wait for room.
    pub waiting: usize,
    /// Requests that wait for the machine.
    pub unanswered: usize,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInspection {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub class: Class,
    /// Which of its class.
    pub instance: u16,
    /// Where its life stands.
    pub state: DeviceState,
    /// Its epoch.
    pub epoch: u64,
    /// What was agreed, if the guest holds it.
    pub sealed: Option<String>,
    /// Its queues.
    pub queues: Vec<QueueState>,
    /// The memory that its backend may reach.
    pub grants: Vec<GrantState>,
}

/// One queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Its number.
    pub number: u16,
    /// Connected; not only asked for.
    pub open: bool,
    /// Slots.
    pub depth: u32,
    /// Bytes of a completion.
    pub completion_bytes: u16,
    /// Where completions are announced.
    pub port: Option<u32>,
}

/// One grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantState {
    /// Its name.
    pub grant: u32,
    /// First byte, guest-physical.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// What the backend may do.
    pub access: Access,
}

/// One event port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortState {
    /// Its number.
    pub number: usize,
    /// The vCPU it is bound to.
    pub vcpu: u32,
    /// Masked, latched, in use.
    pub status: PortStatus,
}

/// A copy of what is there now.
pub(crate) fn inspect(bus: &Bus, ports: &Ports) -> Inspection {
    let state = bus.link.as_ref().map(|link| BusState {
        epoch: bus.epoch,
        port: bus.port,
        latched: link.is_latched(),
        requests: link.requests_in_flight(),
        messages: link.messages_in_flight(),
        waiting: bus.backlog.len(),
        unanswered: bus.pending.len(),
    });
    let ports = ports.iter().map(|(number, vcpu, status)| PortState { number, vcpu, status });
    let devices = (1_u32..).zip(&bus.devices).map(|(number, device)| inspect_device(number, device));
    Inspection { bus: state, devices: devices.collect(), ports: ports.collect() }
}

fn inspect_device(number: u32, device: &Device) -> DeviceInspection {
    let queues = device.queues.iter().map(|queue| QueueState {
        number: queue.number,
        open: queue.open,
        depth: queue.depth,
        completion_bytes: queue.completion_bytes,
        port: queue.port,
    });
    let grants = device.grants.iter().map(|(grant, extent)| GrantState {
        grant: grant.0,
        base: extent.base.0,
        length: extent.length,
        access: extent.access,
    });
    DeviceInspection {
        number,
        class: device.offer.class,
        instance: device.offer.instance,
        state: device.state,
        epoch: device.epoch,
        sealed: device.sealed(number).map(|sealed| sealed.to_string()),
        queues: queues.collect(),
        grants: grants.collect(),
    }
}

/// A line for the bus, each device, each queue and grant, and each port.
impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bus {
            None => writeln!(f, "bus not set up")?,
            Some(bus) => writeln!(f, "{bus}")?,
        }
        self.devices.iter().try_for_each(|device| write!(f, "{device}"))?;
        self.ports.iter().try_for_each(|port| writeln!(f, "port {} vcpu {} {:?}", port.number, port.vcpu, port.status))
    }
}

impl fmt::Display for BusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latched = if self.latched { " LATCHED" } else { "" };
        let Self { epoch, port, requests, messages, waiting, unanswered, .. } = self;
        write!(
            f,
            "bus epoch {epoch} port {}{latched} requests {requests} messages {messages} waiting {waiting} unanswered \
             {unanswered}",
            OrNone(*port)
        )
    }
}

impl fmt::Display for DeviceInspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, class, instance, state, epoch, .. } = self;
        writeln!(f, "device {number} {class:?}.{instance} {state:?} epoch {epoch}")?;
        if let Some(sealed) = &self.sealed {
            writeln!(f, "  sealed: {sealed}")?;
        }
        for queue in &self.queues {
            let state = if queue.open { "open" } else { "opening" };
            let QueueState { number, depth, completion_bytes, port, .. } = queue;
            let port = OrNone(*port);
            writeln!(f, "  queue {number} {state} depth {depth} completions of {completion_bytes} bytes port {port}")?;
        }
        self.grants.iter().try_for_each(|grant| {
            writeln!(f, "  grant {:#x} {:#x}+{:#x} {:?}", grant.grant, grant.base, grant.length, grant.access)
        })
    }
}

struct OrNone(Option<u32>);

impl fmt::Display for OrNone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("none"),
        }
    }
}
