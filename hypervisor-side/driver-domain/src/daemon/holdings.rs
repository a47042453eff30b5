//! What a monitor has of the daemon. Its connection works on it, and whoever inspects looks at it in between.

use super::device::Device;
use super::quotas::Account;
use crate::protocol::{Inspected, padded};
use crate::window::Window;
use pvkit_abi::status::CallError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A monitor's name, memory and devices.
#[derive(Default)]
pub struct Holdings {
    /// As it calls itself; empty before its `HELLO`.
    pub name: String,
    pub window: Option<Arc<Window>>,
    pub devices: BTreeMap<u32, Device>,
    /// What it asked for and spent.
    pub account: Arc<Account>,
}

impl Holdings {
    /// Whether it has anything.
    pub fn is_monitor(&self) -> bool {
        self.window.is_some() || !self.devices.is_empty()
    }

    /// A device that was attached.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn device(&mut self, number: u32) -> Result<&mut Device, CallError> {
        self.devices.get_mut(&number).ok_or(CallError::NOT_FOUND)
    }

    /// Queues that its devices have, open or not.
    pub fn queues(&self) -> usize {
        self.devices.values().map(Device::queues).sum()
    }

    /// Gives everything back: every queue is drained and detached first.
    pub fn give_back(&mut self) {
        self.devices.values_mut().for_each(Device::close);
        self.devices.clear();
        self.window = None;
    }

    /// The device at a place of this monitor's.
    ///
    /// # Errors
    /// How many there are, if there are not so many.
    pub fn inspect(&self, place: usize) -> Result<Inspected, usize> {
        let (number, device) = self.devices.iter().nth(place).ok_or(self.devices.len())?;
        Ok(Inspected {
            device: *number,
            class: device.class(),
            open: device.open_queues() as u16,
            window: self.window.as_ref().map_or(0, |window| window.len()),
            monitor: padded(&self.name),
            id: padded(device.id()),
            spent: self.account.spent(),
            counters: device.counters(),
        })
    }
}
