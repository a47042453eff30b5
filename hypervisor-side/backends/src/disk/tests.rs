//! The disks themselves, without a queue.

mod faulty;
mod image;
mod opening;
mod volatile;

use super::*;
use crate::fake_guest::copy_of;
use pvkit_shared_memory::HeapPages;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Shared memory that holds `bytes`, for ever: tests are short.
fn shared(bytes: &[u8]) -> SharedBytes {
    let pages = HeapPages::new(bytes.len().div_ceil(4096)).leak();
    pages.write(0, bytes).unwrap();
    pages.part(0, bytes.len()).unwrap()
}

/// What stands on a disk.
fn read(disk: &dyn Disk, position: u64, length: usize) -> Vec<u8> {
    let into = shared(&vec![0xee; length]);
    disk.read(position, &[into]).unwrap();
    copy_of(&into)
}

fn write(disk: &dyn Disk, position: u64, bytes: &[u8]) {
    disk.write(position, &[shared(bytes)], false).unwrap();
}

/// A folder that vanishes, with an image of `size` bytes.
fn image(size: u64) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("disk.img");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    (folder, path)
}

fn open(path: &Path) -> RawDisk {
    RawDisk::open(path, &RawOptions::default()).unwrap()
}

#[test]
fn the_null_disk_takes_everything_and_gives_zeroes() {
    let disk = NullDisk::new(4096 + 100);
    assert_eq!(disk.capacity(), 4096);
    write(&disk, 0, &[1; 512]);
    assert_eq!(read(&disk, 0, 512), [0; 512]);
    disk.flush().unwrap();
    disk.discard(0, 512).unwrap();
    disk.write_zeroes(0, 512, true).unwrap();
}

#[test]
fn the_ram_disk_keeps_what_is_written_in_pieces() {
    let disk = RamDisk::new(8192).unwrap();
    disk.write(1024, &[shared(&[1; 100]), shared(&[2; 412])], false).unwrap();
    let (a, b) = (shared(&[0; 300]), shared(&[0; 212]));
    disk.read(1024, &[a, b]).unwrap();
    assert_eq!(copy_of(&a), [&[1; 100][..], &[2; 200]].concat());
    assert_eq!(copy_of(&b), [2; 212]);
    disk.write_zeroes(1024, 512, false).unwrap();
    assert_eq!(disk.content(), [0; 8192]);
}

#[test]
fn the_ram_disk_is_bounded_and_says_how_to_go_on() {
    let error = RamDisk::new(MAX_RAM_DISK + 1).unwrap_err();
    assert!(error.to_string().contains("use an image file"), "{error}");
    let disk = RamDisk::new(1024).unwrap();
    assert_eq!(disk.resize(u64::MAX), Err(TooLarge(u64::MAX)));
    assert_eq!(disk.capacity(), 1024);
}

#[test]
fn a_run_that_a_shrunk_ram_disk_no_longer_has_is_an_error() {
    let disk = RamDisk::new(1024).unwrap();
    disk.resize(512).unwrap();
    let piece = shared(&[0; 512]);
    assert_eq!(disk.read(512, &[piece]), Err(DiskError::Io(libc::EIO)));
    assert_eq!(disk.write(512, &[piece], false), Err(DiskError::Io(libc::EIO)));
    assert_eq!(disk.write_zeroes(512, 512, false), Err(DiskError::Io(libc::EIO)));
    assert_eq!(disk.write_zeroes(u64::MAX - 511, 512, false), Err(DiskError::Io(libc::EIO)));
}

#[test]
fn a_full_file_system_is_told_from_a_failing_one() {
    let errno = std::io::Error::from_raw_os_error;
    assert_eq!(DiskError::from(errno(libc::ENOSPC)), DiskError::NoSpace);
    assert_eq!(DiskError::from(errno(libc::EDQUOT)), DiskError::NoSpace);
    assert_eq!(DiskError::from(errno(libc::EIO)), DiskError::Io(libc::EIO));
    assert!(DiskError::NoSpace.to_string().contains("free space"));
}

#[test]
fn a_long_serial_is_cut() {
    assert_eq!(serial("0123456789012345678901234567890123456789"), *b"01234567890123456789012345678901");
}
