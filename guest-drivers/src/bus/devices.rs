//! What the host offers: a table of fixed size, kept up to date by the host's messages.
//!
//! *Invariants.* An entry's number never changes its meaning while the guest runs. Messages that come late (of an older
//! epoch) or repeatedly change nothing; a flood of offers fills the table and no more.

use pvkit_abi::bus::{CONFIG_BYTES, Class, DeviceState, Offer};
use pvkit_abi::status::CallError;

/// Devices that the guest keeps track of; more offers are refused with `LIMIT`.
pub const MAX_DEVICES: usize = 32;

/// One device as the host describes it. The numbers in the offer are not checked here: whoever opens the device does.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Number on the bus.
    pub id: u32,
    /// Epoch that the host named last.
    pub epoch: u64,
    /// State that the host named last.
    pub state: DeviceState,
    /// The offer, with the newest configuration in it.
    pub offer: Offer,
    /// Counts configuration changes, so that a driver sees that it must look again.
    pub revision: u32,
}

/// All devices that were ever offered and did not go away.
#[derive(Debug)]
pub(super) struct Devices([Option<Device>; MAX_DEVICES]);

impl Devices {
    pub(super) const fn new() -> Self {
        Self([None; MAX_DEVICES])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Device> {
        self.0.iter().flatten()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Device> {
        self.iter().find(|device| device.id == id)
    }

    pub(super) fn find(&self, class: Class, instance: u16) -> Option<&Device> {
        self.iter().find(|device| device.offer.class == class && device.offer.instance == instance)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Device> {
        self.0.iter_mut().flatten().find(|device| device.id == id)
    }

    /// An offer. Of a device that is known already only the configuration is taken under its epoch (after `RESCAN`), and all
    /// under a later one: whoever opens it anew judges whether it is less than it was. It stays of its class.
    pub(super) fn offer(&mut self, id: u32, epoch: u64, offer: Offer) -> Result<(), CallError> {
        if id == 0 {
            return Err(CallError::INVALID);
        }
        if let Some(device) = self.get_mut(id) {
            if epoch < device.epoch {
                return Err(CallError::STALE);
            }
            if (offer.class, offer.instance) != (device.offer.class, device.offer.instance) {
                return Err(CallError::INVALID);
            }
            device.set_config(offer.config);
            if epoch > device.epoch {
                (device.state, device.epoch, device.offer) = (DeviceState::OFFERED, epoch, offer);
            }
            return Ok(());
        }
        let slot = self.0.iter_mut().find(|slot| slot.is_none()).ok_or(CallError::LIMIT)?;
        *slot = Some(Device { id, epoch, state: DeviceState::OFFERED, offer, revision: 0 });
        Ok(())
    }

    pub(super) fn rescind(&mut self, id: u32) -> Result<(), CallError> {
        let slot = self.0.iter_mut().find(|slot| slot.as_ref().is_some_and(|device| device.id == id));
        *slot.ok_or(CallError::NOT_FOUND)? = None;
        Ok(())
    }

    pub(super) fn config(&mut self, id: u32, epoch: u64, config: [u8; CONFIG_BYTES]) -> Result<(), CallError> {
        self.current(id, epoch)?.set_config(config);
        Ok(())
    }

    pub(super) fn state(&mut self, id: u32, epoch: u64, state: DeviceState) -> Result<(), CallError> {
        let device = self.current(id, epoch)?;
        device.epoch = epoch;
        device.state = state;
        Ok(())
    }

    fn current(&mut self, id: u32, epoch: u64) -> Result<&mut Device, CallError> {
        let device = self.get_mut(id).ok_or(CallError::NOT_FOUND)?;
        if epoch < device.epoch { Err(CallError::STALE) } else { Ok(device) }
    }
}

impl Device {
    fn set_config(&mut self, config: [u8; CONFIG_BYTES]) {
        if self.offer.config != config {
            self.offer.config = config;
            self.revision = self.revision.wrapping_add(1);
        }
    }
}
