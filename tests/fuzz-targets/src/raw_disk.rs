//! Raw disk images: of any size, cut and grown by somebody else while they are open.

use crate::input::Input;
use pvkit_abi::block::{MAX_BLOCK, MIN_BLOCK};
use pvkit_backends::disk::{OpenError, RawOptions};
use pvkit_backends::{Disk, DiskError, RawDisk};
use pvkit_shared_memory::{HeapPages, SharedBytes};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Operations in one input.
const MOST: usize = 24;
/// Bytes of the largest image.
const LARGEST: u64 = 192 << 10;
/// Pages that a request may name.
const PAGES: usize = 32;
const EIO: i32 = 5;

/// An image, and what must be in it.
struct Image {
    file: File,
    /// Removed with this, if it has a name of its own.
    _named: Option<NamedTempFile>,
    path: PathBuf,
    due: Vec<u8>,
}

/// An image is opened if and only if it can be a disk and nobody else has it; what is read is what is in it, what is changed is what
/// was named; what was cut off is an error, and what is not there any more after a second look is not offered any more.
pub fn image(data: &[u8]) {
    let mut input = Input::new(data);
    let block_size = match input.below(8) {
        0 => input.u32(),
        1 => 65536,
        2..=4 => 4096,
        _ => 512,
    };
    let size = match input.below(4) {
        0 => input.number() % LARGEST,
        _ => u64::from(block_size % 65537) * u64::from(input.below(9)) % (LARGEST + 1),
    };
    let options = RawOptions {
        read_only: input.below(8) == 7,
        block_size,
        serial: String::from_utf8_lossy(input.bytes(4)).into(),
    };
    let mut image = Image::new(input.below(4) == 3, size);
    let legal = block_size.is_power_of_two() && (MIN_BLOCK..=MAX_BLOCK).contains(&block_size);
    let opened = RawDisk::open(&image.path, &options);
    let expected = legal && size != 0 && size.is_multiple_of(u64::from(block_size));
    assert_eq!(opened.is_ok(), expected, "{size} bytes, {options:?}: {:?}", opened.err());
    let Ok(disk) = opened else { return };
    assert_eq!((disk.capacity(), disk.config().capacity), (size, size));
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        image.step(&mut input, &disk, &options);
    }
    drop(disk);
    let size = image.due.len() as u64;
    let again = RawDisk::open(&image.path, &options);
    assert_eq!(again.is_ok(), size != 0 && size.is_multiple_of(u64::from(block_size)), "the lock goes with the disk");
}

impl Image {
    /// On a file system, or in memory alone: the two can do different things.
    fn new(on_disk: bool, size: u64) -> Self {
        let named = on_disk.then(|| NamedTempFile::new().unwrap());
        let file = match &named {
            Some(named) => named.reopen().unwrap(),
            None => File::from(rustix::fs::memfd_create("image", MemfdFlags::CLOEXEC).unwrap()),
        };
        let path = match &named {
            Some(named) => named.path().to_owned(),
            None => Path::new("/proc/self/fd").join(file.as_raw_fd().to_string()),
        };
        let due: Vec<u8> = (0..size).map(|at| (at / 512 * 7 + 1) as u8).collect();
        file.write_all_at(&due, 0).unwrap();
        Self { file, _named: named, path, due }
    }

