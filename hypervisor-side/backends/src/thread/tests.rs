//! Queues on their own threads: nothing is lost, nothing spins for ever, everything can be stopped.

use super::*;
use crate::fake_guest::{Ask, Guest, connect_with, ok, refused};
use crate::{BlockLimits, BlockQueue, ConsoleInput, ConsoleQueue, NullDisk, RamDisk, VolatileDisk};
use pvkit_abi::block::{BlockFeatures, BlockOp};
use pvkit_abi::console::ConsoleOp;
use pvkit_abi::ring::HEADER_BYTES;
use pvkit_abi::status::Status;
use pvkit_ring::{Completed, Park};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Longer than any test takes; only a lost wake-up waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest whose interrupt wakes the thread that made it, and its doorbell.
struct Running {
    guest: Guest,
    doorbell: EventFd,
    thread: QueueThread,
    /// Doorbells that the guest had to ring.
    rings: u64,
}

fn start(depth: u32, spin: u32, engine: impl FnOnce(crate::QueueSetup) -> Box<dyn QueueEngine>) -> Running {
    let me = std::thread::current();
    let (guest, setup) = connect_with(depth, move || me.unpark());
    let doorbell = EventFd::new(EFD_NONBLOCK).unwrap();
    let theirs = doorbell.try_clone().unwrap();
    let thread = QueueThread::spawn("test-queue", engine(setup), theirs, spin).unwrap();
    Running { guest, doorbell, thread, rings: 0 }
}

fn block(setup: crate::QueueSetup) -> Box<dyn QueueEngine> {
    let disk = Arc::new(NullDisk::new(1 << 20));
    Box::new(BlockQueue::new(setup, disk, BlockLimits::default(), BlockFeatures::all()))
}

impl Running {
    /// Submits and rings if that is needed.
    fn submit(&mut self, asks: &[Ask]) {
        self.guest.submit(asks);
        if self.guest.notify.is_needed() {
            self.doorbell.write(1).unwrap();
            self.rings += 1;
        }
    }

    /// Waits for so many completions, asleep whenever nothing is there.
    fn wait(&mut self, count: usize) -> Vec<Completed> {
        let (mut done, begin) = (Vec::new(), Instant::now());
        while done.len() < count {
            done.extend(self.guest.completions());
            if done.len() < count && self.guest.front.park() == Park::Armed {
                std::thread::park_timeout(PATIENCE);
                assert!(begin.elapsed() < PATIENCE, "{} of {count} completions", done.len());
            }
        }
        done
    }
}

fn wait_until(mut reached: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !reached() {
        assert!(begin.elapsed() < PATIENCE, "what the test waits for does not come");
        std::thread::yield_now();
    }
}

fn read() -> Ask {
    Ask::segment(BlockOp::READ.0, 0, 512, 0)
}

/// Requests of several depths through a thread that spins or does not; both sides sleep again and again.
fn many_requests(spin: u32) {
    let mut running = start(32, spin, block);
    let mut total = 0;
    for round in 0..2000 {
        let batch = 1 + round % 32;
        running.submit(&vec![read(); batch]);
        total += batch as u64;
        assert!(running.wait(batch).iter().all(|done| done.result == ok(0)));
    }
    let Running { guest, thread, rings, .. } = running;
    thread.stop();
    let counted = guest.counters.snapshot();
    assert_eq!(counted.doorbells, rings);
    assert_eq!((counted.requests, counted.completions, counted.errors), (total, total, 0));
    assert_eq!((counted.late, counted.faults), (0, 0));
    assert_eq!(counted.interrupts, guest.interrupts.load(Ordering::SeqCst) as u64);
    assert!(counted.interrupts <= total, "{counted}");
}

#[test]
fn a_thread_that_spins_serves_every_request() {
    many_requests(DEFAULT_SPIN);
}

#[test]
fn a_thread_that_never_spins_serves_every_request() {
    many_requests(0);
}

#[test]
fn requests_one_by_one_need_at_most_one_doorbell_and_one_interrupt_each() {
    let mut running = start(8, 0, block);
    for _ in 0..500 {
        running.submit(&[read()]);
        running.wait(1);
    }
    let Running { guest, thread, .. } = running;
    thread.stop();
    let counted = guest.counters.snapshot();
    assert!(counted.doorbells <= 500 && counted.interrupts <= 500, "{counted}");
}

