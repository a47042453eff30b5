//! What a user-mode network is asked to be, checked before anything is opened.

use super::UserError;
use pvkit_abi::net::{MAX_MTU, MIN_MTU};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Least MTU: what every IPv4 host must take (RFC 791), so that a DHCP answer always fits.
const LEAST_MTU: u16 = 576;
const _: () = assert!(LEAST_MTU >= MIN_MTU);

/// Where names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolvers {
    /// By the `nameserver` lines of this file, read anew for each conversation, so that a host that changes its network
    /// keeps its guests' names working.
    File(PathBuf),
    /// By these, tried in this order.
    Fixed(Vec<SocketAddr>),
}

/// Transport of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of the host that leads into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where the host listens; port 0 takes a free one.
    pub host: SocketAddr,
    /// Port of the guest.
    pub guest_port: u16,
    /// Transport.
    pub protocol: Protocol,
}

impl Publish {
    /// A TCP port of the host's loopback address; `host_port` 0 takes a free one.
    #[must_use]
    pub fn tcp(host_port: u16, guest_port: u16) -> Self {
        Self { host: (Ipv4Addr::LOCALHOST, host_port).into(), guest_port, protocol: Protocol::Tcp }
    }

    /// A UDP port of the host's loopback address; `host_port` 0 takes a free one.
    #[must_use]
    pub fn udp(host_port: u16, guest_port: u16) -> Self {
        Self { protocol: Protocol::Udp, ..Self::tcp(host_port, guest_port) }
    }
}

/// Most of everything that a guest can make the host hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLimits {
    /// TCP connections, each one socket of the host and two buffers.
    pub connections: usize,
    /// Bytes of each of a connection's two buffers.
    pub buffer: usize,
    /// Connections among them that only wait for late segments.
    pub time_wait: usize,
    /// UDP conversations, each one socket of the host; the one idle for longest makes room.
    pub conversations: usize,
    /// Frames of the guest that may wait.
    pub inbox: usize,
    /// Longest wait for a host to take a connection, and for a guest to acknowledge anything.
    pub patience: Duration,
    /// A UDP conversation ends after this much silence.
    pub silence: Duration,
    /// A TCP connection that was idle for this long may be ended to make room for a new one.
    pub idle: Duration,
}

impl Default for UserLimits {
    fn default() -> Self {
        Self {
            // Together below 1024, the usual soft limit of open files.
            connections: 512,
            conversations: 256,
            buffer: 256 * 1024,
            time_wait: 32,
            inbox: 1024,
            patience: Duration::from_secs(60),
            silence: Duration::from_secs(60),
            idle: Duration::from_secs(300),
        }
    }
}

/// A virtual subnet with one guest, a gateway and a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserOptions {
    /// The subnet's address.
    pub network: Ipv4Addr,
    /// Bits of the subnet's prefix.
    pub prefix: u8,
    /// The gateway, which is also the DHCP server and the source of published connections.
    pub gateway: Ipv4Addr,
    /// The name server.
    pub dns: Ipv4Addr,
    /// The guest.
    pub guest: Ipv4Addr,
    /// Largest IP packet.
    pub mtu: u16,
    /// Whether the gateway's address leads to the host's own loopback.
    pub allow_loopback: bool,
    /// Where names are resolved.
    pub resolvers: Resolvers,
    /// Ports of the host that lead into the guest.
    pub publish: Vec<Publish>,
    /// Bounds.
    pub limits: UserLimits,
}

impl Default for UserOptions {
    fn default() -> Self {
        Self {
            network: Ipv4Addr::new(10, 0, 2, 0),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            dns: Ipv4Addr::new(10, 0, 2, 3),
            guest: Ipv4Addr::new(10, 0, 2, 15),
            mtu: 1500,
            allow_loopback: false,
            resolvers: Resolvers::File("/etc/resolv.conf".into()),
            publish: Vec::new(),
            limits: UserLimits::default(),
        }
    }
}

impl UserOptions {
    /// The subnet's mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0))
    }

    /// The subnet's broadcast address.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        self.network | !self.mask()
    }

    /// Whether an address belongs to the subnet.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.network & self.mask()
    }

    /// Refuses what cannot be a network.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), UserError> {
        if !(LEAST_MTU..=MAX_MTU).contains(&self.mtu) {
            return Err(UserError::Mtu { mtu: self.mtu, least: LEAST_MTU, most: MAX_MTU });
        }
        if !(1..=30).contains(&self.prefix) || self.network & self.mask() != self.network {
            return Err(UserError::Subnet { network: self.network, prefix: self.prefix });
        }
        if let Some(publish) = self.publish.iter().find(|publish| publish.guest_port == 0) {
            return Err(UserError::GuestPort { host: publish.host });
        }
        let hosts = [self.gateway, self.dns, self.guest];
        for (position, &address) in hosts.iter().enumerate() {
            let is_a_host = self.contains(address) && address != self.network && address != self.broadcast();
            if !is_a_host || hosts.iter().take(position).any(|&other| other == address) {
                return Err(UserError::Address { address, network: self.network, prefix: self.prefix });
            }
        }
        Ok(())
    }
}
