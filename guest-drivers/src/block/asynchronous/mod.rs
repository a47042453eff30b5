//! Futures: many tasks wait on one queue, each for its own request.
//!
//! *Invariants.* Between two calls of [`AsyncBlock::collect`] the ring is empty and its event word armed, or an interrupt
//! is under way. No waker is called or dropped while the queue is borrowed.

mod operation;
mod places;
mod recovery;

pub use operation::{Ended, Operation};

use super::{Block, BlockFeatures, Completed, Geometry, Rejected, Request};
use crate::asynchronous::{Interrupt, NoSeat};
use crate::buffer::Buffer;
use crate::bus::Bus;
use crate::device::{QueueCounters, Sealed};
use crate::error::{BusError, RequestError};
use crate::platform::Platform;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Poll, Waker};
use places::Queue;
use pvkit_ring::{Park, Ticket};

/// A disk whose one queue is shared by the futures of many tasks.
///
/// ```
/// use core::pin::pin;
/// use core::task::{Context, Poll, Waker};
/// use pvkit_abi::bus::Class;
/// use pvkit_guest_drivers::asynchronous::Interrupt;
/// use pvkit_guest_drivers::block::AsyncBlock;
/// use pvkit_guest_drivers::{Block, Bus, GrantPolicy, platform::Platform};
///
/// /// One future and the disk's bottom half, polled in turn. A guest with more to do spawns both on its executor.
/// fn block_on<P: Platform, F: Future>(platform: &P, disk: &AsyncBlock<'_, '_, P>, future: F) -> F::Output {
///     let (mut future, mut bottom) = (pin!(future), pin!(disk.bottom_half()));
///     let mut context = Context::from_waker(Waker::noop());
///     loop {
///         let _ = bottom.as_mut().poll(&mut context);
///         if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
///             return output;
///         }
///         platform.wait(platform.now() + 1_000_000);
///     }
/// }
///
/// # let platform = pvkit_guest_drivers::fake::platform(vec![pvkit_guest_drivers::fake::Device::disk(0, 4096, 512)]);
/// # platform.calls.host().lazy = true;
/// let deadline = platform.now() + 1_000_000_000;
/// let mut bus = Bus::connect(&platform)?;
/// let device = bus.find(Class::BLOCK, 0).expect("a disk is offered");
/// let interrupt = Interrupt::new();
/// let disk: Block<'_, _> = Block::open(&mut bus, device, 32, GrantPolicy::Extent, deadline)?;
/// let disk = AsyncBlock::new(disk, &interrupt);
/// let mut sector = [0; 512];
/// block_on(&platform, &disk, async {
///     disk.write(512, &[7; 512], deadline).await?;
///     disk.flush(deadline).await?;
///     disk.read(512, &mut sector, deadline).await
/// })?;
/// assert_eq!(sector, [7; 512]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncBlock<'i, 'p, P: Platform, const N: usize = 32, const PAGES: usize = 16> {
    interrupt: &'i Interrupt,
    queue: RefCell<Queue<'p, P, N, PAGES>>,
}

impl<'i, 'p, P: Platform, const N: usize, const PAGES: usize> AsyncBlock<'i, 'p, P, N, PAGES> {
    /// Futures on `disk`, woken by [`AsyncBlock::bottom_half`]. Requests that were submitted before and not taken come
    /// to nobody.
    #[must_use]
    pub fn new(disk: Block<'p, P, N, PAGES>, interrupt: &'i Interrupt) -> Self {
        let queue = Queue::new(disk);
        let new = Self { interrupt, queue: RefCell::new(queue) };
        // Arms the event word. A fault waits in the queue for the first future.
        let _ = new.collect();
        new
    }

