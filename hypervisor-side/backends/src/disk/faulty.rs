//! A file that fails on purpose, by chance and from a seed: errors, delays, short transfers, syncs that lose data. For tests.
//!
//! *Invariants.* What it says is true: an error moved nothing, but for a failed sync, which takes back what was stored since the
//! last good one, as a kernel that could not write its pages. The next sync succeeds, as that kernel's.

use super::medium::Medium;
use super::{OpenError, RawDisk, RawOptions};
use nix::fcntl::FallocateFlags;
use pvkit_shared_memory::SharedBytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Writes that a failed sync takes back; older ones count as written by the kernel on its own.
const MOST_UNSYNCED: usize = 4096;
/// Longest delay.
const DELAY_MICROSECONDS: u64 = 5000;

/// How often what goes wrong, in calls out of a hundred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The same seed and calls give the same faults.
    pub seed: u64,
    /// Reads that fail (EIO).
    pub read: u8,
    /// Writes that fail (EIO).
    pub write: u8,
    /// Writes for which there is no space (ENOSPC).
    pub space: u8,
    /// Reads and writes that move a part, or are interrupted first.
    pub short: u8,
    /// Calls that wait.
    pub delay: u8,
    /// Syncs that fail (EIO) and lose what was not synced.
    pub sync: u8,
}

impl FromStr for Faults {
    type Err = String;

    /// `SEED:read=5:write=5:space=1:short=30:delay=10:sync=2`, any of the kinds.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(':');
        let seed = words.next().unwrap_or_default();
        let seed = seed.parse().map_err(|_| format!("`{seed}` is no seed; write faults=SEED:KIND=PERCENT:.."))?;
        let mut faults = Self { seed, ..Self::default() };
        for word in words {
            faults.set(word).ok_or_else(|| {
                format!("`{word}` is no fault; write read, write, space, short, delay or sync, = and 0 to 100")
            })?;
        }
        Ok(faults)
    }
}

impl Faults {
    fn set(&mut self, word: &str) -> Option<()> {
        let (kind, percent) = word.split_once('=')?;
        let field = match kind {
            "read" => &mut self.read,
            "write" => &mut self.write,
            "space" => &mut self.space,
            "short" => &mut self.short,
            "delay" => &mut self.delay,
            "sync" => &mut self.sync,
            _ => return None,
        };
        *field = percent.parse().ok().filter(|percent| *percent <= 100)?;
        Some(())
    }
}

/// Told of each error that was given.
pub type FaultLog = Box<dyn Fn(&str) + Send + Sync>;

/// The file.
pub struct FaultyFile {
    file: File,
    faults: Faults,
    log: FaultLog,
    state: Mutex<State>,
}

struct State {
    random: u64,
    /// Where what stood before each write since the last good sync.
    unsynced: Vec<(u64, Vec<u8>)>,
}

impl State {
    /// Splitmix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.random() % 100 < u64::from(percent)
    }
}

impl RawDisk<FaultyFile> {
    /// As [`RawDisk::open`], on a file that fails.
    ///
    /// # Errors
    /// What is wrong with the image, and what to do about it.
    pub fn open_faulty(path: &Path, options: &RawOptions, faults: Faults, log: FaultLog) -> Result<Self, OpenError> {
        Self::on(path, options, |file| {
            let state = Mutex::new(State { random: faults.seed, unsynced: Vec::new() });
            FaultyFile { file, faults, log, state }
        })
    }
}

impl FaultyFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, what: &str, errno: i32) -> io::Error {
        let error = io::Error::from_raw_os_error(errno);
        (self.log)(&format!("fault: {what}: {error}"));
        error
    }

    fn delay(&self) {
        let mut state = self.state();
        if state.happens(self.faults.delay) {
            let time = Duration::from_micros(state.random() % DELAY_MICROSECONDS);
            drop(state);
            std::thread::sleep(time);
        }
    }

    /// What one call may move of `pieces`, less `skip` bytes; or that it is interrupted.
    fn part(&self, pieces: &[SharedBytes], skip: usize) -> io::Result<Option<SharedBytes>> {
        let mut state = self.state();
        if !state.happens(self.faults.short) {
            return Ok(None);
        }
        let chance = state.random();
        let Some(piece) = pieces.first().filter(|_| !chance.is_multiple_of(4)) else {
            return Err(io::ErrorKind::Interrupted.into());
        };
        let rest = piece.len().saturating_sub(skip);
        let length = 1 + (chance >> 8) as usize % rest.max(1);
        piece.part(skip, length.min(rest)).map(Some).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))
    }

    fn sync_or_lose(&self, state: &mut State) -> io::Result<()> {
        if !state.happens(self.faults.sync) {
            self.file.sync_data()?;
            state.unsynced.clear();
            return Ok(());
        }
        for (position, before) in std::mem::take(&mut state.unsynced).into_iter().rev() {
            self.file.write_all_at(&before, position)?;
        }
        Err(self.fail("sync", libc::EIO))
    }

    fn write_error(&self) -> Option<io::Error> {
        let mut state = self.state();
        if state.happens(self.faults.write) {
            return Some(self.fail("write", libc::EIO));
        }
        state.happens(self.faults.space).then(|| self.fail("space", libc::ENOSPC))
    }

    /// Writes, and remembers what stood there.
    fn store(&self, position: u64, from: &[SharedBytes], skip: usize, durable: bool) -> io::Result<usize> {
        let mut state = self.state();
        let length = from.iter().map(SharedBytes::len).sum::<usize>().saturating_sub(skip);
        let mut before = vec![0; length];
        let known = FileExt::read_at(&self.file, &mut before, position)?;
        before.truncate(known);
        let moved = Medium::write_at(&self.file, position, from, skip, false)?;
        before.truncate(moved);
        if state.unsynced.len() == MOST_UNSYNCED {
            state.unsynced.clear();
        }
        state.unsynced.push((position, before));
        if durable {
            self.sync_or_lose(&mut state)?;
        }
        Ok(moved)
    }
}

impl Medium for FaultyFile {
    fn read_at(&self, position: u64, into: &[SharedBytes], skip: usize) -> io::Result<usize> {
        self.delay();
        let part = self.part(into, skip)?;
        if self.state().happens(self.faults.read) {
            return Err(self.fail("read", libc::EIO));
        }
        match part {
            Some(part) => Medium::read_at(&self.file, position, &[part], 0),
            None => Medium::read_at(&self.file, position, into, skip),
        }
    }

    fn write_at(&self, position: u64, from: &[SharedBytes], skip: usize, durable: bool) -> io::Result<usize> {
        self.delay();
        let part = self.part(from, skip)?;
        if let Some(error) = self.write_error() {
            return Err(error);
        }
        match part {
            Some(part) => self.store(position, &[part], 0, durable),
            None => self.store(position, from, skip, durable),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.delay();
        self.sync_or_lose(&mut self.state())
    }

    fn allocate(&self, mode: FallocateFlags, position: libc::off_t, length: libc::off_t) -> io::Result<()> {
        self.delay();
        match self.write_error() {
            Some(error) => Err(error),
            None => self.file.allocate(mode, position, length),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Medium::size(&self.file)
    }
}
