//! The async door: futures over the same queues, for whatever executor the guest has. Nothing is allocated.
//!
//! *Purpose.* [`AsyncBlock`](crate::block::AsyncBlock), [`AsyncTx`](crate::net::AsyncTx),
//! [`AsyncRx`](crate::net::AsyncRx), [`AsyncConsole`](crate::console::AsyncConsole) and
//! [`AsyncServices`](crate::services::AsyncServices) wrap drivers that are open. Each queue has an [`Interrupt`],
//! which the kernel keeps where its upcall handler finds it: the handler calls [`Interrupt::wake`] for the queues of the
//! port that became pending. A guest that sleeps by [`Platform::wait`](crate::platform::Platform::wait) calls it for
//! every queue when the wait returns.
//!
//! *Owners.* Dropping a future in flight gives its request up, not its buffer: the pages stay with the driver until the
//! host's completion was taken, because the host may write to them until then.
//!
//! *Deadlines.* Every future has one, in nanoseconds of [`Platform::now`](crate::platform::Platform::now); `u64::MAX`
//! leaves it to the caller to drop the future. The drivers have no timer: a future looks at the clock when it is polled,
//! so the executor's timer polls the task again at the deadline. What came in time is found before `TimedOut` is said.
//!
//! *Ordering.* Whoever waits for an interrupt first stores its waker, then arms the event word, then looks at the ring
//! once more (`ring/ring/src/consumer.rs`, `park`). A completion that was published before the host could see the armed
//! word is found by that look; a later one makes an interrupt, whose handler finds the waker.
//!
//! *Whom an interrupt wakes.* A queue that many tasks share (a disk, a console) has a bottom half, a task of its own:
//! it takes all completions and wakes exactly the futures whose requests ended, by wakers kept for each request. So no
//! future depends on another one's being polled, and the event word is armed once for each batch. A queue that one task
//! owns has no bottom half: its future is woken directly.
//!
//! *Not here.* An executor, a timer, and locks: the handles are `Send` where the platform is `Sync`, and the futures
//! that share a disk's queue stay on one thread.

mod interrupt;
mod waiters;

pub use interrupt::Interrupt;
pub(crate) use interrupt::pending;
pub(crate) use waiters::{NoSeat, Waiters};
