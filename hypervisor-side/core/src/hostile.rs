//! What a lying host says on its bus. Behind the feature `mutants` alone: hosts that keep the protocol have no way to it.

use crate::{Domain, Effect, GuestMemory};
use pvkit_abi::bus::{Message, Offer};

impl Domain {
    /// Sends the guest a message of any content, in its turn behind what waits.
    pub fn lie(&mut self, message: Message, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) {
        self.with_bus(memory, effects, |bus, cx| {
            bus.tell(message, cx);
            bus.settle(cx);
        });
    }

    /// What the guest is offered of a device from its next `BUS_SETUP` or `RESCAN` on, if there is such a device. Its
    /// backend goes on by the true offer.
    pub fn pretend(&mut self, device: u32, offer: Offer, memory: &dyn GuestMemory, effects: &mut Vec<Effect>) {
        self.with_bus(memory, effects, |bus, _| {
            if let Some(device) = bus.device_mut(device) {
                device.offer = offer;
            }
        });
    }

    /// The device's offer and epoch, as the guest would hear them now.
    pub fn offered(
        &mut self,
        device: u32,
        memory: &dyn GuestMemory,
        effects: &mut Vec<Effect>,
    ) -> Option<(Offer, u64)> {
        self.with_bus(memory, effects, |bus, _| bus.device_mut(device).map(|device| (device.offer, device.epoch)))
    }
}
