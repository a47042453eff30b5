//! Whose memory it is when things go wrong: pages are conserved, and none comes back too early.

use super::*;
use pvkit_abi::PAGE_SIZE;
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::block::Request;
use pvkit_guest_drivers::error::{BusError, RequestError};
use pvkit_guest_drivers::platform::Platform;

/// Ring pages of a disk's queue of 32 slots.
const RING_PAGES: usize = 2;
/// Pages of the bus.
const BUS_PAGES: usize = 4;
/// Pages of the blocking calls' buffer.
const BOUNCE_PAGES: usize = 16;

#[test]
fn a_request_whose_deadline_passed_keeps_its_buffer_until_its_completion() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    disk.write(0, &[3; 512], LATE).unwrap();
    let memory = platform.pages.0.clone();
    let before = memory.live();
    platform.calls.host().deaf = true;
    assert_eq!(disk.read(0, &mut [0; 512], 1 << 20), Err(RequestError::TimedOut));
    assert_eq!((disk.counters().quarantined, disk.outstanding()), (1, 0));
    let mut host = platform.calls.host();
    host.deaf = false;
    host.ring(1);
    drop(host);
    // Another buffer is used; the old one comes back on the way.
    let mut back = [0; 512];
    disk.read(0, &mut back, LATE).unwrap();
    assert_eq!(back, [3; 512]);
    assert_eq!(disk.counters().quarantined, 0);
    assert_eq!(memory.live(), before);
}

#[test]
fn dropping_a_disk_with_requests_in_flight_leaks_and_counts_their_pages() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (bus, mut disk) = open_disk(&platform);
    platform.calls.host().deaf = true;
    disk.submit(Request::read(0, 8192, Buffer::allocate(&platform, 8192).unwrap())).unwrap();
    drop(disk);
    assert_eq!((memory.live(), memory.leaked()), (BUS_PAGES + RING_PAGES + 2, RING_PAGES + 2));
    drop(bus);
    assert_eq!(memory.leaked(), memory.live());
}

#[test]
fn closing_a_disk_frees_everything_and_hands_back_what_was_outstanding() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    platform.calls.host().deaf = true;
    disk.submit(Request::read(0, 8192, Buffer::allocate(&platform, 8192).unwrap())).unwrap();
    disk.close(&mut bus, LATE).unwrap();
    let mut ended = Vec::new();
    assert_eq!(disk.poll(10, |completed| ended.push(completed)), Ok(1));
    assert_eq!(ended[0].result, Err(RequestError::Disconnected));
    assert_eq!(ended[0].buffer.as_ref().map(Buffer::len), Some(8192));
    assert_eq!(disk.read(0, &mut [0; 512], LATE), Err(RequestError::Disconnected));
    drop((ended, disk));
    assert_eq!((memory.live(), memory.leaked()), (BUS_PAGES, 0));
}

#[test]
fn a_close_that_is_not_answered_frees_nothing_and_may_be_tried_again() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.read(0, &mut [0; 512], LATE).unwrap();
    platform.calls.host().answers_left = 0;
    assert_eq!(disk.close(&mut bus, 1 << 20), Err(BusError::TimedOut));
    assert_eq!(memory.live(), BUS_PAGES + RING_PAGES + BOUNCE_PAGES);
    assert_eq!(disk.flush(LATE), Err(RequestError::Disconnected));
    drop(disk);
    assert_eq!((memory.live(), memory.leaked()), (BUS_PAGES + RING_PAGES, RING_PAGES));
}

#[test]
fn after_a_close_that_failed_nothing_is_freed_whatever_the_host_says_of_the_device() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    disk.read(0, &mut [0; 512], LATE).unwrap();
    platform.calls.host().answers_left = 0;
    assert_eq!(disk.close(&mut bus, 1 << 20), Err(BusError::TimedOut));
    let live = memory.live();
    platform.calls.host().disconnect(1);
    platform.calls.host().reconnect(1);
    bus.poll().unwrap();
    disk.refresh(&bus).unwrap();
    assert_eq!((disk.is_over(), memory.live()), (false, live));
}

#[test]
fn a_backend_that_goes_ends_the_queue_and_every_buffer_comes_back() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    platform.calls.host().deaf = true;
    assert_eq!(disk.flush(1 << 20), Err(RequestError::TimedOut));
    disk.submit(Request::read(0, 512, Buffer::allocate(&platform, 512).unwrap())).unwrap();
    platform.calls.host().disconnect(1);
    bus.poll().unwrap();
    disk.refresh(&bus).unwrap();
    let lost = disk.wait(LATE).unwrap();
    assert_eq!(lost.result, Err(RequestError::Disconnected));
    assert!(lost.buffer.is_some());
    assert_eq!(disk.wait(LATE).err(), Some(RequestError::Disconnected));
    assert_eq!((disk.outstanding(), disk.counters().quarantined), (0, 0));
    drop((lost, disk));
    assert_eq!((memory.live(), memory.leaked()), (BUS_PAGES, 0));
}

#[test]
fn an_open_with_an_impossible_answer_leaks_its_pages_and_says_so() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let mut bus = Bus::connect(&platform).unwrap();
    let mut replies = 0;
    platform.calls.host().tamper = Box::new(move |stored, bytes| {
        // The second reply is GRANT_SHARE's, the third OPEN_QUEUE's: a doorbell of no kind, under another epoch.
        replies += u32::from(stored == fake::Stored::Reply);
        if stored == fake::Stored::Reply && replies >= 3 {
            bytes[16] = 0x77;
        }
        if stored == fake::Stored::Reply && replies >= 4 {
            bytes[0] = 0xff;
        }
    });
    let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 32, GrantPolicy::WholeRam, LATE);
    assert!(matches!(opened, Err(BusError::PeerFault(_))), "{opened:?}");
    // The page that lists them as well.
    let leaked = RING_PAGES + 1;
    assert_eq!((memory.live(), memory.leaked()), (BUS_PAGES + leaked, leaked));
}

#[test]
fn an_open_that_is_not_answered_leaks_its_pages_and_the_one_that_lists_them() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let mut bus = Bus::connect(&platform).unwrap();
    platform.calls.host().answers_left = 1;
    let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 32, GrantPolicy::WholeRam, 1 << 20);
    assert_eq!(opened.err(), Some(BusError::TimedOut));
    let leaked = RING_PAGES + 1;
    assert_eq!((memory.live(), memory.leaked()), (BUS_PAGES + leaked, leaked));
}

#[test]
fn without_memory_an_open_fails_and_keeps_nothing() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let mut bus = Bus::connect(&platform).unwrap();
    let mut hoard = Vec::new();
    while let Ok(page) = platform.allocate() {
        hoard.push(page);
    }
    platform.free(hoard.pop().unwrap());
    let opened: Result<Block<'_, _>, _> = Block::open(&mut bus, 1, 32, GrantPolicy::WholeRam, LATE);
    assert_eq!(opened.err(), Some(BusError::NoMemory));
    assert_eq!((memory.live(), memory.leaked()), (BUS_PAGES + hoard.len(), 0));
    hoard.into_iter().for_each(|page| platform.free(page));
    // The device was given back: it opens now.
    let disk: Block<'_, _> = Block::open(&mut bus, 1, 32, GrantPolicy::WholeRam, LATE).unwrap();
    assert_eq!(memory.live(), BUS_PAGES + RING_PAGES);
    assert_eq!(disk.sealed().depth as usize * 32 + 128, 1152.min(PAGE_SIZE));
}