#[test]
fn a_flood_of_doorbells_is_counted_and_changes_nothing() {
    let mut running = start(8, 0, block);
    for _ in 0..5000 {
        running.doorbell.write(3).unwrap();
    }
    running.submit(&[read(); 8]);
    assert_eq!(running.wait(8).len(), 8);
    let Running { guest, thread, rings, .. } = running;
    thread.stop();
    let counted = guest.counters.snapshot();
    assert_eq!((counted.doorbells, counted.requests, counted.faults), (15_000 + rings, 8, 0));
}

#[test]
fn a_latched_queue_still_answers_stop_and_ignores_its_ring() {
    let mut running = start(8, 100, block);
    running.submit(&[read()]);
    running.wait(1);
    // Slot 1 gets a tag of no lap at all.
    running.guest.requests.word(HEADER_BYTES + 32).unwrap().store(77 << 48, Ordering::Release);
    running.doorbell.write(1).unwrap();
    wait_until(|| running.guest.counters.snapshot().faults == 1);
    running.doorbell.write(100).unwrap();
    let Running { guest, thread, rings, .. } = running;
    thread.stop();
    let counted = guest.counters.snapshot();
    assert_eq!((counted.faults, counted.requests, counted.doorbells), (1, 1, 101 + rings));
    let log = guest.log.lock().unwrap();
    assert!(log.len() == 1 && log[0].contains("slot tag 0x4d"), "{log:?}");
}

#[test]
fn stop_serves_what_is_visible_and_aborts_what_waits() {
    let input = ConsoleInput::new(64).unwrap();
    let sink = Arc::new(Mutex::new(Vec::new()));
    let (output, typed) = (sink.clone(), Arc::clone(&input));
    let mut running = start(8, 0, move |setup| Box::new(ConsoleQueue::new(setup, output, typed)));
    running.guest.fill(0, b"bye");
    // Published without a doorbell: the thread may be asleep and learns of them by the stop alone.
    running.guest.submit(&[Ask::segment(ConsoleOp::READ.0, 0, 8, 4096), Ask::segment(ConsoleOp::WRITE.0, 0, 3, 0)]);
    let Running { mut guest, thread, .. } = running;
    thread.stop();
    let mut results: Vec<_> = guest.completions().iter().map(|done| (done.id, done.result)).collect();
    results.sort_by_key(|(id, _)| *id);
    assert_eq!(results, [(0, refused(Status::ABORTED)), (1, ok(3))]);
    assert_eq!(*sink.lock().unwrap(), b"bye");
}

#[test]
fn after_stop_nothing_is_taken_and_no_memory_is_touched() {
    let running = start(8, 0, block);
    let Running { mut guest, thread, .. } = running;
    thread.stop();
    guest.fill(0, &[0xee; 512]);
    guest.submit(&[read()]);
    assert!(guest.completions().is_empty());
    assert_eq!(guest.bytes(0, 512), [0xee; 512]);
}

#[test]
fn dropping_a_thread_stops_it() {
    let Running { guest, thread, .. } = start(8, 0, block);
    drop(thread);
    // The engine is gone with its thread: nobody but this test holds the counters.
    assert_eq!(Arc::strong_count(&guest.counters), 1);
}

#[test]
fn typing_wakes_a_console_that_sleeps() {
    let input = ConsoleInput::new(64).unwrap();
    let typed = Arc::clone(&input);
    let sink = Arc::new(Mutex::new(Vec::new()));
    let mut running = start(8, 0, move |setup| Box::new(ConsoleQueue::new(setup, sink, typed)));
    for round in 0..200u8 {
        let before = running.guest.counters.snapshot().sleeps;
        running.submit(&[Ask::segment(ConsoleOp::READ.0, 0, 8, 0)]);
        wait_until(|| running.guest.counters.snapshot().sleeps > before);
        input.push(&[round; 3]);
        assert_eq!(running.wait(1)[0].result, ok(3));
        assert_eq!(running.guest.bytes(0, 3), [round; 3]);
    }
    let Running { guest, thread, .. } = running;
    thread.stop();
    assert_eq!(guest.counters.snapshot().late, 0);
}

