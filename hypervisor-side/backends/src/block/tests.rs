//! A guest asks, one request at a time; what every clause of the block protocol answers.

mod hostile;
mod judged;

use super::*;
use crate::fake_disk::{Asked, FakeDisk};
use crate::fake_guest::{ALL, Ask, Guest, connect, copy_of, ok, place, refused};
use crate::{Disk, DiskError, Pass, QueueEngine};
use pvkit_abi::block::{BlockConfig, BlockFeatures, BlockOp};
use pvkit_abi::grant::Segment;
use pvkit_abi::ring::{HEADER_BYTES, REQUEST_BYTES, RequestFlags};
use pvkit_abi::status::{CompletionResult, Status};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use zerocopy::{FromBytes, IntoBytes};

const CAPACITY: u64 = 1 << 20;

fn open(depth: u32) -> (Guest, BlockQueue, Arc<FakeDisk>) {
    open_with(depth, BlockFeatures::all())
}

fn open_with(depth: u32, features: BlockFeatures) -> (Guest, BlockQueue, Arc<FakeDisk>) {
    let (guest, setup) = connect(depth);
    let disk = Arc::new(FakeDisk::new(CAPACITY));
    let queue = BlockQueue::new(setup, disk.clone(), BlockLimits::default(), features);
    (guest, queue, disk)
}

fn write(position: u64, length: u32, offset: u64) -> Ask {
    Ask::segment(BlockOp::WRITE.0, position, length, offset)
}

fn read(position: u64, length: u32, offset: u64) -> Ask {
    Ask::segment(BlockOp::READ.0, position, length, offset)
}

fn run(op: BlockOp, position: u64, length: u64) -> Ask {
    Ask { op: op.0, flags: 0, aux: 0, words: [position, 0, length] }
}

fn flush() -> Ask {
    run(BlockOp::FLUSH, 0, 0)
}

/// Stores a list in the guest's memory at `at`, and a request for it.
fn indirect(guest: &Guest, op: BlockOp, position: u64, list: &[Segment], at: u64) -> Ask {
    guest.fill(at as usize, list.as_bytes());
    Ask {
        op: op.0,
        flags: RequestFlags::INDIRECT.bits(),
        aux: list.len() as u16,
        words: [position, place(ALL, list.as_bytes().len() as u32), at],
    }
}

fn segment(offset: u64, length: u32) -> Segment {
    Segment { grant: ALL, length, offset }
}

#[test]
fn what_is_written_is_read_back() {
    let (mut guest, mut queue, disk) = open(8);
    guest.fill(0, &[0xa5; 1024]);
    assert_eq!(guest.ask(&mut queue, write(4096, 1024, 0)), ok(0));
    assert_eq!(guest.ask(&mut queue, read(4096, 1024, 8192)), ok(0));
    assert_eq!(guest.bytes(8192, 1024), [0xa5; 1024]);
    assert_eq!(disk.ram.content()[4096..5120], [0xa5; 1024]);
    let counted = guest.counters.snapshot();
    assert_eq!((counted.requests, counted.completions, counted.errors), (2, 2, 0));
    assert_eq!((counted.bytes_written, counted.bytes_read), (1024, 1024));
}

#[test]
fn an_indirect_list_moves_its_segments_in_order() {
    let (mut guest, mut queue, disk) = open(8);
    let list = [segment(0x2000, 512), segment(0x1000, 8), segment(0x3000, 504)];
    guest.fill(0x2000, &[1; 512]);
    guest.fill(0x1000, &[2; 8]);
    guest.fill(0x3000, &[3; 504]);
    let ask = indirect(&guest, BlockOp::WRITE, 0, &list, 0);
    assert_eq!(guest.ask(&mut queue, ask), ok(0));
    let content = disk.ram.content();
    assert_eq!((&content[..512], &content[512..520], &content[520..1024]), (&[1; 512][..], &[2; 8][..], &[3; 504][..]));

    let back = [segment(0x5000, 1000), segment(0x6000, 24)];
    let ask = indirect(&guest, BlockOp::READ, 0, &back, 0);
    assert_eq!(guest.ask(&mut queue, ask), ok(0));
    assert_eq!(guest.bytes(0x5000, 1000), content[..1000]);
    assert_eq!(guest.bytes(0x6000, 24), content[1000..1024]);
}

#[test]
fn flush_and_fua_reach_the_disk_as_such() {
    let (mut guest, mut queue, disk) = open(8);
    guest.ask(&mut queue, write(0, 512, 0));
    guest.ask(&mut queue, write(512, 512, 0).flags(RequestFlags::FUA));
    guest.ask(&mut queue, flush());
    guest.ask(&mut queue, run(BlockOp::WRITE_ZEROES, 0, 512).flags(RequestFlags::FUA));
    let expected = [
        Asked::Write { position: 0, fua: false },
        Asked::Write { position: 512, fua: true },
        Asked::Flush,
        Asked::Zeroes { position: 0, fua: true },
    ];
    assert_eq!(disk.asked(), expected);
}