    fn step(&mut self, input: &mut Input<'_>, disk: &RawDisk, options: &RawOptions) {
        let block = u64::from(options.block_size);
        let blocks = disk.capacity() / block;
        assert_eq!(disk.capacity() % block, 0, "whole blocks");
        // As an engine names it: inside the capacity, and no more than there is memory.
        let first = u64::from(input.byte()) % blocks.max(1);
        let count = (1 + u64::from(input.below(8))).min(blocks - first.min(blocks)).min((PAGES << 12) as u64 / block);
        let (position, length) = (first * block, count * block);
        let denied = if options.read_only { Err(DiskError::ReadOnly) } else { Ok(()) };
        let operation = input.below(8);
        if length == 0 && operation < 6 {
            return;
        }
        let changed = match operation {
            0 | 1 => return self.read(input, disk, position, length as usize),
            2 | 3 => {
                let (memory, pieces) = memory(input, length as usize);
                let value = input.byte();
                memory.bytes().write(0, &vec![value; length as usize]).unwrap();
                let done = disk.write(position, &pieces, input.below(2) == 1);
                assert_eq!(done, denied);
                if done.is_ok() {
                    self.put(position, &vec![value; length as usize]);
                }
                0..0
            }
            4 => {
                let done = disk.write_zeroes(position, length, input.below(2) == 1);
                assert_eq!(done, denied);
                let end = (position + length).min(self.due.len() as u64);
                if done.is_ok() && position < end {
                    self.due[position as usize..end as usize].fill(0);
                }
                // Behind what was cut off a file may grow again, or not.
                end..position + length
            }
            5 => {
                assert_eq!(disk.discard(position, length), denied);
                if options.read_only { 0..0 } else { position..position + length }
            }
            6 => {
                let size =
                    if input.below(2) == 0 { input.number() % LARGEST } else { u64::from(input.below(9)) * block };
                self.file.set_len(size.min(LARGEST)).unwrap();
                self.due.resize(size.min(LARGEST) as usize, 0);
                0..0
            }
            _ => {
                self.look(input, disk, options);
                0..0
            }
        };
        self.compare(changed);
    }

    fn read(&self, input: &mut Input<'_>, disk: &RawDisk, position: u64, length: usize) {
        let (memory, pieces) = memory(input, length);
        match self.due.get(position as usize..position as usize + length) {
            Some(due) => {
                assert_eq!(disk.read(position, &pieces), Ok(()));
                let mut read = vec![0; length];
                memory.bytes().read(0, &mut read).unwrap();
                assert!(read == due, "{length} bytes at {position}");
            }
            None => assert_eq!(disk.read(position, &pieces), Err(DiskError::Io(EIO)), "what was cut off"),
        }
    }

    /// Whoever else comes, and the disk's own second look.
    fn look(&self, input: &mut Input<'_>, disk: &RawDisk, options: &RawOptions) {
        match input.below(4) {
            0 => assert_eq!(disk.flush(), Ok(())),
            1 => {
                let other = RawOptions { read_only: input.below(2) == 1, ..options.clone() };
                let locked = matches!(RawDisk::open(&self.path, &other), Err(OpenError::Locked { .. }));
                assert_eq!(locked, !(options.read_only && other.read_only), "{other:?} beside {options:?}");
            }
            _ => {
                let block = u64::from(options.block_size);
                let whole = self.due.len() as u64 / block * block;
                assert_eq!(disk.refresh(), Ok(whole));
                assert_eq!((disk.capacity(), disk.config().capacity), (whole, whole));
            }
        }
    }

    fn put(&mut self, position: u64, bytes: &[u8]) {
        let (from, to) = (position as usize, position as usize + bytes.len());
        self.due.resize(self.due.len().max(to), 0);
        self.due[from..to].copy_from_slice(bytes);
    }

    /// Everything but what may be anything now is as it must be.
    fn compare(&mut self, any: std::ops::Range<u64>) {
        let mut now = vec![0; self.file.metadata().unwrap().len() as usize];
        self.file.read_exact_at(&mut now, 0).unwrap();
        let may_grow = now.len() > self.due.len() && any.contains(&(now.len() as u64 - 1));
        assert!(now.len() == self.due.len() || may_grow, "{} bytes became {}", self.due.len(), now.len());
        for (at, (now, due)) in now.iter().zip(&self.due).enumerate() {
            assert!(now == due || any.contains(&(at as u64)), "{now:#x} at {at}, {due:#x} was due");
        }
        self.due = now;
    }
}

/// So much memory, cut into up to three pieces that follow one another.
fn memory(input: &mut Input<'_>, length: usize) -> (HeapPages, Vec<SharedBytes>) {
    let memory = HeapPages::new(PAGES);
    let mut cuts =
        [0, usize::from(input.byte()) * 16 % (length + 1), usize::from(input.byte()) * 512 % (length + 1), length];
    cuts.sort_unstable();
    let pieces = cuts.windows(2).map(|cut| memory.bytes().part(cut[0], cut[1] - cut[0]).unwrap());
    let pieces = pieces.collect();
    (memory, pieces)
}
