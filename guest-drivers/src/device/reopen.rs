//! Waiting for a device whose backend is lost, and what becomes of one that was half opened when it went.

use super::Sealed;
use crate::bus::Bus;
use crate::error::{BusError, RequestError};
use crate::platform::Platform;
use pvkit_abi::bus::DeviceState;
use pvkit_abi::status::CallError;

/// Whether a device is offered in a later epoch than the one that was `sealed`.
pub(crate) fn is_back<P: Platform>(bus: &Bus<'_, P>, sealed: &Sealed) -> bool {
    bus.device(sealed.device).is_some_and(|device| device.state == DeviceState::OFFERED && device.epoch > sealed.epoch)
}

/// Whether a `CLOSE` failed only because the backend was lost before it: the host refused it as stale, and names a later epoch or
/// took the device away, which it does when whatever was opened is detached.
pub(crate) fn is_over_for_close<P: Platform>(
    bus: &mut Bus<'_, P>,
    sealed: &Sealed,
    closed: Result<(), BusError>,
) -> bool {
    closed == Err(BusError::Refused(CallError::STALE))
        && bus.poll().is_ok()
        && bus.device(sealed.device).is_none_or(|device| device.epoch > sealed.epoch)
}

/// Waits until the device is offered anew and `open` has taken it. Lies cost the deadline: an offer of an older epoch is none,
/// and each round takes one offer or sleeps.
///
/// # Errors
/// [`RequestError::TimedOut`]; `Disconnected` for a device that is gone for good; what `open` says of a device that it does not
/// take.
pub(crate) fn when_back<'p, P: Platform>(
    bus: &mut Bus<'p, P>,
    sealed: &Sealed,
    deadline: u64,
    mut open: impl FnMut(&mut Bus<'p, P>) -> Result<(), BusError>,
) -> Result<(), RequestError> {
    loop {
        bus.poll().map_err(bus_failure)?;
        let epoch = bus.device(sealed.device).ok_or(RequestError::Disconnected)?.epoch;
        if is_back(bus, sealed) {
            match open(bus) {
                Ok(()) => return Ok(()),
                // Lost again meanwhile: wait for the next one.
                Err(BusError::Refused(CallError::BACKEND | CallError::STALE | CallError::BUSY)) => {}
                Err(error) => return Err(bus_failure(error)),
            }
        }
        if bus.platform().now() >= deadline {
            return Err(RequestError::TimedOut);
        }
        // The next offer may have come with the answer to the one before.
        if bus.device(sealed.device).is_some_and(|device| device.epoch == epoch) {
            bus.wait(deadline).map_err(bus_failure)?;
        }
    }
}

/// What a request's caller is told of the bus. One that fails takes its devices with it.
pub(crate) const fn bus_failure(error: BusError) -> RequestError {
    match error {
        BusError::TimedOut => RequestError::TimedOut,
        BusError::PeerFault(fault) => RequestError::PeerFault(fault),
        BusError::NoMemory => RequestError::NoMemory,
        BusError::Refused(error) => RequestError::Refused(error),
        _ => RequestError::Disconnected,
    }
}
