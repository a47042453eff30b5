//! The console as a byte stream of `embedded-io`. Its traits know no deadline, so the adapter has one for each call.

use super::Console;
use crate::error::RequestError;
use crate::platform::Platform;
use embedded_io::{Error, ErrorKind, ErrorType, Read, ReadReady, Write, WriteReady};
use pvkit_abi::status::Status;

/// A console whose calls wait for `patience` nanoseconds each, then end with [`ErrorKind::TimedOut`].
///
/// ```
/// use embedded_io::{Read, ReadReady, Write};
/// use pvkit_abi::bus::Class;
/// use pvkit_guest_drivers::{Bus, Console, GrantPolicy, platform::Platform};
///
/// # let platform = pvkit_guest_drivers::fake::platform(vec![pvkit_guest_drivers::fake::Device::console()]);
/// # platform.calls.host().type_in(1, b"yes");
/// let deadline = platform.now() + 1_000_000_000;
/// let mut bus = Bus::connect(&platform)?;
/// let device = bus.find(Class::CONSOLE, 0).expect("a console is offered");
/// let mut console = Console::open(&mut bus, device, GrantPolicy::Extent, deadline)?;
/// let mut io = console.io(1_000_000_000);
/// write!(io, "{} + {} = ", 1, 1)?;
/// io.flush()?;
/// let mut typed = [0; 16];
/// let count = io.read(&mut typed)?;
/// assert_eq!(&typed[..count], b"yes");
/// assert!(!io.read_ready()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ConsoleIo<'c, 'p, P: Platform> {
    console: &'c mut Console<'p, P>,
    patience: u64,
}

impl<'p, P: Platform> Console<'p, P> {
    /// The console for code that reads and writes by `embedded-io`. `u64::MAX` waits for as long as it takes.
    pub const fn io(&mut self, patience: u64) -> ConsoleIo<'_, 'p, P> {
        ConsoleIo { console: self, patience }
    }
}

impl<P: Platform> ConsoleIo<'_, '_, P> {
    fn deadline(&self) -> u64 {
        self.console.link.platform().now().saturating_add(self.patience)
    }
}

impl<P: Platform> ErrorType for ConsoleIo<'_, '_, P> {
    type Error = RequestError;
}

impl<P: Platform> Read for ConsoleIo<'_, '_, P> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, RequestError> {
        let deadline = self.deadline();
        self.console.read(into, deadline)
    }
}

impl<P: Platform> ReadReady for ConsoleIo<'_, '_, P> {
    fn read_ready(&mut self) -> Result<bool, RequestError> {
        self.console.has_input()
    }
}

/// What is written is on its way; `flush` waits until the host has taken it.
impl<P: Platform> Write for ConsoleIo<'_, '_, P> {
    fn write(&mut self, text: &[u8]) -> Result<usize, RequestError> {
        let deadline = self.deadline();
        self.console.accept(text, deadline)
    }

    fn flush(&mut self) -> Result<(), RequestError> {
        let deadline = self.deadline();
        self.console.flush(deadline)
    }
}

impl<P: Platform> WriteReady for ConsoleIo<'_, '_, P> {
    fn write_ready(&mut self) -> Result<bool, RequestError> {
        self.console.has_room()
    }
}

impl Error for RequestError {
    fn kind(&self) -> ErrorKind {
        match *self {
            Self::TimedOut => ErrorKind::TimedOut,
            Self::Disconnected | Self::Refused(_) => ErrorKind::NotConnected,
            Self::Unsupported => ErrorKind::Unsupported,
            Self::NoMemory => ErrorKind::OutOfMemory,
            Self::PeerFault(_) => ErrorKind::InvalidData,
            Self::Misuse(_) => ErrorKind::InvalidInput,
            Self::Io { status: Status::UNSUPPORTED, .. } => ErrorKind::Unsupported,
            Self::Full | Self::Io { .. } => ErrorKind::Other,
        }
    }
}
