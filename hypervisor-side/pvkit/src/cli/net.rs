//! `--net`: what a network port of the guest is plugged into, and `key=value` pairs with commas.

use super::mac::{Mac, MacError};
use super::publish::{PublishError, PublishOption};
use pvkit_abi::net::{MAX_MTU, MIN_MTU};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What a port can be plugged into.
const KINDS: &str = "user, tap=NAME, fd=N, passt=SOCKET, backend=SOCKET, none";
/// Keys that a port takes.
const KEYS: &str = "publish, allow-loopback, mac, mtu, queues, offloads, id, tap";
/// Most pairs of queues of one port.
const MOST_PAIRS: u16 = 8;
/// MTU where none is given: Ethernet's.
const DEFAULT_MTU: u16 = 1500;

/// One `--net`, understood but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOption {
    /// What it is plugged into.
    pub kind: NetKind,
    /// The guest's address; a random one if none is given.
    pub mac: Option<Mac>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Pairs of queues.
    pub pairs: u16,
    /// Whether the guest may leave checksums and cutting to the host.
    pub offloads: bool,
}

/// What a port is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetKind {
    /// A network of this process's own, which needs no rights.
    User {
        /// Ports of the host that lead into the guest.
        publish: Vec<PublishOption>,
        /// The gateway's address leads to the host's loopback.
        allow_loopback: bool,
    },
    /// A TAP interface that exists.
    Tap(String),
    /// A TAP that whoever started us has opened.
    Descriptor(i32),
    /// Another program behind a UNIX socket: passt, or one that speaks its protocol.
    Passt(PathBuf),
    /// A network of a backend in another process.
    Backend {
        /// Where it listens.
        socket: PathBuf,
        /// Its name there.
        id: String,
        /// The interface that is lent to it, for a network on a TAP.
        tap: Option<String>,
    },
    /// There is no port.
    None,
}

/// Why a port was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetOptionError {
    /// No such kind.
    UnknownKind(String),
    /// A part without `=`.
    NotAPair(String),
    /// No such key.
    UnknownKey(String),
    /// A key given twice.
    Twice(&'static str),
    /// A key that the kind does not use.
    NotForKind { key: &'static str, kind: &'static str },
    /// `tap=` without a name.
    NoTapName,
    /// A backend's network without its name there.
    NoId,
    /// The value is not one of the key's.
    BadValue { key: &'static str, value: String, expected: String },
    /// `mac=` was not understood.
    Mac(MacError),
    /// `publish=` was not understood.
    Publish(PublishError),
}

impl fmt::Display for NetOptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "unknown network `{kind}`; pvkit knows {KINDS}"),
            Self::NotAPair(part) => write!(f, "`{part}` is not key=value; a network takes {KEYS}"),
            Self::UnknownKey(key) => write!(f, "a network has no key `{key}`; it takes {KEYS}"),
            Self::Twice(key) => write!(f, "`{key}=` is given twice; keep one of them"),
            Self::NotForKind { key, kind } => write!(f, "--net {kind} does not use `{key}=`; leave it out"),
            Self::NoTapName => write!(
                f,
                "`tap=` needs the name of an interface; make one with `ip tuntap add dev pv0 mode tap user $USER` and \
                 write tap=pv0"
            ),
            Self::NoId => write!(f, "a network of a backend needs its name there; write backend=SOCKET,id=NAME"),
            Self::BadValue { key, value, expected } => write!(f, "`{key}={value}` is not {expected}"),
            Self::Mac(error) => error.fmt(f),
            Self::Publish(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NetOptionError {}

/// The pairs as they were given.
#[derive(Default)]
struct Pairs {
    publish: Vec<PublishOption>,
    allow_loopback: Option<bool>,
    mac: Option<Mac>,
    mtu: Option<u16>,
    queues: Option<u16>,
    offloads: Option<bool>,
    id: Option<String>,
    tap: Option<String>,
}

impl Pairs {
    fn split<'a>(parts: impl Iterator<Item = &'a str>) -> Result<Self, NetOptionError> {
        let mut pairs = Self::default();
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| NetOptionError::NotAPair(part.into()))?;
            pairs.put(key, value)?;
        }
        Ok(pairs)
    }

    fn put(&mut self, key: &str, value: &str) -> Result<(), NetOptionError> {
        match key {
            "publish" => {
                self.publish.push(value.parse().map_err(NetOptionError::Publish)?);
                Ok(())
            }
            "allow-loopback" => {
                once("allow-loopback", &mut self.allow_loopback, parse_switch("allow-loopback", value)?)
            }
            "mac" => once("mac", &mut self.mac, value.parse().map_err(NetOptionError::Mac)?),
            "mtu" => once("mtu", &mut self.mtu, parse_number("mtu", value, (MIN_MTU, MAX_MTU))?),
            "id" if super::disk::is_id(value) => once("id", &mut self.id, value.into()),
            "id" => {
                let expected = "1 to 64 letters, digits, `-`, `_` or `.`".into();
                Err(NetOptionError::BadValue { key: "id", value: value.into(), expected })
            }
            "tap" if value.is_empty() => Err(NetOptionError::NoTapName),
            "tap" => once("tap", &mut self.tap, value.into()),
            "offloads" => once("offloads", &mut self.offloads, parse_switch("offloads", value)?),
            "queues" => once("queues", &mut self.queues, parse_number("queues", value, (1, MOST_PAIRS))?),
            _ => Err(NetOptionError::UnknownKey(key.into())),
        }
    }

    /// Refuses what only a user network or a backend's takes, or, for no port at all, everything.
    fn check_unused(&self, kind: &'static str, is_port: bool) -> Result<(), NetOptionError> {
        let unused = [
            ("id", kind != "backend" && self.id.is_some()),
            ("tap", kind != "backend" && self.tap.is_some()),
            ("publish", !self.publish.is_empty()),
            ("allow-loopback", self.allow_loopback.is_some()),
            ("mac", !is_port && self.mac.is_some()),
            ("mtu", !is_port && self.mtu.is_some()),
            ("queues", !is_port && self.queues.is_some()),
            ("offloads", (!is_port || kind == "backend") && self.offloads.is_some()),
        ];
        match unused.iter().find(|(_, is_given)| *is_given) {
            Some((key, _)) => Err(NetOptionError::NotForKind { key, kind }),
            None => Ok(()),
        }
    }
}

