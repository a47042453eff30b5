//! Ethernet addresses on the command line.

use rustix::rand::{GetRandomFlags, getrandom};
use std::fmt;
use std::io;
use std::str::FromStr;

/// An address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

/// Why an address was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MacError {
    /// Not six pairs of hexadecimal digits with colons.
    NotAMac(String),
    /// An address of a group, which nobody can have.
    Group(String),
    /// All zeros.
    Zero,
}

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAMac(text) => write!(
                f,
                "`mac={text}` is not an Ethernet address; write six pairs of hexadecimal digits, for example \
                 mac=52:54:00:12:34:56"
            ),
            Self::Group(text) => write!(
                f,
                "`mac={text}` is the address of a group, as its first byte is odd; make it even, for example \
                 mac=52:54:00:12:34:56"
            ),
            Self::Zero => write!(f, "`mac=00:00:00:00:00:00` is nobody's; leave it out for a random address"),
        }
    }
}

impl std::error::Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let bytes = parse(text).ok_or_else(|| MacError::NotAMac(text.into()))?;
        match bytes {
            [0, 0, 0, 0, 0, 0] => Err(MacError::Zero),
            [first, ..] if first & 1 == 1 => Err(MacError::Group(text.into())),
            _ => Ok(Self(bytes)),
        }
    }
}

fn parse(text: &str) -> Option<[u8; 6]> {
    let mut parts = text.split(':');
    let mut bytes = [0; 6];
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Mac {
    /// A random one, marked as locally administered.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 6];
        // Up to 256 bytes come whole (getrandom(2)).
        getrandom(&mut bytes[..], GetRandomFlags::empty())?;
        let [first, ..] = &mut bytes;
        *first = (*first & !1) | 2;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        let mac: Mac = "52:54:00:aB:cd:0f".parse().unwrap();
        assert_eq!(mac, Mac([0x52, 0x54, 0, 0xab, 0xcd, 0x0f]));
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:0f");
    }

    #[test]
    fn nonsense_groups_and_nobody_are_refused_by_name() {
        for text in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52-54-00-12-34-56", "5:54:00:12:34:56", "+2:54:00:12:34:56"]
        {
            assert_eq!(text.parse::<Mac>(), Err(MacError::NotAMac(text.into())));
        }
        assert!(matches!("01:00:5e:00:00:01".parse::<Mac>(), Err(MacError::Group(_))));
        assert_eq!("00:00:00:00:00:00".parse::<Mac>(), Err(MacError::Zero));
    }

    #[test]
    fn random_addresses_differ_and_belong_to_one_local_station() {
        let (one, two) = (Mac::random().unwrap(), Mac::random().unwrap());
        assert_ne!(one, two);
        assert!([one, two].iter().all(|mac| mac.0[0] & 3 == 2), "{one} {two}");
    }
}
