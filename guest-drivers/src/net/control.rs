//! What the guest sets of its port, by `CONTROL`. It ends with the epoch; [`Net::recover`] sets it anew.

use super::Net;
use crate::bus::{Bus, message};
use crate::device::Life;
use crate::error::{BusError, Misuse};
use crate::platform::Platform;
use pvkit_abi::bus::{CONTROL_BYTES, Control, Kind};
use pvkit_abi::net::{MAX_MULTICAST, MulticastFilter, NetControl, NetFeatures, ReceiveMode, Rss};
use zerocopy::IntoBytes;

/// What was set last, to be set anew.
#[derive(Debug, Default)]
pub(super) struct Settings {
    mode: Option<Control>,
    multicast: Option<Control>,
    rss: Option<Control>,
}

impl Settings {
    fn keep(&mut self, control: &Control) {
        let slot = match NetControl(control.operation) {
            NetControl::SET_MODE => &mut self.mode,
            NetControl::SET_MULTICAST => &mut self.multicast,
            NetControl::SET_RSS => &mut self.rss,
            _ => return,
        };
        *slot = Some(*control);
    }
}

impl<'p, P: Platform, const N: usize, const PAIRS: usize, const PAGES: usize> Net<'p, P, N, PAIRS, PAGES> {
    /// Which frames come besides the guest's own and broadcasts. In force when this returns.
    ///
    /// # Errors
    /// [`BusError::Unsupported`] without [`NetFeatures::FILTER`], or what the host answered.
    pub fn set_mode(&mut self, bus: &mut Bus<'p, P>, mode: ReceiveMode, deadline: u64) -> Result<(), BusError> {
        self.control(bus, NetFeatures::FILTER, NetControl::SET_MODE, &mode.bits().to_le_bytes(), deadline)
    }

    /// Which multicasts come. More than [`MAX_MULTICAST`] do not fit: ask for all by [`Net::set_mode`].
    ///
    /// # Errors
    /// As for `set_mode`; [`Misuse::BufferLength`] for too many addresses.
    pub fn set_multicast(
        &mut self,
        bus: &mut Bus<'p, P>,
        addresses: &[[u8; 6]],
        deadline: u64,
    ) -> Result<(), BusError> {
        if addresses.len() > MAX_MULTICAST {
            return Err(Misuse::BufferLength { limit: MAX_MULTICAST as u64 }.into());
        }
        let mut filter = MulticastFilter { count: addresses.len() as u32, addresses: [[0; 6]; MAX_MULTICAST] };
        filter.addresses.iter_mut().zip(addresses).for_each(|(to, from)| *to = *from);
        self.control(bus, NetFeatures::FILTER, NetControl::SET_MULTICAST, filter.as_bytes(), deadline)
    }

    /// How frames are spread over the pairs.
    ///
    /// # Errors
    /// [`BusError::Unsupported`] without [`NetFeatures::RSS`], or what the host answered.
    pub fn set_rss(&mut self, bus: &mut Bus<'p, P>, rss: &Rss, deadline: u64) -> Result<(), BusError> {
        self.control(bus, NetFeatures::RSS, NetControl::SET_RSS, rss.as_bytes(), deadline)
    }

    /// The guest has announced itself, as [`super::LinkState::announce`] asked.
    ///
    /// # Errors
    /// [`BusError::Unsupported`] without [`NetFeatures::ANNOUNCE`], or what the host answered.
    pub fn announced(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        self.control(bus, NetFeatures::ANNOUNCE, NetControl::ANNOUNCED, &[], deadline)
    }

    fn control(
        &mut self,
        bus: &mut Bus<'p, P>,
        needs: NetFeatures,
        operation: NetControl,
        data: &[u8],
        deadline: u64,
    ) -> Result<(), BusError> {
        if !self.features.contains(needs) {
            return Err(BusError::Unsupported { what: "control without its feature", value: needs.bits() });
        }
        if self.life != Life::Open {
            return Err(BusError::Disconnected);
        }
        let mut bytes = [0; CONTROL_BYTES];
        bytes.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        let size = data.len().min(CONTROL_BYTES) as u16;
        let body = Control { operation: operation.0, size, reserved: 0, data: bytes };
        self.ask(bus, &body, deadline)?;
        self.settings.keep(&body);
        Ok(())
    }

    /// In an epoch that knows nothing of it: what was set.
    pub(super) fn set_anew(&self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let Settings { mode, multicast, rss } = &self.settings;
        [mode, multicast, rss].into_iter().flatten().try_for_each(|body| self.ask(bus, body, deadline))
    }

    fn ask(&self, bus: &mut Bus<'p, P>, body: &Control, deadline: u64) -> Result<(), BusError> {
        let asked = message(Kind::CONTROL, self.sealed.device, self.sealed.epoch, body.as_bytes());
        let [answer] = bus.request(&[asked], deadline)?;
        answer?;
        Ok(())
    }
}