fn once<T>(key: &'static str, field: &mut Option<T>, value: T) -> Result<(), NetOptionError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(NetOptionError::Twice(key)),
    }
}

impl FromStr for NetOption {
    type Err = NetOptionError;

    fn from_str(text: &str) -> Result<Self, NetOptionError> {
        let mut parts = text.split(',');
        let word = parts.next().unwrap_or_default();
        let mut kind = parse_kind(word)?;
        let pairs = Pairs::split(parts)?;
        match &mut kind {
            NetKind::Tap(_) => pairs.check_unused("tap", true)?,
            NetKind::Descriptor(_) => pairs.check_unused("fd", true)?,
            NetKind::Passt(_) => pairs.check_unused("passt", true)?,
            NetKind::Backend { id, tap, .. } => {
                pairs.check_unused("backend", true)?;
                *id = pairs.id.clone().ok_or(NetOptionError::NoId)?;
                tap.clone_from(&pairs.tap);
            }
            NetKind::None => pairs.check_unused("none", false)?,
            NetKind::User { publish, allow_loopback } => {
                for (key, given) in [("id", pairs.id.is_some()), ("tap", pairs.tap.is_some())] {
                    if given {
                        return Err(NetOptionError::NotForKind { key, kind: "user" });
                    }
                }
                publish.clone_from(&pairs.publish);
                *allow_loopback = pairs.allow_loopback.unwrap_or(false);
            }
        }
        let Pairs { mac, mtu, queues, offloads, .. } = pairs;
        let (mtu, pairs) = (mtu.unwrap_or(DEFAULT_MTU), queues.unwrap_or(1));
        Ok(Self { kind, mac, mtu, pairs, offloads: offloads.unwrap_or(true) })
    }
}

fn parse_kind(word: &str) -> Result<NetKind, NetOptionError> {
    match word.split_once('=') {
        None if word == "user" => Ok(NetKind::User { publish: Vec::new(), allow_loopback: false }),
        None if word == "none" => Ok(NetKind::None),
        None if word == "tap" => Err(NetOptionError::NoTapName),
        Some(("tap", "")) => Err(NetOptionError::NoTapName),
        Some(("tap", name)) => Ok(NetKind::Tap(name.into())),
        Some(("passt", path)) if !path.is_empty() => Ok(NetKind::Passt(path.into())),
        Some(("backend", socket)) if !socket.is_empty() => {
            Ok(NetKind::Backend { socket: socket.into(), id: String::new(), tap: None })
        }
        Some(("fd", number)) => parse_number("fd", number, (0, u16::MAX)).map(|fd| NetKind::Descriptor(fd.into())),
        _ => Err(NetOptionError::UnknownKind(word.into())),
    }
}

fn parse_switch(key: &'static str, text: &str) -> Result<bool, NetOptionError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(NetOptionError::BadValue { key, value: text.into(), expected: "one of on, off".into() }),
    }
}

