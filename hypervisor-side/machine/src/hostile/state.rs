//! What the lying host has been told to do, and what it must know for it.

use super::replies::Bus;
use crate::host::Host;
use pvkit_abi::bus::Offer;
use pvkit_backends::hostile::{Plan, SharedRelay};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A queue: its device's number, its own.
pub type Place = (u32, u16);

/// Of the one guest.
pub struct State {
    /// Whether to lie at all.
    pub active: bool,
    /// The guest's host, once it has called.
    pub host: Weak<Host>,
    /// What is told on each queue; outlives its epochs.
    pub plans: BTreeMap<Place, Arc<Mutex<Plan>>>,
    /// The newest relay of each queue.
    pub relays: BTreeMap<Place, SharedRelay>,
    /// What the next opening of a queue has in place of its epoch.
    pub epochs: BTreeMap<Place, u64>,
    /// Offers as they were before the first lie in them.
    pub truths: BTreeMap<u32, Offer>,
    /// Replies on the bus.
    pub bus: Bus,
}

static STATE: Mutex<State> = Mutex::new(State {
    active: false,
    host: Weak::new(),
    plans: BTreeMap::new(),
    relays: BTreeMap::new(),
    epochs: BTreeMap::new(),
    truths: BTreeMap::new(),
    bus: Bus::new(),
});

impl State {
    /// The queue's plan.
    pub fn plan(&mut self, place: Place) -> Arc<Mutex<Plan>> {
        self.plans.entry(place).or_default().clone()
    }
}

/// The state, under its lock.
pub fn state() -> MutexGuard<'static, State> {
    lock(&STATE)
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
