//! A request that the backend dies of.

use super::*;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::status::Status;
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::block::{Request, Suspicion};
use pvkit_guest_drivers::error::RequestError;

const KILLS: Result<u32, RequestError> = Err(RequestError::Io { status: Status::IO_ERROR, detail: 0 });

type Disk<'p> = Block<'p, TestPlatform>;

fn write(platform: &TestPlatform, byte: u8) -> Request<'_, TestPlatform, 16> {
    let mut buffer = Buffer::allocate(platform, PAGE_SIZE).unwrap();
    buffer.write(0, &[byte; PAGE_SIZE]).unwrap();
    Request::write(u64::from(byte) * PAGE_SIZE as u64, PAGE_SIZE as u32, buffer)
}

/// A disk with writes 0 to 4 in flight, whose host looks at nothing.
fn open(platform: &TestPlatform) -> (Bus<'_, TestPlatform>, Disk<'_>, Vec<u16>) {
    let (bus, mut disk) = open_disk(platform);
    disk.keep_for_recovery(true);
    platform.calls.host().deaf = true;
    let ids = (0..5).map(|byte| disk.submit(write(platform, byte)).unwrap().id()).collect();
    (bus, disk, ids)
}

/// The backend goes and comes; how many requests the next one gets, and what is told.
fn life<'p>(platform: &TestPlatform, bus: &mut Bus<'p, TestPlatform>, disk: &mut Disk<'p>) -> (u64, Vec<u16>) {
    platform.calls.host().disconnect(1);
    platform.calls.host().reconnect(1);
    let before = disk.counters().requests;
    let mut told = Vec::new();
    disk.recover(bus, LATE, |completed| {
        assert_eq!(completed.result, KILLS);
        assert!(completed.buffer.is_some());
        told.push(completed.id);
    })
    .unwrap();
    (disk.counters().requests - before, told)
}

/// The host looks again; the ids that completed, in order.
fn served(platform: &TestPlatform, disk: &mut Disk<'_>) -> Vec<u16> {
    platform.calls.host().deaf = false;
    platform.calls.host().ring(1);
    let mut done = Vec::new();
    disk.poll(32, |completed| {
        assert_eq!(completed.result, Ok(0));
        done.push(completed.id);
    })
    .unwrap();
    done
}

#[test]
fn after_three_lives_without_progress_requests_go_one_by_one_and_one_that_kills_twice_ends() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk, ids) = open(&platform);
    let lives: Vec<_> = (0..5).map(|_| life(&platform, &mut bus, &mut disk)).collect();
    // The second one is alone with the last backend.
    assert_eq!(lives, [(5, vec![]), (5, vec![]), (1, vec![]), (1, vec![]), (1, vec![ids[0]])]);
    assert_eq!(disk.outstanding(), 4);
    let rejected = disk.submit(write(&platform, 9)).unwrap_err();
    assert_eq!(rejected.error, RequestError::Full);
    assert!(disk.submit_batch([write(&platform, 8)], |_| panic!("nothing new is taken")).is_err());
    assert_eq!(served(&platform, &mut disk), ids[1..]);
    // All is well again: two at a time.
    platform.calls.host().deaf = true;
    for byte in 5..7 {
        disk.submit(write(&platform, byte)).unwrap();
    }
    assert_eq!(life(&platform, &mut bus, &mut disk), (2, vec![]));
    assert_eq!(served(&platform, &mut disk).len(), 2);
    drop(rejected);
    disk.close(&mut bus, LATE).unwrap();
    drop(disk);
    assert_eq!(memory.leaked(), 0);
}

#[test]
fn the_one_that_kills_is_found_behind_those_that_do_not() {
    let platform = with_disk();
    let (mut bus, mut disk, ids) = open(&platform);
    (0..3).for_each(|_| assert!(life(&platform, &mut bus, &mut disk).1.is_empty()));
    // Two are alone with a backend that goes, once each, and pass; the third one kills, twice.
    let mut done = Vec::new();
    for _ in 0..2 {
        assert_eq!(life(&platform, &mut bus, &mut disk), (1, vec![]));
        platform.calls.host().ring(1);
        disk.poll(1, |completed| done.push(completed.id)).unwrap();
    }
    assert_eq!(done, ids[..2]);
    assert_eq!(life(&platform, &mut bus, &mut disk), (1, vec![]));
    assert_eq!(life(&platform, &mut bus, &mut disk), (1, vec![ids[2]]));
    assert_eq!(served(&platform, &mut disk), ids[3..]);
    assert_eq!(disk.outstanding(), 0);
}

#[test]
fn progress_acquits_everybody() {
    let platform = with_disk();
    let (mut bus, mut disk, mut ids) = open(&platform);
    for _ in 0..10 {
        // Two lives without progress, and one in which all complete.
        assert_eq!(life(&platform, &mut bus, &mut disk), (5, vec![]));
        assert_eq!(life(&platform, &mut bus, &mut disk), (5, vec![]));
        assert_eq!(served(&platform, &mut disk), ids);
        platform.calls.host().deaf = true;
        ids = (0..5).map(|byte| disk.submit(write(&platform, byte)).unwrap().id()).collect();
    }
}

#[test]
fn nobody_is_suspected_if_the_guest_wants_it_so_or_later_if_it_says_when() {
    let platform = with_disk();
    let (mut bus, mut disk, ids) = open(&platform);
    disk.suspect(None);
    (0..50).for_each(|_| assert_eq!(life(&platform, &mut bus, &mut disk), (5, vec![])));
    disk.suspect(Some(Suspicion { restarts: 60, kills: 1 }));
    (0..9).for_each(|_| assert_eq!(life(&platform, &mut bus, &mut disk), (5, vec![])));
    assert_eq!(life(&platform, &mut bus, &mut disk), (1, vec![]));
    assert_eq!(life(&platform, &mut bus, &mut disk), (1, vec![ids[0]]));
}

#[test]
fn a_backend_that_stays_away_is_one_loss_however_often_it_is_asked_for() {
    let platform = with_disk();
    let (mut bus, mut disk, _) = open(&platform);
    platform.calls.host().disconnect(1);
    for _ in 0..9 {
        let soon = platform.calls.host().clock() + 100_000;
        assert_eq!(disk.recover(&mut bus, soon, |_| panic!("nothing ended")), Err(RequestError::TimedOut));
    }
    platform.calls.host().reconnect(1);
    assert_eq!(disk.recover(&mut bus, LATE, |_| panic!("nothing ended")), Ok(5));
    assert_eq!(life(&platform, &mut bus, &mut disk), (5, vec![]));
}
