//! A tiny executor: polls what was woken, sleeps by `SCHED_BLOCK` when nothing was, and has one timer.
//!
//! *Owners.* It allocates its tasks and their wakers once, before it runs; the drivers under it allocate nothing.
//!
//! *Interrupts.* This guest has no upcall handler: an event ends the sleep, and every queue's interrupt is woken then.

use crate::Failure;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::platform::Platform;

/// Words of the set of tasks that are to be polled.
const WORDS: usize = 4;
/// A sleep is no longer, so that a wake-up that was lost shows: what is found then was not told.
const HEARTBEAT_NS: u64 = 2_000_000_000;

/// Something to be done.
pub(super) type Work<'t> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 't>>;

/// The timer that tasks share.
#[derive(Debug, Default)]
pub(super) struct Timer {
    /// When the next task wants to be polled; `None` if none does.
    next: Cell<Option<u64>>,
    /// Nothing ended the last sleep but the heartbeat.
    late: Cell<bool>,
}

impl Timer {
    /// `future`, polled again at the deadline that it has itself.
    pub(super) async fn by<F: Future>(&self, deadline: u64, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            if polled.is_pending() {
                self.next.set(Some(self.next.get().map_or(deadline, |next| next.min(deadline))));
            }
            polled
        })
        .await
    }

    /// Whether neither an event nor a deadline of a task ended the last sleep.
    pub(super) const fn is_late(&self) -> bool {
        self.late.get()
    }
}

/// What the executor did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) polls: u64,
    pub(super) waits: u64,
}

/// The tasks that are to be polled, a bit each.
#[derive(Debug, Default)]
struct Ready([AtomicU64; WORDS]);

impl Ready {
    fn set(&self, task: usize) {
        if let Some(word) = self.0.get(task / 64) {
            // ORDER: Release, pairs with `take`; what was stored before the wake is visible to the task.
            word.fetch_or(1 << (task % 64), Ordering::Release);
        }
    }

    fn take(&self, word: usize) -> u64 {
        // ORDER: Acquire, pairs with `set`.
        self.0.get(word).map_or(0, |word| word.swap(0, Ordering::Acquire))
    }
}

/// Wakes one task.
struct Signal {
    ready: Arc<Ready>,
    task: usize,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.set(self.task);
    }
}

struct Task<'t> {
    work: Option<Work<'t>>,
    waker: Waker,
    /// The executor ends when only those are left that are not.
    is_needed: bool,
}

/// Up to 256 tasks.
pub(super) struct Executor<'t, 'p, P: Platform> {
    platform: &'p P,
    timer: &'t Timer,
    interrupts: &'t [Interrupt],
    tasks: Vec<Task<'t>>,
    ready: Arc<Ready>,
    counts: Counts,
}

impl<'t, 'p, P: Platform> Executor<'t, 'p, P> {
    pub(super) fn new(platform: &'p P, timer: &'t Timer, interrupts: &'t [Interrupt]) -> Self {
        let (ready, counts) = (Arc::default(), Counts::default());
        Self { platform, timer, interrupts, tasks: Vec::new(), ready, counts }
    }

    /// Adds a task that is run to its end.
    pub(super) fn spawn(&mut self, work: impl Future<Output = Result<(), Failure>> + 't) {
        self.add(work, true);
    }

    /// Adds a task that serves others and has no end.
    pub(super) fn spawn_servant(&mut self, work: impl Future<Output = Result<(), Failure>> + 't) {
        self.add(work, false);
    }

    fn add(&mut self, work: impl Future<Output = Result<(), Failure>> + 't, is_needed: bool) {
        let task = self.tasks.len();
        let waker = Arc::new(Signal { ready: self.ready.clone(), task }).into();
        self.tasks.push(Task { work: Some(Box::pin(work)), waker, is_needed });
    }

    /// Runs until every task that is needed has ended, or one has failed.
    pub(super) fn run(mut self) -> Result<Counts, Failure> {
        self.wake_all();
        while self.tasks.iter().any(|task| task.is_needed && task.work.is_some()) {
            if !self.poll_ready()? {
                self.sleep();
            }
        }
        Ok(self.counts)
    }

    fn poll_ready(&mut self) -> Result<bool, Failure> {
        let mut any = false;
        for word in 0..WORDS {
            let mut bits = self.ready.take(word);
            while bits != 0 {
                let task = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                any = true;
                self.counts.polls += 1;
                self.tasks.get_mut(task).map_or(Ok(()), Task::poll)?;
            }
        }
        Ok(any)
    }

    fn sleep(&mut self) {
        let heartbeat = self.platform.now().saturating_add(HEARTBEAT_NS);
        let until = self.timer.next.get().map_or(heartbeat, |next| next.min(heartbeat));
        self.counts.waits += 1;
        self.platform.wait(until);
        self.interrupts.iter().for_each(Interrupt::wake);
        let is_late = self.platform.now() >= until;
        self.timer.late.set(is_late && until == heartbeat);
        if is_late {
            self.timer.next.set(None);
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        (0..self.tasks.len()).for_each(|task| self.ready.set(task));
    }
}

impl Task<'_> {
    fn poll(&mut self) -> Result<(), Failure> {
        let Some(work) = &mut self.work else { return Ok(()) };
        match work.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Ok(()),
            Poll::Ready(ended) => {
                self.work = None;
                ended
            }
        }
    }
}
