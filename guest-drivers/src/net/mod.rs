//! The network driver: pairs of queues of one port.
//!
//! *Purpose.* [`Net::open`] takes the device; [`Net::take_pair`] hands out its pairs, each a [`NetTx`] and a [`NetRx`]
//! that may go to threads or vCPUs of their own. What concerns the device as a whole (link, filter, scaling, close)
//! stays with [`Net`].
//!
//! *Owners.* Frames are copied: out of the caller's memory into the driver's pages, and once from there into the
//! caller's. The pages belong to the driver throughout; those in flight after a fault stay quarantined.
//!
//! *Closing.* [`Net`] alone talks to the host. Handles that were taken learn of it by [`NetTx::follow`] and
//! [`NetRx::follow`], which free what is free; a handle dropped before that leaks its pages and says so.
//!
//! *A backend that is lost.* [`Net::recover`] opens the device anew, `recovery.rs` says what becomes of frames and handles.
//!
//! *Not here.* Parsing frames. A frame's metadata are judged, its content is the caller's.

#[cfg(feature = "async")]
mod asynchronous;
mod control;
mod features;
mod link;
mod metadata;
#[cfg(feature = "smoltcp")]
mod phy;
mod pool;
mod receive;
mod recovery;
mod transmit;

#[cfg(feature = "async")]
pub use asynchronous::{AsyncRx, AsyncTx};
pub use link::LinkState;
#[cfg(feature = "smoltcp")]
pub use phy::{NetPhy, PhyReceived, PhyTransmit};
pub use receive::{NetRx, ReceiveCounters, Received};
pub use transmit::{NetTx, TransmitCounters};

use crate::bus::Bus;
use crate::device::{Failed, GrantPolicy, Life, Link, Place, RING_PAGES, Sealed, Wanted, accept, choose, close_device};
use crate::error::{BusError, HostFault, Misuse, RequestError};
use crate::page_list::PageList;
use crate::platform::Platform;
use control::Settings;
use pvkit_abi::bus::{Class, DeviceState};
use pvkit_abi::net::NetFeatures;

/// Pages of the longest frame.
pub const FRAME_PAGES: usize = pvkit_abi::net::MAX_FRAME.div_ceil(pvkit_abi::PAGE_SIZE);
/// Bytes before the IP packet of a frame: the Ethernet header and one tag.
pub(crate) const HEADERS: usize = pvkit_abi::net::ETHERNET_HEADER + 4;

/// What a guest asks of a network device.
#[derive(Clone, Copy, Debug)]
pub struct NetOptions {
    /// Pairs of queues; as many as the host has are taken.
    pub pairs: u16,
    /// Slots of each queue; rounded down to what is possible.
    pub depth: u32,
    /// Features to choose where they are offered. Those whose needs are not met are left out.
    pub features: NetFeatures,
}

impl Default for NetOptions {
    /// One pair of 32 slots, large received frames over several buffers, segments on transmit.
    fn default() -> Self {
        let features = NetFeatures::MERGEABLE | NetFeatures::INDIRECT | NetFeatures::FILTER | NetFeatures::ANNOUNCE;
        Self { pairs: 1, depth: 32, features }
    }
}

/// One pair of queues.
#[derive(Debug)]
pub struct Pair<'p, P: Platform, const N: usize = 32, const PAGES: usize = FRAME_PAGES> {
    /// Frames out.
    pub transmit: NetTx<'p, P, N, PAGES>,
    /// Frames in.
    pub receive: NetRx<'p, P, N>,
}

/// Which handle of which opened device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    pair: u16,
    /// Epoch in which the device was opened first.
    origin: u64,
}

/// Queues that are connected and have no handle yet.
#[derive(Debug)]
struct Fresh<'p, P: Platform, const N: usize> {
    inward: Option<Link<'p, P, N, 4>>,
    outward: Option<Link<'p, P, N>>,
}

