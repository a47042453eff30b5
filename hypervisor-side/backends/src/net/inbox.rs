//! Frames on their way to one receiver: bounded, and able to wake the receiver's thread.
//!
//! *Invariants.* At most the limit of frames wait; a frame more is dropped and counted, as a switch drops it. The eventfd
//! is written only when the inbox was empty, so a busy inbox costs no system calls.

use super::Frame;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Frames on their way to one receiver.
#[derive(Debug)]
pub struct Inbox {
    frames: Mutex<VecDeque<Frame>>,
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
            frames: Mutex::default(),
            limit,
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            dropped: AtomicU64::new(0),
        }))
    }

    fn frames(&self) -> MutexGuard<'_, VecDeque<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame. False if it was dropped because the inbox is full.
    pub fn push(&self, frame: Frame) -> bool {
        let mut frames = self.frames();
        if frames.len() >= self.limit {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        frames.push_back(frame);
        if frames.len() == 1 {
            // Fails only when the counter is full, and then the receiver is awake.
            let _ = self.wake.write(1);
        }
        true
    }

    /// Takes the oldest frame.
    pub fn pop(&self) -> Option<Frame> {
        self.frames().pop_front()
    }

    /// Puts a frame back that could not be delivered yet.
    pub fn unpop(&self, frame: Frame) {
        self.frames().push_front(frame);
    }

    /// Forgets what waits.
    pub fn clear(&self) {
        self.frames().clear();
    }

    /// How many frames more it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.frames().len())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames().is_empty()
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
