//! Looks for a lost wake-up: two threads, one queue on shared pages, and real sleeps in the kernel.
//!
//! *How.* Each side sleeps in `poll` on an eventfd that only the other side's [`Notify::Needed`] writes. Three kinds of
//! phases take turns: one request at a time with both sides asleep in between; bursts and near misses, where each side
//! looks a random while before it parks, so that parking meets publication within nanoseconds; and a busy phase of deep
//! batches with adaptive spinning.
//!
//! *Lost.* A sleep that ends by its deadline although there is work, and whose bell stays silent for a grace time too.
//!
//! `cargo run --release -p pvkit-ring --example wakeups -- --requests 100000000 --sleeps 1000000`
//! Exit status 1 if a wake-up is lost or a side slept less often than asked (counted by the kernel as voluntary context
//! switches of its thread, so that a bell which rang before the sleep does not count).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program: it may stop at any surprise")]

use pvkit_abi::ring::{COMPLETION_BYTES, REQUEST_BYTES, RequestFlags, area_pages};
use pvkit_abi::status::CompletionResult;
use pvkit_ring::{AdaptiveSpin, Backend, Completed, Frontend, Notify, Park, Request, RingSize};
use pvkit_shared_memory::{HeapPages, SharedPages};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Instant;

const DEPTH: u32 = 128;
const DEADLINE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
const GRACE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Looks before sleeping: about one wake.
const SPIN: u32 = 1_000;
/// Most looks before parking in a near miss: about a round trip between two polling sides.
const NEAR: u64 = 100;
/// Operation of the last request.
const STOP: u8 = 255;

/// What rings a sleeper.
struct Bell(OwnedFd);

impl Bell {
    fn new() -> Self {
        Self(eventfd(0, EventfdFlags::NONBLOCK).unwrap())
    }

    fn ring(&self) {
        rustix::io::write(&self.0, &1u64.to_ne_bytes()).unwrap();
    }

    /// Whether it rang within `time`; then it is silent again.
    fn rang_within(&self, time: &Timespec) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(time)) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

#[derive(Debug, Default)]
struct Side {
    /// Bells rung for the other side.
    rung: u64,
    /// Waits entered, and those that the kernel put to sleep.
    waits: u64,
    slept: u64,
    lost: u64,
}

impl Side {
    fn notify(&mut self, notify: Notify, bell: &Bell) {
        if notify.is_needed() {
            self.rung += 1;
            bell.ring();
        }
    }

    /// Sleeps until the bell rings, or until `take` finds something although it did not ring: a lost wake-up.
    fn wait<T>(&mut self, bell: &Bell, mut take: impl FnMut() -> Option<T>) -> Option<T> {
        self.waits += 1;
        while !bell.rang_within(&DEADLINE) {
            if let Some(found) = take() {
                self.lost += u64::from(!bell.rang_within(&GRACE));
                return Some(found);
            }
        }
        take()
    }
}

/// Xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// How a side looks before it parks.
struct Patience {
    spin: AdaptiveSpin,
    random: Random,
}

impl Patience {
    fn look<T>(&mut self, phase: &AtomicU8, mut take: impl FnMut() -> Option<T>) -> Option<T> {
        let mut found = None;
        let mut look = || {
            found = take();
            found.is_some()
        };
        match phase.load(Ordering::Relaxed) {
            ASLEEP => {}
            NEAR_MISS => {
                let _ = (0..self.random.below(NEAR)).any(|_| {
                    std::hint::spin_loop();
                    look()
                });
            }
            _ => {
                self.spin.run(look);
            }
        }
        found
    }
}

const ASLEEP: u8 = 0;
const NEAR_MISS: u8 = 1;
const BUSY: u8 = 2;

/// Voluntary context switches of this thread.
fn switches() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

/// What both threads can reach beside the ring.
struct Shared {
    doorbell: Bell,
    interrupt: Bell,
    /// Which kind of phase it is.
    phase: AtomicU8,
}

