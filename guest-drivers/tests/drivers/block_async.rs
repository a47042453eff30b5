//! The disk's futures.

use super::*;
use crate::waking::{Count, poll, serve};
use core::pin::pin;
use core::task::{Poll, Waker};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::ring::{CompletionWord, HEADER_BYTES};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::block::{AsyncBlock, Request};
use pvkit_guest_drivers::error::{HostFault, RequestError};
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::platform::test::COHERENT_BASE;

/// Reads one sector.
async fn sector(disk: &Disk<'_>, number: u64, deadline: u64) -> Result<Vec<u8>, RequestError> {
    let mut sector = vec![0; 512];
    disk.read(number * 512, &mut sector, deadline).await?;
    Ok(sector)
}

fn expected(number: usize) -> Vec<u8> {
    pattern(64 * 1024)[number * 512..][..512].to_vec()
}

type Disk<'p> = AsyncBlock<'p, 'p, TestPlatform>;

/// A disk whose host serves when it is told to.
fn open<'p>(platform: &'p TestPlatform, interrupt: &'p Interrupt) -> (Bus<'p, TestPlatform>, Disk<'p>) {
    let (bus, mut disk) = open_disk(platform);
    disk.write(0, &pattern(64 * 1024), LATE).unwrap();
    platform.calls.host().lazy = true;
    (bus, AsyncBlock::new(disk, interrupt))
}

#[test]
fn a_completion_interrupts_the_bottom_half_which_wakes_the_future_that_waits_for_it() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let mut bottom = pin!(disk.bottom_half());
    let (bottoms, bottom_waker) = Count::new();
    let (reads, read_waker) = Count::new();
    let mut read = pin!(sector(&disk, 1, LATE));
    assert!(poll(&mut bottom, &bottom_waker).is_pending());
    assert!(poll(&mut read, &read_waker).is_pending());
    assert_eq!((bottoms.woken(), reads.woken()), (0, 0));
    serve(&platform, &interrupt);
    assert_eq!((bottoms.woken(), reads.woken()), (1, 0));
    assert!(poll(&mut bottom, &bottom_waker).is_pending());
    assert_eq!(reads.woken(), 1);
    assert_eq!(poll(&mut read, &read_waker), Poll::Ready(Ok(expected(1))));
}

#[test]
fn every_batch_of_completions_makes_one_interrupt_and_none_is_lost() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let mut bottom = pin!(disk.bottom_half());
    let (bottoms, waker) = Count::new();
    assert!(poll(&mut bottom, &waker).is_pending());
    for round in 1..=300 {
        let mut reads = [(); 3].map(|()| Box::pin(disk.flush(LATE)));
        for read in &mut reads {
            assert!(poll(&mut read.as_mut(), Waker::noop()).is_pending());
        }
        serve(&platform, &interrupt);
        assert_eq!(bottoms.woken(), round);
        assert!(poll(&mut bottom, &waker).is_pending());
        for read in &mut reads {
            assert_eq!(poll(&mut read.as_mut(), Waker::noop()), Poll::Ready(Ok(())));
        }
    }
}

#[test]
fn two_reads_that_complete_out_of_order_go_to_their_own_futures() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    platform.calls.host().reversed = true;
    let (mut first, mut second) = (pin!(sector(&disk, 3, LATE)), pin!(sector(&disk, 9, LATE)));
    let ((firsts, first_waker), (seconds, second_waker)) = (Count::new(), Count::new());
    assert!(poll(&mut first, &first_waker).is_pending());
    assert!(poll(&mut second, &second_waker).is_pending());
    serve(&platform, &interrupt);
    disk.collect().unwrap();
    assert_eq!((firsts.woken(), seconds.woken()), (1, 1));
    assert_eq!(poll(&mut first, &first_waker), Poll::Ready(Ok(expected(3))));
    assert_eq!(poll(&mut second, &second_waker), Poll::Ready(Ok(expected(9))));
}

