//! A daemon that is killed in the middle of a write: its successor waits until that write is done, however long it takes.

mod guest;
mod one_file;

use fuser::BackgroundSession;
use guest::{Leash, folder, pvkit, send, wait_for_end};
use one_file::OneFile;
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the file system keeps a write before it stores it: longer than any daemon takes to start.
const DELAY: Duration = Duration::from_secs(3);

/// A file system that is slow to store, if it can be had; word of writes that arrived, and of one that is stored.
fn mounted(folder: &Path) -> Option<(BackgroundSession, PathBuf, Receiver<()>, Arc<AtomicBool>)> {
    let (arrived, arrivals) = channel();
    let arrived = Mutex::new(arrived);
    let stored = Arc::new(AtomicBool::new(false));
    let is_stored = Arc::clone(&stored);
    let slowly = move || {
        // Nobody listens any more once the test has what it wants.
        let _ = arrived.lock().unwrap().send(());
        std::thread::sleep(DELAY);
    };
    let system = OneFile {
        arrived: Box::new(slowly),
        stored: Box::new(move || is_stored.store(true, Ordering::SeqCst)),
        ..OneFile::default()
    };
    let (session, image) = system.mount(folder)?;
    Some((session, image, arrivals, stored))
}

/// A daemon that may not be ready yet.
fn daemon(socket: &Path, image: &Path) -> Leash {
    let mut command = pvkit(&["backend", "--disk", &format!("id=log,path={}", image.display()), "--socket"]);
    command.arg(socket).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map(Leash).unwrap()
}

fn is_serving(daemon: &mut Leash) {
    let mut lines = BufReader::new(daemon.stderr.as_mut().unwrap()).lines();
    let found = lines.by_ref().map(Result::unwrap).any(|line| line.contains("serving"));
    assert!(found, "it ended before it served");
}

#[test]
fn a_successor_waits_for_the_writes_of_a_killed_daemon() {
    let folder = folder("dd-fence");
    let Some((session, image, arrivals, stored)) = mounted(&folder) else { return };
    let socket = folder.join("backend.sock");
    let mut old = daemon(&socket, &image);
    is_serving(&mut old);
    let disk = format!("backend={},id=log", socket.display());
    let mut run = pvkit(&["run", "--machine", "in-process", "--cmdline", "app=log count=1", "--disk", &disk]);
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Leash).unwrap();
    arrivals.recv_timeout(guest::PATIENCE).unwrap();
    send(&old, Signal::KILL);
    assert!(!stored.load(Ordering::SeqCst), "the write was not slow enough to be in the way");
    let mut new = daemon(&socket, &image);
    is_serving(&mut new);
    // Had it not waited, the write would still be on its way, and could land behind its own replay.
    assert!(stored.load(Ordering::SeqCst), "the successor serves while a write of the dead daemon is on its way");
    wait_for_end(&mut old);
    send(&child, Signal::KILL);
    wait_for_end(&mut child);
    send(&new, Signal::TERM);
    assert!(wait_for_end(&mut new).success());
    drop(session);
    std::fs::remove_dir_all(folder).unwrap();
}

/// A guest that appends to its log in a daemon's disk, and when it was told that records are durable.
struct Writer {
    child: Leash,
    reader: std::thread::JoinHandle<u64>,
    acked: Arc<Mutex<Vec<Instant>>>,
}

impl Writer {
    fn start(disk: &str, machine: &[&str], stats: &Path) -> Self {
        let mut run = pvkit(&["run", "--cmdline", "app=log count=0 mode=mix batch=16", "--disk", disk]);
        run.args(machine).args(["--stats=json", "--stats-file"]).arg(stats);
        let mut child = run.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map(Leash).unwrap();
        let output = child.stdout.take().unwrap();
        let acked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&acked);
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            let lines = lines.inspect(|line| assert!(!line.contains("error"), "{line}"));
            lines.filter_map(|line| line.strip_prefix("acked ")?.trim().parse::<u64>().ok()).fold(0, |next, number| {
                assert_eq!(number, next, "acknowledged out of order");
                heard.lock().unwrap().push(Instant::now());
                next + 1
            })
        });
        let writer = Self { child, reader, acked };
        let deadline = Instant::now() + guest::PATIENCE;
        while writer.acked.lock().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "the guest does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        writer
    }

    /// Ends the guest; how many records it was told of, and when.
    fn end(mut self) -> (u64, Vec<Instant>) {
        send(&self.child, Signal::TERM);
        wait_for_end(&mut self.child);
        let count = self.reader.join().unwrap();
        (count, std::mem::take(&mut *self.acked.lock().unwrap()))
    }
}

/// Milliseconds from each moment when a daemon was ready (second; it was killed or asked before, first) to the next acknowledgement, if it comes before the next kill, in words.
fn pauses(moments: &[(Instant, Instant)], acked: &[Instant]) -> String {
    let ends = moments.iter().skip(1).map(|(begin, _)| Some(*begin)).chain([None]);
    let after = |(&(_, from), end): (&(Instant, Instant), Option<Instant>)| {
        let first = *acked.get(acked.partition_point(|at| *at < from))?;
        end.is_none_or(|end| first < end).then(|| first - from)
    };
    let mut all: Vec<_> = moments.iter().zip(ends).filter_map(after).collect();
    all.sort_unstable();
    let at = |part: usize| all.get(all.len() * part / 100).or(all.last()).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3);
    format!("median {:.1} ms, 95 of 100 within {:.1} ms ({} of {} seen)", at(50), at(95), all.len(), moments.len())
}

