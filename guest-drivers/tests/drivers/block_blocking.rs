//! The blocking calls of a disk.

use super::*;
use pvkit_abi::block::{BlockConfig, BlockFeatures, BlockFlags, BlockOp};
use pvkit_abi::status::Status;
use pvkit_guest_drivers::error::{Misuse, RequestError};
use pvkit_guest_drivers::fake::Kind;
use zerocopy::{FromBytes, IntoBytes};

fn durable(platform: &TestPlatform, position: usize, length: usize) -> Vec<u8> {
    match &platform.calls.host().devices[0].kind {
        Kind::Disk { durable, .. } => durable[position..position + length].to_vec(),
        _ => panic!("device 1 is a disk"),
    }
}

#[test]
fn what_is_written_is_read_back_over_pages_and_pieces() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    for (position, length) in [(0, 512), (3584, 1024), (4096, 65536), (512, 200 * 1024)] {
        let data = pattern(length);
        disk.write(position, &data, LATE).unwrap();
        let mut back = vec![0; length];
        disk.read(position, &mut back, LATE).unwrap();
        assert!(back == data, "{length} bytes at {position}");
    }
}

#[test]
fn a_read_does_not_see_what_the_host_stored_before() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    disk.write(0, &[1; 512], LATE).unwrap();
    disk.write(512, &[2; 512], LATE).unwrap();
    let (mut first, mut second) = ([0; 512], [0; 512]);
    disk.read(0, &mut first, LATE).unwrap();
    disk.read(512, &mut second, LATE).unwrap();
    assert_eq!((first, second), ([1; 512], [2; 512]));
}

#[test]
fn a_write_is_durable_after_a_flush_and_not_before() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    disk.write(0, &[9; 512], LATE).unwrap();
    assert_eq!(durable(&platform, 0, 512), [0; 512]);
    disk.flush(LATE).unwrap();
    assert_eq!(durable(&platform, 0, 512), [9; 512]);
}

#[test]
fn a_fua_write_is_durable_and_leaves_the_others_as_they_are() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    disk.write(0, &[9; 512], LATE).unwrap();
    disk.write_fua(512, &[8; 512], LATE).unwrap();
    assert_eq!(durable(&platform, 0, 512), [0; 512]);
    assert_eq!(durable(&platform, 512, 512), [8; 512]);
}

#[test]
fn zeroes_and_discards_of_any_length_are_cut_to_the_limit() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    disk.write(0, &pattern(DISK), LATE).unwrap();
    disk.write_zeroes(512, 150 * 1024, LATE).unwrap();
    disk.discard(512 * 1024, 64 * 1024, LATE).unwrap();
    let mut back = vec![1; DISK];
    disk.read(0, &mut back, LATE).unwrap();
    assert!(back[512..512 + 150 * 1024].iter().all(|byte| *byte == 0));
    assert_eq!(back[..512], pattern(DISK)[..512]);
    assert_eq!(back[512 + 150 * 1024..512 * 1024], pattern(DISK)[512 + 150 * 1024..512 * 1024]);
    let seen = &platform.calls.host().devices[0].seen;
    let of = |wanted: BlockOp| seen.iter().filter(|(op, ..)| *op == wanted.0).count();
    assert_eq!((of(BlockOp::WRITE_ZEROES), of(BlockOp::DISCARD)), (3, 1));
}

#[test]
fn the_serial_comes_from_the_offer_and_from_the_device() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    assert_eq!(disk.geometry().serial(), b"fake disk");
    assert_eq!(disk.read_serial(LATE).unwrap()[..9], *b"fake disk");
}

#[test]
fn misuse_is_refused_before_anything_is_sent() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    let capacity = DISK as u64;
    let misaligned = Some(RequestError::Misuse(Misuse::Misaligned { block: 512 }));
    let outside = Some(RequestError::Misuse(Misuse::OutOfRange { capacity }));
    assert_eq!(disk.read(1, &mut [0; 512], LATE).err(), misaligned);
    assert_eq!(disk.write(0, &[0; 100], LATE).err(), misaligned);
    assert_eq!(disk.read(0, &mut [], LATE).err(), misaligned);
    assert_eq!(disk.write(capacity, &[0; 512], LATE).err(), outside);
    assert_eq!(disk.discard(u64::MAX - 511, 512, LATE).err(), outside);
    assert_eq!(disk.counters().requests, 0);
}

#[test]
fn a_read_only_disk_refuses_writes_and_what_was_not_offered_is_unsupported() {
    let mut device = Device::disk(0, DISK, 4096);
    let mut config = BlockConfig::read_from_bytes(&device.offer.config).unwrap();
    config.flags = BlockFlags::READ_ONLY.bits();
    device.offer.config.copy_from_slice(config.as_bytes());
    device.offer.features = BlockFeatures::INDIRECT.bits();
    let platform = fake::platform(vec![device]);
    let (_bus, mut disk) = open_disk(&platform);
    assert!(disk.geometry().read_only);
    assert_eq!(disk.write(0, &[0; 4096], LATE).err(), Some(RequestError::Misuse(Misuse::ReadOnly)));
    assert_eq!(disk.discard(0, 4096, LATE).err(), Some(RequestError::Unsupported));
    disk.flush(LATE).unwrap();
    assert_eq!(disk.counters().requests, 0);
    disk.read(0, &mut [0; 8192], LATE).unwrap();
}

#[test]
fn a_disk_that_is_always_durable_gets_plain_writes_and_no_flush() {
    let mut device = Device::disk(0, DISK, 512);
    device.offer.features = 0;
    let platform = fake::platform(vec![device]);
    let (_bus, mut disk) = open_disk(&platform);
    disk.write_fua(0, &[1; 512], LATE).unwrap();
    disk.flush(LATE).unwrap();
    assert_eq!(platform.calls.host().devices[0].seen, [(BlockOp::WRITE.0, 0, 1)]);
}

#[test]
fn the_devices_answer_is_told_apart_from_a_device_that_closes() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    let statuses = [(Status::IO_ERROR, 5), (Status::ABORTED, 0), (Status(200), 1)];
    platform.calls.host().devices[0].statuses.extend(statuses.map(Some));
    let mut read = || disk.read(0, &mut [0; 512], LATE).err();
    assert_eq!(read(), Some(RequestError::Io { status: Status::IO_ERROR, detail: 5 }));
    assert_eq!(read(), Some(RequestError::Disconnected));
    assert_eq!(read(), Some(RequestError::Io { status: Status(200), detail: 1 }));
    assert_eq!(read(), None);
}

#[test]
fn one_request_at_a_time_costs_one_doorbell_and_one_interrupt_and_loses_no_wake_up() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    platform.calls.host().lazy = true;
    let before = platform.calls.host().counts;
    for i in 0..200 {
        disk.write(i * 512, &[i as u8; 512], LATE).unwrap();
    }
    let after = platform.calls.host().counts;
    assert_eq!(disk.counters().requests, 200);
    assert!(after.doorbells - before.doorbells <= 200);
    assert!(after.interrupts - before.interrupts <= 200);
    assert_eq!(after.waits - before.waits, 200);
    assert_eq!((after.vain_waits - before.vain_waits, disk.counters().lost_wakeups), (0, 0));
}
