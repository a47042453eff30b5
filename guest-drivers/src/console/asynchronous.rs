//! Futures: a task reads while others write.
//!
//! *Invariants.* Between two calls of [`AsyncConsole::collect`] the ring is empty and its event word armed, or an interrupt
//! is under way. No waker is called or dropped while the console is borrowed.

use super::Console;
use crate::asynchronous::{Interrupt, NoSeat, Waiters};
use crate::bus::Bus;
use crate::device::QueueCounters;
use crate::error::{BusError, RequestError};
use crate::platform::Platform;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};
use pvkit_ring::Park;

/// A console that up to `TASKS` tasks wait for at once; one more gets [`RequestError::Full`].
///
/// ```
/// use core::pin::pin;
/// use core::task::{Context, Poll, Waker};
/// use pvkit_abi::bus::Class;
/// use pvkit_guest_drivers::asynchronous::Interrupt;
/// use pvkit_guest_drivers::console::AsyncConsole;
/// use pvkit_guest_drivers::{Bus, Console, GrantPolicy, platform::Platform};
///
/// /// Polls, and sleeps while nothing is ready; then looks at the queue, as the bottom half's task does elsewhere.
/// fn block_on<P: Platform, F: Future>(platform: &P, console: &AsyncConsole<'_, '_, P>, future: F) -> F::Output {
///     let mut future = pin!(future);
///     loop {
///         if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
///             return output;
///         }
///         platform.wait(platform.now() + 1_000_000);
///         let _ = console.collect();
///     }
/// }
///
/// # let platform = pvkit_guest_drivers::fake::platform(vec![pvkit_guest_drivers::fake::Device::console()]);
/// # platform.calls.host().type_in(1, b"yes");
/// let deadline = platform.now() + 1_000_000_000;
/// let mut bus = Bus::connect(&platform)?;
/// let device = bus.find(Class::CONSOLE, 0).expect("a console is offered");
/// let interrupt = Interrupt::new();
/// let console = Console::open(&mut bus, device, GrantPolicy::Extent, deadline)?;
/// let console: AsyncConsole<'_, '_, _> = AsyncConsole::new(console, &interrupt);
/// let mut typed = [0; 16];
/// let count = block_on(&platform, &console, async {
///     console.write(b"sure? ", deadline).await?;
///     console.flush(deadline).await?;
///     console.read(&mut typed, deadline).await
/// })?;
/// assert_eq!(&typed[..count], b"yes");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncConsole<'i, 'p, P: Platform, const TASKS: usize = 8> {
    interrupt: &'i Interrupt,
    shared: RefCell<Shared<'p, P, TASKS>>,
}

#[derive(Debug)]
struct Shared<'p, P: Platform, const TASKS: usize> {
    console: Console<'p, P>,
    waiters: Waiters<TASKS>,
    /// The fault that ended the queue.
    failed: Option<RequestError>,
}

impl<'i, 'p, P: Platform, const TASKS: usize> AsyncConsole<'i, 'p, P, TASKS> {
    /// Futures on `console`, woken by [`AsyncConsole::bottom_half`].
    #[must_use]
    pub fn new(console: Console<'p, P>, interrupt: &'i Interrupt) -> Self {
        let shared = Shared { console, waiters: Waiters::new(), failed: None };
        let new = Self { interrupt, shared: RefCell::new(shared) };
        // Arms the event word. A fault waits for the first future.
        let _ = new.collect();
        new
    }

