//! A learning switch between the ports of several guests.
//!
//! *Owners.* Guests' transmit threads call [`SwitchPort::send`](Network::send); the switch lives as long as anyone holds
//! it or a port. A port that is dropped is unplugged.
//!
//! *Invariants.* A frame is delivered at most once to each port and never to the one it came from; an isolated port
//! reaches only ports that are not. Memory is bounded by the ports' inboxes and the address table; what has no room is
//! dropped and counted. What goes to all is bounded by a rate of each port ("storm control"), so that one guest cannot
//! fill the inboxes of all the others. The switch calls no port while it holds its lock, and never itself, so a loop can only lead
//! through guests that forward, and costs those guests' time and inboxes.
//!
//! *Not here.* Offloads: frames pass with their metadata, and each receive queue does what its guest did not seal.

mod table;

use super::filter::is_group;
use super::{Frame, Network, OFFLOADS, Steering};
use crate::Rate;
use pvkit_abi::net::NetFeatures;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::{MacTable, PortId, TableLimits};

/// Bounds of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchLimits {
    /// Ports at a time.
    pub ports: usize,
    /// Addresses that are learnt in all.
    pub addresses: usize,
    /// Addresses that are learnt behind one port.
    pub addresses_per_port: usize,
    /// How long an address is known that is not heard of.
    pub ageing: Duration,
    /// Frames of one port to groups and to unknown addresses that go to all others in a second; as many may go at once.
    pub floods_per_second: u32,
}

impl Default for SwitchLimits {
    /// 64 ports, 1024 addresses, 64 a port, five minutes (the time that IEEE 802.1Q recommends), and 500 floods a
    /// second: half of an inbox of 1024 frames, and more than address resolution by a whole table of neighbours asks for.
    fn default() -> Self {
        let ageing = Duration::from_secs(300);
        Self { ports: 64, addresses: 1024, addresses_per_port: 64, ageing, floods_per_second: 500 }
    }
}

/// What a port is made of.
#[derive(Clone, Debug)]
pub struct PortOptions {
    /// The way into the guest; its address becomes the port's.
    pub steering: Arc<Steering>,
    /// Reaches, and is reached by, only ports that are not isolated.
    pub isolated: bool,
    /// May send from other addresses than its own, as a guest that bridges does.
    pub may_spoof: bool,
}

impl PortOptions {
    /// A port that is not isolated and may not spoof.
    #[must_use]
    pub const fn new(steering: Arc<Steering>) -> Self {
        Self { steering, isolated: false, may_spoof: false }
    }
}

/// Why a port cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchError {
    /// All ports are in use.
    Full(usize),
    /// Another port has this address.
    AddressTaken([u8; 6]),
    /// A group's address, or all zero, is no port's.
    NoPortsAddress([u8; 6]),
}

impl std::fmt::Display for SwitchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mac = |address: &[u8; 6]| address.map(|byte| format!("{byte:02x}")).join(":");
        match self {
            Self::Full(ports) => {
                write!(f, "all {ports} ports of the switch are in use; unplug a guest or raise the limit")
            }
            Self::AddressTaken(address) => {
                write!(f, "another port of the switch has the address {}; give each guest its own", mac(address))
            }
            Self::NoPortsAddress(address) => {
                write!(f, "{} is a group's address or none; the first byte of a guest's must be even", mac(address))
            }
        }
    }
}

impl std::error::Error for SwitchError {}

/// A switch.
#[derive(Debug)]
pub struct Switch {
    state: Mutex<State>,
    limits: SwitchLimits,
    started: Instant,
}

#[derive(Debug)]
struct State {
    ports: BTreeMap<PortId, Plug>,
    table: MacTable,
    next: PortId,
}

/// One port as the others see it.
#[derive(Clone, Debug)]
struct Plug {
    steering: Arc<Steering>,
    isolated: bool,
}

impl Plug {
    const fn may_reach(&self, other: &Self) -> bool {
        !(self.isolated && other.isolated)
    }
}

impl Switch {
    /// A switch without ports.
    #[must_use]
    pub fn new(limits: SwitchLimits) -> Arc<Self> {
        let SwitchLimits { addresses, addresses_per_port: per_port, ageing, .. } = limits;
        let table = MacTable::new(TableLimits { addresses, per_port, ageing });
        let state = Mutex::new(State { ports: BTreeMap::new(), table, next: 0 });
        Arc::new(Self { state, limits, started: Instant::now() })
    }

    /// Addresses that are known now.
    #[must_use]
    pub fn learnt(&self) -> usize {
        self.state().table.len()
    }

