//! Closing a device, and following what the bus says about it.
//!
//! *Invariants.* Ring pages are freed only after the host confirmed that the queue is drained and detached.

use super::{Life, Link, Sealed};
use crate::bus::{Bus, message};
use crate::error::BusError;
use crate::platform::Platform;
use pvkit_abi::bus::{CONFIG_BYTES, DeviceState, Kind};

impl<P: Platform, const N: usize, const C: usize> Link<'_, P, N, C> {
    /// Follows the bus's table. Answers the device's newest configuration if it changed.
    pub(crate) fn refresh(&mut self, bus: &Bus<'_, P>) -> Option<[u8; CONFIG_BYTES]> {
        let Some(device) = bus.device(self.sealed.device) else {
            // Rescinded, which the host says only after it drained the queue.
            self.ended();
            return None;
        };
        if device.epoch > self.sealed.epoch {
            self.ended();
        } else if device.state == DeviceState::DISCONNECTED && self.life == Life::Open {
            self.life = Life::Gone;
        }
        if device.revision == self.revision {
            return None;
        }
        self.revision = device.revision;
        Some(device.offer.config)
    }

    /// The host says that the queue's epoch is over, whatever was told of its backend before. After a `CLOSE` that failed that
    /// is no promise: then the memory stays with the host.
    fn ended(&mut self) {
        if matches!(self.life, Life::Open | Life::Gone) {
            self.detach();
        }
    }

    fn detach(&mut self) {
        self.life = Life::Detached;
        if !self.drains {
            self.rings.free(self.platform);
        }
    }

    /// What was completed before the queue ended is not lost with it: [`Link::take`] goes on until nothing is left.
    pub(crate) const fn drain_after_the_end(&mut self) {
        self.drains = true;
    }

    /// Has the host drain and detach the queue; the grant ends with it. After `Ok` nothing that was in flight can be
    /// written any more, and the ring pages are free. May be called again after an error.
    ///
    /// # Errors
    /// What the host refused or did not answer in time: everything stays with the host.
    pub(crate) fn close(&mut self, bus: &mut Bus<'_, P>, deadline: u64) -> Result<(), BusError> {
        if !self.is_detached() {
            // Until the host confirms it, nobody can tell.
            self.life = Life::Kept;
            close_device(bus, &self.sealed, deadline)?;
            self.detach();
        }
        self.port.take().map_or(Ok(()), |port| bus.close_port(port))
    }

    /// One of several queues of a device: follows what the device's owner knows.
    pub(crate) fn follow(&mut self, life: Life) {
        match life {
            Life::Open => {}
            Life::Gone if self.life == Life::Open => self.life = Life::Gone,
            Life::Gone => {}
            Life::Kept if !self.is_detached() => self.life = Life::Kept,
            Life::Detached if !self.is_detached() => self.detach(),
            Life::Kept | Life::Detached => {}
        }
    }

    /// The queue that was opened in the place of this one, which is over.
    pub(crate) fn succeed(&mut self, mut new: Self) {
        new.go_on_from(self);
        *self = new;
    }

    /// Counts go on over a queue's end.
    pub(crate) const fn go_on_from(&mut self, old: &Self) {
        self.counters = old.counters;
        self.counters.reconnects += 1;
    }

    /// Whether the host confirmed that it has no more business with the queue's memory.
    pub(crate) fn is_detached(&self) -> bool {
        self.life == Life::Detached
    }
}

/// Closes a device, whether it opened all the way or not. It is then offered again, under a new epoch.
pub(crate) fn close_device<P: Platform>(bus: &mut Bus<'_, P>, sealed: &Sealed, deadline: u64) -> Result<(), BusError> {
    let [closed] = bus.request(&[message(Kind::CLOSE, sealed.device, sealed.epoch, &[])], deadline)?;
    let reply = closed?;
    bus.note(sealed.device, reply.epoch, DeviceState::OFFERED);
    Ok(())
}

impl<P: Platform, const N: usize, const C: usize> Drop for Link<'_, P, N, C> {
    fn drop(&mut self) {
        if self.is_detached() {
            self.rings.free(self.platform);
        }
        // Pages have no destructor: what `close` did not free is leaked here.
        self.platform.note_leak(self.rings.len());
    }
}
