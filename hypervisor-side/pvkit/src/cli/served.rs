//! `pvkit backend --net`: `tap,id=NAME`, or `user,id=NAME` with what a user network takes.

use super::net::{NetKind, NetOption, NetOptionError};
use super::publish::PublishOption;
use std::fmt;
use std::str::FromStr;

/// A network that a backend serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedNet {
    /// Its name.
    pub id: String,
    /// What it is.
    pub kind: ServedKind,
}

/// What such a network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServedKind {
    /// On a TAP that each guest's monitor lends.
    Tap,
    /// User-mode networking, each guest its own.
    User {
        /// Ports of the host that lead into the guest.
        publish: Vec<PublishOption>,
        /// The gateway's address leads to the host's loopback.
        allow_loopback: bool,
    },
}

/// Why it was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServedNetError {
    /// Neither `tap` nor `user`.
    Kind(String),
    /// No name.
    NoId,
    /// A port that nobody would be told.
    FreePort,
    /// What a monitor says, not a backend.
    Monitors(&'static str),
    /// As for a network of `pvkit run`.
    Option(NetOptionError),
}

impl fmt::Display for ServedNetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "a backend has no network `{kind}`; it has tap and user: --net tap,id=NAME"),
            Self::NoId => write!(f, "a network needs a name by which guests ask for it; add id=NAME"),
            Self::FreePort => write!(
                f,
                "a backend opens a guest's ports when the guest comes, and tells nobody; name one instead of 0"
            ),
            Self::Monitors(key) => {
                write!(f, "`{key}=` is said with the guest: pvkit run --net backend=SOCKET,id=NAME,{key}=...")
            }
            Self::Option(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServedNetError {}

impl FromStr for ServedNet {
    type Err = ServedNetError;

    fn from_str(text: &str) -> Result<Self, ServedNetError> {
        let (kind, rest) = text.split_once(',').unwrap_or((text, ""));
        let parts = rest.split(',').filter(|part| !part.is_empty());
        let (ids, others): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.starts_with("id="));
        for key in ["mac", "mtu", "queues", "offloads"] {
            if others.iter().any(|part| part.split('=').next() == Some(key)) {
                return Err(ServedNetError::Monitors(key));
            }
        }
        // The name is checked where networks of backends are understood, the rest where user networks are.
        let named: NetOption = match ids.as_slice() {
            [] => return Err(ServedNetError::NoId),
            ids => ["backend=x"].iter().chain(ids).copied().collect::<Vec<_>>().join(",").parse(),
        }
        .map_err(ServedNetError::Option)?;
        let NetKind::Backend { id, .. } = named.kind else { return Err(ServedNetError::NoId) };
        let words = [kind].into_iter().chain(others.iter().copied()).collect::<Vec<_>>().join(",");
        let kind = match kind {
            "tap" => match others.first() {
                Some(part) => return Err(ServedNetError::Kind(format!("tap,{part}"))),
                None => ServedKind::Tap,
            },
            "user" => match words.parse::<NetOption>().map_err(ServedNetError::Option)?.kind {
                NetKind::User { publish, .. } if publish.iter().any(|option| option.0.host.port() == 0) => {
                    return Err(ServedNetError::FreePort);
                }
                NetKind::User { publish, allow_loopback } => ServedKind::User { publish, allow_loopback },
                _ => return Err(ServedNetError::Kind(words)),
            },
            other => return Err(ServedNetError::Kind(other.into())),
        };
        Ok(Self { id, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_understood() {
        assert_eq!("tap,id=lan".parse(), Ok(ServedNet { id: "lan".into(), kind: ServedKind::Tap }));
        let user: ServedNet = "user,publish=8080:80,id=out,allow-loopback=on".parse().unwrap();
        let ServedKind::User { publish, allow_loopback } = user.kind else { panic!() };
        assert_eq!((user.id.as_str(), publish.len(), allow_loopback), ("out", 1, true));
    }

    #[test]
    fn each_mistake_is_named_with_its_remedy() {
        for (text, thing, remedy) in [
            ("", "name", "id=NAME"),
            ("tap", "name", "id=NAME"),
            ("tap=pv0,id=a", "`tap=pv0`", "tap,id=NAME"),
            ("tap,id=a,colour=red", "colour=red", "tap,id=NAME"),
            ("bridge,id=a", "`bridge`", "tap and user"),
            ("user,id=a/b", "id=a/b", "letters"),
            ("user,id=a,id=b", "`id=`", "keep one"),
            ("user,id=a,mtu=1500", "`mtu=`", "pvkit run"),
            ("user,id=a,publish=0:80", "name one", "instead of 0"),
            ("user,id=a,publish=80", "publish=80", "8080:80"),
        ] {
            let message = text.parse::<ServedNet>().expect_err(text).to_string();
            assert!(message.contains(thing) && message.contains(remedy), "{text}: {message}");
        }
    }
}