#[test]
fn an_id_that_is_used_again_does_not_meet_the_future_before_it() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let mut first = pin!(sector(&disk, 3, LATE));
    assert!(poll(&mut first, Waker::noop()).is_pending());
    serve(&platform, &interrupt);
    // Its id is free now, and it has not been polled.
    disk.collect().unwrap();
    let mut second = pin!(sector(&disk, 9, LATE));
    assert!(poll(&mut second, Waker::noop()).is_pending());
    serve(&platform, &interrupt);
    disk.collect().unwrap();
    assert_eq!(poll(&mut second, Waker::noop()), Poll::Ready(Ok(expected(9))));
    assert_eq!(poll(&mut first, Waker::noop()), Poll::Ready(Ok(expected(3))));
}

#[test]
fn a_read_that_is_dropped_keeps_its_pages_until_its_completion_and_then_they_are_free() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let memory = platform.pages.0.clone();
    let before = memory.live();
    let mut read = Box::pin(sector(&disk, 3, LATE));
    assert!(poll(&mut read.as_mut(), Waker::noop()).is_pending());
    drop(read);
    assert_eq!((memory.live(), disk.counters().quarantined), (before + 1, 1));
    serve(&platform, &interrupt);
    assert_eq!(memory.live(), before + 1);
    disk.collect().unwrap();
    assert_eq!((memory.live(), memory.leaked(), disk.counters().quarantined), (before, 0, 0));
}

#[test]
fn a_read_that_ended_and_is_dropped_unseen_frees_its_pages_and_its_place() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let before = platform.pages.0.live();
    for _ in 0..100 {
        let mut read = Box::pin(sector(&disk, 3, LATE));
        assert!(poll(&mut read.as_mut(), Waker::noop()).is_pending());
        serve(&platform, &interrupt);
        disk.collect().unwrap();
        drop(read);
        assert_eq!(platform.pages.0.live(), before);
    }
}

#[test]
fn a_future_that_is_never_polled_submits_nothing() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let requests = disk.counters().requests;
    drop(disk.submit(Request::flush(), LATE));
    assert_eq!(disk.counters().requests, requests);
}

#[test]
fn the_callers_own_pages_go_out_and_come_back() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let buffer = Buffer::allocate(&platform, PAGE_SIZE).unwrap();
    let mut read = pin!(disk.submit(Request::read(512, 512, buffer), LATE));
    assert!(poll(&mut read, Waker::noop()).is_pending());
    serve(&platform, &interrupt);
    disk.collect().unwrap();
    let Poll::Ready(ended) = poll(&mut read, Waker::noop()) else { panic!("it has ended") };
    assert_eq!(ended.result, Ok(0));
    let mut sector = [0; 512];
    ended.buffer.unwrap().read(0, &mut sector).unwrap();
    assert_eq!(sector[..], expected(1));
    assert!(poll(&mut read, Waker::noop()).is_pending());
}

#[test]
fn a_deadline_that_passed_ends_the_future_and_the_buffer_stays_until_its_completion() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let memory = platform.pages.0.clone();
    let before = memory.live();
    let deadline = platform.now() + 50_000;
    let mut read = pin!(sector(&disk, 3, deadline));
    assert!(poll(&mut read, Waker::noop()).is_pending());
    while platform.now() < deadline {}
    // As the executor's timer does.
    assert_eq!(poll(&mut read, Waker::noop()), Poll::Ready(Err(RequestError::TimedOut)));
    assert_eq!(memory.live(), before + 1);
    serve(&platform, &interrupt);
    disk.collect().unwrap();
    assert_eq!((memory.live(), disk.counters().quarantined), (before, 0));
}

#[test]
fn what_came_in_time_is_found_at_the_deadline() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let deadline = platform.now() + 50_000;
    let mut read = pin!(sector(&disk, 3, deadline));
    assert!(poll(&mut read, Waker::noop()).is_pending());
    serve(&platform, &interrupt);
    while platform.now() < deadline {}
    assert_eq!(poll(&mut read, Waker::noop()), Poll::Ready(Ok(expected(3))));
}

