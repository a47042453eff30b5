//! A port whose backend went and came back: opened anew as it was sealed, with the same address.
//!
//! *Frames.* At most once, either way. What was in flight is dropped and counted, what waited in the old receive queue is gone;
//! whoever needs a frame sends it again. Receive buffers are posted anew, and what was set by `CONTROL` is set anew.
//!
//! *Handles.* [`Net::recover`] connects all queues. Those of pairs that nobody took are in their place at once; handles that were
//! taken `follow`, which frees what they had, and [`NetTx::resume`] and [`NetRx::resume`] take theirs. Until then they say
//! `Disconnected`. A task that sleeps on a handle is woken by whoever recovers.

use super::{LinkState, Net, NetRx, NetTx, Pair};
use crate::bus::Bus;
use crate::device::{Life, Wanted, accept, bus_failure, choose, is_back, is_over_for_close, when_back};
use crate::error::{BusError, Misuse, RequestError};
use crate::platform::Platform;

impl<'p, P: Platform, const N: usize, const PAIRS: usize, const PAGES: usize> Net<'p, P, N, PAIRS, PAGES> {
    /// Whether the queues are over: nothing moves before [`Net::recover`].
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life == Life::Detached
    }

    /// Whether [`Net::recover`] would find the device offered anew, and so not wait for its backend. As the bus has it:
    /// [`Bus::poll`] and [`Net::refresh`] before.
    #[must_use]
    pub fn is_back(&self, bus: &Bus<'p, P>) -> bool {
        self.is_over() && is_back(bus, &self.sealed)
    }

    /// Waits until the backend is back and opens the device anew. Says whether that was needed. May be called again after an
    /// error.
    ///
    /// # Errors
    /// [`RequestError::TimedOut`]; `Disconnected` for a device that is gone for good or is not what it was, `Refused` if the host
    /// does not let it be opened anew.
    pub fn recover(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<bool, RequestError> {
        bus.poll().map_err(bus_failure)?;
        // A configuration that cannot be is told when the device is opened.
        let _ = self.refresh(bus);
        if !self.is_over() {
            return Ok(false);
        }
        let before = self.sealed;
        when_back(bus, &before, deadline, |bus| self.exchange(bus, deadline))?;
        Ok(true)
    }

    /// Other queues in the place of those that are over.
    fn exchange(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let old = self.sealed;
        let offered = *bus.device(old.device).ok_or(Misuse::NoSuchDevice(old.device))?;
        let wanted = Wanted::again(old, 2 * self.accepted, self.policy, deadline);
        let (_, sealed) = choose::<N>(&offered, &wanted)?;
        let link = LinkState::check(&offered.offer.config)?;
        if (link.mac, link.mtu) != (self.link.mac, self.link.mtu) {
            return Err(BusError::Unsupported { what: "a port that is not what it was", value: link.mac_number() });
        }
        // A port that the host keeps is lost, no more.
        for port in self.ports.iter_mut().filter_map(Option::take) {
            let _ = bus.close_port(port);
        }
        let accepted = accept(bus, &sealed, &wanted)?;
        (self.sealed.epoch, self.life) = (accepted, Life::Open);
        (self.link, self.revision) = (link, offered.revision);
        self.connect(bus, &wanted)?;
        self.settle(bus, deadline).inspect_err(|_| self.give_up(bus, deadline))
    }

    /// The pairs that nobody took have their queues, and what was set is in force.
    fn settle(&mut self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        for (pair, fresh) in self.pairs.iter_mut().zip(&mut self.fresh) {
            let Some(pair) = pair else { continue };
            if let (Some(inward), Some(outward)) = (fresh.inward.take(), fresh.outward.take()) {
                pair.transmit.adopt(outward);
                pair.receive.adopt(inward).map_err(super::not_posted)?;
            }
        }
        self.set_anew(bus, deadline)
    }

    /// What was begun is given back, also to a host that has lost the backend meanwhile.
    pub(super) fn give_up(&mut self, bus: &mut Bus<'p, P>, deadline: u64) {
        let closed = self.close(bus, deadline);
        if is_over_for_close(bus, &self.sealed, closed) {
            self.life = Life::Detached;
            // Its ports are left.
            let _ = self.close(bus, deadline);
        }
    }
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> NetTx<'p, P, N, PAGES> {
    /// Takes the queue that [`Net::recover`] connected for this handle. Says whether there was one.
    ///
    /// # Errors
    /// `net` is another device.
    pub fn resume<const PAIRS: usize>(&mut self, net: &mut Net<'p, P, N, PAIRS, PAGES>) -> Result<bool, Misuse> {
        self.follow(net)?;
        let fresh = net.fresh.get_mut(usize::from(self.seat.pair)).and_then(|fresh| fresh.outward.take());
        Ok(fresh.map(|link| self.adopt(link)).is_some())
    }
}

impl<'p, P: Platform, const N: usize> NetRx<'p, P, N> {
    /// Takes the queue that [`Net::recover`] connected for this handle, and posts buffers. Says whether there was one.
    ///
    /// # Errors
    /// `net` is another device. [`RequestError::NoMemory`]: fewer buffers are posted, and those that lack with the next frames.
    pub fn resume<const PAIRS: usize, const PAGES: usize>(
        &mut self,
        net: &mut Net<'p, P, N, PAIRS, PAGES>,
    ) -> Result<bool, RequestError> {
        self.follow(net)?;
        let fresh = net.fresh.get_mut(usize::from(self.seat.pair)).and_then(|fresh| fresh.inward.take());
        fresh.map_or(Ok(false), |link| self.adopt(link).map(|()| true))
    }
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Pair<'p, P, N, PAGES> {
    /// Both handles take the queues that [`Net::recover`] connected for them. Says whether there were any.
    ///
    /// # Errors
    /// As for [`NetRx::resume`].
    pub fn resume<const PAIRS: usize>(&mut self, net: &mut Net<'p, P, N, PAIRS, PAGES>) -> Result<bool, RequestError> {
        let (outward, inward) = (self.transmit.resume(net)?, self.receive.resume(net)?);
        Ok(outward | inward)
    }
}
