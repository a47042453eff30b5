//! Two guests of one daemon, one of which asks for all it can get: the other one gets on.

mod scene;

use pvkit_abi::block::{BlockConfig, BlockFeatures};
use pvkit_abi::status::Status;
use pvkit_backends::{Disk, DiskError, RamDisk};
use pvkit_driver_domain::client::inspect;
use pvkit_driver_domain::daemon::Quotas;
use pvkit_driver_domain::protocol::{Message, OfDevice};
use pvkit_shared_memory::SharedBytes;
use scene::guest::{self, Queue};
use scene::{Monitor, SOON, serve_disk};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

const SIZE: u64 = 1 << 20;
/// Where the loud guest reads; the quiet one reads below.
const LOUD: u64 = SIZE / 2;
/// Queues of the loud guest: all that the disk has.
const QUEUES: u16 = 4;

/// A disk on which the loud guest's reads go on only while there are not too many of them for one of the quiet guest's.
struct Paced {
    ram: RamDisk,
    most: u64,
    /// Reads of the loud guest, reads of the quiet one, and whether all may go on.
    seen: Mutex<(u64, u64, bool)>,
    changed: Condvar,
}

impl Paced {
    fn new(most: u64) -> Arc<Self> {
        let seen = Mutex::new((0, 0, false));
        Arc::new(Self { ram: RamDisk::new(SIZE).unwrap(), most, seen, changed: Condvar::new() })
    }

    fn let_all_go_on(&self) {
        self.seen.lock().unwrap().2 = true;
        self.changed.notify_all();
    }
}

impl Disk for Paced {
    fn capacity(&self) -> u64 {
        self.ram.capacity()
    }

    fn config(&self) -> BlockConfig {
        self.ram.config()
    }

    fn features(&self) -> BlockFeatures {
        self.ram.features()
    }

    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        let mut seen = self.seen.lock().unwrap();
        if position < LOUD {
            seen.1 += 1;
            self.changed.notify_all();
        } else {
            while seen.0 >= (seen.1 + 1) * self.most && !seen.2 {
                let (waited, result) = self.changed.wait_timeout(seen, SOON).unwrap();
                seen = waited;
                // A test that fails ends all the same.
                seen.2 |= result.timed_out();
            }
            seen.0 += 1;
        }
        drop(seen);
        self.ram.read(position, into)
    }

    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError> {
        self.ram.write(position, from, fua)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.ram.flush()
    }

    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError> {
        self.ram.discard(position, length)
    }

    fn write_zeroes(&self, position: u64, length: u64, fua: bool) -> Result<(), DiskError> {
        self.ram.write_zeroes(position, length, fua)
    }
}

/// Guests that keep a queue full until they are told to stop; reads that they got.
struct Loud {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    _monitor: Monitor,
}

impl Loud {
    /// With `rings`, each look is followed by a ring that nobody needs.
    fn start(path: &Path, id: &str, rings: bool) -> Self {
        let (monitor, queues) = guest::open(Monitor::greeted_at(path), id, QUEUES);
        let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let keep_full = |mut queue: Queue| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    queue.read(LOUD, guest::DEPTH as usize);
                    let got = std::iter::from_fn(|| queue.take()).count();
                    count.fetch_add(got as u64, Ordering::Relaxed);
                    if rings {
                        queue.ring();
                    } else if got == 0 {
                        queue.wait();
                    }
                }
            })
        };
        let threads = queues.into_iter().map(keep_full).collect();
        Self { stop, count, threads, _monitor: monitor }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.count.load(Ordering::Relaxed)
    }
}

/// `count` requests of a guest with one queue, one after the other.
fn quiet(path: &Path, id: &str, count: usize) {
    let (mut monitor, mut queues) = guest::open(Monitor::greeted_at(path), id, 1);
    for _ in 0..count {
        assert_eq!(queues[0].read_one(0).result.status(), Status::OK);
    }
    monitor.ask(&Message::Close(OfDevice { device: 1, reserved: 0 }), &[]).unwrap().unwrap();
}

#[test]
fn each_request_of_a_quiet_guest_is_done_within_a_pass_of_a_loud_one() {
    // All queues of the loud guest together do a pass's worth of requests, and wait for one of the quiet guest's.
    let disk = Paced::new(64);
    let served = serve_disk(disk.clone(), Quotas::default());
    let loud = Loud::start(&served.path, "shared", true);
    quiet(&served.path, "shared", 300);
    let (loud_reads, quiet_reads, _) = *disk.seen.lock().unwrap();
    assert_eq!(quiet_reads, 300);
    assert!((1..=301 * 64).contains(&loud_reads), "{loud_reads}");
    disk.let_all_go_on();
    assert!(loud.stop() > 0, "the loud guest gets on too");
}

#[test]
fn a_guest_whose_disk_does_not_move_at_all_holds_nobody_up() {
    let disk = Paced::new(0);
    let served = serve_disk(disk.clone(), Quotas::default());
    let loud = Loud::start(&served.path, "shared", true);
    for _ in 0..3 {
        quiet(&served.path, "shared", 50);
    }
    assert_eq!(disk.seen.lock().unwrap().0, 0);
    assert_eq!(inspect(&served.path).unwrap().devices[0].open, QUEUES);
    disk.let_all_go_on();
    loud.stop();
}

/// What a guest with one request at a time got in a time.
fn measured(path: &Path, id: &str, time: Duration) -> Vec<Duration> {
    let (_monitor, mut queues) = guest::open(Monitor::greeted_at(path), id, 1);
    let (begin, mut all) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let start = Instant::now();
        assert_eq!(queues[0].read_one(0).result.status(), Status::OK);
        all.push(start.elapsed());
    }
    all.sort_unstable();
    all
}

fn show(what: &str, all: &[Duration], time: Duration) {
    let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1e3;
    println!(
        "{what:<28} {:>9.0} requests/s   50% {:>7.1} us   99% {:>7.1} us   99.9% {:>8.1} us   longest {:>9.1} us",
        all.len() as f64 / time.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

#[test]
#[ignore = "a measurement: PVKIT_FAIRNESS=SECONDS cargo test --release -p pvkit-driver-domain --test fairness -- --ignored --nocapture"]
fn measure_a_quiet_guest_alone_and_beside_a_loud_one() {
    let seconds = std::env::var("PVKIT_FAIRNESS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(5.0);
    let time = Duration::from_secs_f64(seconds);
    // A daemon that is there, `pvkit backend --disk id=shared,path=FILE,readonly`, or one of this process.
    let other = std::env::var_os("PVKIT_FAIRNESS_SOCKET").map(std::path::PathBuf::from);
    let served = serve_disk(Arc::new(RamDisk::new(SIZE).unwrap()), Quotas::default());
    let path = other.as_deref().unwrap_or(&served.path);
    show("alone", &measured(path, "shared", time), time);
    for (what, rings) in [("beside full load", false), ("beside load and a flood", true)] {
        let loud = Loud::start(path, "shared", rings);
        let begin = Instant::now();
        while loud.count.load(Ordering::Relaxed) == 0 {
            assert!(begin.elapsed() < SOON);
        }
        let (begin, before) = (Instant::now(), loud.count.load(Ordering::Relaxed));
        show(what, &measured(path, "shared", time), time);
        let got = (loud.count.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        println!("{:<28} {got:>9.0} requests/s of the loud one, {QUEUES} queues of depth {}", "", guest::DEPTH);
        loud.stop();
    }
}
