//! The guest's end of the device bus.
//!
//! *Purpose.* Meets the host ([`Bus::connect`]), learns what it offers, and carries the drivers' requests to it.
//! The mirror of the bus in the host's core.
//!
//! *Owners.* The bus owns its four pages for the life of the guest: the host's end never lets go of them before a new
//! `BUS_SETUP`. Dropping a `Bus` therefore leaks them.
//!
//! *Invariants.* At most [`DEPTH`] requests are in flight. A request whose deadline passed keeps its slot until its
//! completion comes; its answer is then dropped. Every wait has a deadline, every reply is checked.
//!
//! *Exits.* Requests are sent in batches: one `BUS_KICK` a batch. Completions of the host's messages ride along.

#[cfg(feature = "hostile")]
mod anything;
#[cfg(feature = "async")]
mod asynchronous;
mod devices;
mod inbound;
mod outbound;
mod wire;

pub use devices::{Device, MAX_DEVICES};
pub(crate) use wire::message;

use crate::error::{BusError, ConnectError, HostFault};
use crate::negotiation::{Negotiated, negotiate};
use crate::platform::{Page, Platform};
use devices::Devices;
use outbound::Pending;
use pvkit_abi::bus::{Class, DEPTH, DeviceState};
use pvkit_abi::event::MAX_PORTS;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use zerocopy::IntoBytes;

/// What the bus did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusCounters {
    /// Hypercalls made by the bus and by the drivers through it; waits not included.
    pub hypercalls: u64,
    /// Waits; on most platforms a hypercall each.
    pub waits: u64,
    /// Requests sent.
    pub requests: u64,
    /// Messages of the host that were taken.
    pub messages: u64,
    /// Messages that were refused: malformed, stale, unknown, or one device too many.
    pub refused: u64,
    /// Times that the host reported an overflow.
    pub overflows: u64,
    /// Requests whose deadline passed.
    pub timeouts: u64,
}

/// The guest's end of the bus.
#[derive(Debug)]
pub struct Bus<'p, P: Platform> {
    platform: &'p P,
    negotiated: Negotiated,
    pages: wire::Pages,
    requests: wire::Requests,
    messages: wire::Messages,
    pending: [Pending; DEPTH as usize],
    devices: Devices,
    port: u32,
    epoch: u64,
    kick_due: bool,
    rescan_due: bool,
    counters: BusCounters,
}

impl<'p, P: Platform> Bus<'p, P> {
    /// Negotiates, sets up the bus and takes the first offers. Three hypercalls.
    ///
    /// # Errors
    /// What the host lacks, refused or got wrong, by name.
    pub fn connect(platform: &'p P) -> Result<Self, ConnectError> {
        let scratch = platform.allocate()?;
        let connected = Self::connect_with(platform, &scratch);
        // The host reads and writes the parameter structs only during their calls.
        platform.free(scratch);
        connected
    }

    fn connect_with(platform: &'p P, scratch: &Page) -> Result<Self, ConnectError> {
        let negotiated = negotiate(platform, scratch)?;
        Self::set_up(platform, negotiated, scratch)
    }

    fn set_up(platform: &'p P, negotiated: Negotiated, scratch: &Page) -> Result<Self, ConnectError> {
        let pages = wire::Pages::allocate(platform)?;
        let (requests, messages) = pages.halves()?;
        let mut bus = Self {
            platform,
            negotiated,
            pages,
            requests,
            messages,
            pending: [Pending::Free; DEPTH as usize],
            devices: Devices::new(),
            port: 0,
            epoch: 0,
            kick_due: false,
            rescan_due: false,
            counters: BusCounters { hypercalls: 1, ..BusCounters::default() },
        };
        bus.port = bus.allocate_port()?;
        scratch.bytes.write(0, bus.pages.setup(bus.port).as_bytes()).map_err(|_| BusError::NoMemory)?;
        bus.epoch = bus.hypercall(Call::BUS_SETUP, [scratch.address, 0, 0, 0, 0])?;
        if bus.epoch == 0 {
            return Err(HostFault::Reply { field: "bus epoch", value: 0 }.into());
        }
        bus.receive_all()?;
        Ok(bus)
    }

    /// What was sealed with the host.
    #[must_use]
    pub const fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// Counts so far.
    #[must_use]
    pub const fn counters(&self) -> BusCounters {
        self.counters
    }

    /// Epoch of the bus.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Event port of the bus.
    #[must_use]
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// All devices that are there.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter()
    }

    /// The device with this number.
    #[must_use]
    pub fn device(&self, id: u32) -> Option<&Device> {
        self.devices.get(id)
    }

    /// The `instance`th device of a class, in the order of the host's command line. `None` if it was not offered.
    #[must_use]
    pub fn find(&self, class: Class, instance: u16) -> Option<u32> {
        self.devices.find(class, instance).map(|device| device.id)
    }

    /// The kernel under the bus.
    pub(crate) const fn platform(&self) -> &'p P {
        self.platform
    }

    /// What the answer to the guest's own request says about a device.
    pub(crate) fn note(&mut self, device: u32, epoch: u64, state: DeviceState) {
        // A device that was rescinded meanwhile, or is further on, needs no note.
        let _ = self.devices.state(device, epoch, state);
    }

    /// An event port bound to the boot vCPU.
    pub(crate) fn allocate_port(&mut self) -> Result<u32, BusError> {
        let port = self.hypercall(Call::EVENT_ALLOC, [0; 5])?;
        match u32::try_from(port) {
            Ok(port) if port < MAX_PORTS => Ok(port),
            _ => Err(HostFault::Reply { field: "event port", value: port }.into()),
        }
    }

    /// Gives a port back. The host keeps one that it says is busy.
    pub(crate) fn close_port(&mut self, port: u32) -> Result<(), BusError> {
        self.hypercall(Call::EVENT_CLOSE, [port.into(), 0, 0, 0, 0]).map(|_| ())
    }

    fn hypercall(&mut self, call: Call, args: [u64; 5]) -> Result<u64, BusError> {
        self.counters.hypercalls += 1;
        CallError::from_result(self.platform.hypercall(call, args)).map_err(BusError::Refused)
    }
}

impl<P: Platform> Drop for Bus<'_, P> {
    fn drop(&mut self) {
        self.platform.note_leak(4);
    }
}
