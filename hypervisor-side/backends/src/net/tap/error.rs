//! Why a TAP cannot be used, and what to do about it.

use pvkit_abi::net::{MAX_MTU, MIN_MTU};
use std::io;

/// Why a TAP cannot be used.
#[derive(Debug)]
pub enum TapError {
    /// No interface can have this name.
    BadName(String),
    /// An MTU outside what the protocol allows.
    BadMtu(u16),
    /// The TAP takes smaller packets than asked for.
    MtuTooLarge {
        /// The interface.
        name: String,
        /// Its MTU.
        tap: u32,
        /// What was asked for.
        asked: u16,
    },
    /// There is no `/dev/net/tun`.
    NoDriver,
    /// `/dev/net/tun` may not be opened.
    NoPermission,
    /// An interface without a name is made anew, which takes a right that this process lacks.
    MayNotMake,
    /// No interface of this name.
    Missing(String),
    /// It belongs to another user.
    NotOurs(String),
    /// The interface, or the descriptor, is something else.
    NotATap(String),
    /// Another process uses it.
    Busy(String),
    /// The descriptor was opened without headers before the frames.
    NoHeaders,
    /// Anything else that the host says.
    System {
        /// What was being done.
        what: &'static str,
        /// What came of it.
        error: io::Error,
    },
}

impl TapError {
    pub(super) const fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System { what, error }
    }

    /// What it means that the driver may not be opened.
    pub(super) fn of_opening(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoDriver,
            Some(libc::EACCES | libc::EPERM) => Self::NoPermission,
            _ => Self::System { what: "opening /dev/net/tun", error },
        }
    }

    /// What it means that an interface, named or to be made, may not be had.
    pub(super) fn of_attaching(name: Option<&str>, error: io::Error) -> Self {
        match (error.raw_os_error(), name) {
            (Some(libc::EPERM | libc::EACCES), None) => Self::MayNotMake,
            (Some(libc::EPERM | libc::EACCES), Some(name)) => Self::NotOurs(name.to_owned()),
            (Some(libc::EBUSY), Some(name)) => Self::Busy(name.to_owned()),
            (Some(libc::EINVAL), Some(name)) => Self::NotATap(name.to_owned()),
            _ => Self::System { what: "attaching to the TAP", error },
        }
    }
}

impl std::fmt::Display for TapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadName(name) => {
                write!(f, "`{name}` cannot be an interface's name: 1 to 15 letters, digits, `-`, `_` or `.`")
            }
            Self::BadMtu(mtu) => write!(f, "an MTU of {mtu} is not possible; choose one from {MIN_MTU} to {MAX_MTU}"),
            Self::MtuTooLarge { name, tap, asked } => write!(
                f,
                "the TAP {name} takes packets of {tap} bytes, the guest was to send {asked}; \
                 `ip link set {name} mtu {asked}`, or give the guest a smaller MTU"
            ),
            Self::NoDriver => f.write_str("there is no /dev/net/tun; load the driver with `modprobe tun`"),
            Self::NoPermission => f.write_str(
                "/dev/net/tun may not be opened; add this user to the group that owns it, or pass an open descriptor",
            ),
            Self::MayNotMake => f.write_str(
                "making a TAP needs CAP_NET_ADMIN; have one made with `ip tuntap add dev NAME mode tap user $USER` and name it",
            ),
            Self::Missing(name) => write!(
                f,
                "there is no interface {name}; make it with `ip tuntap add dev {name} mode tap user $USER` and \
                 `ip link set {name} up`"
            ),
            Self::NotOurs(name) => write!(
                f,
                "the TAP {name} belongs to another user; make one with `ip tuntap add dev NAME mode tap user $USER`, or run \
                 with CAP_NET_ADMIN"
            ),
            Self::NotATap(name) => {
                write!(f, "{name} is no TAP with one queue; name one made with `ip tuntap add dev NAME mode tap`")
            }
            Self::Busy(name) => write!(f, "the TAP {name} is used by another process; end that one or name another TAP"),
            Self::NoHeaders => {
                f.write_str("the descriptor's TAP has no headers before its frames; open it with IFF_VNET_HDR | IFF_NO_PI")
            }
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for TapError {}
