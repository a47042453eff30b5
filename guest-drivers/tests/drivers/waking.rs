//! What the tests of futures have in place of an executor.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::fake::TestPlatform;
use pvkit_guest_drivers::platform::Platform;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

/// Counts how often it is woken.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (count.clone(), count.into())
    }

    pub(crate) fn woken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

pub(crate) fn poll<F: Future + ?Sized>(future: &mut Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

/// The host serves what is due, and the interrupt comes if it is asked for.
pub(crate) fn serve(platform: &TestPlatform, interrupt: &Interrupt) {
    let vain = platform.calls.host().counts.vain_waits;
    platform.wait(0);
    if platform.calls.host().counts.vain_waits == vain {
        interrupt.wake();
    }
}
