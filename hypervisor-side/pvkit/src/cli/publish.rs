//! `--publish`: a port of the host that leads into the guest, as `[ADDRESS:]PORT:GUEST_PORT[/udp]`.

use pvkit_backends::net::user::{Protocol, Publish};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// One published port, understood but not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishOption(pub Publish);

/// Why a published port was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// Not the parts that it takes.
    Shape(String),
    /// A port that is none.
    Port { text: String, port: String },
    /// Port 0 of the guest.
    GuestPortZero(String),
    /// An address that is none.
    Address { text: String, address: String },
    /// Neither TCP nor UDP.
    Protocol { text: String, protocol: String },
}

/// What a good one looks like.
const EXAMPLE: &str = "8080:80, 127.0.0.1:8080:80, [::1]:8080:80 or 5353:53/udp";

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape(text) => {
                write!(f, "`publish={text}` is not [ADDRESS:]PORT:GUEST_PORT; write for example {EXAMPLE}")
            }
            Self::Port { text, port } => write!(
                f,
                "`publish={text}`: `{port}` is not a port; write a number up to 65535, and 0 for a free port of the host"
            ),
            Self::GuestPortZero(text) => {
                write!(
                    f,
                    "`publish={text}`: no program of the guest listens on port 0; name its port, for example 0:80"
                )
            }
            Self::Address { text, address } => write!(
                f,
                "`publish={text}`: `{address}` is not an IP address of this host; write 127.0.0.1 for this machine only, \
                 0.0.0.0 for everyone"
            ),
            Self::Protocol { text, protocol } => {
                write!(f, "`publish={text}`: `/{protocol}` is neither /tcp nor /udp; write for example {EXAMPLE}")
            }
        }
    }
}

impl std::error::Error for PublishError {}

impl FromStr for PublishOption {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Self, PublishError> {
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => return Err(PublishError::Protocol { text: text.into(), protocol: other.into() }),
        };
        let (host, guest) = ports.rsplit_once(':').ok_or_else(|| PublishError::Shape(text.into()))?;
        let (address, host) = host.rsplit_once(':').map_or((None, host), |(address, port)| (Some(address), port));
        let port =
            |port: &str| parse_port(port).ok_or_else(|| PublishError::Port { text: text.into(), port: port.into() });
        let (host_port, guest_port) = (port(host)?, port(guest)?);
        if guest_port == 0 {
            return Err(PublishError::GuestPortZero(text.into()));
        }
        // Nobody else reaches the guest unless asked.
        let address = address
            .map_or(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), parse_address)
            .ok_or_else(|| PublishError::Address { text: text.into(), address: address.unwrap_or_default().into() })?;
        Ok(Self(Publish { host: SocketAddr::new(address, host_port), guest_port, protocol }))
    }
}

/// Digits only: `+80` is a number to Rust.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// IPv6 in brackets, so that its colons are its own.
fn parse_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_port_is_the_loopback_address() {
        assert_eq!("8080:80".parse(), Ok(PublishOption(Publish::tcp(8080, 80))));
        assert_eq!("127.0.0.1:0:80/tcp".parse(), Ok(PublishOption(Publish::tcp(0, 80))));
        assert_eq!("5353:53/udp".parse(), Ok(PublishOption(Publish::udp(5353, 53))));
    }

    #[test]
    fn other_addresses_must_be_asked_for() {
        let PublishOption(all) = "0.0.0.0:8080:80".parse().unwrap();
        assert_eq!(all.host, "0.0.0.0:8080".parse().unwrap());
        let PublishOption(six) = "[::1]:8080:80".parse().unwrap();
        assert_eq!(six.host, "[::1]:8080".parse().unwrap());
    }

    #[test]
    fn each_mistake_is_named_with_its_remedy() {
        for (text, thing, remedy) in [
            ("", "publish=", "8080:80"),
            ("8080", "publish=8080", "8080:80"),
            ("x:80", "`x`", "65535"),
            ("8080:", "``", "65535"),
            ("8080:65536", "`65536`", "65535"),
            ("-1:80", "`-1`", "65535"),
            ("+80:80", "`+80`", "65535"),
            ("8080:0", "port 0", "0:80"),
            ("localhost:8080:80", "`localhost`", "127.0.0.1"),
            ("::1:8080:80", "`::1`", "127.0.0.1"),
            (":8080:80", "``", "127.0.0.1"),
            ("8080:80/sctp", "/sctp", "/udp"),
        ] {
            let message = text.parse::<PublishOption>().expect_err(text).to_string();
            assert!(message.contains(thing) && message.contains(remedy), "{text}: {message}");
        }
    }
}
