//! The future of the next event. The queue has one owner, whom its interrupt wakes directly.

use super::Services;
use crate::asynchronous::{Interrupt, pending};
use crate::error::RequestError;
use crate::platform::Platform;
use core::future::poll_fn;
use core::task::{Context, Poll};
use pvkit_abi::services::ServiceEvent;

/// The host's services with futures.
///
/// ```
/// use core::pin::pin;
/// use core::task::{Context, Poll, Waker};
/// use pvkit_abi::{bus::Class, services::ServiceReport};
/// use pvkit_guest_drivers::asynchronous::Interrupt;
/// use pvkit_guest_drivers::services::AsyncServices;
/// use pvkit_guest_drivers::{Bus, GrantPolicy, Services, platform::Platform};
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
/// # use pvkit_abi::services::{ServiceEvent, ServiceKind};
/// # use pvkit_guest_drivers::fake::{self, Device, Kind};
/// # let platform = fake::platform(vec![Device::services()]);
/// # if let Kind::Services { events, .. } = &mut platform.calls.host().devices[0].kind {
/// #     let (size, kind, generation) = (48, ServiceKind::SHUTDOWN, [0; 16]);
/// #     events.push_back(ServiceEvent { size, kind, sequence: 1, wall_clock_ns: 0, patience_ns: 0, generation });
/// # }
/// let deadline = platform.now() + 1_000_000_000;
/// let mut bus = Bus::connect(&platform)?;
/// let device = bus.find(Class::SERVICES, 0).expect("services are offered");
/// let interrupt = Interrupt::new();
/// let services = Services::open(&mut bus, device, GrantPolicy::Extent, deadline)?;
/// let mut services = AsyncServices::new(services, &interrupt);
/// let event = block_on(&platform, services.next(deadline))?;
/// services.services().report(event.sequence, ServiceReport::DONE)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncServices<'i, 'p, P: Platform> {
    services: Services<'p, P>,
    interrupt: &'i Interrupt,
}

impl<'i, 'p, P: Platform> AsyncServices<'i, 'p, P> {
    /// Futures on `services`.
    #[must_use]
    pub const fn new(services: Services<'p, P>, interrupt: &'i Interrupt) -> Self {
        Self { services, interrupt }
    }

    /// The next event, checked. A future that is dropped loses none: the driver goes on listening.
    ///
    /// # Errors
    /// As [`Services::poll`], and [`RequestError::TimedOut`].
    pub async fn next(&mut self, deadline: u64) -> Result<ServiceEvent, RequestError> {
        poll_fn(|context| self.poll_next(context, deadline)).await
    }

    /// [`AsyncServices::next`] for futures written by hand.
    pub fn poll_next(&mut self, context: &mut Context<'_>, deadline: u64) -> Poll<Result<ServiceEvent, RequestError>> {
        // The clock is read before the look: what came in time is found.
        let late = self.services.link.platform().now() >= deadline;
        match self.services.poll() {
            Ok(None) if late => Poll::Ready(Err(RequestError::TimedOut)),
            Ok(None) => {
                self.interrupt.register(context.waker());
                pending(self.services.link.park(), context)
            }
            Ok(Some(event)) => Poll::Ready(Ok(event)),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// The driver itself, to report, refresh and close with.
    pub const fn services(&mut self) -> &mut Services<'p, P> {
        &mut self.services
    }
}
