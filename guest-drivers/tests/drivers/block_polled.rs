//! Submit and poll.

use super::*;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::block::BlockOp;
use pvkit_abi::ring::RequestFlags;
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::block::Request;
use pvkit_guest_drivers::error::{Misuse, RequestError};

type Pages<'p> = Buffer<'p, TestPlatform, 16>;

fn buffer(platform: &TestPlatform, pages: usize) -> Pages<'_> {
    Buffer::allocate(platform, pages * PAGE_SIZE).unwrap()
}

/// Three pages of which no two adjoin.
fn scattered(platform: &TestPlatform) -> Pages<'_> {
    let singles: Vec<Pages<'_>> = (0..256).map_while(|_| Buffer::allocate(platform, 1).ok()).collect();
    let kept: Vec<_> = singles.into_iter().enumerate().filter(|(i, _)| i % 2 == 0).collect();
    let buffer = buffer(platform, 3);
    drop(kept);
    buffer
}

#[test]
fn a_batch_rings_once_and_every_buffer_comes_back_with_its_data() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    disk.write(0, &pattern(32 * PAGE_SIZE), LATE).unwrap();
    let rung = platform.calls.host().counts.doorbells;
    let requests = (0..32u64).map(|i| Request::read(i * PAGE_SIZE as u64, PAGE_SIZE as u32, buffer(&platform, 1)));
    let mut tickets = Vec::new();
    disk.submit_batch(requests, |ticket| tickets.push(ticket.id())).unwrap();
    assert_eq!(platform.calls.host().counts.doorbells, rung + 1);
    let mut ended = Vec::new();
    assert_eq!(disk.poll(100, |completed| ended.push(completed)).unwrap(), 32);
    for completed in ended {
        let place = tickets.iter().position(|id| *id == completed.id).unwrap();
        let mut page = vec![0; PAGE_SIZE];
        completed.buffer.unwrap().read(0, &mut page).unwrap();
        assert!(page == pattern(32 * PAGE_SIZE)[place * PAGE_SIZE..][..PAGE_SIZE], "request {place}");
        assert_eq!(completed.result, Ok(0));
    }
    assert_eq!(disk.outstanding(), 0);
}

#[test]
fn pages_in_one_run_go_inline_and_scattered_ones_by_a_list() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    let data = pattern(3 * PAGE_SIZE);
    for (mut buffer, runs) in [(buffer(&platform, 3), 1), (scattered(&platform), 3)] {
        assert_eq!(buffer.runs(), runs);
        buffer.write(0, &data).unwrap();
        // Not to the end: the last segment is shorter than its page.
        let length = data.len() as u32 - 1024;
        disk.submit(Request::write(512, length, buffer)).unwrap();
        let completed = disk.wait(LATE).unwrap();
        assert_eq!(completed.result, Ok(0));
        let (op, flags, segments) = *platform.calls.host().devices[0].seen.last().unwrap();
        assert_eq!((op, segments), (BlockOp::WRITE.0, runs));
        assert_eq!(flags & RequestFlags::INDIRECT.bits() != 0, runs > 1);
        let mut back = vec![0; length as usize];
        disk.read(512, &mut back, LATE).unwrap();
        assert!(back == data[..length as usize], "{runs} runs");
        disk.write_zeroes(0, 64 * 1024, LATE).unwrap();
    }
}

#[test]
fn more_segments_than_were_sealed_are_refused_with_the_buffer() {
    let mut device = Device::disk(0, DISK, 512);
    device.offer.max_segments = 2;
    let platform = fake::platform(vec![device]);
    let (_bus, mut disk) = open_disk(&platform);
    let rejected = disk.submit(Request::write(0, 3 * PAGE_SIZE as u32, scattered(&platform))).unwrap_err();
    assert!(matches!(rejected.error, RequestError::Misuse(Misuse::BufferLength { .. })));
    // Two of the pages would do.
    disk.submit(Request::write(0, 2 * PAGE_SIZE as u32, scattered(&platform))).unwrap();
    assert_eq!(disk.wait(LATE).unwrap().result, Ok(0));
}

#[test]
fn a_full_queue_gives_the_request_back_and_takes_it_after_a_completion() {
    let mut device = Device::disk(0, DISK, 512);
    device.offer.max_depth = 4;
    let platform = fake::platform(vec![device]);
    let (_bus, mut disk) = open_disk(&platform);
    assert_eq!(disk.sealed().depth, 4);
    platform.calls.host().deaf = true;
    for _ in 0..4 {
        disk.submit(Request::flush()).unwrap();
    }
    let rejected = disk.submit(Request::read(0, 512, buffer(&platform, 1))).unwrap_err();
    assert_eq!(rejected.error, RequestError::Full);
    let mut host = platform.calls.host();
    host.deaf = false;
    host.ring(1);
    drop(host);
    assert_eq!(disk.poll(1, |_| {}).unwrap(), 1);
    disk.submit(rejected.request).unwrap();
    assert_eq!(disk.outstanding(), 4);
}

