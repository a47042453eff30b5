//! Text for the PV console, buffered: one request for many lines.

use alloc::vec::Vec;
use core::fmt::{self, Write};
use pvkit_abi::hypercall::{Call, MAX_CONSOLE_WRITE};
use pvkit_guest_drivers::Console;
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::platform::Platform;

/// Text is sent on its own when so much of it is there.
const LIMIT: usize = 4096;
/// How long the host may take for it.
const PATIENCE_NS: u64 = 30_000_000_000;

/// A console with a buffer before it.
pub(crate) struct Terminal<'p, P: Platform> {
    platform: &'p P,
    /// Unless it is lent.
    console: Option<Console<'p, P>>,
    text: Vec<u8>,
    /// The first error: later ones only follow from it.
    failed: Option<RequestError>,
}

impl<'p, P: Platform> Terminal<'p, P> {
    pub(crate) const fn new(platform: &'p P, console: Console<'p, P>) -> Self {
        Self { platform, console: Some(console), text: Vec::new(), failed: None }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = self.write_fmt(text);
        self.text.push(b'\n');
        if self.text.len() >= LIMIT {
            let _ = self.flush();
        }
    }

    /// Sends what is there.
    pub(crate) fn flush(&mut self) -> Result<(), RequestError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(console) = &mut self.console
            && !self.text.is_empty()
        {
            let deadline = self.platform.now().saturating_add(PATIENCE_NS);
            self.failed = console.write(&self.text, deadline).err();
            self.text.clear();
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Sends bytes as they are, behind what is there.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), RequestError> {
        self.text.extend_from_slice(bytes);
        self.flush()
    }

    /// Reads what is typed.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, RequestError> {
        self.console.as_mut().map_or(Ok(0), |console| console.read(into, u64::MAX))
    }

    /// The console for somebody else; text is kept until it is back.
    pub(crate) fn lend(&mut self) -> Option<Console<'p, P>> {
        self.console.take()
    }

    pub(crate) fn give_back(&mut self, console: Console<'p, P>) {
        self.console = Some(console);
    }
}

impl<P: Platform> Write for Terminal<'_, P> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Prints by hypercall, for the time when there is no console. What does not fit a page or a call is not printed.
pub(crate) fn early<P: Platform>(platform: &P, text: &str) {
    let Ok(page) = platform.allocate() else { return };
    let bytes = text.as_bytes().chunks(MAX_CONSOLE_WRITE as usize).next().unwrap_or(&[]);
    if page.bytes.write(0, bytes).is_ok() {
        platform.hypercall(Call::CONSOLE_WRITE, [page.address, bytes.len() as u64, 0, 0, 0]);
    }
    platform.free(page);
}
