//! The guest's connection to its host: bus, terminal, and disks on demand.

use crate::Failure;
use crate::lasting::Lasting;
use crate::terminal::Terminal;
use alloc::rc::Rc;
use core::cell::RefCell;
use pvkit_abi::bus::Class;
use pvkit_abi::net::NetFeatures;
use pvkit_guest_drivers::block::Suspicion;
use pvkit_guest_drivers::net::{Net, NetOptions};
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::{Block, Bus, Console, GrantPolicy, Sealed};

/// How long the host may take to answer, in nanoseconds.
pub(crate) const PATIENCE_NS: u64 = 30_000_000_000;

/// A daemon that is killed faster than it completes a request is what this guest is to show; the request's fault it hardly is.
const HARDLY: Suspicion = Suspicion { restarts: 3, kills: 100 };

/// An open session.
pub(crate) struct Session<'p, P: Platform> {
    pub(crate) platform: &'p P,
    /// Shared with disks whose calls outlive their backend.
    pub(crate) bus: Rc<RefCell<Bus<'p, P>>>,
    pub(crate) terminal: Terminal<'p, P>,
}

impl<'p, P: Platform> Session<'p, P> {
    /// Connects, opens the console, prints what was negotiated.
    pub(crate) fn open(platform: &'p P) -> Result<Self, Failure> {
        let mut bus = Bus::connect(platform)?;
        let device = bus.find(Class::CONSOLE, 0).ok_or(Failure::Wrong("the host offers no console"))?;
        let deadline = platform.now().saturating_add(PATIENCE_NS);
        let console = Console::open(&mut bus, device, GrantPolicy::Extent, deadline)?;
        let sealed = *console.sealed();
        let mut session =
            Self { platform, bus: Rc::new(RefCell::new(bus)), terminal: Terminal::new(platform, console) };
        session.print_groups();
        session.print_sealed("console", 0, &sealed);
        Ok(session)
    }

    /// Opens a disk with `N` slots and buffers of up to `PAGES` pages.
    pub(crate) fn disk<const N: usize, const PAGES: usize>(
        &mut self,
        instance: u16,
        depth: u32,
    ) -> Result<Block<'p, P, N, PAGES>, Failure> {
        let device = self.find(Class::BLOCK, instance).ok_or(Failure::NoDisk(instance))?;
        let deadline = self.deadline();
        let mut disk = Block::open(&mut self.bus.borrow_mut(), device, depth, GrantPolicy::Extent, deadline)?;
        disk.suspect(Some(HARDLY));
        self.print_sealed("disk", instance, disk.sealed());
        let hypercalls = self.bus.borrow().counters().hypercalls;
        self.terminal.line(format_args!("negotiated hypercalls={hypercalls}"));
        let geometry = disk.geometry();
        self.terminal.line(format_args!(
            "disk {instance} capacity={} block={} read_only={}",
            geometry.capacity, geometry.logical_block, geometry.read_only
        ));
        Ok(disk)
    }

    /// Opens a disk whose calls outlive its backend.
    pub(crate) fn lasting(&mut self, instance: u16, depth: u32) -> Result<Lasting<'p, P>, Failure> {
        Ok(Lasting::new(self.disk(instance, depth)?, self.bus.clone()))
    }

    /// The number of a device, if the host offers it.
    pub(crate) fn find(&self, class: Class, instance: u16) -> Option<u32> {
        self.bus.borrow().find(class, instance)
    }

    /// Opens a network device with one pair of queues; with `offload` checksums are left to the host if it offers that.
    pub(crate) fn net(&mut self, instance: u16, offload: bool) -> Result<Net<'p, P>, Failure> {
        let device = self.find(Class::NET, instance).ok_or(Failure::Wrong("the host offers no network device"))?;
        let deadline = self.deadline();
        let mut wanted = NetOptions::default();
        if offload {
            wanted.features |= NetFeatures::TX_CHECKSUM | NetFeatures::RX_CHECKSUM;
        }
        let net = Net::open(&mut self.bus.borrow_mut(), device, wanted, GrantPolicy::Extent, deadline)?;
        self.print_sealed("net", instance, net.sealed());
        Ok(net)
    }

    /// The time by which the host must have answered what is asked now.
    pub(crate) fn deadline(&self) -> u64 {
        deadline(self.platform)
    }

    fn print_groups(&mut self) {
        let epoch = self.bus.borrow().epoch();
        let bus = self.bus.borrow();
        for choice in bus.negotiated().groups() {
            let name = choice.group.name().unwrap_or("UNKNOWN");
            self.terminal.line(format_args!(
                "negotiated group {name} version={}.{} features={:#x}",
                choice.major, choice.minor, choice.features
            ));
        }
        self.terminal.line(format_args!("negotiated bus epoch={epoch}"));
    }

    fn print_sealed(&mut self, what: &str, instance: u16, sealed: &Sealed) {
        self.terminal.line(format_args!(
            "negotiated {what} {instance} version={} features={:#x} depth={} segments={} transfer={} epoch={}",
            sealed.version, sealed.features, sealed.depth, sealed.max_segments, sealed.max_transfer, sealed.epoch
        ));
    }
}

/// The time by which the host must have answered what is asked now.
pub(crate) fn deadline<P: Platform>(platform: &P) -> u64 {
    platform.now().saturating_add(PATIENCE_NS)
}