fn parse_number(key: &'static str, text: &str, (least, most): (u16, u16)) -> Result<u16, NetOptionError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && (least..=most).contains(&number) => Ok(number),
        _ => Err(NetOptionError::BadValue {
            key,
            value: text.into(),
            expected: format!("a number from {least} to {most}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pvkit_backends::net::user::Publish;

    #[test]
    fn a_bare_kind_has_the_usual_values() {
        let net: NetOption = "user".parse().unwrap();
        assert_eq!(net.kind, NetKind::User { publish: vec![], allow_loopback: false });
        assert_eq!((net.mac, net.mtu, net.pairs), (None, 1500, 1));
        assert_eq!("tap=pv0".parse::<NetOption>().unwrap().kind, NetKind::Tap("pv0".into()));
        assert_eq!("fd=7".parse::<NetOption>().unwrap().kind, NetKind::Descriptor(7));
        assert_eq!("passt=/run/p".parse::<NetOption>().unwrap().kind, NetKind::Passt("/run/p".into()));
        let backend: NetOption = "backend=run/b,id=lan,tap=pv0".parse().unwrap();
        assert_eq!(
            backend.kind,
            NetKind::Backend { socket: "run/b".into(), id: "lan".into(), tap: Some("pv0".into()) }
        );
        assert_eq!("none".parse::<NetOption>().unwrap().kind, NetKind::None);
    }

    #[test]
    fn pairs_are_taken_in_any_order() {
        let text =
            "user,queues=2,publish=0:80,mac=52:54:00:12:34:56,publish=127.0.0.1:53:53/udp,mtu=9000,allow-loopback=on";
        let net: NetOption = text.parse().unwrap();
        let publish = vec![PublishOption(Publish::tcp(0, 80)), PublishOption(Publish::udp(53, 53))];
        assert_eq!(net.kind, NetKind::User { publish, allow_loopback: true });
        assert_eq!((net.mac, net.mtu, net.pairs), (Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])), 9000, 2));
    }

    #[test]
    fn each_mistake_is_named_with_its_remedy() {
        for (text, thing, remedy) in [
            ("", "``", "tap=NAME"),
            ("bridge", "`bridge`", "user, tap=NAME"),
            ("mac=52:54:00:12:34:56", "unknown network", "user, tap=NAME"),
            ("tap", "`tap=`", "ip tuntap add"),
            ("tap=", "`tap=`", "ip tuntap add"),
            ("passt=", "unknown network", "passt=SOCKET"),
            ("fd=", "`fd=`", "number from 0"),
            ("fd=-1", "`fd=-1`", "number from 0"),
            ("user,mtu", "`mtu`", "key=value"),
            ("user,", "``", "key=value"),
            ("user,colour=red", "`colour`", "publish, allow-loopback"),
            ("user,mtu=1500,mtu=9000", "`mtu=`", "keep one"),
            ("user,mtu=9001", "mtu=9001", "68 to 9000"),
            ("user,mtu=67", "mtu=67", "68 to 9000"),
            ("user,mtu=+1500", "mtu=+1500", "68 to 9000"),
            ("user,queues=0", "queues=0", "1 to 8"),
            ("user,queues=9", "queues=9", "1 to 8"),
            ("user,mac=nonsense", "mac=nonsense", "52:54:00"),
            ("user,mac=ff:ff:ff:ff:ff:ff", "group", "even"),
            ("user,publish=80", "publish=80", "8080:80"),
            ("user,allow-loopback=yes", "allow-loopback=yes", "on, off"),
            ("tap=pv0,publish=8080:80", "`publish=`", "leave it out"),
            ("fd=3,allow-loopback=on", "`allow-loopback=`", "leave it out"),
            ("none,mtu=1500", "`mtu=`", "leave it out"),
            ("user,offloads=maybe", "offloads=maybe", "on, off"),
            ("backend=b", "name there", "id=NAME"),
            ("backend=b,id=", "id=", "letters"),
            ("backend=b,id=a,tap=", "`tap=`", "ip tuntap add"),
            ("backend=b,id=a,publish=0:80", "`publish=`", "leave it out"),
            ("backend=b,id=a,offloads=on", "`offloads=`", "leave it out"),
            ("user,id=a", "`id=`", "leave it out"),
            ("none,offloads=on", "`offloads=`", "leave it out"),
        ] {
            let message = text.parse::<NetOption>().expect_err(text).to_string();
            assert!(message.contains(thing) && message.contains(remedy), "{text}: {message}");
        }
    }
}