/// The backend's thread.
struct Host<'a> {
    shared: &'a Shared,
    ring: Backend<SharedPages>,
    patience: Patience,
    side: Side,
}

impl Host<'_> {
    fn serve(mut self) -> Side {
        for number in 0u64.. {
            let request = self.next();
            assert_eq!(request.words, [number, !number, 7], "torn, or out of order");
            let result = CompletionResult(request.words[0] as u32);
            let notify = self.ring.complete(request.word.id(), result).unwrap();
            self.side.notify(notify, &self.shared.interrupt);
            if request.word.op() == STOP {
                break;
            }
        }
        let notify = self.ring.flush();
        self.side.notify(notify, &self.shared.interrupt);
        self.side.slept = switches();
        self.side
    }

    fn next(&mut self) -> Request {
        loop {
            if let Some(request) = self.ring.take().unwrap() {
                return request;
            }
            let notify = self.ring.flush();
            self.side.notify(notify, &self.shared.interrupt);
            let mut found = self.patience.look(&self.shared.phase, || self.ring.take().unwrap());
            if found.is_none() {
                let (notify, park) = self.ring.park();
                self.side.notify(notify, &self.shared.interrupt);
                if park == Park::Armed {
                    found = self.side.wait(&self.shared.doorbell, || self.ring.take().unwrap());
                }
            }
            if let Some(request) = found {
                return request;
            }
        }
    }
}

/// The frontend's thread.
struct Guest<'a> {
    shared: &'a Shared,
    ring: Frontend<SharedPages, { DEPTH as usize }>,
    patience: Patience,
    side: Side,
    /// Number of each request in flight, by id.
    pending: [Option<u64>; DEPTH as usize],
    sent: u64,
}

impl Guest<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        self.patience.random.below(bound)
    }

    fn submit(&mut self, count: u64, op: u8) {
        let mut batch = self.ring.batch();
        for _ in 0..count {
            let Ok(ticket) = batch.reserve(op, RequestFlags::empty(), 0, [self.sent, !self.sent, 7]) else { break };
            let place = self.pending.get_mut(usize::from(ticket.id())).unwrap();
            assert_eq!(place.replace(self.sent), None, "id given twice");
            self.sent += 1;
        }
        let notify = batch.commit();
        self.side.notify(notify, &self.shared.doorbell);
    }

    fn finish(&mut self, completed: Completed) {
        let number = self.pending.get_mut(usize::from(completed.id)).unwrap().take().expect("completed twice");
        assert_eq!(completed.result.0, number as u32);
    }

    /// Waits for at least one completion and takes all that are there.
    fn reap(&mut self) {
        let mut found = self.ring.take().unwrap();
        while found.is_none() {
            found = self.patience.look(&self.shared.phase, || self.ring.take().unwrap());
            if found.is_none() {
                found = match self.ring.park() {
                    Park::Armed => self.side.wait(&self.shared.interrupt, || self.ring.take().unwrap()),
                    Park::Ready => self.ring.take().unwrap(),
                };
            }
        }
        while let Some(completed) = found {
            self.finish(completed);
            found = self.ring.take().unwrap();
        }
    }

    fn drain(&mut self) {
        while self.ring.in_flight() > 0 {
            self.reap();
        }
    }

    /// Both sides sleep for each request; a random pause moves the moments against each other.
    fn one_by_one(&mut self, count: u64) {
        for _ in 0..count {
            self.submit(1, 1);
            for _ in 0..self.below(64) {
                std::hint::spin_loop();
            }
            self.drain();
        }
    }

    /// Bursts and partial reaping; each side parks at a random moment.
    fn near_misses(&mut self, count: u64) {
        self.shared.phase.store(NEAR_MISS, Ordering::Relaxed);
        for _ in 0..count {
            for _ in 0..self.below(NEAR) {
                std::hint::spin_loop();
            }
            let burst = 1 + self.below(3);
            self.submit(burst, 1);
            self.reap();
        }
        self.drain();
        self.shared.phase.store(ASLEEP, Ordering::Relaxed);
    }

    /// Deep batches with spinning.
    fn busy(&mut self, count: u64) {
        self.shared.phase.store(BUSY, Ordering::Relaxed);
        let end = self.sent + count;
        while self.sent < end {
            let batch = (1 + self.below(32)).min(end - self.sent);
            self.submit(batch, 1);
            if self.ring.room() < 32 {
                self.reap();
            }
        }
        self.drain();
        self.shared.phase.store(ASLEEP, Ordering::Relaxed);
    }

    fn run(mut self, requests: u64, sleeps: u64) -> (u64, Side) {
        const ROUNDS: u64 = 50;
        let begin = Instant::now();
        let mut round = 0;
        while round < ROUNDS || self.sent < requests || self.slept() < sleeps {
            let due = (sleeps * (round + 1) / ROUNDS).saturating_sub(self.slept());
            self.one_by_one(due / 2 + 1);
            self.near_misses(due + 1);
            let due = (requests / ROUNDS * (round + 1)).saturating_sub(self.sent);
            self.busy(due);
            round += 1;
            if round % 5 == 0 {
                println!("{:5.0?} {} requests, frontend {:?}", begin.elapsed(), self.sent, self.side);
            }
        }
        self.submit(1, STOP);
        self.drain();
        self.side.slept = switches();
        (self.sent, self.side)
    }

    fn slept(&mut self) -> u64 {
        self.side.slept = switches();
        self.side.slept
    }
}

