//! Opening a device: `ACCEPT`, then `GRANT_SHARE` and `OPEN_QUEUE` with one kick.

use super::{Grant, GrantPolicy, Life, Link, QueueCounters, RING_PAGES, Sealed, grant, is_over_for_close, offer};
use crate::bus::{Bus, message};
use crate::error::{BusError, HostFault, Misuse};
use crate::page_list::PageList;
use crate::platform::{Doorbell, Platform};
use pvkit_abi::bus::{Accept, Class, DeviceState, DoorbellKind, Kind, OpenQueue, Reply, ShareGrant};
use pvkit_abi::discovery::{DOORBELL_PORT_BASE, MAX_DOORBELLS};
use pvkit_abi::grant::{Access, GrantRef, MAX_GRANTS};
use pvkit_abi::ring::{COMPLETION_BYTES, REQUEST_BYTES, area_pages};
use pvkit_ring::{AdaptiveSpin, RingSize, WideFrontend};
use pvkit_shared_memory::SharedPages;
use zerocopy::IntoBytes;

/// What a driver asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) class: Class,
    /// Queues to reserve, at least one.
    pub(crate) queues: u16,
    /// Feature bits that the driver knows.
    pub(crate) known: u64,
    /// Slots; rounded down to what is possible.
    pub(crate) depth: u32,
    pub(crate) policy: GrantPolicy,
    pub(crate) deadline: u64,
    /// What was sealed, if the device is opened anew: the same again, and no more.
    pub(crate) before: Option<Sealed>,
}

impl Wanted {
    /// A device as it was.
    pub(crate) const fn again(old: Sealed, queues: u16, policy: GrantPolicy, deadline: u64) -> Self {
        let Sealed { class, features, depth, .. } = old;
        Self { class, queues, known: features, depth, policy, deadline, before: Some(old) }
    }
}

/// Where a queue of an accepted device goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Number within the device.
    pub(crate) queue: u16,
    /// Event port.
    pub(crate) port: u32,
    /// The device's grant, if an earlier queue has made it.
    pub(crate) grant: Option<Grant>,
}

impl<'p, P: Platform, const N: usize> Link<'p, P, N> {
    /// Takes the device, shares memory with its backend, and connects one queue.
    ///
    /// # Errors
    /// An offer or a reply that cannot be true is a [`HostFault`]. If the host may have kept the ring pages, they are
    /// leaked and counted.
    pub(crate) fn open(bus: &mut Bus<'p, P>, device: u32, wanted: &Wanted) -> Result<Self, BusError> {
        let platform = bus.platform();
        let offered = *bus.device(device).ok_or(Misuse::NoSuchDevice(device))?;
        let (_, mut sealed) = offer::choose::<N>(&offered, wanted)?;
        sealed.epoch = accept(bus, &sealed, wanted)?;
        let mut rings = PageList::new();
        let connected = match bus.allocate_port() {
            Ok(port) => {
                let place = Place { queue: 0, port, grant: None };
                // Refused while the queue uses it: then the port is lost, as the queue is.
                Self::attach(bus, wanted, &sealed, place, &mut rings).inspect_err(|_| {
                    let _ = bus.close_port(port);
                })
            }
            Err(error) => Err(Failed::ours(error)),
        };
        match connected {
            Ok(mut link) => {
                link.revision = offered.revision;
                Ok(link)
            }
            Err(Failed { error, pages_are_ours }) => {
                // The device was accepted: whatever went wrong since, it is given back.
                let closed = super::close::close_device(bus, &sealed, wanted.deadline);
                // A backend that was lost meanwhile is no reason to leak: its epoch is over.
                let closed = closed.is_ok() || is_over_for_close(bus, &sealed, closed);
                if pages_are_ours || closed {
                    rings.free(platform);
                }
                platform.note_leak(rings.len());
                Err(error)
            }
        }
    }
}

impl<'p, P: Platform, const N: usize, const C: usize> Link<'p, P, N, C> {
    /// Connects one queue of a device that is accepted; shares memory before if `place` has no grant.
    ///
    /// # Errors
    /// As for `open`; the ring pages are in `rings` then, and the caller frees or leaks them.
    pub(crate) fn attach(
        bus: &mut Bus<'p, P>,
        wanted: &Wanted,
        sealed: &Sealed,
        place: Place,
        rings: &mut PageList<RING_PAGES>,
    ) -> Result<Self, Failed> {
        let platform = bus.platform();
        let size = RingSize::new(sealed.depth).ok_or(Misuse::Ring(pvkit_ring::Misuse::DepthTooLarge));
        let queue = prepare(platform, size.map_err(Failed::ours)?, sealed.epoch, rings).map_err(Failed::ours)?;
        let open = OpenQueue {
            queue: place.queue,
            completion_bytes: (C * COMPLETION_BYTES) as u16,
            depth: sealed.depth,
            event_port: place.port,
            reserved: 0,
            page_list: rings.last().map_or(0, |list| list.address),
        };
        let (grant, reply) = match place.grant {
            Some(grant) => (grant, open_only(bus, wanted, sealed, &open)?),
            None => share_and_open(bus, wanted, sealed, &open)?,
        };
        let doorbell = check_doorbell(&reply).map_err(Failed::theirs)?;
        if reply.epoch != sealed.epoch || queue.peer_epoch() != sealed.epoch {
            return Err(Failed::theirs(HostFault::Reply { field: "queue epoch", value: reply.epoch }));
        }
        // The host has read the list of pages.
        rings.free_last(platform);
        Ok(Self {
            platform,
            queue,
            held: None,
            rings: core::mem::replace(rings, PageList::new()),
            doorbell,
            port: Some(place.port),
            grant,
            sealed: *sealed,
            life: Life::Open,
            drains: false,
            revision: 0,
            spin: AdaptiveSpin::new(platform.spin_limit()),
            counters: QueueCounters::default(),
        })
    }
}

