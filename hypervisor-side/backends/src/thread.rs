//! One thread a queue: look, spin for a while, arm, sleep on the doorbell.
//!
//! *Invariants.* A pass serves at most [`BUDGET`] requests before the thread looks whether it is to stop. A sleep has a
//! deadline; one that ends by it with work visible is counted as a lost wake-up. A latched queue looks at the ring no
//! more and still answers `stop`.
//!
//! *Floods.* A doorbell that is rung for nothing wakes the thread for nothing. [`FREE_RINGS`] such wake-ups are free, and
//! [`RINGS_PER_SECOND`] after that, and one for each pass that found work: the race of a ring with the look before the sleep
//! is nobody's fault. After one more the thread listens to the doorbell no more for [`NAP`], and then looks without being
//! told: the guest that rings so waits, and no CPU is spent on it.
//!
//! *Ordering.* The sleep protocol is the ring's (`park`). The stop request is a flag, then an eventfd: the thread reads
//! the flag after every wake.

mod courtesy;

use crate::bell::Bell;
use crate::counters::add;
use crate::engine::{Pass, QueueEngine};
use crate::rate::Rate;
use crate::sys;
use courtesy::Courtesy;
use pvkit_ring::{AdaptiveSpin, Park};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Requests that one pass serves.
const BUDGET: u32 = 64;
/// First sleep after work. Each one that ends by its deadline with nothing there makes the next longer, so that the thread of
/// an idle guest wakes after a second, after a minute, and then once an hour: to look for a wake-up that was lost.
const DEADLINE: Duration = Duration::from_secs(1);
/// How much longer.
const LONGER: u32 = 60;
/// Longest sleep.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long what is visible is served when the queue is told to stop; the rest is aborted.
const DRAIN: Duration = Duration::from_secs(2);
/// How late a doorbell may be rung after its publication was seen, before the wake-up counts as lost.
const GRACE: Duration = Duration::from_millis(50);

/// Wake-ups for nothing that are free.
const FREE_RINGS: u32 = 64;
/// And so many in each second.
const RINGS_PER_SECOND: u32 = 500;
/// How long a doorbell that rings more is not listened to.
const NAP: Duration = Duration::from_millis(2);

/// Looks before a sleep where every thread has a CPU: about one wake-up's worth. (58 us for an idle block queue, release
/// build, measured on a nested two-core machine.)
pub const DEFAULT_SPIN: u32 = 2000;

/// Looks before a sleep when `threads` threads want to run: none if there are more of them than CPUs.
///
/// A thread that does not look shares a CPU with its guest: it finds out by itself whether that guest is better served at
/// once or when it waits, see `thread/courtesy.rs`. The price where a guest submits several requests and then computes on its last
/// CPU: an answer may be a slice (some ms) late.
#[must_use]
pub fn spin_for(threads: usize) -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if threads > cpus { 0 } else { DEFAULT_SPIN }
}

const RUN: u8 = 0;
const STOP: u8 = 1;
const KILL: u8 = 2;

/// A queue's thread. Dropping it stops it.
#[derive(Debug)]
pub struct QueueThread {
    shared: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Control {
    command: AtomicU8,
    wake: EventFd,
}

impl QueueThread {
    /// Starts `engine` on a thread called `name`. `doorbell` is read by this thread alone; each value that it reads is
    /// that many rings. `spin` looks are spent before a sleep, and what
    /// follows from none, see [`spin_for`].
    ///
    /// # Errors
    /// No eventfd or no thread is to be had.
    pub fn spawn(name: &str, engine: Box<dyn QueueEngine>, doorbell: impl Into<Bell>, spin: u32) -> io::Result<Self> {
        Self::spawn_guarded(name, engine, doorbell, spin, || true)
    }

