//! The future of one request.

use super::AsyncBlock;
use crate::block::{Rejected, Request};
use crate::buffer::Buffer;
use crate::error::RequestError;
use crate::platform::Platform;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use pvkit_ring::Ticket;

/// How a request ended.
#[derive(Debug)]
pub struct Ended<'p, P: Platform, const PAGES: usize> {
    /// The buffer that was submitted. `None` also after [`RequestError::TimedOut`] or a fault: the host may still
    /// write to it.
    pub buffer: Option<Buffer<'p, P, PAGES>>,
    /// The operation's detail, or the device's answer.
    pub result: Result<u32, RequestError>,
}

/// One request on its way. Dropped in flight it is given up: the host may still carry it out, and its buffer stays with
/// the driver until it has. Polled again after its end it stays pending.
///
/// A host that lies ends it with [`RequestError::PeerFault`]; one that never answers, at its deadline.
#[derive(Debug)]
#[must_use = "a request is submitted when its future is polled"]
pub struct Operation<'a, 'p, P: Platform, const N: usize, const PAGES: usize> {
    disk: &'a AsyncBlock<'a, 'p, P, N, PAGES>,
    deadline: u64,
    state: State<'p, P, PAGES>,
    /// Among those outside.
    seat: Option<u16>,
}

#[derive(Debug)]
enum State<'p, P: Platform, const PAGES: usize> {
    /// Not submitted: nobody polled it, or there is no room.
    Outside(Request<'p, P, PAGES>),
    /// The host has it.
    InFlight(u16, Ticket),
    Over,
}

impl<'a, 'p, P: Platform, const N: usize, const PAGES: usize> Operation<'a, 'p, P, N, PAGES> {
    pub(super) const fn new(
        disk: &'a AsyncBlock<'a, 'p, P, N, PAGES>,
        request: Request<'p, P, PAGES>,
        deadline: u64,
    ) -> Self {
        Self { disk, deadline, state: State::Outside(request), seat: None }
    }

    /// Goes on as far as it can. `None` if it has to wait.
    fn advance(&mut self, late: bool) -> Option<Ended<'p, P, PAGES>> {
        let may = self.disk.failed().and(if late { Err(RequestError::TimedOut) } else { Ok(()) });
        match core::mem::replace(&mut self.state, State::Over) {
            State::Outside(request) => self.enter(request, may),
            State::InFlight(place, ticket) => {
                if let Some(ended) = self.disk.ended(place) {
                    return Some(ended);
                }
                if let Err(error) = may {
                    self.disk.give_up(place, &ticket);
                    return Some(Ended { buffer: None, result: Err(error) });
                }
                self.state = State::InFlight(place, ticket);
                None
            }
            State::Over => None,
        }
    }

    fn wait(&mut self, waker: &Waker) -> Poll<Ended<'p, P, PAGES>> {
        let waits = match &self.state {
            State::Outside(_) => self.disk.wait_outside(&mut self.seat, waker),
            State::InFlight(place, _) => {
                self.disk.wait(*place, waker);
                Ok(())
            }
            State::Over => Ok(()),
        };
        match (waits, core::mem::replace(&mut self.state, State::Over)) {
            (Err(error), State::Outside(request)) => Poll::Ready(Ended { buffer: request.buffer, result: Err(error) }),
            (_, state) => {
                self.state = state;
                Poll::Pending
            }
        }
    }

    fn enter(&mut self, request: Request<'p, P, PAGES>, may: Result<(), RequestError>) -> Option<Ended<'p, P, PAGES>> {
        let started = match may {
            Ok(()) => self.disk.start(request),
            Err(error) => Err(Rejected { request, error }),
        };
        match started {
            Ok((place, ticket)) => {
                self.disk.leave_outside(&mut self.seat);
                self.state = State::InFlight(place, ticket);
            }
            Err(Rejected { request, error: RequestError::Full }) => self.state = State::Outside(request),
            Err(Rejected { request, error: RequestError::Disconnected }) if self.disk.waits_for_recovery() => {
                self.state = State::Outside(request);
            }
            Err(Rejected { request, error }) => return Some(Ended { buffer: request.buffer, result: Err(error) }),
        }
        None
    }
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Future for Operation<'_, 'p, P, N, PAGES> {
    type Output = Ended<'p, P, PAGES>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // The clock is read before the look: what came in time is found.
        let late = this.disk.platform().now() >= this.deadline;
        if late {
            // A fault is seen in `advance`.
            let _ = this.disk.collect();
        }
        if let Some(ended) = this.advance(late) {
            return Poll::Ready(ended);
        }
        this.wait(context.waker())
    }
}

impl<P: Platform, const N: usize, const PAGES: usize> Drop for Operation<'_, '_, P, N, PAGES> {
    fn drop(&mut self) {
        self.disk.leave_outside(&mut self.seat);
        if let State::InFlight(place, ticket) = core::mem::replace(&mut self.state, State::Over) {
            self.disk.give_up(place, &ticket);
        }
    }
}