/// An open that failed, and whether the host has let go of the ring pages for certain.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: BusError,
    pub(crate) pages_are_ours: bool,
}

impl Failed {
    pub(crate) fn ours(error: impl Into<BusError>) -> Self {
        Self { error: error.into(), pages_are_ours: true }
    }

    fn theirs(error: impl Into<BusError>) -> Self {
        Self { error: error.into(), pages_are_ours: false }
    }
}

/// Seals version and features; answers the epoch now in force.
pub(crate) fn accept<P: Platform>(bus: &mut Bus<'_, P>, sealed: &Sealed, wanted: &Wanted) -> Result<u64, BusError> {
    let body = Accept { version: sealed.version, queues: wanted.queues, reserved: 0, features: sealed.features };
    let asked = message(Kind::ACCEPT, sealed.device, sealed.epoch, body.as_bytes());
    let [answer] = bus.request(&[asked], wanted.deadline)?;
    let reply = answer.map_err(BusError::from)?;
    if reply.epoch < sealed.epoch {
        return Err(HostFault::Reply { field: "epoch", value: reply.epoch }.into());
    }
    bus.note(sealed.device, reply.epoch, DeviceState::ACCEPTED);
    Ok(reply.epoch)
}

/// Fresh pages for both areas, and last a page that lists them.
fn prepare<P: Platform, const N: usize, const C: usize>(
    platform: &P,
    size: RingSize,
    epoch: u64,
    rings: &mut PageList<RING_PAGES>,
) -> Result<WideFrontend<SharedPages, N, C>, BusError> {
    let requests = area_pages(size.depth(), REQUEST_BYTES);
    let completions = area_pages(size.depth(), C * COMPLETION_BYTES);
    rings.fill(requests + completions + 1, || platform.allocate())?;
    let queue = WideFrontend::new(rings.area(0, requests)?, rings.area(requests, completions)?, size, epoch)?;
    let list = rings.last().ok_or(BusError::NoMemory)?;
    for (i, page) in rings.iter().take(requests + completions).enumerate() {
        list.bytes.write(i * 8, page.address.as_bytes()).map_err(|_| BusError::NoMemory)?;
    }
    Ok(queue)
}

fn open_only<P: Platform>(
    bus: &mut Bus<'_, P>,
    wanted: &Wanted,
    sealed: &Sealed,
    open: &OpenQueue,
) -> Result<Reply, Failed> {
    let asked = message(Kind::OPEN_QUEUE, sealed.device, sealed.epoch, open.as_bytes());
    let [opened] = bus.request(&[asked], wanted.deadline).map_err(Failed::theirs)?;
    opened.map_err(Failed::theirs)
}

fn share_and_open<P: Platform>(
    bus: &mut Bus<'_, P>,
    wanted: &Wanted,
    sealed: &Sealed,
    open: &OpenQueue,
) -> Result<(Grant, Reply), Failed> {
    let extent = grant::extent(bus.platform(), wanted.policy);
    let access = (Access::READ | Access::WRITE).bits();
    let share = ShareGrant { base: extent.base, length: extent.length, access, reserved: 0 };
    let both = [
        message(Kind::GRANT_SHARE, sealed.device, sealed.epoch, share.as_bytes()),
        message(Kind::OPEN_QUEUE, sealed.device, sealed.epoch, open.as_bytes()),
    ];
    let [shared, opened] = bus.request(&both, wanted.deadline).map_err(Failed::theirs)?;
    let reply = opened.map_err(Failed::theirs)?;
    let shared = shared.map_err(Failed::theirs)?;
    let [value, ..] = shared.values;
    let name = u32::try_from(value).map(GrantRef).unwrap_or(GrantRef::NONE);
    if name.generation() == 0 || usize::from(name.index()) >= MAX_GRANTS {
        return Err(Failed::theirs(HostFault::Reply { field: "grant", value }));
    }
    Ok((Grant { name, extent }, reply))
}

/// A doorbell that can be rung without harm. A port must lie in the doorbell range: the host must not make the guest
/// write to a port of another purpose. A store to memory that the host names is refused for the same reason.
fn check_doorbell(reply: &Reply) -> Result<Doorbell, HostFault> {
    let [kind, address, ..] = reply.values;
    let wrong = |field, value| HostFault::Reply { field, value };
    let kind = DoorbellKind(u32::try_from(kind).map_err(|_| wrong("doorbell kind", kind))?);
    match kind {
        DoorbellKind::PORT => {
            let first = u64::from(DOORBELL_PORT_BASE);
            let last = first + 4 * (u64::from(MAX_DOORBELLS) - 1);
            if !(first..=last).contains(&address) {
                return Err(wrong("doorbell port", address));
            }
        }
        DoorbellKind::NONE | DoorbellKind::TOKEN => {}
        _ => return Err(wrong("doorbell kind", kind.0.into())),
    }
    Ok(Doorbell { kind, address })
}
