//! Why a user-mode network cannot be had, and what to do about it.

use super::{Protocol, Publish};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Why a user-mode network could not be started.
#[derive(Debug)]
pub enum UserError {
    /// The MTU is out of range.
    Mtu {
        /// What was asked for.
        mtu: u16,
        /// Least.
        least: u16,
        /// Most.
        most: u16,
    },
    /// The subnet is none.
    Subnet {
        /// Its address.
        network: Ipv4Addr,
        /// Bits of its prefix.
        prefix: u8,
    },
    /// An address is not a host of the subnet, or is used twice.
    Address {
        /// The address.
        address: Ipv4Addr,
        /// The subnet's address.
        network: Ipv4Addr,
        /// Bits of its prefix.
        prefix: u8,
    },
    /// A published port leads to port 0 of the guest, which nobody can listen on.
    GuestPort {
        /// Where the host was to listen.
        host: SocketAddr,
    },
    /// Another program listens on a port to be published.
    PortTaken {
        /// Where the host was to listen.
        host: SocketAddr,
        /// Transport.
        protocol: Protocol,
    },
    /// This user may not listen on a port to be published.
    PortDenied {
        /// Where the host was to listen.
        host: SocketAddr,
    },
    /// A port cannot be published for another reason.
    Publish {
        /// Where the host was to listen.
        host: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no eventfd, epoll instance or thread.
    Resources(io::Error),
}

impl UserError {
    pub(super) fn publishing(publish: &Publish, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::PortTaken { host: publish.host, protocol: publish.protocol },
            io::ErrorKind::PermissionDenied => Self::PortDenied { host: publish.host },
            _ => Self::Publish { host: publish.host, source },
        }
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu { mtu, least, most } => write!(f, "MTU {mtu} is out of range: use {least} to {most}"),
            Self::Subnet { network, prefix } => {
                write!(
                    f,
                    "{network}/{prefix} is no subnet: clear the bits behind the prefix, and leave room for 3 hosts"
                )
            }
            Self::Address { address, network, prefix } => write!(
                f,
                "{address} cannot be used in {network}/{prefix}: gateway, name server and guest need an address each, \
                 within the subnet and not its first or last"
            ),
            Self::GuestPort { host } => {
                write!(f, "{host} cannot lead to port 0 of the guest: name the port that the guest listens on")
            }
            Self::PortTaken { host, protocol } => write!(
                f,
                "{protocol} port {host} is taken by another program: end it, choose another port, or use port 0 for a \
                 free one"
            ),
            Self::PortDenied { host } => {
                write!(f, "this user may not listen on {host}: use a port from 1024 on, or port 0 for a free one")
            }
            Self::Publish { host, source } => {
                write!(f, "cannot listen on {host}: {source}; use an address of this host, such as 127.0.0.1")
            }
            Self::Resources(source) => {
                write!(f, "no user-mode network: {source}; see the limits on open files and threads (ulimit -n -u)")
            }
        }
    }
}

impl std::error::Error for UserError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Publish { source, .. } | Self::Resources(source) => Some(source),
            _ => None,
        }
    }
}