/// A network device with up to `PAIRS` pairs of up to `N` slots; a transmitted frame has up to `PAGES` pages.
#[derive(Debug)]
pub struct Net<'p, P: Platform, const N: usize = 32, const PAIRS: usize = 1, const PAGES: usize = FRAME_PAGES> {
    sealed: Sealed,
    policy: GrantPolicy,
    features: NetFeatures,
    link: LinkState,
    life: Life,
    /// Epoch in which it was opened first.
    origin: u64,
    revision: u32,
    accepted: u16,
    pairs: [Option<Pair<'p, P, N, PAGES>>; PAIRS],
    /// Of pairs that are not made yet, or whose handles are elsewhere.
    fresh: [Fresh<'p, P, N>; PAIRS],
    ports: [Option<u32>; PAIRS],
    settings: Settings,
}

impl<'p, P: Platform, const N: usize, const PAIRS: usize, const PAGES: usize> Net<'p, P, N, PAIRS, PAGES> {
    /// Takes the device, connects its pairs and posts receive buffers. Two hypercalls, and three for each pair.
    ///
    /// # Errors
    /// What the host offers that cannot be, refuses, or does not answer before `deadline`.
    pub fn open(
        bus: &mut Bus<'p, P>,
        device: u32,
        options: NetOptions,
        policy: GrantPolicy,
        deadline: u64,
    ) -> Result<Self, BusError> {
        let offered = *bus.device(device).ok_or(Misuse::NoSuchDevice(device))?;
        let most = u16::try_from(PAIRS).unwrap_or(u16::MAX).min(offered.offer.max_queues / 2);
        let accepted = options.pairs.min(most).max(1);
        let depth = options.depth.min(u32::try_from(N).unwrap_or(u32::MAX));
        let known = features::choose(options.features, &offered.offer, depth).bits();
        let wanted = Wanted { class: Class::NET, queues: 2 * accepted, known, depth, policy, deadline, before: None };
        let (_, mut sealed) = choose::<N>(&offered, &wanted)?;
        let link = LinkState::check(&offered.offer.config)?;
        let features = NetFeatures::from_bits_truncate(sealed.features);
        features::check_room(features, &sealed, &link)?;
        sealed.epoch = accept(bus, &sealed, &wanted)?;
        let mut net = Self {
            sealed,
            policy,
            features,
            link,
            life: Life::Open,
            origin: sealed.epoch,
            revision: offered.revision,
            accepted,
            pairs: [const { None }; PAIRS],
            fresh: [const { Fresh { inward: None, outward: None } }; PAIRS],
            ports: [None; PAIRS],
            settings: Settings::default(),
        };
        net.connect(bus, &wanted)?;
        net.make_pairs().inspect_err(|_| {
            let _ = net.close(bus, deadline);
        })?;
        Ok(net)
    }

    /// Connects all queues of a device that was just accepted.
    ///
    /// # Errors
    /// It was given back then; what the host may still write to is leaked and counted.
    fn connect(&mut self, bus: &mut Bus<'p, P>, wanted: &Wanted) -> Result<(), BusError> {
        let mut rings = PageList::new();
        let connected = self.connect_queues(bus, wanted, &mut rings);
        connected.map_err(|Failed { error, pages_are_ours }| {
            self.give_up(bus, wanted.deadline);
            if pages_are_ours || self.life == Life::Detached {
                rings.free(bus.platform());
            }
            bus.platform().note_leak(rings.len());
            self.fresh.iter_mut().for_each(|fresh| *fresh = Fresh { inward: None, outward: None });
            error
        })
    }

    fn connect_queues(
        &mut self,
        bus: &mut Bus<'p, P>,
        wanted: &Wanted,
        rings: &mut PageList<RING_PAGES>,
    ) -> Result<(), Failed> {
        let mut grant = None;
        let slots = self.fresh.iter_mut().zip(self.ports.iter_mut()).take(self.accepted.into());
        for (pair, (fresh, kept)) in (0u16..).zip(slots) {
            let port = bus.allocate_port().map_err(Failed::ours)?;
            *kept = Some(port);
            let place = Place { queue: 2 * pair, port, grant };
            let inward: Link<'p, P, N, 4> = Link::attach(bus, wanted, &self.sealed, place, rings)?;
            grant = Some(*inward.grant());
            fresh.inward = Some(inward);
            let place = Place { queue: 2 * pair + 1, port, grant };
            fresh.outward = Some(Link::attach(bus, wanted, &self.sealed, place, rings)?);
        }
        Ok(())
    }

    /// Handles for the queues that were connected, with buffers posted.
    fn make_pairs(&mut self) -> Result<(), BusError> {
        let (features, mtu, origin) = (self.features, self.link.mtu, self.origin);
        for (pair, (slot, fresh)) in (0u16..).zip(self.pairs.iter_mut().zip(&mut self.fresh)) {
            let seat = Seat { pair, origin };
            let (Some(inward), Some(outward)) = (fresh.inward.take(), fresh.outward.take()) else { continue };
            let transmit = NetTx::new(outward, seat, features, mtu);
            let made = slot.insert(Pair { transmit, receive: NetRx::new(inward, seat, features, mtu) });
            made.receive.post().map_err(not_posted)?;
        }
        Ok(())
    }

    /// Hands out a pair. `None` if there is no such pair or it was taken.
    pub fn take_pair(&mut self, pair: u16) -> Option<Pair<'p, P, N, PAGES>> {
        self.pairs.get_mut(usize::from(pair))?.take()
    }

    /// Pairs that were accepted.
    #[must_use]
    pub const fn pairs(&self) -> u16 {
        self.accepted
    }

    /// Address, MTU and state of the link. They change only in [`Net::refresh`].
    #[must_use]
    pub const fn link(&self) -> &LinkState {
        &self.link
    }

    /// Features that were sealed.
    #[must_use]
    pub const fn features(&self) -> NetFeatures {
        self.features
    }

    /// What was sealed.
    #[must_use]
    pub const fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// Event port of a pair; both its queues use it. `None` once the device is closed.
    #[must_use]
    pub fn port(&self, pair: u16) -> Option<u32> {
        *self.ports.get(usize::from(pair))?
    }

    /// Follows what the bus has learnt of the device: the link's state, or that it is gone. Says whether the link
    /// changed. Handles that were taken are to `follow` then.
    ///
    /// # Errors
    /// A configuration that cannot be, or that changes what is fixed for the device's life: the old one stays.
    pub fn refresh(&mut self, bus: &Bus<'p, P>) -> Result<bool, RequestError> {
        let device = bus.device(self.sealed.device);
        match device {
            _ if matches!(self.life, Life::Detached | Life::Kept) => {}
            None => self.life = Life::Detached,
            Some(device) if device.epoch > self.sealed.epoch => self.life = Life::Detached,
            Some(device) if device.state == DeviceState::DISCONNECTED => self.life = Life::Gone,
            Some(_) => {}
        }
        self.spread();
        let Some(device) = device.filter(|device| device.revision != self.revision) else { return Ok(false) };
        self.revision = device.revision;
        let link = LinkState::check(&device.offer.config)?;
        if link.mtu != self.link.mtu {
            return Err(HostFault::Offer { field: "changed mtu", value: link.mtu.into() }.into());
        }
        if link.mac != self.link.mac {
            return Err(HostFault::Offer { field: "changed mac", value: link.mac_number() }.into());
        }
        Ok(core::mem::replace(&mut self.link, link) != link)
    }

    /// Has the host drain and detach all queues. Handles that were taken are to `follow` then.
    ///
    /// # Errors
    /// What the host refused or did not answer in time: everything stays with the host. May be called again.
    pub fn close(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        if self.life != Life::Detached {
            // Until the host confirms it, nobody can tell.
            self.life = Life::Kept;
            self.spread();
            close_device(bus, &self.sealed, deadline)?;
            self.life = Life::Detached;
        }
        self.spread();
        self.ports.iter_mut().filter_map(Option::take).try_for_each(|port| bus.close_port(port))
    }

    /// The queues that nobody took follow at once.
    fn spread(&mut self) {
        for pair in self.pairs.iter_mut().flatten() {
            pair.transmit.ended(self.life);
            pair.receive.ended(self.life);
        }
        for fresh in &mut self.fresh {
            fresh.inward.iter_mut().for_each(|link| link.follow(self.life));
            fresh.outward.iter_mut().for_each(|link| link.follow(self.life));
        }
    }

    /// What a handle whose queue was opened as `sealed` is to know.
    ///
    /// # Errors
    /// The handle is of another device, or of another opening of it.
    fn life_for(&self, seat: Seat, sealed: &Sealed) -> Result<Life, Misuse> {
        if sealed.device != self.sealed.device || seat.origin != self.origin {
            return Err(Misuse::NoSuchDevice(sealed.device));
        }
        // A device that was opened anew has detached what it had.
        Ok(if sealed.epoch == self.sealed.epoch { self.life } else { Life::Detached })
    }
}

/// Why receive buffers could not be posted, as the failure of an open.
const fn not_posted(error: RequestError) -> BusError {
    match error {
        RequestError::PeerFault(fault) => BusError::PeerFault(fault),
        RequestError::Misuse(misuse) => BusError::Misuse(misuse),
        RequestError::NoMemory => BusError::NoMemory,
        _ => BusError::Disconnected,
    }
}