#[test]
fn a_killed_queue_loses_what_was_not_flushed_and_nothing_else() {
    let medium = Arc::new(RamDisk::new(1 << 20).unwrap());
    let disk = Arc::new(VolatileDisk::new(Arc::clone(&medium), 1 << 20));
    let served = Arc::clone(&disk);
    let mut running = start(8, 0, move |setup| {
        Box::new(BlockQueue::new(setup, served, BlockLimits::default(), BlockFeatures::all()))
    });
    running.guest.fill(0, &[1; 512]);
    let write = |position| Ask::segment(BlockOp::WRITE.0, position, 512, 0);
    let flush = Ask { op: BlockOp::FLUSH.0, flags: 0, aux: 0, words: [0; 3] };
    for ask in [write(0), flush, write(512)] {
        running.submit(&[ask]);
        assert_eq!(running.wait(1)[0].result, ok(0));
    }
    running.thread.kill();
    assert_eq!(disk.kill(), 1);
    assert_eq!((medium.content()[0], medium.content()[512]), (1, 0));
}

#[test]
fn a_wake_up_that_never_came_is_served_at_the_deadline_and_counted() {
    let mut running = start(8, 0, block);
    wait_until(|| running.guest.counters.snapshot().sleeps > 0);
    running.guest.submit(&[read()]);
    assert!(running.guest.notify.is_needed(), "and this guest does not ring");
    assert_eq!(running.wait(1).len(), 1);
    let Running { guest, thread, .. } = running;
    thread.stop();
    let counted = guest.counters.snapshot();
    assert_eq!((counted.late, counted.doorbells), (1, 0));
    assert!(counted.to_string().ends_with("1 lost wake-ups"), "{counted}");
}

/// An engine that always finds the same and counts how often it was asked.
struct Constant {
    answer: Pass,
    passes: Arc<AtomicU64>,
    other: EventFd,
    counters: Arc<crate::QueueCounters>,
}

impl QueueEngine for Constant {
    fn pass(&mut self, _budget: u32) -> Pass {
        self.passes.fetch_add(1, Ordering::SeqCst);
        self.answer
    }

    fn park(&mut self) -> Park {
        Park::Armed
    }

    fn flush(&mut self) {}

    fn close(&mut self) {}

    fn waits_for(&self) -> Option<&EventFd> {
        Some(&self.other)
    }

    fn depth(&self) -> u32 {
        8
    }

    fn counters(&self) -> &Arc<crate::QueueCounters> {
        &self.counters
    }
}

/// Passes of an engine that is woken once by its second descriptor and then left alone.
fn passes_when_left_alone(answer: Pass) -> u64 {
    let (passes, counters) = (Arc::new(AtomicU64::new(0)), Arc::default());
    let fd = || EventFd::new(EFD_NONBLOCK).unwrap();
    let (other, doorbell) = (fd(), fd());
    other.write(1).unwrap();
    let engine = Constant { answer, passes: Arc::clone(&passes), other, counters };
    let thread = QueueThread::spawn("test-alone", Box::new(engine), doorbell, 8).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    thread.stop();
    passes.load(Ordering::SeqCst)
}

#[test]
fn a_queue_without_work_sleeps_instead_of_looking() {
    // A thread that does not sleep makes tens of thousands of passes meanwhile; one that does, a handful.
    assert!(passes_when_left_alone(Pass::Idle) < 100);
    assert!(passes_when_left_alone(Pass::Latched) < 100);
}

/// An engine whose guest rings whenever the queue goes to sleep. After each wake-up it finds nothing once, then works so often.
struct Rung {
    doorbell: EventFd,
    work: u32,
    since_park: u32,
    counters: Arc<crate::QueueCounters>,
}

impl QueueEngine for Rung {
    fn pass(&mut self, _budget: u32) -> Pass {
        self.since_park += 1;
        if (2..2 + self.work).contains(&self.since_park) { Pass::Worked(1) } else { Pass::Idle }
    }

    fn park(&mut self) -> Park {
        self.since_park = 0;
        self.doorbell.write(1).unwrap();
        Park::Armed
    }

