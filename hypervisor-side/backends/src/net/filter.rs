//! Which frames reach a guest: its own, broadcasts, and what it asked for.

use pvkit_abi::net::{MAX_MULTICAST, MulticastFilter, ReceiveMode};

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// Whether an address names a group of receivers. Broadcast is one of them.
#[must_use]
pub const fn is_group(address: [u8; 6]) -> bool {
    let [first, ..] = address;
    first & 1 != 0
}

/// A port's receive filter. It judges by the destination address alone.
#[derive(Clone, Copy, Debug)]
pub struct Filter {
    own: [u8; 6],
    mode: ReceiveMode,
    multicast: [[u8; 6]; MAX_MULTICAST],
    count: usize,
}

impl Filter {
    /// Own frames and broadcasts, and what `mode` adds.
    #[must_use]
    pub const fn new(own: [u8; 6], mode: ReceiveMode) -> Self {
        Self { own, mode, multicast: [[0; 6]; MAX_MULTICAST], count: 0 }
    }

    /// Replaces the mode.
    pub const fn set_mode(&mut self, mode: ReceiveMode) {
        self.mode = mode;
    }

    /// Replaces the multicast list. False, and nothing changes, if the list is longer than it can be or holds an
    /// address that is no group's.
    #[must_use]
    pub fn set_multicast(&mut self, list: &MulticastFilter) -> bool {
        let count = list.count as usize;
        let good = list.addresses.get(..count).is_some_and(|meant| meant.iter().all(|address| is_group(*address)));
        if good {
            self.multicast = list.addresses;
            self.count = count;
        }
        good
    }

    /// Whether a frame to `destination` is for this guest.
    #[must_use]
    pub fn passes(&self, destination: [u8; 6]) -> bool {
        if destination == self.own || destination == BROADCAST || self.mode.contains(ReceiveMode::PROMISCUOUS) {
            return true;
        }
        is_group(destination)
            && (self.mode.contains(ReceiveMode::ALL_MULTICAST)
                || self.multicast.iter().take(self.count).any(|address| *address == destination))
    }
}