    /// As [`QueueThread::spawn`]; the thread first calls `enter`, and ends without having looked at the queue if that is false.
    ///
    /// # Errors
    /// As for `spawn`.
    pub fn spawn_guarded(
        name: &str,
        engine: Box<dyn QueueEngine>,
        doorbell: impl Into<Bell>,
        spin: u32,
        enter: impl FnOnce() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let shared = Arc::new(Control { command: AtomicU8::new(RUN), wake });
        let runner = Runner {
            engine,
            doorbell: doorbell.into(),
            control: Arc::clone(&shared),
            spin: AdaptiveSpin::new(spin),
            patience: DEADLINE,
            courtesy: if spin == 0 { Courtesy::ADAPTIVE } else { Courtesy::NONE },
            rings: Rate::new(FREE_RINGS, RINGS_PER_SECOND, Instant::now()),
        };
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            if enter() {
                runner.run();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Serves what is visible, at most once the depth and for at most two seconds and one request; aborts what then is
    /// still in flight, publishes, and ends the thread. When this returns, the queue touches neither ring nor granted memory any more.
    pub fn stop(mut self) {
        self.end(STOP);
    }

    /// Ends the thread as a crash would: in the middle of its work, at the end of the pass that is under way. Nothing more
    /// is taken, nothing that is held back is published.
    pub fn kill(mut self) {
        self.end(KILL);
    }

    fn end(&mut self, command: u8) {
        let Some(thread) = self.thread.take() else { return };
        // ORDER: Release, pairs with Runner::command; nothing but the command itself travels by it.
        self.shared.command.store(command, Ordering::Release);
        // Cannot fail: the counter is written once.
        let _ = self.shared.wake.write(1);
        // A thread that panicked has ended too; the panic hook has told of it.
        let _ = thread.join();
    }
}

impl Drop for QueueThread {
    fn drop(&mut self) {
        self.end(STOP);
    }
}

struct Runner {
    engine: Box<dyn QueueEngine>,
    doorbell: Bell,
    control: Arc<Control>,
    spin: AdaptiveSpin,
    patience: Duration,
    courtesy: Courtesy,
    /// Wake-ups for nothing that are left.
    rings: Rate,
}

impl Runner {
    fn run(mut self) {
        loop {
            match self.command() {
                RUN => self.step(),
                STOP => return self.drain(),
                _ => return,
            }
        }
    }

    fn command(&self) -> u8 {
        self.control.command.load(Ordering::Acquire)
    }

    fn step(&mut self) {
        match self.engine.pass(BUDGET) {
            Pass::Worked(_) => self.rings.give(),
            Pass::Idle => self.idle(),
            Pass::Latched => self.wait_for_command(),
        }
    }

    fn idle(&mut self) {
        let (engine, control) = (&mut self.engine, &self.control);
        let busy = || control.command.load(Ordering::Relaxed) != RUN || engine.pass(BUDGET) != Pass::Idle;
        if self.spin.run(busy) {
            self.rings.give();
        } else if self.engine.park() == Park::Armed {
            self.sleep();
        }
    }

    fn sleep(&mut self) {
        add(&self.engine.counters().sleeps, 1);
        let fds = [self.doorbell.as_raw_fd(), self.control.wake.as_raw_fd(), self.other()];
        let woken = self.wait(fds, self.patience);
        self.patience = if woken == 0 { (self.patience * LONGER).min(LONGEST) } else { DEADLINE };
        if woken & 4 != 0 {
            // Emptied before the input is looked at, so that what comes later wakes again.
            let _ = self.engine.waits_for().map(EventFd::read);
        }
        match woken {
            0 => self.look_after_deadline(),
            woken if woken & 1 != 0 => self.answer_ring(),
            _ => {}
        }
    }

    /// The guest rang. If that was for nothing too often, the next rings have to wait.
    fn answer_ring(&mut self) {
        self.count_rings();
        match self.engine.pass(BUDGET) {
            Pass::Worked(found) => {
                self.rings.give();
                self.courtesy.woke(found);
            }
            // The next step sees it too.
            Pass::Latched => {}
            Pass::Idle => {
                add(&self.engine.counters().spurious, 1);
                if self.rings.take(Instant::now()).is_err() {
                    add(&self.engine.counters().throttled, 1);
                    self.wait([self.control.wake.as_raw_fd()], NAP);
                }
            }
        }
    }

    /// Nobody rang. If there is work nevertheless, a wake-up was lost, unless it is just being rung.
    fn look_after_deadline(&mut self) {
        let was_armed = self.engine.waits_for_doorbell();
        let worked = matches!(self.engine.pass(BUDGET), Pass::Worked(_));
        if worked && was_armed && self.wait([self.doorbell.as_raw_fd(), self.other()], GRACE) == 0 {
            add(&self.engine.counters().late, 1);
        }
    }

    /// The engine's second thing to wait for; -1, which is never readable, if it has none.
    fn other(&self) -> RawFd {
        self.engine.waits_for().map_or(-1, AsRawFd::as_raw_fd)
    }

    fn wait_for_command(&self) {
        self.wait([self.control.wake.as_raw_fd()], LONGEST);
    }

    /// Waits; a signal or an error counts as nothing readable, and the caller looks again.
    fn wait<const N: usize>(&self, fds: [RawFd; N], limit: Duration) -> u32 {
        sys::wait_readable(fds, limit).unwrap_or(0)
    }

    fn count_rings(&self) {
        if let Ok(rings) = self.doorbell.take() {
            add(&self.engine.counters().doorbells, rings);
        }
    }

    fn drain(mut self) {
        let (mut left, start) = (self.engine.depth(), Instant::now());
        // One request at a time: a guest that filled the ring with long ones does not decide how long an end takes.
        while left > 0 && start.elapsed() < DRAIN && matches!(self.engine.pass(1), Pass::Worked(_)) {
            left -= 1;
        }
        self.engine.close();
        if self.wait([self.doorbell.as_raw_fd()], Duration::ZERO) != 0 {
            self.count_rings();
        }
    }
}

#[cfg(test)]
mod tests;