#[test]
fn more_futures_than_slots_all_end_and_too_many_are_refused() {
    let mut device = Device::disk(0, DISK, 512);
    device.offer.max_depth = 4;
    let (platform, interrupt) = (fake::platform(vec![device]), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    assert_eq!(disk.sealed().depth, 4);
    // Four in flight, and 32 that wait for room.
    let mut reads: Vec<_> = (0..37).map(|number| Some(Box::pin(sector(&disk, number, LATE)))).collect();
    let counts: Vec<_> = reads.iter().map(|_| Count::new()).collect();
    let mut seen = vec![usize::MAX; reads.len()];
    for read in reads.iter_mut().flatten().take(36) {
        assert!(poll(&mut read.as_mut(), Waker::noop()).is_pending());
    }
    let refused = reads.pop().flatten().map(|mut read| poll(&mut read.as_mut(), Waker::noop()));
    assert_eq!(refused, Some(Poll::Ready(Err(RequestError::Full))));
    for _ in 0..100 {
        for (number, read) in reads.iter_mut().enumerate() {
            let (count, waker) = &counts[number];
            // Only those that were woken, after the first time.
            if let Some(future) = read
                && core::mem::replace(&mut seen[number], count.woken()) != count.woken()
                && let Poll::Ready(ended) = poll(&mut future.as_mut(), waker)
            {
                assert_eq!(ended, Ok(expected(number)));
                *read = None;
            }
        }
        serve(&platform, &interrupt);
        disk.collect().unwrap();
    }
    assert_eq!(reads.iter().flatten().count(), 0);
}

#[test]
fn every_operation_does_what_its_blocking_twin_does() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    let data = pattern(200 * 512);
    let mut all = pin!(async {
        disk.write(512, &data, LATE).await?;
        disk.write_fua(0, &data[..512], LATE).await?;
        disk.flush(LATE).await?;
        disk.write_zeroes(1024, 130 * 1024, LATE).await?;
        disk.discard(0, 512, LATE).await?;
        let mut back = vec![0; 512 + data.len()];
        disk.read(0, &mut back, LATE).await.map(|()| back)
    });
    let back = loop {
        if let Poll::Ready(back) = poll(&mut all, Waker::noop()) {
            break back.unwrap();
        }
        serve(&platform, &interrupt);
        disk.collect().unwrap();
    };
    assert!(back[512..1024] == data[..512] && back[..512] == [0; 512] && back[1024..].iter().all(|byte| *byte == 0));
    assert_eq!(platform.calls.host().counts.vain_waits, 0);
}

#[test]
fn the_devices_error_is_the_futures() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (_bus, disk) = open(&platform, &interrupt);
    platform.calls.host().devices[0].statuses.push_back(Some((Status::IO_ERROR, 5)));
    let mut flush = pin!(disk.flush(LATE));
    assert!(poll(&mut flush, Waker::noop()).is_pending());
    serve(&platform, &interrupt);
    disk.collect().unwrap();
    let error = RequestError::Io { status: Status::IO_ERROR, detail: 5 };
    assert_eq!(poll(&mut flush, Waker::noop()), Poll::Ready(Err(error)));
}

/// Stores completions where the host's are, behind the first one: the disk's second ring page is the seventh of all.
fn complete_falsely(platform: &TestPlatform, ids: &[u16]) {
    let area = platform.pages.0.host(COHERENT_BASE + 6 * PAGE_SIZE as u64, PAGE_SIZE).unwrap();
    let mut first = [0; 8];
    area.read(HEADER_BYTES, &mut first).unwrap();
    let tag = CompletionWord(u64::from_le_bytes(first)).tag();
    for (slot, id) in (1..).zip(ids) {
        let word = CompletionWord::new(*id, CompletionResult::new(Status::OK, 0)).with_tag(tag);
        area.write(HEADER_BYTES + slot * 8, &word.0.to_le_bytes()).unwrap();
    }
}

