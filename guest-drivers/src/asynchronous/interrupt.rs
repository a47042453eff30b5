//! What an interrupt handler knows of a queue: whom to wake.

use atomic_waker::AtomicWaker;
use core::task::{Context, Poll, Waker};
use pvkit_ring::Park;

/// The waker of one queue, in a `static` or wherever the upcall handler finds it.
///
/// ```
/// use pvkit_guest_drivers::asynchronous::Interrupt;
///
/// static DISK: Interrupt = Interrupt::new();
///
/// fn upcall_handler() {
///     DISK.wake();
/// }
/// # upcall_handler();
/// ```
#[derive(Debug)]
pub struct Interrupt {
    waker: AtomicWaker,
}

impl Interrupt {
    /// Of a queue on which nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Self { waker: AtomicWaker::new() }
    }

    /// The queue's event port became pending, or may have. Never blocks and takes no lock; from any vCPU, also in an
    /// interrupt handler if the executor's wakers allow that. Waking nobody, or in vain, is no mistake.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Whom the next interrupt wakes. To be called before the event word is armed.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

impl Default for Interrupt {
    fn default() -> Self {
        Self::new()
    }
}

/// The waker is stored, the event word armed. If something came meanwhile the task is polled again, and not in a loop
/// here: a host that always has something that is nothing must not hold the executor.
pub(crate) fn pending<T>(park: Park, context: &Context<'_>) -> Poll<T> {
    if park == Park::Ready {
        context.waker().wake_by_ref();
    }
    Poll::Pending
}