#[test]
fn a_guest_without_the_flush_feature_gets_durable_writes() {
    let (mut guest, mut queue, disk) = open_with(8, BlockFeatures::WRITE_ZEROES);
    assert_eq!(guest.ask(&mut queue, write(0, 512, 0)), ok(0));
    assert_eq!(guest.ask(&mut queue, run(BlockOp::WRITE_ZEROES, 0, 512)), ok(0));
    assert_eq!(disk.asked(), [Asked::Write { position: 0, fua: true }, Asked::Zeroes { position: 0, fua: true }]);
}

#[test]
fn discard_and_zeroes_reach_the_run_that_was_named() {
    let (mut guest, mut queue, disk) = open(8);
    guest.fill(0, &[9; 4096]);
    guest.ask(&mut queue, write(0, 4096, 0));
    assert_eq!(guest.ask(&mut queue, run(BlockOp::WRITE_ZEROES, 512, 1024)), ok(0));
    let content = disk.ram.content();
    assert_eq!((content[511], &content[512..1536], content[1536]), (9, &[0; 1024][..], 9));
    assert_eq!(guest.ask(&mut queue, run(BlockOp::DISCARD, 2048, 2048)), ok(0));
    assert!(disk.asked().contains(&Asked::Discard { position: 2048, length: 2048 }));
}

#[test]
fn the_serial_is_cut_to_its_segment_and_counted() {
    let (mut guest, mut queue, _disk) = open(8);
    guest.fill(0, &[0xff; 64]);
    let ask = |length| Ask::segment(BlockOp::GET_ID.0, 0, length, 0);
    assert_eq!(guest.ask(&mut queue, ask(4)), ok(4));
    assert_eq!(guest.bytes(0, 5), *b"fake\xff");
    assert_eq!(guest.ask(&mut queue, ask(64)), ok(32));
    assert_eq!(guest.bytes(0, 33), *b"fake-disk-0001\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff");
}

#[test]
fn errors_of_the_disk_reach_the_guest_with_their_errno() {
    let (mut guest, mut queue, disk) = open(8);
    for (error, result) in [
        (DiskError::Io(libc::EIO), CompletionResult::new(Status::IO_ERROR, libc::EIO as u32)),
        (DiskError::NoSpace, CompletionResult::new(Status::NO_SPACE, libc::ENOSPC as u32)),
        (DiskError::Unsupported, refused(Status::UNSUPPORTED)),
    ] {
        disk.fail_with(Some(error));
        for ask in [write(0, 512, 0), read(0, 512, 0), flush(), run(BlockOp::DISCARD, 0, 512)] {
            assert_eq!(guest.ask(&mut queue, ask), result);
        }
    }
    disk.fail_with(None);
    assert_eq!(guest.ask(&mut queue, write(0, 512, 0)), ok(0), "the queue goes on");
    let counted = guest.counters.snapshot();
    assert_eq!((counted.errors, counted.bytes_read, counted.bytes_written), (12, 0, 512));
    // The 1st, 2nd, 4th and 8th failure are told, the others only counted.
    assert_eq!(guest.log.lock().unwrap().len(), 4);
}

#[test]
fn a_disk_that_lost_writes_is_told_counted_and_named() {
    let (mut guest, mut queue, disk) = open(8);
    disk.fail_with(Some(DiskError::Lost(libc::EIO)));
    for ask in [flush(), write(0, 512, 0), flush()] {
        assert_eq!(guest.ask(&mut queue, ask), CompletionResult::new(Status::IO_ERROR, libc::EIO as u32));
    }
    let counted = guest.counters.snapshot();
    assert_eq!((counted.lost, counted.errors), (3, 3));
    assert!(counted.to_string().contains("3 refused after a failed sync"), "{counted}");
    let log = guest.log.lock().unwrap();
    let told: Vec<_> = log.iter().filter(|line| line.contains("a sync of the disk failed")).collect();
    assert_eq!(told.len(), 2, "{log:?}");
    assert!(told[0].contains("Input/output error") && told[0].contains("start the run"), "{told:?}");
}

#[test]
fn a_resized_disk_serves_its_new_end_and_nothing_beyond() {
    let (mut guest, mut queue, disk) = open(8);
    assert_eq!(guest.ask(&mut queue, write(CAPACITY, 512, 0)), refused(Status::OUT_OF_RANGE));
    disk.ram.resize(CAPACITY + 512).unwrap();
    assert_eq!(guest.ask(&mut queue, write(CAPACITY, 512, 0)), ok(0));
    disk.ram.resize(512).unwrap();
    assert_eq!(guest.ask(&mut queue, read(512, 512, 0)), refused(Status::OUT_OF_RANGE));
    assert_eq!(guest.ask(&mut queue, read(0, 512, 0)), ok(0));
}

#[test]
fn a_pass_serves_no_more_than_its_budget() {
    let (mut guest, mut queue, _disk) = open(16);
    guest.submit(&[read(0, 512, 0); 10]);
    assert_eq!(queue.pass(3), Pass::Worked(3));
    assert_eq!(queue.pass(100), Pass::Worked(7));
    assert_eq!(queue.pass(100), Pass::Idle);
    assert_eq!(guest.completions().len(), 10);
}