    /// Plugs a guest in. Dropping the port unplugs it.
    ///
    /// # Errors
    /// No port is free, or the address is another's or none.
    pub fn port(self: &Arc<Self>, options: PortOptions) -> Result<Arc<SwitchPort>, SwitchError> {
        let PortOptions { steering, isolated, may_spoof } = options;
        let mac = steering.mac();
        if is_group(mac) || mac == [0; 6] {
            return Err(SwitchError::NoPortsAddress(mac));
        }
        let mut state = self.state();
        if state.ports.len() >= self.limits.ports {
            return Err(SwitchError::Full(self.limits.ports));
        }
        let id = state.next;
        if !state.table.pin(mac, id) {
            return Err(SwitchError::AddressTaken(mac));
        }
        state.next += 1;
        state.ports.insert(id, Plug { steering, isolated });
        drop(state);
        let per_second = self.limits.floods_per_second;
        let floods = Mutex::new(Rate::new(per_second, per_second, Instant::now()));
        let counters = PortCounters::default();
        Ok(Arc::new(SwitchPort { switch: Arc::clone(self), id, mac, may_spoof, floods, counters }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The port behind which the destination lies; none if the frame is for all.
    fn known(&self, destination: [u8; 6], now: Duration) -> Option<PortId> {
        if is_group(destination) { None } else { self.table.find(destination, now) }
    }

    /// What a frame from `from` goes to: the port that is known, or all.
    fn receivers(&self, from: PortId, known: Option<PortId>) -> Vec<Arc<Steering>> {
        let Some(sender) = self.ports.get(&from) else { return Vec::new() };
        let plugs = self
            .ports
            .iter()
            .filter(|(id, plug)| **id != from && known.is_none_or(|known| known == **id) && sender.may_reach(plug));
        plugs.map(|(_, plug)| Arc::clone(&plug.steering)).collect()
    }
}

/// One guest's end of a switch.
#[derive(Debug)]
pub struct SwitchPort {
    switch: Arc<Switch>,
    id: PortId,
    mac: [u8; 6],
    may_spoof: bool,
    floods: Mutex<Rate>,
    counters: PortCounters,
}

#[derive(Debug, Default)]
struct PortCounters {
    sent: AtomicU64,
    spoofed: AtomicU64,
    unreachable: AtomicU64,
    storms: AtomicU64,
}

/// What became of the frames that a port's guest sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSnapshot {
    /// Frames handed to at least one other port.
    pub sent: u64,
    /// Frames from an address that is not the guest's; dropped.
    pub spoofed: u64,
    /// Frames that no other port may get, or whose destination lies behind this port; dropped.
    pub unreachable: u64,
    /// Frames for all others beyond [`SwitchLimits::floods_per_second`]; dropped.
    pub storms: u64,
}

impl SwitchPort {
    /// The numbers now.
    #[must_use]
    pub fn counters(&self) -> PortSnapshot {
        let PortCounters { sent, spoofed, unreachable, storms } = &self.counters;
        PortSnapshot {
            sent: sent.load(Ordering::Relaxed),
            spoofed: spoofed.load(Ordering::Relaxed),
            unreachable: unreachable.load(Ordering::Relaxed),
            storms: storms.load(Ordering::Relaxed),
        }
    }

    /// The two addresses, if the source may stand there.
    fn check(&self, frame: &Frame) -> Option<([u8; 6], [u8; 6])> {
        let (source, destination) = (frame.source()?, frame.destination()?);
        let is_own = source == self.mac || self.may_spoof && !is_group(source);
        is_own.then_some((source, destination))
    }

    /// Whether one more frame may go to all.
    fn may_flood(&self) -> bool {
        self.floods.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()).is_ok()
    }
}

impl Network for SwitchPort {
    fn send(&self, frame: Frame) {
        let Some((source, destination)) = self.check(&frame) else {
            self.counters.spoofed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let now = self.switch.started.elapsed();
        let mut state = self.switch.state();
        state.table.learn(source, self.id, now);
        let known = state.known(destination, now);
        if known.is_none() && !self.may_flood() {
            self.counters.storms.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut receivers = state.receivers(self.id, known);
        drop(state);
        let Some(last) = receivers.pop() else {
            self.counters.unreachable.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        for receiver in receivers {
            receiver.deliver(frame.clone());
        }
        last.deliver(frame);
    }

    fn features(&self) -> NetFeatures {
        OFFLOADS
    }

    /// Each receive queue makes the frames what its guest sealed.
    fn agreed(&self, _features: NetFeatures) {}
}

impl Drop for SwitchPort {
    fn drop(&mut self) {
        let mut state = self.switch.state();
        state.ports.remove(&self.id);
        state.table.unplug(self.id);
    }
}

#[cfg(test)]
mod tests;