    /// What follows an interrupt: takes the completions and wakes the futures that waited for them. To be spawned as a
    /// task of its own, so that no future depends on another one's being polled; or an executor's loop calls
    /// [`AsyncBlock::collect`] when it has slept. Without either, futures learn of their completions at their deadline.
    ///
    /// Ends when the host broke the protocol, or the queue is detached and nothing is kept for [`AsyncBlock::recover`].
    pub async fn bottom_half(&self) -> RequestError {
        poll_fn(|context| {
            // Before the event word is armed: the interrupt finds the waker.
            self.interrupt.register(context.waker());
            match self.collect() {
                Ok(()) if self.is_over() && !self.waits_for_recovery() => Poll::Ready(RequestError::Disconnected),
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error),
            }
        })
        .await
    }

    /// Takes every completion that is there, wakes the futures that waited for them, and asks for the next interrupt.
    /// Also gives back the pages of requests that were given up. Bounded by what is in flight.
    ///
    /// # Errors
    /// If the host broke the protocol; every future ends with the fault, everything in flight stays quarantined.
    pub fn collect(&self) -> Result<(), RequestError> {
        loop {
            let taken = self.queue.borrow_mut().take();
            match taken {
                Ok(Some(waker)) => waker.map_or((), Waker::wake),
                // Armed, and looked at once more: what came before the host could see that is taken here.
                Ok(None) if self.queue.borrow_mut().disk.link.park() == Park::Ready => continue,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.wake_all();
                    return Err(error);
                }
            }
            self.wake_outside();
        }
    }

    /// One request with the caller's own pages, submitted when the future is first polled. It ends with the buffer,
    /// unless the host may still write to that.
    ///
    /// If the queue is full it waits for room, with up to `N` others; whoever is polled first has it. One more ends with
    /// [`RequestError::Full`].
    pub const fn submit(&self, request: Request<'p, P, PAGES>, deadline: u64) -> Operation<'_, 'p, P, N, PAGES> {
        Operation::new(self, request, deadline)
    }

    /// Reads whole blocks at `position`, through pages of the driver's own, a piece at a time.
    ///
    /// # Errors
    /// On an error some of `into` may have been filled. [`RequestError::TimedOut`] leaves the driver usable.
    pub async fn read(&self, position: u64, into: &mut [u8], deadline: u64) -> Result<(), RequestError> {
        let piece = self.check_run(position, into.len())?;
        let mut at = position;
        for piece in into.chunks_mut(piece) {
            let buffer = Buffer::allocate(self.platform(), piece.len())?;
            let ended = self.submit(Request::read(at, piece.len() as u32, buffer), deadline).await;
            ended.result?;
            if let Some(buffer) = ended.buffer {
                buffer.read(0, piece)?;
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes whole blocks at `position`. Durable after the next [`AsyncBlock::flush`].
    ///
    /// # Errors
    /// On an error, and if the future is dropped, any part may have been written.
    pub async fn write(&self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.write_pieces(position, from, deadline, Request::write).await
    }

    /// Writes whole blocks at `position`, durable when the future ends.
    ///
    /// # Errors
    /// As for `write`.
    pub async fn write_fua(&self, position: u64, from: &[u8], deadline: u64) -> Result<(), RequestError> {
        self.write_pieces(position, from, deadline, Request::write_fua).await
    }

    async fn write_pieces(
        &self,
        position: u64,
        from: &[u8],
        deadline: u64,
        request: impl Fn(u64, u32, Buffer<'p, P, PAGES>) -> Request<'p, P, PAGES>,
    ) -> Result<(), RequestError> {
        let piece = self.check_run(position, from.len())?;
        let mut at = position;
        for piece in from.chunks(piece) {
            let mut buffer = Buffer::allocate(self.platform(), piece.len())?;
            buffer.write(0, piece)?;
            self.submit(request(at, piece.len() as u32, buffer), deadline).await.result?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Makes durable every write whose future ended before this one was polled. A disk without
    /// [`BlockFeatures::FLUSH`] is durable at completion: nothing is sent.
    ///
    /// # Errors
    /// The device's answer: what was written since the last flush may be lost.
    pub async fn flush(&self, deadline: u64) -> Result<(), RequestError> {
        if !self.features().contains(BlockFeatures::FLUSH) {
            return Ok(());
        }
        self.submit(Request::flush(), deadline).await.result.map(|_| ())
    }

    /// Gives up the content of a run, of any length.
    ///
    /// # Errors
    /// [`RequestError::Unsupported`], or the device's answer.
    pub async fn discard(&self, position: u64, length: u64, deadline: u64) -> Result<(), RequestError> {
        self.run_pieces(position, length, deadline, Request::discard).await
    }

    /// Makes a run of any length read as zeroes. Durable after the next [`AsyncBlock::flush`].
    ///
    /// # Errors
    /// [`RequestError::Unsupported`], or the device's answer.
    pub async fn write_zeroes(&self, position: u64, length: u64, deadline: u64) -> Result<(), RequestError> {
        self.run_pieces(position, length, deadline, Request::write_zeroes).await
    }

    async fn run_pieces(
        &self,
        position: u64,
        length: u64,
        deadline: u64,
        request: impl Fn(u64, u64) -> Request<'p, P, PAGES>,
    ) -> Result<(), RequestError> {
        let geometry = self.geometry();
        geometry.check_run(position, length)?;
        let piece = geometry.discard_piece().ok_or(RequestError::Unsupported)?;
        let mut done = 0;
        while done < length {
            let now = piece.min(length - done);
            self.submit(request(position + done, now), deadline).await.result?;
            done += now;
        }
        Ok(())
    }

    fn check_run(&self, position: u64, length: usize) -> Result<usize, RequestError> {
        self.geometry().check_run(position, length as u64)?;
        self.queue.borrow().disk.piece()
    }

    /// The disk's properties. They change only in [`AsyncBlock::refresh`].
    pub fn geometry(&self) -> Geometry {
        *self.queue.borrow().disk.geometry()
    }

    /// Features that were sealed.
    pub fn features(&self) -> BlockFeatures {
        self.queue.borrow().disk.features()
    }

    /// What was sealed.
    pub fn sealed(&self) -> Sealed {
        *self.queue.borrow().disk.sealed()
    }

    /// Event port of the queue, whose handler wakes its interrupt; `None` once it is closed.
    pub fn port(&self) -> Option<u32> {
        self.queue.borrow().disk.port()
    }

    /// Counts so far. The drivers do not sleep at this door: the executor counts sleeps.
    pub fn counters(&self) -> QueueCounters {
        self.queue.borrow().disk.counters()
    }

    /// As [`Block::refresh`]; on a detached queue every future ends whose request is not kept.
    ///
    /// # Errors
    /// As there.
    pub fn refresh(&self, bus: &Bus<'p, P>) -> Result<bool, RequestError> {
        let changed = self.queue.borrow_mut().disk.refresh(bus);
        // What was lost with a detached queue ends.
        let _ = self.collect();
        changed
    }

    /// As [`Block::close`]; then every future ends.
    ///
    /// # Errors
    /// As there.
    pub fn close(&self, bus: &mut Bus<'p, P>, deadline: u64) -> Result<(), BusError> {
        let closed = self.queue.borrow_mut().disk.close(bus, deadline);
        let _ = self.collect();
        closed
    }

    /// The disk as it was, for the other doors. Futures borrow this: there are none, and what they gave up stays in
    /// quarantine until its completion.
    pub fn into_inner(self) -> Block<'p, P, N, PAGES> {
        self.queue.into_inner().disk
    }

    pub(super) fn platform(&self) -> &'p P {
        self.queue.borrow().disk.link.platform()
    }

    /// The fault that ended the queue.
    pub(super) fn failed(&self) -> Result<(), RequestError> {
        self.queue.borrow().failed.map_or(Ok(()), Err)
    }

    /// Submits into a place of its own. [`RequestError::Full`] without one.
    pub(super) fn start(&self, request: Request<'p, P, PAGES>) -> Result<(u16, Ticket), Rejected<'p, P, PAGES>> {
        self.queue.borrow_mut().start(request)
    }

    /// What ended in a place, which is free then.
    pub(super) fn ended(&self, place: u16) -> Option<Ended<'p, P, PAGES>> {
        let Completed { buffer, result, .. } = self.queue.borrow_mut().ended(place)?;
        self.wake_outside();
        Some(Ended { buffer, result })
    }

    /// Nobody waits for the request any more. Its buffer is freed if it ended, else it stays with the driver.
    pub(super) fn give_up(&self, place: u16, ticket: &Ticket) {
        let freed = self.queue.borrow_mut().give_up(place, ticket);
        drop(freed);
        self.wake_outside();
    }

    /// About to say `Pending`: the completion of the place wakes.
    pub(super) fn wait(&self, place: u16, waker: &Waker) {
        let before = self.queue.borrow_mut().wait(place, waker);
        drop(before);
    }

    /// About to say `Pending`: any completion wakes.
    ///
    /// # Errors
    /// [`RequestError::Full`]: `N` others wait so.
    pub(super) fn wait_outside(&self, seat: &mut Option<u16>, waker: &Waker) -> Result<(), RequestError> {
        let before = self.queue.borrow_mut().outside.wait(seat, waker);
        before.map(drop).map_err(|NoSeat| RequestError::Full)
    }

    pub(super) fn leave_outside(&self, seat: &mut Option<u16>) {
        let before = self.queue.borrow_mut().outside.leave(seat);
        drop(before);
    }

    fn wake_outside(&self) {
        let outside = self.queue.borrow_mut().outside.take();
        outside.into_iter().flatten().for_each(Waker::wake);
    }

    fn wake_all(&self) {
        let waiting = self.queue.borrow_mut().waiting();
        waiting.into_iter().flatten().for_each(Waker::wake);
        self.wake_outside();
    }
}
