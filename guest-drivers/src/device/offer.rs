//! An offer judged, and what is chosen from it.
//!
//! *Who checks.* Every number of the offer that is used later is judged here, once, before anything is sent.

use super::{Sealed, Wanted};
use crate::bus::Device;
use crate::error::{BusError, HostFault, Misuse};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{DeviceState, Offer};
use pvkit_abi::ring::{MAX_DEPTH, MIN_DEPTH};
use pvkit_abi::version::{CURRENT, Version};
use pvkit_ring::RingSize;

/// Judges the offer and chooses from it. The depth is the greatest possible one up to what is wanted.
///
/// # Errors
/// An offer that cannot be true, that demands what is not known here, that is less than it was, or is not what the caller believes.
pub(crate) fn choose<const N: usize>(offered: &Device, wanted: &Wanted) -> Result<(RingSize, Sealed), BusError> {
    let offer = &offered.offer;
    if offer.class != wanted.class {
        return Err(Misuse::WrongClass(offer.class).into());
    }
    if offered.state != DeviceState::OFFERED {
        return Err(Misuse::NotOffered(offered.id).into());
    }
    let version = choose_version(offer.newest, offer.minor_oldest)?;
    let unknown = offer.required & !wanted.known;
    if unknown != 0 {
        return Err(BusError::Unsupported { what: "required features", value: unknown });
    }
    judge_limits(offer, wanted.queues)?;
    let most = wanted.depth.min(offer.max_depth).min(u32::try_from(N).unwrap_or(u32::MAX)).max(MIN_DEPTH);
    let size = RingSize::new(1 << most.ilog2()).ok_or(Misuse::Ring(pvkit_ring::Misuse::DepthTooLarge))?;
    let sealed = Sealed {
        device: offered.id,
        class: offer.class,
        version,
        features: offer.features & wanted.known,
        depth: size.depth(),
        max_segments: offer.max_segments,
        max_transfer: offer.max_transfer,
        epoch: offered.epoch,
    };
    Ok((size, wanted.before.map_or(Ok(sealed), |old| as_before(&sealed, &old))?))
}

/// A device that is opened anew has its limits for life: a host that offers less is refused, and of more nothing is used.
fn as_before(new: &Sealed, old: &Sealed) -> Result<Sealed, BusError> {
    let same = (new.features, new.depth, new.version) == (old.features, old.depth, old.version);
    if same && new.max_transfer >= old.max_transfer && new.max_segments >= old.max_segments {
        return Ok(Sealed { epoch: new.epoch, ..*old });
    }
    Err(BusError::Unsupported { what: "a device that is less than it was", value: new.features })
}

fn judge_limits(offer: &Offer, wanted_queues: u16) -> Result<(), BusError> {
    let wrong = |field, value: u64| Err(HostFault::Offer { field, value }.into());
    if offer.required & !offer.features != 0 {
        return wrong("required features", offer.required);
    }
    if offer.max_queues < wanted_queues {
        return wrong("max_queues", offer.max_queues.into());
    }
    if !(MIN_DEPTH..=MAX_DEPTH).contains(&offer.max_depth) {
        return wrong("max_depth", offer.max_depth.into());
    }
    if offer.max_transfer == 0 {
        return wrong("max_transfer", 0);
    }
    if !offer.alignment.is_power_of_two() {
        return wrong("alignment", offer.alignment.into());
    }
    if offer.alignment > PAGE_SIZE as u32 {
        return Err(BusError::Unsupported { what: "alignment above a page", value: offer.alignment.into() });
    }
    Ok(())
}

fn choose_version(newest: Version, minor_oldest: u16) -> Result<Version, BusError> {
    if newest.major != CURRENT.major || minor_oldest > CURRENT.minor || minor_oldest > newest.minor {
        let value = u64::from(newest.major) << 32 | u64::from(minor_oldest) << 16 | u64::from(newest.minor);
        return Err(BusError::Unsupported { what: "protocol version", value });
    }
    Ok(Version { major: newest.major, minor: newest.minor.min(CURRENT.minor) })
}
