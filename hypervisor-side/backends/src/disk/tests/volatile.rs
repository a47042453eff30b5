//! What survives a crash on a volatile cache, and what must not.

use super::super::volatile::Mutation;
use super::*;
use std::sync::Arc;

const CAPACITY: u64 = 64 << 10;
const LIMIT: u64 = 8 << 10;

fn cached() -> (Arc<RamDisk>, VolatileDisk<Arc<RamDisk>>) {
    let medium = Arc::new(RamDisk::new(CAPACITY).unwrap());
    let disk = VolatileDisk::new(Arc::clone(&medium), LIMIT);
    (medium, disk)
}

fn write_fua(disk: &dyn Disk, position: u64, bytes: &[u8]) {
    disk.write(position, &[shared(bytes)], true).unwrap();
}

#[test]
fn an_unflushed_write_is_read_back_and_dies_with_the_disk() {
    let (medium, disk) = cached();
    write(&disk, 512, &[1; 1024]);
    assert_eq!(read(&disk, 0, 2048), [[0; 512], [1; 512], [1; 512], [0; 512]].concat());
    assert_eq!(disk.unflushed(), 1024);
    assert_eq!(disk.kill(), 2);
    assert_eq!(medium.content(), [0; CAPACITY as usize]);
}

#[test]
fn a_dropped_disk_writes_nothing_down() {
    let (medium, disk) = cached();
    write(&disk, 0, &[1; 512]);
    drop(disk);
    assert_eq!(medium.content(), [0; CAPACITY as usize]);
}

#[test]
fn a_flushed_write_survives() {
    let (medium, disk) = cached();
    write(&disk, 0, &[1; 512]);
    write(&disk, 4096, &[2; 512]);
    disk.flush().unwrap();
    write(&disk, 8192, &[3; 512]);
    disk.kill();
    let content = medium.content();
    assert_eq!((content[0], content[4096], content[8192]), (1, 2, 0));
}

#[test]
fn a_fua_write_survives_alone() {
    let (medium, disk) = cached();
    write(&disk, 0, &[1; 512]);
    write_fua(&disk, 512, &[2; 512]);
    disk.kill();
    let content = medium.content();
    assert_eq!((content[0], content[512]), (0, 2));
}

#[test]
fn a_fua_write_replaces_what_was_cached_before_it() {
    let (medium, disk) = cached();
    write(&disk, 0, &[1; 1024]);
    write_fua(&disk, 0, &[2; 512]);
    assert_eq!(read(&disk, 0, 1024), [[2; 512], [1; 512]].concat());
    disk.flush().unwrap();
    assert_eq!(medium.content()[..1024], [[2; 512], [1; 512]].concat());
}

#[test]
fn the_last_of_several_unflushed_writes_counts() {
    let (medium, disk) = cached();
    for byte in 1..=5 {
        write(&disk, 0, &[byte; 512]);
    }
    assert_eq!(disk.unflushed(), 512);
    disk.flush().unwrap();
    assert_eq!(medium.content()[..512], [5; 512]);
}

#[test]
fn zeroes_are_as_volatile_as_writes() {
    let (medium, disk) = cached();
    write_fua(&disk, 0, &[9; 2048]);
    disk.write_zeroes(512, 512, false).unwrap();
    assert_eq!(read(&disk, 0, 2048), [[9; 512], [0; 512], [9; 512], [9; 512]].concat());
    assert_eq!(medium.content()[..2048], [9; 2048], "nothing is written down yet");
    disk.write_zeroes(1536, 512, true).unwrap();
    disk.kill();
    assert_eq!(medium.content()[..2048], [[9; 512], [9; 512], [9; 512], [0; 512]].concat());
}

#[test]
fn a_full_cache_goes_down_as_a_whole_and_stays_bounded() {
    let (medium, disk) = cached();
    for block in 0..64 {
        write(&disk, block * 512, &[1 + block as u8; 512]);
        assert!(disk.unflushed() <= LIMIT);
    }
    assert_eq!(disk.unflushed(), LIMIT);
    assert_eq!(disk.kill() as u64 * 512, LIMIT);
    let content = medium.content();
    let stands = (0..64).filter(|block| content[block * 512] == 1 + *block as u8).count();
    assert_eq!(stands as u64, (64 * 512 - LIMIT) / 512);
}

