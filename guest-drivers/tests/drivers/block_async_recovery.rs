//! The disk's futures over the loss of its backend.

use super::*;
use crate::waking::{Count, poll, serve};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::Kind as MessageKind;
use pvkit_abi::ring::{CompletionWord, HEADER_BYTES};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::block::AsyncBlock;
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::fake::Host;
use pvkit_guest_drivers::platform::test::COHERENT_BASE;
use std::cell::RefCell;

type Disk<'p> = AsyncBlock<'p, 'p, TestPlatform>;

/// A disk that keeps what is in flight, whose host serves when it is told to.
fn open<'p>(platform: &'p TestPlatform, interrupt: &'p Interrupt) -> (Bus<'p, TestPlatform>, Disk<'p>) {
    let (bus, disk) = open_disk(platform);
    platform.calls.host().lazy = true;
    let disk = AsyncBlock::new(disk, interrupt);
    disk.keep_for_recovery(true);
    (bus, disk)
}

/// The backend goes without having looked at what was submitted.
fn goes<'p>(platform: &TestPlatform, bus: &mut Bus<'p, TestPlatform>, disk: &Disk<'p>) {
    platform.calls.host().disconnect(1);
    bus.poll().unwrap();
    disk.refresh(bus).unwrap();
    assert!(disk.is_over());
}

#[test]
fn futures_in_flight_and_futures_without_a_queue_end_as_if_nothing_had_been() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let memory = platform.pages.0.clone();
    let (mut bus, disk) = open(&platform, &interrupt);
    let mut bottom = Box::pin(disk.bottom_half());
    let (count, waker) = Count::new();
    assert!(poll(&mut bottom.as_mut(), &waker).is_pending());
    let live = memory.live();
    for round in 0..20_u8 {
        let (early_data, late_data) = ([round; 512], [!round; 512]);
        let mut early = pin!(disk.write(0, &early_data, LATE));
        let mut late = pin!(disk.write(512, &late_data, LATE));
        assert!(poll(&mut early, &waker).is_pending());
        goes(&platform, &mut bus, &disk);
        assert!(poll(&mut late, &waker).is_pending() && poll(&mut bottom.as_mut(), &waker).is_pending());
        assert!(!disk.is_back(&bus));
        platform.calls.host().reconnect(1);
        bus.poll().unwrap();
        assert!(disk.is_back(&bus));
        let before = count.woken();
        assert_eq!(disk.recover(&mut bus, LATE), Ok(1));
        // The one that found no queue.
        assert_eq!(count.woken(), before + 1);
        assert!(poll(&mut late, &waker).is_pending());
        serve(&platform, &interrupt);
        assert!(poll(&mut bottom.as_mut(), &waker).is_pending());
        assert_eq!(poll(&mut early, &waker), Poll::Ready(Ok(())));
        assert_eq!(poll(&mut late, &waker), Poll::Ready(Ok(())));
    }
    let counters = disk.counters();
    assert_eq!((counters.reconnects, counters.replays), (20, 20));
    assert_eq!((memory.live(), memory.leaked()), (live, 0));
    drop(bottom);
    let mut disk = disk.into_inner();
    let mut both = [0; 1024];
    disk.read(0, &mut both, LATE).unwrap();
    assert_eq!((both[0], both[512]), (19, !19));
}

#[test]
fn what_had_completed_ends_and_what_was_given_up_is_not_done_again() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (mut bus, disk) = open(&platform, &interrupt);
    let (_, waker) = Count::new();
    let mut done = pin!(disk.write(0, &[1; 512], LATE));
    assert!(poll(&mut done, &waker).is_pending());
    platform.calls.host().ring(1);
    let mut dropped = Box::pin(disk.write(512, &[2; 512], LATE));
    let mut late = Box::pin(disk.write(1024, &[3; 512], 1));
    let mut kept = pin!(disk.write(1536, &[4; 512], LATE));
    assert!(poll(&mut dropped.as_mut(), &waker).is_pending());
    assert_eq!(poll(&mut late.as_mut(), &waker), Poll::Ready(Err(RequestError::TimedOut)));
    assert!(poll(&mut kept, &waker).is_pending());
    let seen = platform.calls.host().devices[0].seen.len();
    goes(&platform, &mut bus, &disk);
    drop(dropped);
    platform.calls.host().reconnect(1);
    assert_eq!(disk.recover(&mut bus, LATE), Ok(1));
    assert_eq!(poll(&mut done, &waker), Poll::Ready(Ok(())));
    serve(&platform, &interrupt);
    disk.collect().unwrap();
    assert_eq!(poll(&mut kept, &waker), Poll::Ready(Ok(())));
    assert_eq!(platform.calls.host().devices[0].seen.len(), seen + 1);
    assert_eq!(disk.counters().quarantined, 0);
}

