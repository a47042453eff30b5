//! A host for tests: answers as a host should, or as it should not.
//!
//! *Purpose.* The other side of every protocol, in one thread and without a clock of its own, made of `pvkit-abi` and
//! `pvkit-ring` alone: nothing of the drivers under test, and nothing of the real host, is used.
//!
//! *How it lies.* Everything it is about to store goes through [`Host::tamper`] first.
//!
//! *Time* moves by a microsecond at each look at the clock. A wait that nothing ends moves it to the deadline, so that a
//! lost wake-up shows as a time-out at once.

mod bus;
mod calls;
mod device;
mod port;

pub use calls::FakeCalls;
pub use device::{Device, Kind};
pub use port::Port;

use crate::platform::Composed;
use crate::platform::test::{TestMemory, TestPages};
use bus::FakeBus;
use pvkit_abi::discovery::{BOOT_MAGIC, BootInfo, Region, RegionKind, Transport};
use pvkit_abi::version::{CURRENT, Group, GroupOffer};
use std::boxed::Box;
use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::Vec;
use zerocopy::FromZeros;

/// The platform that tests run the drivers on.
pub type TestPlatform = Composed<TestPages, FakeCalls>;

/// What is about to be stored where the guest can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A message of the host.
    Message,
    /// A reply to a message of the guest.
    Reply,
    /// A completion's result, before it gets its tag.
    Completion,
    /// Words 1 to 3 of a wide completion.
    Words,
    /// The result of a hypercall.
    Result,
}

/// Something that happens to the host.
pub type Happening = Box<dyn FnOnce(&mut Host)>;

/// Changes what is about to be stored.
pub type Tamper = Box<dyn FnMut(Stored, &mut [u8])>;

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hypercalls, waits not included.
    pub hypercalls: u64,
    /// Waits.
    pub waits: u64,
    /// Waits that nothing ended.
    pub vain_waits: u64,
    /// Doorbells.
    pub doorbells: u64,
    /// Interrupts: times that a port became pending.
    pub interrupts: u64,
}

/// The state behind the calls.
pub struct Host {
    pub(crate) memory: Arc<TestMemory>,
    /// Devices; number 1 is the first.
    pub devices: Vec<Device>,
    pub(crate) bus: Option<FakeBus>,
    pub(crate) queued: VecDeque<pvkit_abi::bus::Message>,
    pub(crate) ports: u32,
    pub(crate) epochs: u64,
    pub(crate) pending: bool,
    pub(crate) due: Vec<u64>,
    pub(crate) clock: u64,
    /// Queues are served while the guest waits, not in its doorbell.
    pub lazy: bool,
    /// Of requests that are there together, the last is carried out first.
    pub reversed: bool,
    /// Doorbells are not heard.
    pub deaf: bool,
    /// Bus requests that are still answered.
    pub answers_left: u32,
    /// The bus is served while the guest waits, not in its kick.
    pub lazy_bus: bool,
    pub(crate) kicked: bool,
    /// What happens during the guest's next waits, one each.
    pub happenings: VecDeque<Happening>,
    /// Changes what is stored.
    pub tamper: Tamper,
    /// Counts.
    pub counts: Counts,
}

impl core::fmt::Debug for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host").field("devices", &self.devices).field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// A platform with a host that offers `devices`.
#[must_use]
pub fn platform(devices: Vec<Device>) -> TestPlatform {
    let memory = TestMemory::new();
    let pages = TestPages(memory.clone());
    Composed { pages, calls: FakeCalls::new(boot_info(), Host::new(memory, devices)) }
}

impl Host {
    fn new(memory: Arc<TestMemory>, devices: Vec<Device>) -> Self {
        Self {
            memory,
            devices,
            bus: None,
            queued: VecDeque::new(),
            ports: 0,
            epochs: 0,
            pending: false,
            due: Vec::new(),
            clock: 0,
            lazy: false,
            reversed: false,
            deaf: false,
            answers_left: u32::MAX,
            lazy_bus: false,
            kicked: false,
            happenings: VecDeque::new(),
            tamper: Box::new(|_, _| {}),
            counts: Counts::default(),
        }
    }

    /// The time, without moving it.
    #[must_use]
    pub const fn clock(&self) -> u64 {
        self.clock
    }

    /// A later epoch than all before.
    pub(crate) fn epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    /// Makes a port pending.
    pub(crate) fn interrupt(&mut self) {
        self.counts.interrupts += 1;
        self.pending = true;
    }
}

fn boot_info() -> BootInfo {
    let mut boot = BootInfo::new_zeroed();
    boot.magic = BOOT_MAGIC;
    boot.size = size_of::<BootInfo>() as u32;
    boot.transport = Transport::DIRECT;
    boot.vcpu_count = 1;
    let groups = [Group::EVENT, Group::BUS, Group::GRANT, Group::SCHED, Group::CONSOLE];
    boot.group_count = groups.len() as u32;
    for (slot, group) in boot.groups.iter_mut().zip(groups) {
        *slot = GroupOffer {
            group,
            major: CURRENT.major,
            minor_oldest: 0,
            minor_newest: CURRENT.minor + 3,
            features: 0x10,
            required: 0,
        };
    }
    // Two regions that adjoin: the whole of them is one extent.
    let extent = crate::platform::Extent {
        base: crate::platform::test::COHERENT_BASE,
        length: (crate::platform::test::PAGES * pvkit_abi::PAGE_SIZE) as u64,
    };
    boot.region_count = 2;
    for (slot, base) in boot.regions.iter_mut().zip([extent.base, extent.base + extent.length]) {
        *slot = Region { base, length: extent.length, kind: RegionKind::RAM, reserved: 0 };
    }
    boot
}