/// Keeps this thread on one CPU, so that the two sides really run at the same time. Without a second CPU: nothing.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        println!("not pinned to CPU {cpu}: {error}");
    }
}

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map_or(default, |value| value.parse().unwrap())
}

fn main() -> ExitCode {
    let (requests, sleeps) = (argument("--requests", 1_000_000), argument("--sleeps", 10_000));
    let size = RingSize::new(DEPTH).unwrap();
    let pages = |bytes| HeapPages::new(area_pages(DEPTH, bytes)).leak_pages().unwrap();
    let (own, peer) = (pages(REQUEST_BYTES), pages(COMPLETION_BYTES));
    let (doorbell, interrupt) = (Bell::new(), Bell::new());
    let shared = Shared { doorbell, interrupt, phase: AtomicU8::new(ASLEEP) };
    // A spinning side on a single CPU keeps the other from running.
    let spin = AdaptiveSpin::new(if thread::available_parallelism().map_or(1, usize::from) > 1 { SPIN } else { 0 });
    let patience = |seed| Patience { spin, random: Random(seed) };
    let guest = Guest {
        shared: &shared,
        ring: Frontend::new(own, peer, size, 1).unwrap(),
        patience: patience(1),
        side: Side::default(),
        pending: [None; DEPTH as usize],
        sent: 0,
    };
    let ring = Backend::new(peer, own, size, 1).unwrap();
    let host = Host { shared: &shared, ring, patience: patience(2), side: Side::default() };
    let begin = Instant::now();
    let (sent, frontend, backend) = thread::scope(|scope| {
        let host = scope.spawn(|| {
            pin(1);
            host.serve()
        });
        pin(0);
        let (sent, frontend) = guest.run(requests, sleeps);
        (sent, frontend, host.join().unwrap())
    });
    println!("{:.1?}: {sent} requests in order, each completed once", begin.elapsed());
    println!("frontend: {} sleeps in {} waits, {} doorbells rung", frontend.slept, frontend.waits, frontend.rung);
    println!("backend: {} sleeps in {} waits, {} interrupts raised", backend.slept, backend.waits, backend.rung);
    println!("lost wake-ups: {}", frontend.lost + backend.lost);
    let enough = sent >= requests && frontend.slept >= sleeps && backend.slept >= sleeps;
    if !enough {
        println!("fewer requests or sleeps than asked for: {requests}, {sleeps}");
    }
    if enough && frontend.lost + backend.lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