#[test]
fn two_queues_share_one_disk_and_one_grant_table() {
    let (mut first, setup) = connect(8);
    let (mut second, mut other) = connect(8);
    other.grants = Arc::clone(&setup.grants);
    let disk = Arc::new(FakeDisk::new(CAPACITY));
    let mut a = BlockQueue::new(setup, disk.clone(), BlockLimits::default(), BlockFeatures::all());
    let mut b = BlockQueue::new(other, disk, BlockLimits::default(), BlockFeatures::all());
    first.fill(0, &[7; 512]);
    assert_eq!(first.ask(&mut a, write(0, 512, 0)), ok(0));
    assert_eq!(second.ask(&mut b, read(0, 512, 4096)), ok(0));
    assert_eq!(first.bytes(4096, 512), [7; 512], "the second queue used the first one's memory");
    first.grants.remove(ALL).unwrap();
    assert_eq!(second.ask(&mut b, read(0, 512, 4096)), refused(Status::BAD_GRANT));
}

#[test]
fn a_grant_is_revoked_only_after_the_request_that_uses_it() {
    let (mut guest, mut queue, disk) = open(8);
    let (grants, removed) = (Arc::clone(&guest.grants), Arc::new(AtomicBool::new(false)));
    let (seen, done) = (Arc::clone(&removed), Arc::new(Mutex::new(None)));
    let handle = Arc::clone(&done);
    *disk.meanwhile.lock().unwrap() = Some(Box::new(move || {
        let flag = Arc::clone(&seen);
        *handle.lock().unwrap() = Some(std::thread::spawn(move || {
            grants.remove(ALL).unwrap();
            flag.store(true, Ordering::SeqCst);
        }));
        // Long enough for a removal that does not wait; one that waits is never too slow for this test.
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(!seen.load(Ordering::SeqCst), "the request still uses the memory");
    }));
    assert_eq!(guest.ask(&mut queue, read(0, 512, 0)), ok(0));
    done.lock().unwrap().take().unwrap().join().unwrap();
    assert!(removed.load(Ordering::SeqCst));
    assert_eq!(guest.ask(&mut queue, read(0, 512, 0)), refused(Status::BAD_GRANT));
}

#[test]
fn a_revocation_does_not_wait_for_a_flush() {
    let (mut guest, mut queue, disk) = open(8);
    let grants = Arc::clone(&guest.grants);
    // On the queue's own thread: if the table were pinned here, this would never return.
    *disk.meanwhile.lock().unwrap() = Some(Box::new(move || grants.remove(ALL).unwrap()));
    assert_eq!(guest.ask(&mut queue, flush()), ok(0));
    assert_eq!(guest.ask(&mut queue, read(0, 512, 0)), refused(Status::BAD_GRANT));
}

#[test]
fn an_offer_tells_what_the_disk_says() {
    let (_guest, _queue, disk) = open(8);
    let offer = offer(disk.as_ref(), 3, BlockLimits::default(), 2, 128);
    assert_eq!((offer.instance, offer.max_queues, offer.max_depth), (3, 2, 128));
    assert_eq!(offer.features, BlockFeatures::all().bits());
    assert_eq!(BlockLimits::of(&offer), BlockLimits::default());
    assert_eq!(BlockConfig::read_from_bytes(&offer.config).unwrap(), disk.config());
}

#[test]
fn a_list_is_judged_and_used_as_it_was_copied() {
    let (mut guest, mut queue, disk) = open(8);
    guest.fill(8192, &[5; 512]);
    let ask = indirect(&guest, BlockOp::WRITE, 0, &[segment(8192, 512)], 4096);
    // Between the judgement and the transfer the guest rewrites its list into something that is not granted.
    let list = guest.memory.bytes().part(4096, 16).unwrap();
    *disk.meanwhile.lock().unwrap() = Some(Box::new(move || list.write(0, &[0xff; 16]).unwrap()));
    assert_eq!(guest.ask(&mut queue, ask), ok(0));
    assert_eq!(disk.ram.content()[..512], [5; 512]);
}

#[test]
fn what_was_served_before_a_lie_is_completed() {
    let (mut guest, mut queue, _disk) = open(8);
    let ids = guest.submit(&[read(0, 512, 0); 2]);
    // The third slot gets a tag of no lap. Two completions are fewer than the ring publishes by itself.
    guest.requests.word(HEADER_BYTES + 2 * REQUEST_BYTES).unwrap().store(77 << 48, Ordering::Release);
    assert_eq!(queue.pass(8), Pass::Latched);
    assert_eq!(guest.completions().iter().map(|done| done.id).collect::<Vec<_>>(), ids);
    assert_eq!(guest.counters.snapshot().faults, 1);
}

#[test]
fn a_closed_queue_takes_nothing_more() {
    let (mut guest, mut queue, disk) = open(8);
    queue.close();
    guest.submit(&[write(0, 512, 0)]);
    assert_eq!(queue.pass(8), Pass::Latched);
    assert!(guest.completions().is_empty());
    assert!(disk.asked().is_empty());
}