/// What `app=check` finds in the log.
fn found(disk: &str) -> u64 {
    let output = pvkit(&["run", "--machine", "in-process", "--cmdline", "app=check", "--disk", disk]).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    seen.lines().find_map(|line| line.strip_prefix("found ")?.trim().parse().ok()).unwrap_or_else(|| panic!("{seen}"))
}

fn log_image(folder: &Path) -> (PathBuf, PathBuf, String) {
    let (image, socket) = (folder.join("log.img"), folder.join("backend.sock"));
    std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
    let disk = format!("backend={},id=log", socket.display());
    (image, socket, disk)
}

/// Kills the daemon of a guest that writes, again and again; every record that the guest acknowledged is there, in order, and it
/// has seen no error.
fn survives(folder: &Path, machine: &[&str], kills: u32) {
    let (image, socket, disk) = log_image(folder);
    let mut backend = daemon(&socket, &image);
    is_serving(&mut backend);
    let stats = folder.join("stats");
    let writer = Writer::start(&disk, machine, &stats);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut moments = Vec::new();
    for _ in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // From the middle of the reconnect to the middle of the work.
        std::thread::sleep(Duration::from_micros(random >> 33 & 0x7fff));
        let killed = Instant::now();
        send(&backend, Signal::KILL);
        wait_for_end(&mut backend);
        backend = daemon(&socket, &image);
        is_serving(&mut backend);
        moments.push((killed, Instant::now()));
    }
    // It works after the last one too.
    std::thread::sleep(Duration::from_millis(200));
    let (acked, times) = writer.end();
    // How many depends on how fast the machine syncs; that it worked in between does not.
    assert!(acked >= u64::from(kills / 4), "only {acked} records over {kills} kills");
    let found = found(&disk);
    assert!(found >= acked, "{acked} were acknowledged, {found} are there");
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(stats).unwrap()).unwrap();
    let about = &stats["backends"][0];
    println!(
        "{kills} kills: {acked} records acknowledged, all there; lost {} times, back {} times; from a daemon that is ready \
         to a durable record: {}",
        about["losses"],
        about["returns"],
        pauses(&moments, &times)
    );
    assert!(about["returns"].as_u64().unwrap() > 0, "{about}");
    send(&backend, Signal::TERM);
    assert!(wait_for_end(&mut backend).success());
}

#[test]
fn no_acknowledged_record_is_lost_when_the_daemon_is_upgraded() {
    let folder = folder("dd-upgrades");
    let (image, socket, disk) = log_image(&folder);
    let mut backend = daemon(&socket, &image);
    is_serving(&mut backend);
    let writer = Writer::start(&disk, &["--machine", "in-process"], &folder.join("stats"));
    let mut moments = Vec::new();
    for _ in 0..kills() / 4 {
        std::thread::sleep(Duration::from_millis(100));
        let mut new =
            pvkit(&["backend", "--replace", "--disk", &format!("id=log,path={}", image.display()), "--socket"]);
        let asked = Instant::now();
        let mut new = new.arg(&socket).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map(Leash).unwrap();
        is_serving(&mut new);
        moments.push((asked, Instant::now()));
        assert!(wait_for_end(&mut backend).success(), "the old one leaves in good order");
        backend = new;
    }
    std::thread::sleep(Duration::from_millis(200));
    let (acked, times) = writer.end();
    let found = found(&disk);
    assert!(found >= acked && acked > u64::from(kills() / 4), "{acked} were acknowledged, {found} are there");
    // Around each upgrade the longest time from one durable record to the next.
    let gap = |&(asked, ready): &(Instant, Instant)| {
        let around = times.windows(2).filter(|pair| pair[1] > asked && pair[0] < ready);
        around.map(|pair| pair[1] - pair[0]).max()
    };
    let mut gaps: Vec<_> = moments.iter().filter_map(gap).collect();
    gaps.sort_unstable();
    println!(
        "{} upgrades: {acked} records acknowledged, all there; without a durable record: median {:.1} ms, longest {:.1} ms; \
         from a daemon that is ready: {}",
        moments.len(),
        gaps.get(gaps.len() / 2).map_or(f64::NAN, |gap| gap.as_secs_f64() * 1e3),
        gaps.last().map_or(f64::NAN, |gap| gap.as_secs_f64() * 1e3),
        pauses(&moments, &times)
    );
    send(&backend, Signal::TERM);
    assert!(wait_for_end(&mut backend).success());
    std::fs::remove_dir_all(folder).unwrap();
}

/// `PVKIT_KILLS` for the long form.
fn kills() -> u32 {
    std::env::var("PVKIT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

#[test]
fn no_acknowledged_record_is_lost_when_the_daemon_is_killed() {
    let folder = folder("dd-kills");
    survives(&folder, &["--machine", "in-process"], kills());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn nor_by_a_guest_on_kvm() {
    let Some(image) = guest::unikernel() else { return };
    let folder = folder("dd-kills-kvm");
    survives(&folder, &["--kernel", image.to_str().unwrap()], kills() / 4);
    std::fs::remove_dir_all(folder).unwrap();
}
