//! What was typed and not yet read by the guest: bounded, and able to wake the queue's thread.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A console's input. Outlives its queues: what is typed while the guest reconnects is kept.
pub struct ConsoleInput {
    state: Mutex<State>,
    wake: EventFd,
    limit: usize,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl ConsoleInput {
    /// An empty input that holds at most `limit` bytes.
    ///
    /// # Errors
    /// No eventfd is to be had.
    pub fn new(limit: usize) -> io::Result<Arc<Self>> {
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Arc::new(Self { state: Mutex::default(), wake, limit }))
    }

    /// Appends what was typed and answers how much of it there was room for; the rest is the caller's to keep or drop.
    pub fn push(&self, bytes: &[u8]) -> usize {
        let mut state = self.lock();
        let room = if state.ended { 0 } else { self.limit.saturating_sub(state.bytes.len()) };
        let taken = room.min(bytes.len());
        state.bytes.extend(bytes.iter().take(taken));
        drop(state);
        self.wake();
        taken
    }

    /// No more input will come: after what is there, reads are answered with 0 bytes.
    pub fn end(&self) {
        self.lock().ended = true;
        self.wake();
    }

    /// Whether a read could be answered now.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.lock();
        state.ended || !state.bytes.is_empty()
    }

    /// Takes up to `limit` bytes; an empty answer means the end of the input, `None` that nothing is there yet.
    pub fn take(&self, limit: usize) -> Option<Vec<u8>> {
        let mut state = self.lock();
        if state.bytes.is_empty() && !state.ended {
            return None;
        }
        let count = limit.min(state.bytes.len());
        Some(state.bytes.drain(..count).collect())
    }

    /// Waits until a read could be answered, at most `time`; whether it could. For readers that are no queue.
    pub fn wait(&self, time: std::time::Duration) -> bool {
        if !self.is_ready() {
            let _ = crate::sys::wait_readable([self.wake.as_raw_fd()], time);
            // Whatever was there is seen below; a wake that comes later stays.
            let _ = self.wake.read();
        }
        self.is_ready()
    }

    pub(super) fn wake_fd(&self) -> &EventFd {
        &self.wake
    }

    fn wake(&self) {
        // Fails only if 2^64 wakes are pending; then one more is not needed.
        let _ = self.wake.write(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
