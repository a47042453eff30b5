//! Which address was last seen behind which port: bounded, ageing, and proof against a port that claims them all.
//!
//! *Invariants.* Never more entries than the limit, nor more of one port than its share. A pinned address belongs to its
//! port until that is unplugged, whatever others claim. Time is given by the caller and only compared.

use std::collections::HashMap;
use std::time::Duration;

/// Number of a port, never used twice.
pub(super) type PortId = u64;

type Address = [u8; 6];

/// Bounds of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableLimits {
    pub addresses: usize,
    pub per_port: usize,
    pub ageing: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    seen: Duration,
    is_pinned: bool,
}

/// The table.
#[derive(Debug)]
pub(super) struct MacTable {
    entries: HashMap<Address, Entry>,
    /// Learnt entries by port.
    pub(super) learnt: HashMap<PortId, usize>,
    limits: TableLimits,
}

impl MacTable {
    pub(super) fn new(limits: TableLimits) -> Self {
        Self { entries: HashMap::new(), learnt: HashMap::new(), limits }
    }

    /// Entries, pinned ones included.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Ties an address to a port for good. False if another port has it pinned.
    pub(super) fn pin(&mut self, address: Address, port: PortId) -> bool {
        if self.entries.get(&address).is_some_and(|entry| entry.is_pinned) {
            return false;
        }
        self.remove(address);
        self.entries.insert(address, Entry { port, seen: Duration::ZERO, is_pinned: true });
        true
    }

    /// A frame from `address` came in by `port`. What there is no room for is not learnt: it is flooded to.
    pub(super) fn learn(&mut self, address: Address, port: PortId, now: Duration) {
        match self.entries.get_mut(&address) {
            Some(entry) if entry.is_pinned => return,
            Some(entry) if entry.port == port => {
                entry.seen = now;
                return;
            }
            // It moved.
            Some(_) => self.remove(address),
            None => {}
        }
        if self.has_room(port) || self.make_room(now) && self.has_room(port) {
            self.entries.insert(address, Entry { port, seen: now, is_pinned: false });
            *self.learnt.entry(port).or_default() += 1;
        }
    }

    /// The port behind which an address lies, if that was seen lately.
    pub(super) fn find(&self, address: Address, now: Duration) -> Option<PortId> {
        self.entries.get(&address).filter(|entry| self.is_fresh(entry, now)).map(|entry| entry.port)
    }

    /// Forgets a port and all that was behind it.
    pub(super) fn unplug(&mut self, port: PortId) {
        self.entries.retain(|_, entry| entry.port != port);
        self.learnt.remove(&port);
    }

    fn is_fresh(&self, entry: &Entry, now: Duration) -> bool {
        entry.is_pinned || now.saturating_sub(entry.seen) < self.limits.ageing
    }

    fn has_room(&self, port: PortId) -> bool {
        let of_port = self.learnt.get(&port).copied().unwrap_or(0);
        // What is pinned is bounded by the number of ports.
        let learnt: usize = self.learnt.values().sum();
        of_port < self.limits.per_port && learnt < self.limits.addresses
    }

    /// Drops what is too old. Answers whether there was anything.
    fn make_room(&mut self, now: Duration) -> bool {
        let old: Vec<_> =
            self.entries.iter().filter(|(_, entry)| !self.is_fresh(entry, now)).map(|(address, _)| *address).collect();
        old.iter().for_each(|address| self.remove(*address));
        !old.is_empty()
    }

    fn remove(&mut self, address: Address) {
        let Some(entry) = self.entries.remove(&address) else { return };
        if let Some(count) = self.learnt.get_mut(&entry.port).filter(|_| !entry.is_pinned) {
            *count = count.saturating_sub(1);
        }
    }
}