#[test]
fn a_write_larger_than_the_cache_goes_through() {
    let (medium, disk) = cached();
    write(&disk, 0, &[1; 512]);
    write(&disk, 0, &vec![2; LIMIT as usize + 512]);
    assert_eq!(disk.unflushed(), 0, "the older block was superseded");
    assert_eq!(medium.content()[..LIMIT as usize], vec![2; LIMIT as usize]);
}

#[test]
fn long_runs_of_blocks_are_written_down_whole() {
    let medium = Arc::new(RamDisk::new(CAPACITY * 4).unwrap());
    let disk = VolatileDisk::new(Arc::clone(&medium), CAPACITY * 4);
    // Longer than one trip down, with a gap and a zeroed block in it.
    let bytes: Vec<u8> = (0..CAPACITY as usize * 2).map(|at| (at / 512) as u8 | 1).collect();
    write(&disk, 512, &bytes);
    write(&disk, CAPACITY * 3, &[7; 512]);
    disk.write_zeroes(1024, 512, false).unwrap();
    disk.flush().unwrap();
    let mut expected = vec![0; CAPACITY as usize * 4];
    expected[512..512 + bytes.len()].copy_from_slice(&bytes);
    expected[1024..1536].fill(0);
    expected[CAPACITY as usize * 3..][..512].fill(7);
    assert!(medium.content() == expected);
}

#[test]
fn a_killed_disk_does_nothing_more() {
    let (medium, disk) = cached();
    disk.kill();
    let dead = Err(DiskError::Io(libc::ENODEV));
    assert_eq!(disk.write(0, &[shared(&[1; 512])], true), dead);
    assert_eq!(disk.read(0, &[shared(&[1; 512])]), dead);
    assert_eq!(disk.flush(), dead);
    assert_eq!(disk.discard(0, 512), dead);
    assert_eq!(disk.write_zeroes(0, 512, true), dead);
    assert_eq!(medium.content(), [0; CAPACITY as usize]);
}

#[test]
fn discarded_blocks_are_not_written_down_later() {
    let (medium, disk) = cached();
    write(&disk, 0, &[1; 1024]);
    disk.discard(0, 512).unwrap();
    disk.flush().unwrap();
    assert_eq!(medium.content()[..1024], [[0; 512], [1; 512]].concat());
}

#[test]
fn blocks_beyond_a_shrunk_medium_are_forgotten() {
    let (medium, disk) = cached();
    write(&disk, 0, &[1; 512]);
    write(&disk, CAPACITY - 512, &[2; 512]);
    medium.resize(512).unwrap();
    assert_eq!(disk.refresh(), Ok(512));
    disk.flush().unwrap();
    assert_eq!(medium.content(), [1; 512]);
}

#[test]
fn no_longer_run_of_zeroes_is_offered_than_the_cache_holds() {
    let (_medium, disk) = cached();
    assert_eq!(disk.config().max_discard, LIMIT);
    assert_eq!(VolatileDisk::new(RamDisk::new(CAPACITY).unwrap(), 0).config().max_discard, 512);
}

#[test]
fn a_mutant_without_flush_loses_what_it_called_durable() {
    let survives = |mutation| {
        let medium = Arc::new(RamDisk::new(CAPACITY).unwrap());
        let disk = VolatileDisk::mutant(Arc::clone(&medium), LIMIT, mutation);
        write(&disk, 0, &[1; 512]);
        disk.flush().unwrap();
        write_fua(&disk, 512, &[2; 512]);
        disk.kill();
        (medium.content()[0] == 1, medium.content()[512] == 2)
    };
    assert_eq!(survives(Mutation::default()), (true, true));
    assert_eq!(survives(Mutation { ignore_flush: true, ignore_fua: false }), (false, true));
    assert_eq!(survives(Mutation { ignore_flush: false, ignore_fua: true }), (true, false));
}
