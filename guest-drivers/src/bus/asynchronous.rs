//! The bus for a task that follows what the host says while others wait on their queues.

use super::Bus;
use crate::asynchronous::{Interrupt, pending};
use crate::error::BusError;
use crate::platform::Platform;
use core::task::{Context, Poll};

impl<P: Platform> Bus<'_, P> {
    /// As [`Bus::poll`]. Ready if messages were taken: look at the devices; else the task is woken by `interrupt`, that of
    /// [`Bus::port`], and polled again. A message that another call took meanwhile wakes nobody: look before the first poll too.
    ///
    /// # Errors
    /// As for `poll`.
    pub fn poll_changed(&mut self, context: &Context<'_>, interrupt: &Interrupt) -> Poll<Result<(), BusError>> {
        interrupt.register(context.waker());
        let before = self.counters.messages;
        self.poll()?;
        if self.counters.messages > before {
            return Poll::Ready(Ok(()));
        }
        pending(self.park()?, context)
    }
}
