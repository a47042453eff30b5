//! A polled disk whose backend goes while requests are on their way, and comes back.

use super::*;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::Kind as MessageKind;
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::block::Request;
use pvkit_guest_drivers::error::{Misuse, RequestError};

/// A page that is full of `byte`.
fn full_of(platform: &TestPlatform, byte: u8) -> Buffer<'_, TestPlatform, 16> {
    let mut buffer = Buffer::allocate(platform, PAGE_SIZE).unwrap();
    buffer.write(0, &[byte; PAGE_SIZE]).unwrap();
    buffer
}

fn write(platform: &TestPlatform, position: u64, byte: u8) -> Request<'_, TestPlatform, 16> {
    Request::write(position, PAGE_SIZE as u32, full_of(platform, byte))
}

fn goes_and_comes(platform: &TestPlatform) {
    let mut host = platform.calls.host();
    host.disconnect(1);
    host.deaf = false;
    host.reconnect(1);
}

#[test]
fn what_was_in_flight_is_submitted_again_in_its_order_and_completes_under_its_id() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.keep_for_recovery(true);
    let before = memory.live();
    // Ids that do not ascend with the order of submission.
    for byte in 0..4 {
        disk.submit(write(&platform, 0, byte)).unwrap();
    }
    disk.poll(2, |_| {}).unwrap();
    disk.poll(2, |_| {}).unwrap();
    platform.calls.host().deaf = true;
    let mut submitted = Vec::new();
    // The last one to the same place counts.
    for byte in 10..20_u8 {
        submitted.push(disk.submit(write(&platform, u64::from(byte % 3) * 4096, byte)).unwrap().id());
    }
    assert!(!submitted.is_sorted(), "{submitted:?}");
    goes_and_comes(&platform);
    let mut told = Vec::new();
    assert_eq!(disk.recover(&mut bus, LATE, |completed| told.push(completed.id)), Ok(10));
    assert!(told.is_empty());
    assert_eq!(disk.outstanding(), 10);
    disk.poll(20, |completed| {
        assert_eq!(completed.result, Ok(0));
        told.push(completed.id);
    })
    .unwrap();
    assert_eq!(told, submitted);
    for (block, byte) in [(0, 18), (1, 19), (2, 17)] {
        let mut page = [0; PAGE_SIZE];
        disk.read(block * 4096, &mut page, LATE).unwrap();
        assert_eq!(page, [byte; PAGE_SIZE]);
    }
    assert_eq!((disk.counters().reconnects, disk.counters().replays), (1, 10));
    disk.close(&mut bus, LATE).unwrap();
    drop(disk);
    assert!(memory.live() <= before);
    assert_eq!(memory.leaked(), 0);
}

#[test]
fn what_had_completed_is_told_and_not_done_again() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.keep_for_recovery(true);
    let done = disk.submit(write(&platform, 0, 1)).unwrap().id();
    platform.calls.host().deaf = true;
    let lost = disk.submit(write(&platform, 4096, 2)).unwrap().id();
    let seen = platform.calls.host().devices[0].seen.len();
    goes_and_comes(&platform);
    let mut told = Vec::new();
    assert_eq!(disk.recover(&mut bus, LATE, |completed| told.push((completed.id, completed.result))), Ok(1));
    assert_eq!(told, [(done, Ok(0))]);
    assert_eq!(disk.wait(LATE).unwrap().id, lost);
    assert_eq!(platform.calls.host().devices[0].seen.len(), seen + 1);
    assert_eq!(disk.recover(&mut bus, LATE, |_| panic!("nothing is over")), Ok(0));
}

#[test]
fn a_backend_that_stays_away_costs_a_deadline_and_no_request() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.keep_for_recovery(true);
    platform.calls.host().deaf = true;
    disk.submit(write(&platform, 0, 5)).unwrap();
    platform.calls.host().disconnect(1);
    assert_eq!(disk.recover(&mut bus, 1 << 20, |_| panic!("nothing completed")), Err(RequestError::TimedOut));
    assert!(disk.is_over());
    assert_eq!(disk.poll(1, |_| panic!("it is kept")), Ok(0));
    let rejected = disk.submit(write(&platform, 0, 6)).unwrap_err();
    assert_eq!(rejected.error, RequestError::Disconnected);
    let mut host = platform.calls.host();
    host.deaf = false;
    host.reconnect(1);
    drop(host);
    assert_eq!(disk.recover(&mut bus, LATE, |_| {}), Ok(1));
    assert_eq!(disk.wait(LATE).unwrap().result, Ok(0));
}

#[test]
fn a_disk_that_is_gone_for_good_hands_back_what_it_had() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.keep_for_recovery(true);
    platform.calls.host().deaf = true;
    let kept = disk.submit(write(&platform, 0, 5)).unwrap().id();
    let mut host = platform.calls.host();
    host.disconnect(1);
    host.message(MessageKind::RESCIND, 1, u64::MAX, &[]);
    host.deliver();
    drop(host);
    assert_eq!(disk.recover(&mut bus, LATE, |_| panic!("nothing completed")), Err(RequestError::Disconnected));
    disk.keep_for_recovery(false);
    let mut told = Vec::new();
    disk.poll(9, |completed| told.push((completed.id, completed.result, completed.buffer.is_some()))).unwrap();
    assert_eq!(told, [(kept, Err(RequestError::Disconnected), true)]);
}

#[test]
fn a_disk_that_shrank_refuses_what_lies_beyond_its_end_and_does_the_rest() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.keep_for_recovery(true);
    platform.calls.host().deaf = true;
    let beyond = disk.submit(write(&platform, (DISK - PAGE_SIZE) as u64, 5)).unwrap().id();
    let inside = disk.submit(write(&platform, 0, 6)).unwrap().id();
    let mut host = platform.calls.host();
    host.disconnect(1);
    host.deaf = false;
    // Bytes.
    host.devices[0].offer.config[..8].copy_from_slice(&(DISK as u64 / 2).to_le_bytes());
    host.reconnect(1);
    drop(host);
    let mut told = Vec::new();
    let again = disk.recover(&mut bus, LATE, |completed| told.push((completed.id, completed.result.is_err())));
    assert_eq!((again, told), (Ok(1), vec![(beyond, true)]));
    let completed = disk.wait(LATE).unwrap();
    assert_eq!((completed.id, completed.result), (inside, Ok(0)));
    assert_eq!(disk.outstanding(), 0);
}

#[test]
fn without_being_asked_to_nothing_is_kept() {
    let platform = with_disk();
    let (mut bus, mut disk) = open_disk(&platform);
    platform.calls.host().deaf = true;
    disk.submit(write(&platform, 0, 5)).unwrap();
    goes_and_comes(&platform);
    let refused = Err(RequestError::Misuse(Misuse::RequestsInFlight));
    assert_eq!(disk.recover(&mut bus, LATE, |_| panic!("nothing is handed on")), refused);
    assert_eq!(disk.poll(9, |_| {}), Ok(1));
    assert_eq!(disk.recover(&mut bus, LATE, |_| {}), Ok(0));
    disk.write(0, &[1; 512], LATE).unwrap();
}
