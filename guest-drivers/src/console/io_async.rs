//! The shared console as a byte stream of `embedded-io-async`. Its futures have no deadline: a caller that has one drops
//! them, and nothing that was typed or accepted is lost.

use super::AsyncConsole;
use crate::error::RequestError;
use crate::platform::Platform;
use embedded_io_async::{ErrorType, Read, Write};

impl<P: Platform, const TASKS: usize> ErrorType for &AsyncConsole<'_, '_, P, TASKS> {
    type Error = RequestError;
}

impl<P: Platform, const TASKS: usize> Read for &AsyncConsole<'_, '_, P, TASKS> {
    async fn read(&mut self, into: &mut [u8]) -> Result<usize, RequestError> {
        AsyncConsole::read(self, into, u64::MAX).await
    }
}

/// What is written is on its way; `flush` waits until the host has taken it.
impl<P: Platform, const TASKS: usize> Write for &AsyncConsole<'_, '_, P, TASKS> {
    async fn write(&mut self, text: &[u8]) -> Result<usize, RequestError> {
        self.accept(text, u64::MAX).await
    }

    async fn flush(&mut self) -> Result<(), RequestError> {
        AsyncConsole::flush(self, u64::MAX).await
    }
}
