//! Event channels: ports, each bound to a vCPU, masked or not, used by queues or not.
//!
//! A pending event that is not masked stands in guest memory, set by the machine; only what a mask holds back is here.

use pvkit_abi::event::{MAX_PORTS, PortStatus};
use pvkit_abi::status::CallError;

#[derive(Clone, Copy, Debug)]
struct Port {
    vcpu: u32,
    masked: bool,
    latched: bool,
    /// Queues and buses that signal it. One port may serve several.
    users: u32,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Raise it at this vCPU.
    To(u32),
    /// The mask holds it back.
    Held,
}

/// The ports of one guest.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// By number; grows up to [`MAX_PORTS`].
    slots: Vec<Option<Port>>,
}

impl Ports {
    /// Allocates the lowest free port, unmasked.
    ///
    /// # Errors
    /// `LIMIT` if all are taken.
    pub(crate) fn allocate(&mut self, vcpu: u32) -> Result<u32, CallError> {
        let port = Some(Port { vcpu, masked: false, latched: false, users: 0 });
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let number = u32::try_from(free).map_err(|_| CallError::LIMIT)?;
        if number >= MAX_PORTS {
            return Err(CallError::LIMIT);
        }
        match self.slots.get_mut(free) {
            Some(slot) => *slot = port,
            None => self.slots.push(port),
        }
        Ok(number)
    }

    /// Moves the port to `vcpu`; the vCPU it was bound to.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn bind(&mut self, number: u64, vcpu: u32) -> Result<u32, CallError> {
        Ok(core::mem::replace(&mut self.port(number)?.vcpu, vcpu))
    }

    /// Frees the port.
    ///
    /// # Errors
    /// `NOT_FOUND`; `BUSY` while a queue or the bus uses it.
    pub(crate) fn close(&mut self, number: u64) -> Result<(), CallError> {
        if self.port(number)?.users > 0 {
            return Err(CallError::BUSY);
        }
        if let Some(slot) = usize::try_from(number).ok().and_then(|index| self.slots.get_mut(index)) {
            *slot = None;
        }
        Ok(())
    }

    /// Masks or unmasks; an event that the mask held back and that is to be raised now, at which vCPU.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn mask(&mut self, number: u64, masked: bool) -> Result<Option<u32>, CallError> {
        let port = self.port(number)?;
        port.masked = masked;
        let deliver = !masked && core::mem::take(&mut port.latched);
        Ok(deliver.then_some(port.vcpu))
    }

    /// One event.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn signal(&mut self, number: u64) -> Result<Delivery, CallError> {
        let port = self.port(number)?;
        if port.masked {
            port.latched = true;
            return Ok(Delivery::Held);
        }
        Ok(Delivery::To(port.vcpu))
    }

    /// The vCPU and the status bits.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn status(&mut self, number: u64) -> Result<(u32, PortStatus), CallError> {
        let port = *self.port(number)?;
        Ok((port.vcpu, port.status()))
    }

    /// One more user.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) fn acquire(&mut self, number: u32) -> Result<(), CallError> {
        let port = self.port(u64::from(number))?;
        port.users = port.users.saturating_add(1);
        Ok(())
    }

    /// One user less.
    pub(crate) fn release(&mut self, number: u32) {
        if let Ok(port) = self.port(u64::from(number)) {
            port.users = port.users.saturating_sub(1);
        }
    }

    /// Whether the port exists.
    pub(crate) fn exists(&mut self, number: u32) -> bool {
        self.port(u64::from(number)).is_ok()
    }

    /// Every port: number, vCPU, status.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, u32, PortStatus)> + '_ {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(number, slot)| slot.map(|port| (number, port.vcpu, port.status())))
    }

    /// The guest's number may be anything.
    fn port(&mut self, number: u64) -> Result<&mut Port, CallError> {
        let index = usize::try_from(number).map_err(|_| CallError::NOT_FOUND)?;
        self.slots.get_mut(index).and_then(Option::as_mut).ok_or(CallError::NOT_FOUND)
    }
}

impl Port {
    fn status(self) -> PortStatus {
        let mut status = PortStatus::empty();
        status.set(PortStatus::MASKED, self.masked);
        status.set(PortStatus::LATCHED, self.latched);
        status.set(PortStatus::IN_USE, self.users > 0);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_stays_in_use_until_its_last_user_is_gone() {
        let mut ports = Ports::default();
        let port = ports.allocate(0).unwrap();
        ports.acquire(port).unwrap();
        ports.acquire(port).unwrap();
        ports.release(port);
        assert_eq!(ports.close(port.into()), Err(CallError::BUSY));
        ports.release(port);
        ports.release(port);
        assert_eq!(ports.close(port.into()), Ok(()));
    }

    #[test]
    fn several_events_behind_a_mask_are_one() {
        let mut ports = Ports::default();
        let port = u64::from(ports.allocate(3).unwrap());
        assert_eq!(ports.mask(port, true), Ok(None));
        assert_eq!([ports.signal(port), ports.signal(port)], [Ok(Delivery::Held); 2]);
        assert_eq!([ports.mask(port, false), ports.mask(port, false)], [Ok(Some(3)), Ok(None)]);
        assert_eq!(ports.signal(port), Ok(Delivery::To(3)));
    }

    #[test]
    fn number_beyond_all_ports_is_not_found() {
        let mut ports = Ports::default();
        ports.allocate(0).unwrap();
        for number in [1, 255, 256, 1 << 32, u64::MAX] {
            assert_eq!(ports.signal(number), Err(CallError::NOT_FOUND));
        }
    }
}