    /// What follows an interrupt: to be spawned as a task of its own, or an executor's loop calls
    /// [`AsyncConsole::collect`] when it has slept. Without either, futures learn of their completions at their deadline.
    ///
    /// Ends when the host broke the protocol or the queue is detached.
    pub async fn bottom_half(&self) -> RequestError {
        poll_fn(|context| {
            // Before the event word is armed: the interrupt finds the waker.
            self.interrupt.register(context.waker());
            match self.collect() {
                Ok(()) if self.shared.borrow().console.link.is_detached() => Poll::Ready(RequestError::Disconnected),
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error),
            }
        })
        .await
    }

    /// Takes every completion that is there, wakes those who wait, and asks for the next interrupt. Bounded by what is
    /// in flight.
    ///
    /// # Errors
    /// If the host broke the ring protocol; every future ends with the fault.
    pub fn collect(&self) -> Result<(), RequestError> {
        loop {
            let looked = self.shared.borrow_mut().look();
            match looked {
                // Armed, and looked at once more: what came before the host could see that is taken here.
                Ok(false) if self.shared.borrow_mut().console.link.park() == Park::Armed => return Ok(()),
                Ok(false) => {}
                Ok(true) => self.wake(),
                Err(error) => {
                    self.wake();
                    return Err(error);
                }
            }
        }
    }

    /// Puts all of `text` on its way, in requests of up to a page; waits while the queue is full. The text of one
    /// request stays together, whoever else writes. What was put on its way is written even if the future is dropped.
    ///
    /// # Errors
    /// How an earlier write failed, [`RequestError::TimedOut`], a fault.
    pub async fn write(&self, text: &[u8], deadline: u64) -> Result<(), RequestError> {
        let mut rest = text;
        while !rest.is_empty() {
            let accepted = self.accept(rest, deadline).await?;
            rest = rest.get(accepted..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Puts the beginning of `text` on its way, up to a page; says how many bytes.
    ///
    /// # Errors
    /// As for `write`.
    pub async fn accept(&self, text: &[u8], deadline: u64) -> Result<usize, RequestError> {
        self.when(deadline, |console| console.offer(text)).await
    }

    /// Waits until the host has taken everything that was written.
    ///
    /// # Errors
    /// How a write failed, [`RequestError::TimedOut`], a fault.
    pub async fn flush(&self, deadline: u64) -> Result<(), RequestError> {
        let flushed = |console: &mut Console<'p, P>| match console.write_failed.take() {
            Some(error) => Err(error),
            None => Ok((console.outstanding() == 0).then_some(())),
        };
        self.when(deadline, flushed).await
    }

    /// Reads what is there, at least one byte; 0 at the end of input, or if `into` is empty. If the future is dropped
    /// the next one gets what was typed.
    ///
    /// # Errors
    /// How the read failed, [`RequestError::TimedOut`], a fault.
    pub async fn read(&self, into: &mut [u8], deadline: u64) -> Result<usize, RequestError> {
        self.when(deadline, |console| console.collect_input(into)).await
    }

    /// Columns and rows, 0 where unknown.
    pub fn size(&self) -> (u16, u16) {
        self.shared.borrow().console.size()
    }

    /// Event port of the queue, whose handler wakes its interrupt; `None` once it is closed.
    pub fn port(&self) -> Option<u32> {
        self.shared.borrow().console.port()
    }

    /// Counts so far. The drivers do not sleep at this door: the executor counts sleeps.
    pub fn counters(&self) -> QueueCounters {
        self.shared.borrow().console.counters()
    }

    /// As [`Console::refresh`]; on a detached queue every future ends.
    pub fn refresh(&self, bus: &Bus<'p, P>) -> bool {
        let changed = self.shared.borrow_mut().console.refresh(bus);
        self.wake();
        changed
    }

    /// As [`Console::close`]; then every future ends.
    ///
    /// # Errors
    /// As there.
    pub fn close(&self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let closed = self.shared.borrow_mut().console.close(bus, deadline);
        self.wake();
        closed
    }

    /// The console as it was, for the other doors. Futures borrow this: there are none.
    pub fn into_inner(self) -> Console<'p, P> {
        self.shared.into_inner().console
    }

    /// Waits until `attempt` has an answer.
    async fn when<T>(
        &self,
        deadline: u64,
        mut attempt: impl FnMut(&mut Console<'p, P>) -> Result<Option<T>, RequestError>,
    ) -> Result<T, RequestError> {
        let mut seat = Seat { console: self, index: None };
        poll_fn(|context| {
            // The clock is read before the look: what came in time is found.
            let late = self.shared.borrow().console.link.platform().now() >= deadline;
            if late {
                // A fault is seen in the attempt.
                let _ = self.collect();
            }
            let (ended, before) =
                self.shared.borrow_mut().attempt(&mut seat.index, context.waker(), late, &mut attempt);
            drop(before);
            ended
        })
        .await
    }

    fn wake(&self) {
        let waiting = self.shared.borrow_mut().waiters.take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

/// A future's place among those that wait, until it ends or is dropped.
struct Seat<'a, 'i, 'p, P: Platform, const TASKS: usize> {
    console: &'a AsyncConsole<'i, 'p, P, TASKS>,
    index: Option<u16>,
}

impl<P: Platform, const TASKS: usize> Drop for Seat<'_, '_, '_, P, TASKS> {
    fn drop(&mut self) {
        let waker = self.console.shared.borrow_mut().waiters.leave(&mut self.index);
        drop(waker);
    }
}

impl<'p, P: Platform, const TASKS: usize> Shared<'p, P, TASKS> {
    fn look(&mut self) -> Result<bool, RequestError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.console.look().inspect_err(|error| self.failed = Some(*error)),
        }
    }

    /// Tries, and remembers the waker if it was in vain; answers the waker before it.
    fn attempt<T>(
        &mut self,
        seat: &mut Option<u16>,
        waker: &Waker,
        late: bool,
        attempt: impl FnOnce(&mut Console<'p, P>) -> Result<Option<T>, RequestError>,
    ) -> (Poll<Result<T, RequestError>>, Option<Waker>) {
        let ended = match self.failed {
            Some(error) => Err(error),
            None => attempt(&mut self.console),
        };
        let ended = match ended {
            Ok(None) if late => Err(RequestError::TimedOut),
            Ok(None) if self.console.link.is_detached() => Err(RequestError::Disconnected),
            Ok(None) => match self.waiters.wait(seat, waker) {
                Ok(before) => return (Poll::Pending, before),
                Err(NoSeat) => Err(RequestError::Full),
            },
            Ok(Some(done)) => Ok(done),
            Err(error) => Err(error),
        };
        (Poll::Ready(ended), None)
    }
}