    fn flush(&mut self) {}

    fn close(&mut self) {}

    fn depth(&self) -> u32 {
        8
    }

    fn counters(&self) -> &Arc<crate::QueueCounters> {
        &self.counters
    }
}

/// What a queue came to that was rung for nothing until `enough`.
fn rung(work: u32, enough: impl Fn(&crate::QueueSnapshot) -> bool) -> crate::QueueSnapshot {
    let counters = Arc::<crate::QueueCounters>::default();
    let doorbell = EventFd::new(EFD_NONBLOCK).unwrap();
    let theirs = doorbell.try_clone().unwrap();
    let engine = Rung { doorbell, work, since_park: 0, counters: Arc::clone(&counters) };
    let thread = QueueThread::spawn("test-rung", Box::new(engine), theirs, 0).unwrap();
    wait_until(|| enough(&counters.snapshot()));
    thread.stop();
    counters.snapshot()
}

#[test]
fn a_doorbell_that_is_rung_for_nothing_too_often_is_not_listened_to_for_a_moment() {
    let seen = rung(0, |seen| seen.throttled >= 20);
    assert!(seen.spurious >= seen.throttled + u64::from(FREE_RINGS), "{seen}");
    assert!(seen.sleeps.abs_diff(seen.spurious) <= 1, "a pass each: {seen}");
}

#[test]
fn a_ring_for_nothing_to_each_pass_that_works_is_no_flood() {
    let seen = rung(1, |seen| seen.spurious >= 2000);
    assert_eq!(seen.throttled, 0, "{seen}");
}

#[test]
fn a_queue_whose_doorbell_is_flooded_serves_what_it_finds() {
    let mut running = start(8, 0, block);
    let (stop, bell) = (Arc::new(AtomicU64::new(0)), running.doorbell.try_clone().unwrap());
    let stopped = Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let mut rings = 0;
        while stopped.load(Ordering::SeqCst) == 0 {
            bell.write(1).unwrap();
            rings += 1;
        }
        rings
    });
    for _ in 0..50 {
        // Nobody rings for these.
        running.guest.submit(&[read(); 4]);
        assert_eq!(running.wait(4).len(), 4);
    }
    stop.store(1, Ordering::SeqCst);
    let rings: u64 = flood.join().unwrap();
    let Running { guest, thread, .. } = running;
    thread.stop();
    let seen = guest.counters.snapshot();
    assert_eq!((seen.requests, seen.doorbells, seen.faults), (200, rings, 0));
}

#[test]
fn no_thread_spins_where_there_are_more_threads_than_cpus() {
    assert_eq!(spin_for(usize::MAX), 0);
    assert_eq!(spin_for(1), DEFAULT_SPIN);
}

/// The scheduling policy of this process's thread of that name: field 41 of proc(5)'s `stat`.
fn policy(name: &str) -> Option<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let mut own = stats.filter(|stat| stat.contains(&format!("({name})")));
    own.next()?.rsplit(") ").next()?.split(' ').nth(38)?.parse().ok()
}

/// Rings a sleeping thread with 8 requests at a time until it has the policy.
fn until_it_is(name: &str, spin: u32, expected: i32) {
    let (mut guest, setup) = connect_with(8, || {});
    let doorbell = EventFd::new(EFD_NONBLOCK).unwrap();
    let thread = QueueThread::spawn(name, block(setup), doorbell.try_clone().unwrap(), spin).unwrap();
    let counters = Arc::clone(&guest.counters);
    for round in 1..=32 {
        wait_until(|| counters.snapshot().sleeps >= round);
        guest.submit(&[read(); 8]);
        doorbell.write(1).unwrap();
        let mut done = 0;
        wait_until(|| {
            done += guest.completions().len();
            done == 8
        });
    }
    assert_eq!(policy(name), Some(expected), "{name}");
    thread.stop();
}

#[test]
fn a_thread_that_shares_its_cpu_lets_a_guest_submit_all_that_it_has() {
    until_it_is("sharing-queue", 0, libc::SCHED_BATCH);
}

#[test]
fn a_thread_with_a_cpu_of_its_own_serves_at_once() {
    until_it_is("spinning-queue", 1, libc::SCHED_OTHER);
}
