//! Futures of a pair's queues. Each queue has one owner, whom its interrupt wakes directly.
//!
//! *Owners.* A frame is copied when it is sent or received, so a future that is dropped leaves no page behind: a frame
//! was sent or was not, and one that came stays in the ring for the next call.
//!
//! *Interrupts.* Both queues of a pair have one event port: its handler wakes the interrupts of both.

use super::{NetRx, NetTx, Received};
use crate::asynchronous::{Interrupt, pending};
use crate::error::RequestError;
use crate::platform::Platform;
use core::future::poll_fn;
use core::task::{Context, Poll};
use pvkit_abi::net::FrameMeta;

/// A transmit queue with futures.
///
/// ```
/// use core::pin::pin;
/// use core::task::{Context, Poll, Waker};
/// use pvkit_abi::{bus::Class, net::FrameMeta};
/// use pvkit_guest_drivers::asynchronous::Interrupt;
/// use pvkit_guest_drivers::net::{AsyncRx, AsyncTx, Net, NetOptions};
/// use pvkit_guest_drivers::{Bus, GrantPolicy, platform::Platform};
///
/// /// Polls, and sleeps while nothing is ready.
/// fn block_on<P: Platform, F: Future>(platform: &P, future: F) -> F::Output {
///     let mut future = pin!(future);
///     loop {
///         if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
///             return output;
///         }
///         platform.wait(platform.now() + 1_000_000);
///     }
/// }
///
/// # let platform = pvkit_guest_drivers::fake::platform(vec![pvkit_guest_drivers::fake::Device::net(1, 1500)]);
/// # platform.calls.host().port(1).loopback = true;
/// let deadline = platform.now() + 1_000_000_000;
/// let mut bus = Bus::connect(&platform)?;
/// let device = bus.find(Class::NET, 0).expect("a network device is offered");
/// let (sent, received) = (Interrupt::new(), Interrupt::new());
/// let mut net: Net<'_, _> = Net::open(&mut bus, device, NetOptions::default(), GrantPolicy::Extent, deadline)?;
/// let pair = net.take_pair(0).expect("nobody has taken it");
/// let (mut transmit, mut receive) = (AsyncTx::new(pair.transmit, &sent), AsyncRx::new(pair.receive, &received));
/// // This host sends everything back.
/// let mut room = [0; 1518];
/// let frame = block_on(&platform, async {
///     transmit.send(&[7; 60], FrameMeta(0), deadline).await?;
///     receive.receive(&mut room, deadline).await
/// })?;
/// assert_eq!(room[..frame.length], [7; 60]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncTx<'i, 'p, P: Platform, const N: usize = 32, const PAGES: usize = { super::FRAME_PAGES }> {
    queue: NetTx<'p, P, N, PAGES>,
    interrupt: &'i Interrupt,
}

impl<'i, 'p, P: Platform, const N: usize, const PAGES: usize> AsyncTx<'i, 'p, P, N, PAGES> {
    /// Futures on `queue`.
    #[must_use]
    pub const fn new(queue: NetTx<'p, P, N, PAGES>, interrupt: &'i Interrupt) -> Self {
        Self { queue, interrupt }
    }

    /// Sends one frame; waits while the queue is full. Ends when the frame is copied and published.
    ///
    /// # Errors
    /// As [`NetTx::send`], and [`RequestError::TimedOut`]; the frame was not sent.
    pub async fn send(&mut self, frame: &[u8], meta: FrameMeta, deadline: u64) -> Result<(), RequestError> {
        poll_fn(|context| self.poll_send(context, frame, meta, deadline)).await
    }

    /// [`AsyncTx::send`] for futures written by hand.
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        frame: &[u8],
        meta: FrameMeta,
        deadline: u64,
    ) -> Poll<Result<(), RequestError>> {
        let late = self.queue.link.platform().now() >= deadline;
        match self.queue.send(frame, meta) {
            Err(RequestError::Full) if late => Poll::Ready(Err(RequestError::TimedOut)),
            Err(RequestError::Full) => self.wait(context),
            ended => Poll::Ready(ended),
        }
    }

    /// The queue itself, to look at and to `follow` with.
    pub const fn queue(&mut self) -> &mut NetTx<'p, P, N, PAGES> {
        &mut self.queue
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        self.interrupt.register(context.waker());
        pending(self.queue.link.park(), context)
    }
}

/// A receive queue with futures; [`AsyncTx`] has an example.
#[derive(Debug)]
pub struct AsyncRx<'i, 'p, P: Platform, const N: usize = 32> {
    queue: NetRx<'p, P, N>,
    interrupt: &'i Interrupt,
}

impl<'i, 'p, P: Platform, const N: usize> AsyncRx<'i, 'p, P, N> {
    /// Futures on `queue`.
    #[must_use]
    pub const fn new(queue: NetRx<'p, P, N>, interrupt: &'i Interrupt) -> Self {
        Self { queue, interrupt }
    }

    /// Waits for the next frame and copies it into `room`.
    ///
    /// # Errors
    /// As [`NetRx::receive`]: a frame that was dropped is told, and the queue goes on. [`RequestError::TimedOut`].
    pub async fn receive(&mut self, room: &mut [u8], deadline: u64) -> Result<Received, RequestError> {
        poll_fn(|context| self.poll_receive(context, room, deadline)).await
    }

    /// [`AsyncRx::receive`] for futures written by hand.
    pub fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        room: &mut [u8],
        deadline: u64,
    ) -> Poll<Result<Received, RequestError>> {
        // The clock is read before the look: what came in time is found.
        let late = self.queue.link.platform().now() >= deadline;
        match self.queue.receive(room) {
            Ok(None) if self.queue.link.is_detached() => Poll::Ready(Err(RequestError::Disconnected)),
            Ok(None) if late => Poll::Ready(Err(RequestError::TimedOut)),
            Ok(None) => self.wait(context),
            Ok(Some(frame)) => Poll::Ready(Ok(frame)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The queue itself, to look at and to `follow` with.
    pub const fn queue(&mut self) -> &mut NetRx<'p, P, N> {
        &mut self.queue
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        self.interrupt.register(context.waker());
        pending(self.queue.link.park(), context)
    }
}