#[test]
fn a_rejected_request_in_a_batch_leaves_those_before_it_published() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    let requests = [0, 512, 100, 1024].map(|position| Request::read(position, 512, buffer(&platform, 1)));
    let mut tickets = 0;
    let rejected = disk.submit_batch(requests, |_| tickets += 1).unwrap_err();
    assert_eq!(rejected.error, RequestError::Misuse(Misuse::Misaligned { block: 512 }));
    assert_eq!((tickets, disk.outstanding()), (2, 2));
    assert_eq!(disk.poll(10, |_| {}).unwrap(), 2);
}

#[test]
fn a_buffer_shorter_than_its_request_is_refused() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    let rejected = disk.submit(Request::read(0, 8192, buffer(&platform, 1))).unwrap_err();
    assert!(matches!(rejected.error, RequestError::Misuse(Misuse::BufferLength { limit: 4096 })));
    assert_eq!(disk.counters().requests, 0);
}

#[test]
fn blocking_calls_are_refused_while_requests_are_outstanding() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    disk.submit(Request::flush()).unwrap();
    let refused = disk.read(0, &mut [0; 512], LATE).err();
    assert_eq!(refused, Some(RequestError::Misuse(Misuse::RequestsInFlight)));
    disk.poll(1, |_| {}).unwrap();
    disk.read(0, &mut [0; 512], LATE).unwrap();
}

#[test]
fn the_interrupt_door_keeps_to_its_budget_and_then_asks_for_the_next_interrupt() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    platform.calls.host().deaf = true;
    for _ in 0..5 {
        disk.submit(Request::flush()).unwrap();
    }
    platform.calls.host().ring(1);
    let first = disk.handle_interrupt(3, |_| {}).unwrap();
    assert_eq!((first.completed, first.more), (3, true));
    let second = disk.handle_interrupt(3, |_| {}).unwrap();
    assert_eq!((second.completed, second.more), (2, false));
    let interrupts = platform.calls.host().counts.interrupts;
    disk.submit(Request::flush()).unwrap();
    platform.calls.host().ring(1);
    assert_eq!(platform.calls.host().counts.interrupts, interrupts + 1);
}

#[test]
fn what_completed_before_the_backend_went_is_told_as_completed() {
    let platform = with_disk();
    let memory = platform.pages.0.clone();
    let (mut bus, mut disk) = open_disk(&platform);
    let before = memory.live();
    let mut done = buffer(&platform, 1);
    done.write(0, &[9; PAGE_SIZE]).unwrap();
    let done = disk.submit(Request::write(0, PAGE_SIZE as u32, done)).unwrap().id();
    platform.calls.host().deaf = true;
    let lost = disk.submit(Request::read(0, PAGE_SIZE as u32, buffer(&platform, 1))).unwrap().id();
    platform.calls.host().disconnect(1);
    bus.poll().unwrap();
    disk.refresh(&bus).unwrap();
    let mut told = Vec::new();
    disk.poll(10, |completed| told.push((completed.id, completed.result))).unwrap();
    assert_eq!(told, [(done, Ok(0)), (lost, Err(RequestError::Disconnected))]);
    assert_eq!(disk.outstanding(), 0);
    drop(disk);
    assert!(memory.live() < before, "the rings are free");
    assert_eq!(memory.leaked(), 0);
}

#[test]
fn publications_without_a_doorbell_and_refusals_for_want_of_room_are_counted() {
    let platform = with_disk();
    let (_bus, mut disk) = open_disk(&platform);
    let before = disk.counters();
    // It hears the first one and does not go to sleep again.
    platform.calls.host().deaf = true;
    let request = || Request::read(0, PAGE_SIZE as u32, buffer(&platform, 1));
    for _ in 0..3 {
        disk.submit(request()).unwrap();
    }
    let counted = disk.counters();
    assert_eq!((counted.doorbells - before.doorbells, counted.suppressed - before.suppressed), (1, 2));
    assert_eq!(counted.full, 0);
    let rejected = disk.submit_batch((0..40).map(|_| request()), |_| ()).unwrap_err();
    assert_eq!(rejected.error, RequestError::Full);
    assert_eq!(disk.submit(request()).unwrap_err().error, RequestError::Full);
    let counted = disk.counters();
    assert_eq!((counted.requests - before.requests, counted.full, counted.suppressed - before.suppressed), (32, 2, 3));
}
