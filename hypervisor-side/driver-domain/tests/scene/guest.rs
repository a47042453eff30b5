//! A guest with a disk of a daemon: its rings and buffers in a window, its doorbells, nothing of a virtual machine.

use super::{Monitor, SOON, attach, window};
use pvkit_abi::block::BlockOp;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::ring::RequestFlags;
use pvkit_driver_domain::Window;
use pvkit_driver_domain::protocol::*;
use pvkit_ring::{Completed, Frontend, Park, RingSize};
use pvkit_shared_memory::SharedPages;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use zerocopy::FromZeros;

/// Slots of a queue.
pub const DEPTH: u32 = 64;
/// Bytes of a request.
pub const BYTES: u32 = 4096;
const PAGE: u64 = 4096;
const GRANT: GrantRef = GrantRef::new(0, 1);

/// One queue of the disk.
pub struct Queue {
    front: Frontend<SharedPages, { DEPTH as usize }>,
    doorbell: OwnedFd,
    interrupt: OwnedFd,
    buffer: u64,
    _window: Arc<Window>,
}

/// Opens so many queues of the disk `id`; the monitor is to be kept for as long.
pub fn open(mut monitor: Monitor, id: &str, queues: u16) -> (Monitor, Vec<Queue>) {
    let length = u64::from(queues) * 3 * PAGE;
    let file = window(length);
    let mapped = Window::map(file.try_clone().unwrap(), length).unwrap();
    let mut ask = |message: &Message, fds: &[std::os::fd::BorrowedFd<'_>]| {
        monitor.ask(message, fds).unwrap().unwrap();
    };
    ask(&Message::Window(WindowBody { length }), &[file.as_fd()]);
    ask(&Message::Attach(attach(1, id)), &[]);
    let access = Access::all().bits();
    ask(&Message::Share(Share { device: 1, grant: GRANT, offset: 0, length, access, reserved: 0 }), &[]);
    let open = |queue: u16| {
        let base = u64::from(queue) * 3 * PAGE;
        let pages = |at| {
            let mut pages = SharedPages::new();
            pages.push(mapped.part(at, PAGE).unwrap()).unwrap();
            pages
        };
        let size = RingSize::new(DEPTH).unwrap();
        let front = Frontend::new(pages(base), pages(base + PAGE), size, 1).unwrap();
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let (doorbell, interrupt) = (bell(), bell());
        let mut asked = Box::new(OpenQueue::new_zeroed());
        (asked.device, asked.queue, asked.depth, asked.completion_bytes, asked.epoch) = (1, queue, DEPTH, 8, 1);
        (asked.request_pages, asked.completion_pages) = (1, 1);
        (asked.pages[0], asked.pages[1]) = (base, base + PAGE);
        ask(&Message::OpenQueue(asked), &[doorbell.as_fd(), interrupt.as_fd()]);
        Queue { front, doorbell, interrupt, buffer: base + 2 * PAGE, _window: Arc::clone(&mapped) }
    };
    let queues = (0..queues).map(open).collect();
    (monitor, queues)
}

impl Queue {
    /// Submits reads at `position` until `most` or the queue is full; how many.
    pub fn read(&mut self, position: u64, most: usize) -> usize {
        let words = [position, u64::from(GRANT.0) | u64::from(BYTES) << 32, self.buffer];
        let mut batch = self.front.batch();
        let reserve = |_: &usize| batch.reserve(BlockOp::READ.0, RequestFlags::empty(), 0, words).is_ok();
        let count = (0..most).take_while(reserve).count();
        if batch.commit().is_needed() {
            self.ring();
        }
        count
    }

    /// Rings, for something or for nothing.
    pub fn ring(&self) {
        rustix::io::write(&self.doorbell, &1_u64.to_ne_bytes()).unwrap();
    }

    /// A completion that is there.
    pub fn take(&mut self) -> Option<Completed> {
        self.front.take().unwrap()
    }

    /// Waits until one is there, asleep; false if that takes too long.
    pub fn wait(&mut self) -> bool {
        if self.front.park() == Park::Ready {
            return true;
        }
        let limit = Timespec { tv_sec: SOON.as_secs() as i64, tv_nsec: 0 };
        let rung = poll(&mut [PollFd::new(&self.interrupt, PollFlags::IN)], Some(&limit)).unwrap() > 0;
        // Emptied before the next look.
        let _ = rustix::io::read(&self.interrupt, &mut [0; 8]);
        rung
    }

    /// One read, waited for.
    pub fn read_one(&mut self, position: u64) -> Completed {
        assert_eq!(self.read(position, 1), 1);
        loop {
            if let Some(done) = self.take() {
                return done;
            }
            assert!(self.wait(), "no completion comes");
        }
    }
}
