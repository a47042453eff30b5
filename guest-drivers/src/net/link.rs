//! The link's properties, judged once: what the rest of the driver may rely on.

use crate::error::HostFault;
use pvkit_abi::bus::CONFIG_BYTES;
use pvkit_abi::net::{LinkFlags, MAX_MTU, MIN_MTU, NetConfig};
use zerocopy::FromBytes;

/// A port's properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Address of the guest's port: not zero, no group.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes, 68 to 9000.
    pub mtu: u16,
    /// Frames can pass.
    pub up: bool,
    /// The guest should announce its addresses, then call [`super::Net::announced`].
    pub announce: bool,
    /// Speed in Mbit/s, 0 if unknown.
    pub speed: u32,
}

impl LinkState {
    /// Judges the host's configuration.
    ///
    /// # Errors
    /// The field that is impossible.
    pub(super) fn check(config: &[u8; CONFIG_BYTES]) -> Result<Self, HostFault> {
        let wrong = |field, value| HostFault::Offer { field, value };
        let (config, _) = NetConfig::read_from_prefix(config).map_err(|_| wrong("configuration", 0))?;
        let flags = LinkFlags::from_bits_retain(config.flags);
        let link = Self {
            mac: config.mac,
            mtu: config.mtu,
            up: flags.contains(LinkFlags::UP),
            announce: flags.contains(LinkFlags::ANNOUNCE),
            speed: config.speed,
        };
        if !(MIN_MTU..=MAX_MTU).contains(&link.mtu) {
            return Err(wrong("mtu", link.mtu.into()));
        }
        let [first, ..] = link.mac;
        if link.mac == [0; 6] || first & 1 != 0 {
            return Err(wrong("mac", link.mac_number()));
        }
        Ok(link)
    }

    /// The address as it is read.
    pub(super) fn mac_number(&self) -> u64 {
        self.mac.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}
