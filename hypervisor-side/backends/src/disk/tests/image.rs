//! A raw image: bytes go where they belong, in one piece or in very many.

use super::*;
use std::os::unix::fs::MetadataExt;

#[test]
fn what_is_written_stands_in_the_file() {
    let (_folder, path) = image(8192);
    let disk = open(&path);
    write(&disk, 1024, &[0xab; 512]);
    disk.write(2048, &[shared(&[0xcd; 512])], true).unwrap();
    disk.flush().unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!((&file[1024..1536], &file[2048..2560]), (&[0xab; 512][..], &[0xcd; 512][..]));
    assert_eq!(file.iter().filter(|byte| **byte != 0).count(), 1024);
    assert_eq!(read(&disk, 512, 1024), [[0; 512], [0xab; 512]].concat());
}

#[test]
fn more_pieces_than_one_system_call_takes_are_moved_in_order() {
    let (_folder, path) = image(1 << 20);
    let disk = open(&path);
    // 1200 pieces of odd lengths: several batches, and none of them ends at a block.
    let pieces: Vec<Vec<u8>> = (0..1200usize).map(|n| vec![n as u8; 1 + n % 100]).collect();
    let bytes = pieces.concat();
    let named: Vec<SharedBytes> = pieces.iter().map(|piece| shared(piece)).collect();
    for fua in [false, true] {
        let position = if fua { 4096 } else { 512 << 10 };
        disk.write(position, &named, fua).unwrap();
        let back: Vec<SharedBytes> = pieces.iter().map(|piece| shared(&vec![0; piece.len()])).collect();
        disk.read(position, &back).unwrap();
        assert_eq!(back.iter().flat_map(copy_of).collect::<Vec<_>>(), bytes);
    }
}

#[test]
fn zeroes_and_discards_change_their_run_alone_and_free_its_space() {
    let (_folder, path) = image(1 << 20);
    let disk = open(&path);
    write(&disk, 0, &vec![0x77; 1 << 20]);
    disk.flush().unwrap();
    disk.write_zeroes(4096, 8192, true).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!((file[4095], &file[4096..12288], file[12288]), (0x77, &[0; 8192][..], 0x77));

    let before = std::fs::metadata(&path).unwrap().blocks();
    disk.discard(512 << 10, 256 << 10).unwrap();
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len(), 1 << 20, "the size stays");
    assert_eq!((file[(512 << 10) - 1], file[768 << 10]), (0x77, 0x77));
    assert!(std::fs::metadata(&path).unwrap().blocks() < before, "a hole was made");
}

#[test]
fn zeroes_by_writing_are_zeroes_too() {
    let (_folder, path) = image(1 << 20);
    let disk = open(&path);
    write(&disk, 0, &vec![0x77; 1 << 20]);
    // What a file system without ZERO_RANGE gets: longer than the buffer of zeroes, and not a multiple of it.
    disk.zero_by_writing(512, (128 << 10) + 512).unwrap();
    let file = std::fs::read(&path).unwrap();
    let end = 512 + (128 << 10) + 512;
    assert_eq!((file[511], file[512..end].iter().all(|byte| *byte == 0), file[end]), (0x77, true, 0x77));
}

#[test]
fn a_grown_image_is_noticed_at_refresh_and_cut_to_whole_blocks() {
    let (_folder, path) = image(8192);
    let disk = open(&path);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(16384 + 100).unwrap();
    assert_eq!(disk.capacity(), 8192, "until somebody looks");
    assert_eq!(disk.refresh(), Ok(16384));
    assert_eq!(disk.config().capacity, 16384);
    write(&disk, 16384 - 512, &[1; 512]);
}

#[test]
fn reading_beyond_a_cut_file_is_an_error_and_no_endless_loop() {
    let (_folder, path) = image(8192);
    let disk = open(&path);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096 + 100).unwrap();
    assert_eq!(disk.read(4096, &[shared(&[0; 512])]), Err(DiskError::Io(libc::EIO)));
}

#[test]
fn a_read_only_image_refuses_changes_and_says_so_in_its_offer() {
    let (_folder, path) = image(8192);
    let disk = RawDisk::open(&path, &RawOptions { read_only: true, ..RawOptions::default() }).unwrap();
    assert_eq!(disk.write(0, &[shared(&[1; 512])], false), Err(DiskError::ReadOnly));
    assert_eq!(disk.discard(0, 512), Err(DiskError::ReadOnly));
    assert_eq!(disk.write_zeroes(0, 512, false), Err(DiskError::ReadOnly));
    assert_eq!(read(&disk, 0, 512), [0; 512]);
    disk.flush().unwrap();
    let flags = pvkit_abi::block::BlockFlags::from_bits_retain(disk.config().flags);
    assert!(flags.contains(pvkit_abi::block::BlockFlags::READ_ONLY));
}

#[test]
fn block_size_and_serial_are_offered_as_asked_for() {
    let (_folder, path) = image(8192);
    let options = RawOptions { block_size: 4096, serial: "kit-7".into(), ..RawOptions::default() };
    let config = RawDisk::open(&path, &options).unwrap().config();
    assert_eq!((config.logical_block, config.physical_block, config.capacity), (4096, 4096, 8192));
    assert_eq!(config.serial, serial("kit-7"));
}

/// A kernel that moves a few bytes a call and is interrupted every third time.
fn reluctant(limit: usize) -> impl FnMut(u64, &[SharedBytes], usize) -> std::io::Result<usize> {
    let (mut calls, mut expected) = (0, 0);
    move |position, pieces, skip| {
        calls += 1;
        if calls % 3 == 0 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        assert_eq!(position, expected, "each call goes on where the last one ended");
        let rest = pieces[0].part(skip, pieces[0].len() - skip).unwrap();
        let moved = limit.min(rest.len());
        rest.write(0, &vec![position as u8 + 1; moved]).unwrap();
        expected += moved as u64;
        Ok(moved)
    }
}

#[test]
fn short_and_interrupted_calls_are_continued_where_they_ended() {
    let pieces = [shared(&[0; 10]), shared(&[0; 3]), shared(&[0; 8])];
    raw::transfer(0, &pieces, reluctant(4)).unwrap();
    assert_eq!(copy_of(&pieces[0]), [1, 1, 1, 1, 5, 5, 5, 5, 9, 9]);
    assert_eq!(copy_of(&pieces[1]), [11, 11, 11]);
    assert_eq!(copy_of(&pieces[2]), [14, 14, 14, 14, 18, 18, 18, 18]);
}

#[test]
fn a_failing_call_ends_the_transfer_with_its_errno() {
    let full = |_: u64, _: &[SharedBytes], _: usize| Err(std::io::Error::from_raw_os_error(libc::ENOSPC));
    assert_eq!(raw::transfer(0, &[shared(&[0; 8])], full), Err(DiskError::NoSpace));
}
