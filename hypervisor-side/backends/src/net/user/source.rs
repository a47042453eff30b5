//! What can wake the thread: each file descriptor and each deadline belongs to one source.

use mio::Token;

/// Who is meant by an event or a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The inbox, and the deadline after which a full guest is tried again.
    Inbox,
    /// A published TCP port.
    Listener(usize),
    /// A TCP connection.
    Tcp(usize),
    /// A UDP conversation.
    Udp(usize),
    /// A published UDP port.
    UdpListener(usize),
}

/// Bits of a token that tell the kind.
const KIND_BITS: u32 = 3;

impl Source {
    pub(super) fn token(self) -> Token {
        let (kind, number) = match self {
            Self::Inbox => (0, 0),
            Self::Listener(number) => (1, number),
            Self::Tcp(number) => (2, number),
            Self::Udp(number) => (3, number),
            Self::UdpListener(number) => (4, number),
        };
        Token(number << KIND_BITS | kind)
    }

    pub(super) fn of(token: Token) -> Option<Self> {
        let number = token.0 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Some(Self::Inbox),
            1 => Some(Self::Listener(number)),
            2 => Some(Self::Tcp(number)),
            3 => Some(Self::Udp(number)),
            4 => Some(Self::UdpListener(number)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_source() {
        for source in [Source::Inbox, Source::Listener(1), Source::Tcp(511), Source::Udp(0), Source::UdpListener(7)] {
            assert_eq!(Source::of(source.token()), Some(source));
        }
        assert_eq!(Source::of(Token(7)), None);
    }
}
