//! Devices that outlive their backend: for the rest of the application its loss is only latency.

use crate::Failure;
use crate::session::deadline;
use alloc::rc::Rc;
use core::cell::RefCell;
use pvkit_guest_drivers::block::Geometry;
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::net::{Net, Pair};
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::{Block, Bus, QueueCounters};

/// How long an application sleeps at most while it has no network: its stack would like to send, and cannot.
const NAP_NS: u64 = 500_000_000;

/// A disk with its bus.
pub(crate) struct Lasting<'p, P: Platform> {
    disk: Block<'p, P>,
    bus: Rc<RefCell<Bus<'p, P>>>,
}

impl<'p, P: Platform> Lasting<'p, P> {
    pub(crate) const fn new(disk: Block<'p, P>, bus: Rc<RefCell<Bus<'p, P>>>) -> Self {
        Self { disk, bus }
    }

    /// Counts of the disk's queue.
    pub(crate) const fn counters(&self) -> QueueCounters {
        self.disk.counters()
    }
}

/// What is asked of a disk.
pub(crate) trait Door {
    fn geometry(&self) -> &Geometry;
    fn read(&mut self, position: u64, into: &mut [u8], deadline: u64) -> Result<(), RequestError>;
    fn write(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError>;
    fn write_fua(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError>;
    fn flush(&mut self, deadline: u64) -> Result<(), RequestError>;
}

impl<P: Platform> Door for Lasting<'_, P> {
    fn geometry(&self) -> &Geometry {
        self.disk.geometry()
    }

    fn read(&mut self, position: u64, into: &mut [u8], deadline: u64) -> Result<(), RequestError> {
        self.disk.over(&mut self.bus.borrow_mut()).read(position, into, deadline)
    }

    fn write(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.disk.over(&mut self.bus.borrow_mut()).write(position, from, deadline)
    }

    fn write_fua(&mut self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.disk.over(&mut self.bus.borrow_mut()).write_fua(position, from, deadline)
    }

    fn flush(&mut self, deadline: u64) -> Result<(), RequestError> {
        self.disk.over(&mut self.bus.borrow_mut()).flush(deadline)
    }
}

/// Follows what the host says of the network device and opens it anew once its backend is back. `pair` goes on then.
pub(crate) fn mend<'p, P: Platform>(
    net: &mut Net<'p, P>,
    pair: &mut Pair<'p, P>,
    bus: &mut Bus<'p, P>,
    platform: &P,
) -> Result<(), Failure> {
    bus.poll()?;
    // A configuration that cannot be is not believed: the old one stays.
    let _ = net.refresh(bus);
    pair.follow(net).map_err(RequestError::from)?;
    if net.is_back(bus) {
        let until = deadline(platform);
        match net.recover(bus, until) {
            // Lost again: later.
            Err(RequestError::TimedOut) => return Ok(()),
            recovered => recovered?,
        };
        pair.resume(net)?;
    }
    Ok(())
}

/// Until when to sleep: without a network there is nothing to do at once.
pub(crate) fn nap<P: Platform>(net: &Net<'_, P>, now: u64, until: u64) -> u64 {
    if net.is_over() { until.max(now.saturating_add(NAP_NS)) } else { until }
}
