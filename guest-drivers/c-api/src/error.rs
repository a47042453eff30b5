//! Errors as C sees them: a negative number each, and words for it.

use core::ffi::{CStr, c_char};
use pvkit_guest_drivers::error::{BusError, ConnectError, Misuse, RequestError};
use pvkit_guest_drivers::platform::NoMemory;

/// Why a call failed. Every call returns one of these, or a number that is not negative.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Another call uses this device or the bus at the moment; nothing was changed.
    Busy = -1,
    /// An argument is impossible: a null pointer, a length of zero or beyond what memory can hold.
    Invalid = -2,
    /// `pvkit_init` was not called, or `pvkit_connect` was not.
    NotReady = -3,
    /// `pvkit_init` or `pvkit_connect` was called before.
    AlreadyDone = -4,
    /// The boot info is not one of a pvkit host, or lacks what this library needs.
    NotAHost = -5,
    /// The host does not offer a group or version that this library needs, or refused it.
    Refused = -6,
    /// There is no such device, or the handle is not open.
    NotFound = -7,
    /// Every slot of the library, or every request of the queue, is taken.
    Full = -8,
    /// The pool has no free page.
    NoMemory = -9,
    /// The deadline passed. What was asked for may still happen.
    TimedOut = -10,
    /// Position or length is not a multiple of the disk's logical block, or the length is zero.
    Misaligned = -11,
    /// The request reaches beyond the end of the disk.
    OutOfRange = -12,
    /// A write to a read-only disk.
    ReadOnly = -13,
    /// The device does not offer the operation.
    Unsupported = -14,
    /// The device answered with an error.
    Io = -15,
    /// The device is gone or closing.
    Disconnected = -16,
    /// The host broke the protocol; the device is not usable any more.
    HostFault = -17,
    /// The frame is longer than the card can send, or than the room for it; it was dropped.
    TooLong = -18,
}

impl Error {
    const fn words(self) -> &'static CStr {
        match self {
            Self::Busy => c"another call uses this device or the bus; try again",
            Self::Invalid => c"an argument is impossible: a null pointer, or a length of zero or too large",
            Self::NotReady => c"call pvkit_init and pvkit_connect first",
            Self::AlreadyDone => c"this was done before; once is enough",
            Self::NotAHost => c"the boot info is not a pvkit host's, or lacks transport, port or clock",
            Self::Refused => c"the host lacks or refused a group or version that this library needs",
            Self::NotFound => c"no such device, or the handle is not open",
            Self::Full => c"every slot is taken; close a device first",
            Self::NoMemory => c"the pool has no free page; give pvkit_init a larger one",
            Self::TimedOut => c"the deadline passed; what was asked for may still happen",
            Self::Misaligned => c"position and length must be multiples of the logical block, and not zero",
            Self::OutOfRange => c"the request reaches beyond the end of the disk",
            Self::ReadOnly => c"the disk is read-only",
            Self::Unsupported => c"the device does not offer this",
            Self::Io => c"the device answered with an error",
            Self::Disconnected => c"the device is gone or closing",
            Self::HostFault => c"the host broke the protocol; close the device",
            Self::TooLong => c"the frame is too long; room for the MTU and 18 bytes holds every frame",
        }
    }

    /// Every error, for looking one up by its number.
    pub(crate) const ALL: [Self; 18] = [
        Self::Busy,
        Self::Invalid,
        Self::NotReady,
        Self::AlreadyDone,
        Self::NotAHost,
        Self::Refused,
        Self::NotFound,
        Self::Full,
        Self::NoMemory,
        Self::TimedOut,
        Self::Misaligned,
        Self::OutOfRange,
        Self::ReadOnly,
        Self::Unsupported,
        Self::Io,
        Self::Disconnected,
        Self::HostFault,
        Self::TooLong,
    ];
}

impl From<NoMemory> for Error {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<Misuse> for Error {
    fn from(misuse: Misuse) -> Self {
        match misuse {
            Misuse::NoSuchDevice(_) | Misuse::WrongClass(_) => Self::NotFound,
            Misuse::NotOffered(_) | Misuse::RequestsInFlight => Self::Busy,
            Misuse::Misaligned { .. } => Self::Misaligned,
            Misuse::OutOfRange { .. } => Self::OutOfRange,
            Misuse::ReadOnly => Self::ReadOnly,
            _ => Self::Invalid,
        }
    }
}

impl From<BusError> for Error {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Full => Self::Full,
            BusError::Refused(_) | BusError::Declined { .. } => Self::Refused,
            BusError::PeerFault(_) => Self::HostFault,
            BusError::Misuse(misuse) => misuse.into(),
            BusError::Unsupported { .. } => Self::Unsupported,
            BusError::Disconnected => Self::Disconnected,
            BusError::TimedOut => Self::TimedOut,
            BusError::NoMemory => Self::NoMemory,
        }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Full => Self::Full,
            RequestError::Io { .. } => Self::Io,
            RequestError::PeerFault(_) => Self::HostFault,
            RequestError::Misuse(misuse) => misuse.into(),
            RequestError::Unsupported => Self::Unsupported,
            RequestError::Disconnected => Self::Disconnected,
            RequestError::Refused(_) => Self::Refused,
            RequestError::TimedOut => Self::TimedOut,
            RequestError::NoMemory => Self::NoMemory,
        }
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NotAHost(_) => Self::NotAHost,
            ConnectError::Bus(error) => error.into(),
            _ => Self::Refused,
        }
    }
}

/// 0, or the error's number.
pub(crate) fn status(result: Result<(), Error>) -> i32 {
    result.map_or_else(|error| error as i32, |()| 0)
}

/// What a result means, in words that end with a zero byte and live for ever. Any number may be asked for.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_strerror(result: i32) -> *const c_char {
    let known = Error::ALL.iter().find(|error| **error as i32 == result);
    let words = match known {
        Some(error) => error.words(),
        None if result >= 0 => c"no error",
        None => c"an error that this version does not know",
    };
    words.as_ptr()
}
