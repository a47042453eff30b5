//! Grants that are taken back while a request uses them.

use crate::input::Input;
use pvkit_abi::block::{BlockConfig, BlockFeatures};
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::status::Status;
use pvkit_backends::fuzzing::{Ask, connect, place};
use pvkit_backends::{BlockLimits, BlockQueue, Disk, DiskError, GrantTable, RamDisk};
use pvkit_shared_memory::SharedBytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

const DISK: usize = 16 << 10;
/// Requests in one input: each may start a thread.
const MOST: usize = 12;
/// Looks at whether a grant is taken back too early.
const LOOKS: usize = 64;
const READ: u8 = 1;
const WRITE: u8 = 2;

/// What happens in the middle of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Remove(GrantRef),
    Clear,
}

/// A disk that has grants taken back while it works.
struct Slow {
    disk: RamDisk,
    grants: Arc<GrantTable>,
    next: Mutex<Meanwhile>,
    taken_back: Arc<AtomicUsize>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Slow {
    fn during(&self, work: impl FnOnce() -> Result<(), DiskError>) -> Result<(), DiskError> {
        let what = std::mem::replace(&mut *self.next.lock().unwrap(), Meanwhile::Nothing);
        if what == Meanwhile::Nothing {
            return work();
        }
        let (grants, done) = (Arc::clone(&self.grants), Arc::clone(&self.taken_back));
        let before = done.load(Ordering::SeqCst);
        let thread = std::thread::spawn(move || {
            match what {
                Meanwhile::Remove(grant) => drop(grants.remove(grant)),
                _ => grants.clear(),
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        (0..LOOKS).for_each(|_| std::thread::yield_now());
        let result = work();
        assert_eq!(self.taken_back.load(Ordering::SeqCst), before, "taken back while it is used");
        *self.thread.lock().unwrap() = Some(thread);
        result
    }
}

impl Disk for Slow {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn config(&self) -> BlockConfig {
        self.disk.config()
    }

    fn features(&self) -> BlockFeatures {
        self.disk.features()
    }

    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        self.during(|| self.disk.read(position, into))
    }

    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError> {
        self.during(|| self.disk.write(position, from, fua))
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush()
    }

    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError> {
        self.disk.discard(position, length)
    }

    fn write_zeroes(&self, position: u64, length: u64, fua: bool) -> Result<(), DiskError> {
        self.disk.write_zeroes(position, length, fua)
    }
}

/// A request that is being done goes well, whatever is taken back meanwhile, and nothing is before its end; the next one that
/// names what was taken back is refused and touches neither disk nor memory.
pub fn in_flight(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut guest, setup) = connect(8);
    let disk = Arc::new(Slow {
        disk: RamDisk::with_content((0..DISK).map(|at| (at / 512) as u8).collect()),
        grants: Arc::clone(&guest.grants),
        next: Mutex::new(Meanwhile::Nothing),
        taken_back: Arc::default(),
        thread: Mutex::default(),
    });
    let mut queue = BlockQueue::new(setup, disk.clone(), BlockLimits::default(), BlockFeatures::all());
    guest.grants.clear();
    let mut live: [Option<(GrantRef, Access)>; 4] = [None; 4];
    let mut generation = 0;
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let slot = usize::from(input.below(4));
        if live[slot].is_none() && input.below(4) != 3 {
            generation += 1;
            let name = GrantRef::new(slot as u16, generation);
            let access = [Access::all(), Access::all(), Access::READ, Access::WRITE][usize::from(input.below(4))];
            let bytes = guest.memory.bytes().part(slot * 4096, 4096).unwrap();
            guest.grants.insert(name, bytes, access).expect("an empty slot");
            live[slot] = Some((name, access));
        }
        let name = match input.below(4) {
            0 => GrantRef::new(slot as u16, generation.max(1) - u16::from(input.below(2)).min(generation)),
            _ => live[slot].map_or(GrantRef::new(slot as u16, 1), |(name, _)| name),
        };
        let other = usize::from(input.below(4));
        let meanwhile = match input.below(4) {
            0 => Meanwhile::Clear,
            1 => Meanwhile::Nothing,
            _ => live[other].map_or(Meanwhile::Nothing, |(name, _)| Meanwhile::Remove(name)),
        };
        *disk.next.lock().unwrap() = meanwhile;
        let (op, needed) = if input.below(2) == 0 { (READ, Access::WRITE) } else { (WRITE, Access::READ) };
        let block = usize::from(input.below((DISK / 512) as u8));
        let offset = usize::from(input.below(10)) * 512;
        let fits = offset + 512 <= 4096;
        let granted = live[slot].is_some_and(|(known, access)| known == name && access.contains(needed)) && fits;
        guest.fill(slot * 4096, &[input.byte(); 4096]);
        let (memory, content) = (guest.bytes(slot * 4096, 4096), disk.disk.content());
        let words = [block as u64 * 512, place(name, 512), offset as u64];
        let result = guest.ask(&mut queue, Ask { op, flags: 0, aux: 0, words });
        let (memory_now, content_now) = (guest.bytes(slot * 4096, 4096), disk.disk.content());
        assert_eq!(result.status() == Status::OK, granted, "{name:?} of {live:?}: {result:?}");
        let (mut memory_due, mut content_due) = (memory, content);
        if granted && op == READ {
            memory_due[offset..offset + 512].copy_from_slice(&content_due[block * 512..][..512]);
        } else if granted {
            content_due[block * 512..][..512].copy_from_slice(&memory_due[offset..offset + 512]);
        }
        assert!(memory_now == memory_due && content_now == content_due, "op {op} of {name:?}");
        if let Some(thread) = disk.thread.lock().unwrap().take() {
            thread.join().expect("what was taken back");
            match meanwhile {
                Meanwhile::Clear => live = [None; 4],
                _ => live[other] = None,
            }
        }
    }
}
