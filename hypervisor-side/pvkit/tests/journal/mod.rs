//! A guest that keeps a log, a journal of what it acknowledged, and those whom a test may kill.
#![allow(dead_code, reason = "each test program uses its part")]

use super::guest::{Leash, PATIENCE, pvkit, send, wait_for_end};
use rustix::process::Signal;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Chance from a seed, so that a run can be had again as far as the machine's own timing allows.
pub struct Random(u64);

impl Random {
    /// `PVKIT_SEED`, or 1.
    pub fn new() -> Self {
        Self(number_in("PVKIT_SEED", 1))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// `PVKIT_KILLS`, for the long form.
pub fn kills(quick: u64) -> u64 {
    number_in("PVKIT_KILLS", quick)
}

fn number_in(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What guests acknowledged, over all lives of the log. It is written down when it is seen: a line that was lost with its guest
/// was promised to nobody.
#[derive(Default)]
pub struct Journal {
    /// Records acknowledged: 0 up to this one, which is not.
    acked: AtomicU64,
    /// Lives that found the log.
    lives: AtomicU64,
    /// Errors that the guest was given.
    failed: AtomicU64,
    /// What broke a promise.
    broken: Mutex<Vec<String>>,
}

impl Journal {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::SeqCst)
    }

    pub fn lives(&self) -> u64 {
        self.lives.load(Ordering::SeqCst)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    /// Takes one line of a guest's console.
    fn take(&self, line: &str) {
        let number = |rest: &str| rest.trim().parse::<u64>().ok();
        if let Some(found) = line.strip_prefix("found ").and_then(number) {
            self.lives.fetch_add(1, Ordering::SeqCst);
            self.expect(found >= self.acked(), || format!("{} were acknowledged, {found} are there", self.acked()));
            // Records that were written and never acknowledged are as good as others.
            self.acked.fetch_max(found, Ordering::SeqCst);
        } else if let Some(acked) = line.strip_prefix("acked ").and_then(number) {
            self.expect(acked == self.acked(), || format!("{acked} is acknowledged, {} is next", self.acked()));
            self.acked.store(acked + 1, Ordering::SeqCst);
        } else if line.starts_with("failed ") {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.lock().unwrap().push(what());
        }
    }

    pub fn assert_kept(&self) {
        let broken = self.broken.lock().unwrap();
        assert!(broken.is_empty(), "{broken:?}");
    }
}

/// Where a guest runs: words of `pvkit run`.
pub type Machine<'a> = &'a [&'a str];

pub const IN_PROCESS: Machine<'static> = &["--machine", "in-process"];

/// A monitor with its guest, and what it said on standard error.
pub struct Monitor {
    pub child: Leash,
    console: JoinHandle<Vec<String>>,
    log: JoinHandle<String>,
}

/// What a guest came to.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// Standard error of the monitor.
    pub log: String,
    /// Lines of the guest's console that say more than what was acknowledged; the host speaks there too.
    pub console: Vec<String>,
}

impl Ended {
    /// Whether somebody said so on the console.
    pub fn says(&self, what: &str) -> bool {
        self.console.iter().any(|line| line.contains(what))
    }
}

impl Monitor {
    pub fn start(machine: Machine<'_>, disk: &str, cmdline: &str, journal: &Arc<Journal>) -> Self {
        let mut command = pvkit(&["run", "--cmdline", cmdline, "--disk", disk]);
        command.args(machine);
        Self::of(command, journal)
    }

    /// Of any command that runs a monitor.
    pub fn of(mut command: Command, journal: &Arc<Journal>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map(Leash).unwrap();
        let (output, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let journal = Arc::clone(journal);
        let console = std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.inspect(|line| journal.take(line)).filter(|line| !line.starts_with("acked ")).collect()
        });
        let lines = move || BufReader::new(errors).lines().map_while(Result::ok).map(|line| line + "\n").collect();
        Self { child, console, log: std::thread::spawn(lines) }
    }

    /// Its death, or the end that it came to just before.
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.wait()
    }

    pub fn wait(mut self) -> Ended {
        let status = wait_for_end(&mut self.child);
        Ended { status, log: self.log.join().unwrap(), console: self.console.join().unwrap() }
    }

    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

/// Waits until something is so, and says what if it never is.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: never");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A pause of up to so many milliseconds.
pub fn pause(random: &mut Random, most: u64) {
    std::thread::sleep(Duration::from_micros(random.below(most * 1000)));
}

/// An image for a log.
pub fn image(folder: &Path, bytes: u64) -> PathBuf {
    let path = folder.join("log.img");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

/// How many whole records an image holds, as a guest on a plain disk finds them.
pub fn check(image: &Path) -> u64 {
    let disk = format!("path={}", image.display());
    let output =
        pvkit(&["run", "--machine", "in-process", "--cmdline", "app=check", "--disk", &disk]).output().unwrap();
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = seen.lines().find_map(|line| line.strip_prefix("found ")?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("nothing is found: {seen}{}", String::from_utf8_lossy(&output.stderr)))
}

/// A daemon that serves the disk `log`; it listens when this returns. Its standard error goes on into a string.
pub struct Daemon {
    child: Leash,
    log: JoinHandle<String>,
}

impl Daemon {
    pub fn start(socket: &Path, disk: &str) -> Self {
        let mut command = pvkit(&["backend", "--disk", &format!("id=log,{disk}"), "--socket"]);
        command.arg(socket).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map(Leash).unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        let serves = lines.by_ref().any(|line| {
            seen.push(line);
            seen.last().is_some_and(|line| line.contains("serving"))
        });
        assert!(serves, "it ended before it served: {seen:?}");
        Self { child, log: std::thread::spawn(move || lines.map(|line| line + "\n").collect()) }
    }

    /// Its death, and what it had said.
    pub fn kill(mut self) -> String {
        send(&self.child, Signal::KILL);
        wait_for_end(&mut self.child);
        self.log.join().unwrap()
    }

    pub fn end(mut self) -> String {
        send(&self.child, Signal::TERM);
        assert!(wait_for_end(&mut self.child).success());
        self.log.join().unwrap()
    }
}

/// The errors that a disk says that it gave.
pub fn faults(log: &str) -> u64 {
    log.matches("pvkit: fault: ").count() as u64
}
