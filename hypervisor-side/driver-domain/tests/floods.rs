//! A monitor that wants too much: it is counted, told which quota that is, and waits; nobody else does.

mod scene;

use pvkit_abi::status::CallError;
use pvkit_driver_domain::SocketError;
use pvkit_driver_domain::client::{Backend, BackendError, Wanted, inspect};
use pvkit_driver_domain::daemon::{Pace, Quotas};
use pvkit_driver_domain::protocol::*;
use scene::{Monitor, SOON, Served, attach, eventfd, hello, queue, serve, serve_with, window};
use std::os::fd::AsFd;
use std::time::Instant;
use zerocopy::FromBytes;

/// In a test nothing comes back by itself.
const fn once(burst: u32) -> Pace {
    Pace { burst, per_second: 1 }
}

fn close(device: u32) -> Message {
    Message::Close(OfDevice { device, reserved: 0 })
}

fn totals(served: &Served) -> Totals {
    inspect(&served.path).unwrap().totals
}

fn wait_until(mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !reached() {
        assert!(Instant::now() < deadline, "what the test waits for does not come");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_monitor_that_says_too_much_waits_for_its_turn_and_another_one_does_not() {
    // Slow enough for any machine to say more than may be said.
    let served = serve_with(Quotas { messages: Pace { burst: 20, per_second: 50 }, ..Quotas::default() });
    let mut loud = Monitor::connect(&served);
    loud.sequence = 1;
    loud.socket.send(&hello().emit(1), &[], SOON).unwrap();
    for _ in 0..60 {
        loud.sequence += 1;
        loud.socket.send(&close(1).emit(loud.sequence), &[], SOON).unwrap();
    }
    let mut quiet = Monitor::greeted(&served);
    for _ in 0..10 {
        assert_eq!(quiet.ask(&close(1), &[]).unwrap(), Err(CallError::NOT_FOUND));
    }
    for _ in 0..=60 {
        loud.socket.receive(SOON).unwrap();
    }
    let spent = totals(&served).spent;
    assert!(spent.messages >= 61 + 11, "nothing is lost: {spent:?}");
    assert!(spent.held_back >= 20, "{spent:?}");
}

#[test]
fn what_a_monitor_spends_is_shown_with_its_devices_and_in_the_sum_when_it_is_gone() {
    let served = serve();
    let mut monitor = Monitor::greeted(&served);
    monitor.ask(&Message::Attach(attach(3, "alone")), &[]).unwrap().unwrap();
    let seen = inspect(&served.path).unwrap();
    assert_eq!((seen.devices[0].spent.messages, seen.totals.open), (2, 2));
    assert_eq!(monitor.ask(&Message::Totals, &[]).unwrap(), Err(CallError::DENIED), "it is told to operators");
    drop(monitor);
    wait_until(|| totals(&served).open == 1);
    assert!(totals(&served).spent.messages >= 3);
}

#[test]
fn a_device_too_many_is_refused_by_the_name_of_the_quota_to_both_operators() {
    let served = serve_with(Quotas { devices: 2, ..Quotas::default() });
    let mut monitor = Monitor::greeted(&served);
    for device in 1..=2 {
        monitor.ask(&Message::Attach(attach(device, "shared")), &[]).unwrap().unwrap();
    }
    monitor.sequence += 1;
    monitor.socket.send(&Message::Attach(attach(3, "shared")).emit(monitor.sequence), &[], SOON).unwrap();
    assert!(monitor.told().contains("quota: devices of a monitor, 2"));
    monitor.socket.receive(SOON).unwrap();
    for device in 4..100 {
        assert_eq!(monitor.ask(&Message::Attach(attach(device, "shared")), &[]).unwrap(), Err(CallError::LIMIT));
    }
    let lines = served.lines.lock().unwrap().clone();
    assert_eq!(lines.len(), 7, "97 refusals: the 1st, 2nd, 4th, .., 64th: {lines:?}");
    assert!(lines.iter().all(|line| line.contains("quota: devices of a monitor, 2")), "{lines:?}");
    assert_eq!(inspect(&served.path).unwrap().devices[0].spent.refused, 97);
    // Another one has its own.
    Monitor::greeted(&served).ask(&Message::Attach(attach(1, "shared")), &[]).unwrap().unwrap();
}

#[test]
fn queues_too_many_are_refused_before_they_cost_a_thread() {
    // A disk has four.
    let served = serve_with(Quotas { queues: 7, ..Quotas::default() });
    let backend = Backend::connect(&served.path, "test").unwrap();
    let wanted = || Wanted { attach: attach(0, "shared"), tap: None };
    backend.attach(wanted()).unwrap();
    match backend.attach(wanted()) {
        Err(BackendError::Quota(line)) => assert!(line.contains("quota: queues of a monitor, 7"), "{line}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_queue_that_is_opened_again_and_again_is_counted_and_leaves_one_thread() {
    let served = serve();
    let mut monitor = Monitor::greeted(&served);
    let (memory, bell) = (window(1 << 20), eventfd());
    monitor.ask(&Message::Window(WindowBody { length: 1 << 20 }), &[memory.as_fd()]).unwrap().unwrap();
    monitor.ask(&Message::Attach(attach(1, "alone")), &[]).unwrap().unwrap();
    // The request area's epoch, as the guest stores it.
    rustix::io::pwrite(&memory, &1_u64.to_le_bytes(), pvkit_abi::ring::EPOCH_WORD as u64).unwrap();
    for round in 0..100 {
        monitor.ask(&Message::OpenQueue(queue(1)), &[bell.as_fd(), bell.as_fd()]).unwrap().unwrap();
        if round < 99 {
            monitor.ask(&close(1), &[]).unwrap().unwrap();
        }
    }
    let seen = inspect(&served.path).unwrap();
    assert_eq!((seen.devices[0].open, seen.devices[0].queues[0].1.opens), (1, 100));
}

#[test]
fn a_process_with_too_many_connections_is_told_so_and_makes_room_by_closing_one() {
    let served = serve_with(Quotas { of_process: 3, ..Quotas::default() });
    let mut held: Vec<Monitor> = (0..3).map(|_| Monitor::greeted(&served)).collect();
    for _ in 0..20 {
        let mut late = Monitor::connect(&served);
        assert!(late.told().contains("has 3 connections (quota: connections of a process)"));
        assert!(matches!(late.ask(&hello(), &[]), Err(SocketError::Closed)));
    }
    match Backend::connect(&served.path, "test").map(|_| ()) {
        Err(BackendError::Quota(line)) => assert!(line.contains("connections of a process"), "{line}"),
        other => panic!("{other:?}"),
    }
    held.pop();
    let mut seen = None;
    wait_until(|| {
        seen = inspect(&served.path).ok();
        seen.is_some()
    });
    let (turned_away, lines) = (seen.unwrap().totals.turned_away, served.lines.lock().unwrap().len());
    assert!(turned_away >= 21 && lines == turned_away.ilog2() as usize + 1, "{turned_away}, {lines} lines");
}

#[test]
fn connections_that_come_too_often_wait_and_are_counted() {
    let served = serve_with(Quotas { connects: Pace { burst: 5, per_second: 20 }, ..Quotas::default() });
    for _ in 0..25 {
        Monitor::greeted(&served);
    }
    let seen = totals(&served);
    assert_eq!(seen.connections, 26, "each was served");
    assert!(seen.late >= 5, "{seen:?}");
}

#[test]
fn a_monitor_that_provokes_lines_is_silent_after_so_many() {
    let served = serve_with(Quotas { lines: 4, ..Quotas::default() });
    let mut monitor = Monitor::greeted(&served);
    let plain = tempfile::tempfile().unwrap();
    for _ in 0..50 {
        let asked = Message::Window(WindowBody { length: 4096 });
        assert_eq!(monitor.ask(&asked, &[plain.as_fd()]).unwrap(), Err(CallError::INVALID));
    }
    let lines = served.lines.lock().unwrap().clone();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[3].ends_with("no more about this one (quota: lines of a monitor, 4)"), "{lines:?}");
    let spent = totals(&served).spent;
    assert_eq!((spent.lines, spent.withheld), (4, 46));
}

#[test]
fn liars_that_come_again_and_again_are_told_of_so_often() {
    let served = serve_with(Quotas { all_lines: once(8), ..Quotas::default() });
    let begin = Instant::now();
    for _ in 0..60 {
        let liar = Monitor::connect(&served);
        liar.socket.send(&[7; 100], &[], SOON).unwrap();
        assert!(matches!(liar.socket.receive(SOON), Err(SocketError::Closed)));
    }
    wait_until(|| totals(&served).spent.lines + totals(&served).spent.withheld == 60);
    let lines = served.lines.lock().unwrap().len() as u64;
    assert_eq!(lines, totals(&served).spent.lines);
    assert!((8..=9 + begin.elapsed().as_secs()).contains(&lines), "{lines}");
}

#[test]
fn a_doorbell_that_always_rings_is_throttled_whoever_keeps_it_ringing() {
    use rustix::event::{EventfdFlags, eventfd};
    let served = serve();
    let mut monitor = Monitor::greeted(&served);
    let memory = window(1 << 20);
    monitor.ask(&Message::Window(WindowBody { length: 1 << 20 }), &[memory.as_fd()]).unwrap().unwrap();
    monitor.ask(&Message::Attach(attach(1, "alone")), &[]).unwrap().unwrap();
    rustix::io::pwrite(&memory, &1_u64.to_le_bytes(), pvkit_abi::ring::EPOCH_WORD as u64).unwrap();
    // Each reading takes one ring of it: one write is enough for a long flood.
    let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE).unwrap();
    rustix::io::write(&bell, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    let mut asked = queue(1);
    asked.queue = 0;
    monitor.ask(&Message::OpenQueue(asked), &[bell.as_fd(), bell.as_fd()]).unwrap().unwrap();
    let counted = || {
        let inspection = inspect(&served.path).unwrap();
        inspection.devices[0].queues[0].1
    };
    wait_until(|| counted().throttled >= 10);
    let seen = counted();
    assert!(seen.spurious > seen.throttled && seen.doorbells >= seen.spurious, "{seen}");
    // Whoever closes the queue does not wait for the flood.
    monitor.ask(&close(1), &[]).unwrap().unwrap();
    let answer = monitor.ask(&Message::Counters(OfDevice { device: 1, reserved: 0 }), &[]).unwrap().unwrap();
    assert_eq!(Counters::read_from_bytes(&answer).unwrap().count, 1);
}
