//! A message as a value: emitted and parsed, by form alone.

use super::wire::*;
use pvkit_abi::status::CallError;
use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `HELLO`
    Hello(Hello),
    /// `WINDOW`
    Window(WindowBody),
    /// `ATTACH`
    Attach(Attach),
    /// `OPEN_QUEUE`
    OpenQueue(Box<OpenQueue>),
    /// `CLOSE`
    Close(OfDevice),
    /// `SHARE`
    Share(Share),
    /// `REVOKE`
    Revoke(Share),
    /// `CONTROL`
    Control(Control),
    /// `REFRESH`
    Refresh(OfDevice),
    /// `COUNTERS`
    Counters(OfDevice),
    /// `INSPECT`
    Inspect(Inspect),
    /// `TOTALS`
    Totals,
    /// `REPLY`: which kind of request it answers, and how that went; what there is to say, as bytes.
    Reply(Kind, Result<Vec<u8>, CallError>),
    /// `GOODBYE`
    Goodbye,
    /// `LOG`
    Log(Log),
}

/// What is wrong with a message's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than a header, or not as long as it says.
    Size {
        /// Bytes that came.
        bytes: usize,
    },
    /// No such kind in this version.
    Kind(Kind),
    /// Not as long as its kind is.
    Body {
        /// Its kind.
        kind: Kind,
        /// Bytes of the body.
        bytes: usize,
    },
    /// A reserved field is not zero.
    Reserved(Kind),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { bytes } => write!(f, "a message of {bytes} bytes that says another length"),
            Self::Kind(kind) => write!(f, "a message of unknown kind {:#x}", kind.0),
            Self::Body { kind, bytes } => write!(f, "a message of kind {:#x} with a body of {bytes} bytes", kind.0),
            Self::Reserved(kind) => write!(f, "a message of kind {:#x} with a reserved field that is not zero", kind.0),
        }
    }
}

impl std::error::Error for ParseError {}

impl Message {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::HELLO,
            Self::Window(_) => Kind::WINDOW,
            Self::Attach(_) => Kind::ATTACH,
            Self::OpenQueue(_) => Kind::OPEN_QUEUE,
            Self::Close(_) => Kind::CLOSE,
            Self::Share(_) => Kind::SHARE,
            Self::Revoke(_) => Kind::REVOKE,
            Self::Control(_) => Kind::CONTROL,
            Self::Refresh(_) => Kind::REFRESH,
            Self::Counters(_) => Kind::COUNTERS,
            Self::Inspect(_) => Kind::INSPECT,
            Self::Totals => Kind::TOTALS,
            Self::Reply(..) => Kind::REPLY,
            Self::Goodbye => Kind::GOODBYE,
            Self::Log(_) => Kind::LOG,
        }
    }

    /// As it goes over the socket.
    #[must_use]
    pub fn emit(&self, sequence: u64) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<Header>()];
        match self {
            Self::Hello(body) => bytes.extend(body.as_bytes()),
            Self::Window(body) => bytes.extend(body.as_bytes()),
            Self::Attach(body) => bytes.extend(body.as_bytes()),
            Self::OpenQueue(body) => bytes.extend(body.as_bytes()),
            Self::Close(body) | Self::Refresh(body) | Self::Counters(body) => bytes.extend(body.as_bytes()),
            Self::Share(body) | Self::Revoke(body) => bytes.extend(body.as_bytes()),
            Self::Control(body) => bytes.extend(body.as_bytes()),
            Self::Inspect(body) => bytes.extend(body.as_bytes()),
            Self::Reply(to, answer) => {
                let error = answer.as_ref().err().map_or(0, |error| error.0);
                bytes.extend(ReplyHead { error, to: *to, reserved: 0 }.as_bytes());
                bytes.extend(answer.as_deref().unwrap_or_default());
            }
            Self::Totals | Self::Goodbye => {}
            Self::Log(body) => bytes.extend(body.as_bytes()),
        }
        let header = Header { size: bytes.len() as u32, kind: self.kind(), reserved: 0, sequence };
        for (to, from) in bytes.iter_mut().zip(header.as_bytes()) {
            *to = *from;
        }
        bytes
    }

    /// What a packet says, with its sequence.
    ///
    /// # Errors
    /// What is wrong with its form.
    pub fn parse(packet: &[u8]) -> Result<(u64, Self), ParseError> {
        let size = ParseError::Size { bytes: packet.len() };
        let (header, body) = Header::read_from_prefix(packet).map_err(|_| size)?;
        if header.size as usize != packet.len() {
            return Err(size);
        }
        if header.reserved != 0 {
            return Err(ParseError::Reserved(header.kind));
        }
        Ok((header.sequence, Self::parse_body(header.kind, body)?))
    }

    fn parse_body(kind: Kind, body: &[u8]) -> Result<Self, ParseError> {
        let zero = |reserved: bool| if reserved { Ok(()) } else { Err(ParseError::Reserved(kind)) };
        let of_device = || {
            let body: OfDevice = exactly(kind, body)?;
            zero(body.reserved == 0).map(|()| body)
        };
        let share = || {
            let body: Share = exactly(kind, body)?;
            zero(body.reserved == 0).map(|()| body)
        };
        Ok(match kind {
            Kind::HELLO => {
                let body: Hello = exactly(kind, body)?;
                zero(body.reserved == 0)?;
                Self::Hello(body)
            }
            Kind::WINDOW => Self::Window(exactly(kind, body)?),
            Kind::ATTACH => {
                let body: Attach = exactly(kind, body)?;
                zero(body.reserved == [0; 6])?;
                Self::Attach(body)
            }
            Kind::OPEN_QUEUE => Self::OpenQueue(Box::new(exactly(kind, body)?)),
            Kind::CLOSE => Self::Close(of_device()?),
            Kind::REFRESH => Self::Refresh(of_device()?),
            Kind::COUNTERS => Self::Counters(of_device()?),
            Kind::INSPECT => {
                let body: Inspect = exactly(kind, body)?;
                zero(body.reserved == 0)?;
                Self::Inspect(body)
            }
            Kind::SHARE => Self::Share(share()?),
            Kind::REVOKE => Self::Revoke(share()?),
            Kind::CONTROL => Self::Control(exactly(kind, body)?),
            Kind::REPLY => {
                let bytes = body.len();
                let (head, rest) = ReplyHead::read_from_prefix(body).map_err(|_| ParseError::Body { kind, bytes })?;
                zero(head.reserved == 0)?;
                match head.error {
                    0 => Self::Reply(head.to, Ok(rest.to_vec())),
                    _ if !rest.is_empty() => return Err(ParseError::Body { kind, bytes }),
                    error => Self::Reply(head.to, Err(CallError(error))),
                }
            }
            Kind::TOTALS if body.is_empty() => Self::Totals,
            Kind::GOODBYE if body.is_empty() => Self::Goodbye,
            Kind::TOTALS | Kind::GOODBYE => return Err(ParseError::Body { kind, bytes: body.len() }),
            Kind::LOG => Self::Log(exactly(kind, body)?),
            other => return Err(ParseError::Kind(other)),
        })
    }
}

fn exactly<T: FromBytes + KnownLayout + Immutable>(kind: Kind, body: &[u8]) -> Result<T, ParseError> {
    T::read_from_bytes(body).map_err(|_| ParseError::Body { kind, bytes: body.len() })
}