#[test]
fn a_completion_of_another_id_ends_every_future_with_the_fault_and_quarantines_their_pages() {
    // Those in flight are 0 and 1.
    for ids in [&[31][..], &[u16::MAX], &[0, 0], &[1, 1]] {
        let (platform, interrupt) = (with_disk(), Interrupt::new());
        let (_bus, disk) = open(&platform, &interrupt);
        let memory = platform.pages.0.clone();
        let before = memory.live();
        let reads = [Count::new(), Count::new()];
        let mut futures = [3, 9].map(|number| Box::pin(sector(&disk, number, LATE)));
        for (future, (_, waker)) in futures.iter_mut().zip(&reads) {
            assert!(poll(&mut future.as_mut(), waker).is_pending());
        }
        complete_falsely(&platform, ids);
        let fault = disk.collect().unwrap_err();
        assert!(matches!(fault, RequestError::PeerFault(HostFault::Ring(_))), "{fault}");
        let mut kept = 0;
        for (future, (count, waker)) in futures.iter_mut().zip(&reads) {
            assert_eq!(count.woken(), 1);
            let Poll::Ready(ended) = poll(&mut future.as_mut(), waker) else { panic!("it has ended") };
            assert!(ended.is_ok() || ended == Err(fault));
            kept += usize::from(ended.is_err());
        }
        drop(futures);
        assert_eq!((kept, memory.live()), (3 - ids.len(), before + 3 - ids.len()), "{ids:?}");
        assert_eq!(disk.counters().quarantined as usize, kept);
        let mut later = pin!(disk.flush(LATE));
        assert_eq!(poll(&mut later, Waker::noop()), Poll::Ready(Err(fault)));
        let mut bottom = pin!(disk.bottom_half());
        assert_eq!(poll(&mut bottom, Waker::noop()), Poll::Ready(fault));
        assert_eq!(disk.counters().faults, 1);
    }
}

#[test]
fn closing_ends_every_future_and_frees_every_page() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (mut bus, disk) = open(&platform, &interrupt);
    let memory = platform.pages.0.clone();
    let before = memory.live();
    let (count, waker) = Count::new();
    let (mut read, mut given_up) = (pin!(sector(&disk, 3, LATE)), Box::pin(sector(&disk, 4, LATE)));
    assert!(poll(&mut read, &waker).is_pending());
    assert!(poll(&mut given_up.as_mut(), Waker::noop()).is_pending());
    drop(given_up);
    disk.close(&mut bus, LATE).unwrap();
    assert_eq!(count.woken(), 1);
    assert_eq!(poll(&mut read, &waker), Poll::Ready(Err(RequestError::Disconnected)));
    let rings = 2;
    assert_eq!((memory.live(), memory.leaked()), (before - rings, 0));
    let mut bottom = pin!(disk.bottom_half());
    assert_eq!(poll(&mut bottom, Waker::noop()), Poll::Ready(RequestError::Disconnected));
}

#[test]
fn the_last_waker_of_a_task_may_take_another_future_of_the_queue_with_it() {
    std::thread_local! {
        static OTHER: core::cell::RefCell<Option<Box<dyn core::any::Any>>> = const { core::cell::RefCell::new(None) };
    }
    struct Last;
    impl std::task::Wake for Last {
        fn wake(self: std::sync::Arc<Self>) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            drop(OTHER.take());
        }
    }
    // Leaked, so that something without a lifetime may own a future.
    let platform: &'static TestPlatform = Box::leak(Box::new(with_disk()));
    let interrupt: &'static Interrupt = Box::leak(Box::new(Interrupt::new()));
    let (_bus, disk) = open(platform, interrupt);
    let disk: &'static Disk<'static> = Box::leak(Box::new(disk));
    let mut other = Box::pin(disk.submit(Request::flush(), LATE));
    assert!(poll(&mut other.as_mut(), Waker::noop()).is_pending());
    OTHER.set(Some(Box::new(other)));
    let mut read = pin!(sector(disk, 3, LATE));
    {
        let last = Waker::from(std::sync::Arc::new(Last));
        assert!(poll(&mut read, &last).is_pending());
    }
    assert_eq!(disk.counters().quarantined, 0);
    assert!(poll(&mut read, Waker::noop()).is_pending());
    assert_eq!(disk.counters().quarantined, 1);
}
