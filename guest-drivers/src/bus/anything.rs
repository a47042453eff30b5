//! Messages of any content, and setting up again and again, for guests that try what a host stands.

use super::{Bus, Negotiated, message};
use crate::error::{BusError, ConnectError};
use crate::platform::Platform;
use pvkit_abi::bus::{Kind, Reply};

impl<'p, P: Platform> Bus<'p, P> {
    /// A bus in the place of the one before: everything of that one ends with it, in whatever state it is.
    ///
    /// # Errors
    /// As for [`Bus::connect`].
    pub fn set_up_anew(platform: &'p P, negotiated: Negotiated) -> Result<Self, ConnectError> {
        let scratch = platform.allocate()?;
        let connected = Self::set_up(platform, negotiated, &scratch);
        platform.free(scratch);
        connected
    }

    /// Sends a message that no driver would, and waits for its answer.
    ///
    /// # Errors
    /// What the host says against it, or nothing before `deadline`.
    pub fn ask_anything(
        &mut self,
        kind: Kind,
        device: u32,
        epoch: u64,
        body: &[u8],
        deadline: u64,
    ) -> Result<Reply, BusError> {
        let [answer] = self.request(&[message(kind, device, epoch, body)], deadline)?;
        Ok(answer?)
    }
}
