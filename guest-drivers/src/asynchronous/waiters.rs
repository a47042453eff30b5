//! A few wakers that are all woken together.
//!
//! *Invariants.* A seat belongs to one future from its first wait until it ends or is dropped; being woken does not free
//! it. So no future takes another one's waker away, and there is no fight for seats.
//!
//! *Borrows.* A waker is called and dropped by the caller, when nothing is borrowed: the last waker of a task may take the
//! task with it, and that a future of the same queue.

use core::task::Waker;

/// Up to `N` futures that wait for the same thing.
#[derive(Debug)]
pub(crate) struct Waiters<const N: usize> {
    seats: [Seat; N],
}

#[derive(Debug)]
enum Seat {
    Free,
    Taken(Option<Waker>),
}

impl Seat {
    fn into_waker(self) -> Option<Waker> {
        match self {
            Self::Free => None,
            Self::Taken(waker) => waker,
        }
    }
}

/// Every seat is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSeat;

impl<const N: usize> Waiters<N> {
    pub(crate) const fn new() -> Self {
        Self { seats: [const { Seat::Free }; N] }
    }

    /// Remembers the waker in the future's seat, which it gets here if it has none. Answers the waker that was there.
    ///
    /// # Errors
    /// `N` others wait.
    pub(crate) fn wait(&mut self, seat: &mut Option<u16>, waker: &Waker) -> Result<Option<Waker>, NoSeat> {
        let index = match *seat {
            Some(index) => index,
            None => {
                let free = |(_, seat): &(u16, &Seat)| matches!(seat, Seat::Free);
                (0u16..).zip(&self.seats).find(free).ok_or(NoSeat)?.0
            }
        };
        let slot = self.seats.get_mut(usize::from(index)).ok_or(NoSeat)?;
        *seat = Some(index);
        Ok(core::mem::replace(slot, Seat::Taken(Some(waker.clone()))).into_waker())
    }

    /// The future ends or is dropped. Answers its waker.
    pub(crate) fn leave(&mut self, seat: &mut Option<u16>) -> Option<Waker> {
        let slot = self.seats.get_mut(usize::from(seat.take()?))?;
        core::mem::replace(slot, Seat::Free).into_waker()
    }

    /// The wakers of all, to be called once nothing is borrowed.
    #[must_use]
    pub(crate) fn take(&mut self) -> [Option<Waker>; N] {
        let mut wakers = [const { None }; N];
        for (waker, seat) in wakers.iter_mut().zip(&mut self.seats) {
            if let Seat::Taken(slot) = seat {
                *waker = slot.take();
            }
        }
        wakers
    }
}