#[test]
fn without_being_asked_to_every_future_ends_with_the_backend() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (mut bus, disk) = open(&platform, &interrupt);
    let (count, waker) = Count::new();
    let mut bottom = pin!(disk.bottom_half());
    let mut inside = pin!(disk.write(0, &[1; 512], LATE));
    let mut outside = pin!(disk.write(0, &[2; 512], LATE));
    assert!(poll(&mut inside, &waker).is_pending());
    goes(&platform, &mut bus, &disk);
    assert!(poll(&mut outside, &waker).is_pending() && poll(&mut bottom, &waker).is_pending());
    disk.keep_for_recovery(false);
    assert_eq!(count.woken(), 2);
    for future in [&mut inside, &mut outside] {
        assert_eq!(poll(future, &waker), Poll::Ready(Err(RequestError::Disconnected)));
    }
    assert_eq!(poll(&mut bottom, &waker), Poll::Ready(RequestError::Disconnected));
}

#[test]
fn a_future_waits_for_the_backend_until_its_deadline() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let (mut bus, disk) = open(&platform, &interrupt);
    let (_, waker) = Count::new();
    goes(&platform, &mut bus, &disk);
    let soon = platform.calls.host().clock() + 100_000;
    let mut write = pin!(disk.write(0, &[1; 512], soon));
    assert!(poll(&mut write, &waker).is_pending());
    assert_eq!(disk.recover(&mut bus, soon), Err(RequestError::TimedOut));
    assert_eq!(poll(&mut write, &waker), Poll::Ready(Err(RequestError::TimedOut)));
    let mut host = platform.calls.host();
    host.message(MessageKind::RESCIND, 1, u64::MAX, &[]);
    host.deliver();
    drop(host);
    assert_eq!(disk.recover(&mut bus, LATE), Err(RequestError::Disconnected));
}

#[test]
fn a_queue_that_a_fault_ended_works_again_in_its_next_life() {
    let (platform, interrupt) = (with_disk(), Interrupt::new());
    let memory = platform.pages.0.clone();
    let (mut bus, disk) = open(&platform, &interrupt);
    let (_, waker) = Count::new();
    let mut write = pin!(disk.write(0, &[1; 512], LATE));
    assert!(poll(&mut write, &waker).is_pending());
    // The first completion is of an id that is not in flight; the disk's second ring page is the seventh of all.
    let area = memory.host(COHERENT_BASE + 6 * PAGE_SIZE as u64, PAGE_SIZE).unwrap();
    let word = CompletionWord::new(9, CompletionResult::new(Status::OK, 0)).with_tag(1);
    area.write(HEADER_BYTES, &word.0.to_le_bytes()).unwrap();
    assert!(matches!(disk.collect(), Err(RequestError::PeerFault(_))));
    assert!(matches!(poll(&mut write, &waker), Poll::Ready(Err(RequestError::PeerFault(_)))));
    platform.calls.host().disconnect(1);
    platform.calls.host().reconnect(1);
    assert_eq!(disk.recover(&mut bus, LATE), Ok(0));
    let mut write = pin!(disk.write(0, &[2; 512], LATE));
    assert!(poll(&mut write, &waker).is_pending());
    serve(&platform, &interrupt);
    disk.collect().unwrap();
    assert_eq!(poll(&mut write, &waker), Poll::Ready(Ok(())));
}

/// Something happens to the disk, and the interrupt comes if it is asked for.
fn happens(platform: &TestPlatform, interrupt: &Interrupt, what: fn(&mut Host, u32)) {
    let before = platform.calls.host().counts.interrupts;
    what(&mut platform.calls.host(), 1);
    if platform.calls.host().counts.interrupts > before {
        interrupt.wake();
    }
}

#[test]
fn a_task_that_follows_the_bus_is_woken_by_its_messages_and_recovers_without_a_wait() {
    let (platform, interrupt, of_bus) = (with_disk(), Interrupt::new(), Interrupt::new());
    let (bus, disk) = open(&platform, &interrupt);
    let bus = RefCell::new(bus);
    let (count, waker) = Count::new();
    let mut care = pin!(async {
        let ended: Result<(), RequestError> = loop {
            let _ = disk.refresh(&bus.borrow());
            if disk.is_back(&bus.borrow()) {
                disk.recover(&mut bus.borrow_mut(), LATE)?;
            }
            if poll_fn(|context| bus.borrow_mut().poll_changed(context, &of_bus)).await.is_err() {
                break Err(RequestError::Disconnected);
            }
        };
        ended
    });
    assert!(poll(&mut care, &waker).is_pending());
    for round in 1..10 {
        let waits = platform.calls.host().counts.waits;
        happens(&platform, &of_bus, Host::disconnect);
        assert!(poll(&mut care, &waker).is_pending() && disk.is_over());
        happens(&platform, &of_bus, Host::reconnect);
        assert!(count.woken() >= 2 * round);
        assert!(poll(&mut care, &waker).is_pending() && !disk.is_over());
        assert_eq!((disk.counters().reconnects as usize, platform.calls.host().counts.waits), (round, waits));
    }
}
