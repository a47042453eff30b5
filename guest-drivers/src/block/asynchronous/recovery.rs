//! Futures that outlive the disk's backend.
//!
//! *Kept.* With [`AsyncBlock::keep_for_recovery`] a future whose request is in flight when the backend goes waits on, and one that
//! has not submitted waits for the next queue. One that is dropped meanwhile, or whose deadline passes, is not submitted again.
//!
//! *Who recovers.* A task that has the bus: it sleeps on [`Bus::poll_changed`], and when [`AsyncBlock::is_back`] says so calls
//! [`AsyncBlock::recover`], which then waits for the host's answers alone. The queue's event port is another one afterwards.

use super::AsyncBlock;
use crate::bus::Bus;
use crate::error::RequestError;
use crate::platform::Platform;
use core::task::Waker;

impl<'p, P: Platform, const N: usize, const PAGES: usize> AsyncBlock<'_, 'p, P, N, PAGES> {
    /// As [`Block::keep_for_recovery`](crate::block::Block::keep_for_recovery). What is kept ends when it is no longer.
    pub fn keep_for_recovery(&self, keep: bool) {
        self.queue.borrow_mut().disk.keep_for_recovery(keep);
        // A fault waits in the queue for the first future.
        let _ = self.collect();
        self.wake_outside();
    }

    /// As [`Block::is_over`](crate::block::Block::is_over).
    pub fn is_over(&self) -> bool {
        self.queue.borrow().disk.is_over()
    }

    /// As [`Block::is_back`](crate::block::Block::is_back).
    pub fn is_back(&self, bus: &Bus<'p, P>) -> bool {
        self.queue.borrow().disk.is_back(bus)
    }

    /// As [`Block::recover`](crate::block::Block::recover): what was in flight is submitted again, its futures wait on; those of
    /// requests that had completed, or that the disk cannot do any more, end; those that found no queue are woken. Also after a
    /// fault of the old queue, whose futures have ended with it.
    ///
    /// # Errors
    /// As there.
    pub fn recover(&self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<u32, RequestError> {
        let mut wakers = [const { None }; N];
        let again = self.queue.borrow_mut().recover(bus, deadline, &mut wakers);
        wakers.into_iter().flatten().for_each(Waker::wake);
        // Asks for the interrupt of the queue that is there now.
        let _ = self.collect();
        self.wake_outside();
        again
    }

    /// Whether a request that finds no queue is to wait for the next one.
    pub(super) fn waits_for_recovery(&self) -> bool {
        let queue = self.queue.borrow();
        queue.disk.replays && queue.disk.is_over()
    }
}
