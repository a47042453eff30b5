//! Frames on their way to one receiver: bounded, and able to wake the receiver's thread.
//!
//! *Invariants.* At most the limit of frames wait, and no more bytes than [`MAX_BYTES`] and one frame; a frame more is dropped and counted, as a switch drops it. The eventfd
//! is written only when the inbox was empty, so a busy inbox costs no system calls.

use super::Frame;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Bytes that wait before a frame more is dropped.
const MAX_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
}

/// Frames on their way to one receiver.
#[derive(Debug)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    limit: usize,
    wake: EventFd,
    dropped: AtomicU64,
}

impl Inbox {
    /// An inbox for at most `limit` frames.
    ///
    /// # Errors
    /// No eventfd is to be had.
    pub fn new(limit: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            waiting: Mutex::default(),
            limit,
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            dropped: AtomicU64::new(0),
        }))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame. False if it was dropped because the inbox is full.
    pub fn push(&self, frame: Frame) -> bool {
        let mut waiting = self.waiting();
        if waiting.frames.len() >= self.limit || waiting.bytes >= MAX_BYTES {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        waiting.bytes += frame.bytes.len();
        waiting.frames.push_back(frame);
        if waiting.frames.len() == 1 {
            // Fails only when the counter is full, and then the receiver is awake.
            let _ = self.wake.write(1);
        }
        true
    }

    /// Takes the oldest frame.
    pub fn pop(&self) -> Option<Frame> {
        let mut waiting = self.waiting();
        let frame = waiting.frames.pop_front()?;
        waiting.bytes -= frame.bytes.len();
        Some(frame)
    }

    /// Puts a frame back that could not be delivered yet.
    pub fn unpop(&self, frame: Frame) {
        let mut waiting = self.waiting();
        waiting.bytes += frame.bytes.len();
        waiting.frames.push_front(frame);
    }

    /// Forgets what waits.
    pub fn clear(&self) {
        *self.waiting() = Waiting::default();
    }

    /// How many frames more it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        let waiting = self.waiting();
        if waiting.bytes >= MAX_BYTES { 0 } else { self.limit.saturating_sub(waiting.frames.len()) }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting().frames.is_empty()
    }

    /// Frames dropped because the inbox was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Readable when frames came into an empty inbox; reading it clears it.
    #[must_use]
    pub fn wake_fd(&self) -> &EventFd {
        &self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frames_fill_an_inbox_by_their_bytes_and_room_comes_back() {
        let inbox = Inbox::new(1024).unwrap();
        let large = || Frame::finished(vec![0; 64 << 10]);
        let taken = (0..1024).filter(|_| inbox.push(large())).count();
        assert_eq!((taken, inbox.dropped(), inbox.room()), (64, 960, 0));
        let first = inbox.pop().unwrap();
        assert_eq!(inbox.room(), 1024 - 63);
        inbox.unpop(first);
        assert!(!inbox.push(large()));
        inbox.clear();
        assert!(inbox.push(large()) && inbox.room() == 1023);
    }
}
