//! Bus messages as values: made for the guest, and taken apart when they come from it.

use crate::device::Device;
use crate::params;
use pvkit_abi::bus::{BODY_BYTES, ConfigChanged, DeviceState, Kind, Message, StateChanged};
use pvkit_abi::ring::RequestWord;
use pvkit_abi::status::CallError;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What no sender means.
pub(crate) const NOTHING: Message = message(Kind(0), 0, 0);

/// A message without a body.
pub(crate) const fn message(kind: Kind, device: u32, epoch: u64) -> Message {
    Message { size: 0, kind, reserved: 0, device, epoch, body: [0; BODY_BYTES] }
}

/// The device as it is, for a guest that may know it in another state: its offer and its state.
pub(crate) fn announcement(number: u32, device: &Device) -> Vec<Message> {
    if device.state == DeviceState::ABSENT {
        return vec![state_or_rescind(number, device)];
    }
    vec![with_body(Kind::OFFER, number, device.epoch, &device.offer), state_or_rescind(number, device)]
}

/// The device as it is, for a guest that knows nothing yet: an offer alone says that it is Offered.
pub(crate) fn introduction(number: u32, device: &Device) -> Vec<Message> {
    let mut all = announcement(number, device);
    if device.state == DeviceState::OFFERED {
        all.truncate(1);
    }
    all
}

/// `STATE_CHANGED`, or `RESCIND` if the device is gone.
pub(crate) fn state_or_rescind(number: u32, device: &Device) -> Message {
    if device.state == DeviceState::ABSENT {
        return message(Kind::RESCIND, number, device.epoch);
    }
    let body = StateChanged { state: device.state, reserved: [0; 3] };
    with_body(Kind::STATE_CHANGED, number, device.epoch, &body)
}

/// `CONFIG_CHANGED`.
pub(crate) fn config_changed(number: u32, device: &Device) -> Message {
    let body = ConfigChanged { config: device.offer.config };
    with_body(Kind::CONFIG_CHANGED, number, device.epoch, &body)
}

/// Judges what all messages have in common, before anyone looks at the kind.
///
/// # Errors
/// `INVALID` if slot and message disagree, a reserved field or an unknown flag is set, or the size is beyond the body.
pub(crate) fn check(word: RequestWord, message: &Message) -> Result<(), CallError> {
    let agrees = message.kind.0 == word.op() && message.reserved == 0 && word.flags() == 0 && word.aux() == 0;
    if !agrees || usize::from(message.size) > BODY_BYTES {
        return Err(CallError::INVALID);
    }
    Ok(())
}

/// The body as a struct of this side: what is meant of it, by the rule of [`params::fit`].
///
/// # Errors
/// `INVALID` if more is meant than this side knows.
pub(crate) fn body<T: FromBytes>(message: &Message) -> Result<T, CallError> {
    let meant = message.body.get(..usize::from(message.size)).ok_or(CallError::INVALID)?;
    params::fit(meant.to_vec())
}

fn with_body(kind: Kind, device: u32, epoch: u64, body: &(impl IntoBytes + Immutable)) -> Message {
    let mut message = message(kind, device, epoch);
    let from = body.as_bytes();
    // Every body of the ABI fits; `body` has the same size as `Message::body` at most.
    if let Some(to) = message.body.get_mut(..from.len()) {
        to.copy_from_slice(from);
        message.size = u16::try_from(from.len()).unwrap_or(0);
    }
    message
}
