//! The futures of a pair.

use super::*;
use crate::waking::{Count, poll, serve};
use core::pin::pin;
use core::task::{Poll, Waker};
use pvkit_abi::net::{FrameHash, FrameMeta};
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::error::{HostFault, RequestError};
use pvkit_guest_drivers::fake::Stored;
use pvkit_guest_drivers::net::{AsyncRx, AsyncTx, Net, NetOptions, Pair};
use pvkit_guest_drivers::platform::Platform;

fn open(platform: &TestPlatform) -> (Bus<'_, TestPlatform>, Net<'_, TestPlatform>, Pair<'_, TestPlatform>) {
    let mut bus = Bus::connect(platform).unwrap();
    let options = NetOptions { depth: 4, ..NetOptions::default() };
    let mut net = Net::open(&mut bus, 1, options, GrantPolicy::Extent, LATE).unwrap();
    let pair = net.take_pair(0).unwrap();
    platform.calls.host().lazy = true;
    (bus, net, pair)
}

fn platform() -> TestPlatform {
    fake::platform(vec![Device::net(1, 1500)])
}

fn arrive(platform: &TestPlatform, frame: &[u8]) {
    platform.calls.host().receive(1, 0, frame, FrameMeta(0), FrameHash(0));
}

#[test]
fn a_frame_wakes_the_task_that_receives() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, _net, pair) = open(&platform);
    let mut receive = AsyncRx::new(pair.receive, &interrupt);
    let (count, waker) = Count::new();
    for round in 1..=50 {
        let mut room = [0; 1518];
        let mut frame = Box::pin(receive.receive(&mut room, LATE));
        assert!(poll(&mut frame.as_mut(), &waker).is_pending());
        arrive(&platform, &pattern(60 + round));
        serve(&platform, &interrupt);
        assert_eq!(count.woken(), round);
        let Poll::Ready(Ok(received)) = poll(&mut frame.as_mut(), &waker) else { panic!("a frame is there") };
        drop(frame);
        assert!(room[..received.length] == pattern(60 + round));
    }
}

#[test]
fn a_full_queue_sends_on_when_the_host_has_taken_something() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, _net, pair) = open(&platform);
    let mut transmit = AsyncTx::new(pair.transmit, &interrupt);
    let (count, waker) = Count::new();
    let mut sent = 0;
    let mut waits = 0;
    while sent < 100 {
        let frame = pattern(60 + sent);
        let mut send = Box::pin(transmit.send(&frame, FrameMeta(0), LATE));
        while poll(&mut send.as_mut(), &waker).is_pending() {
            serve(&platform, &interrupt);
            waits += 1;
            assert_eq!(count.woken(), waits);
        }
        sent += 1;
    }
    assert_eq!(waits, 24);
    serve(&platform, &interrupt);
    assert_eq!(platform.calls.host().port(1).sent.len(), 100);
    assert!(platform.calls.host().port(1).sent.iter().enumerate().all(|(i, sent)| sent.1 == pattern(60 + i)));
}

#[test]
fn deadlines_end_both_and_nothing_is_lost() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, _net, pair) = open(&platform);
    let (mut receive, mut transmit) = (AsyncRx::new(pair.receive, &interrupt), AsyncTx::new(pair.transmit, &interrupt));
    let mut room = [0; 1518];
    let past = platform.now();
    assert_eq!(
        poll(&mut pin!(receive.receive(&mut room, past)), Waker::noop()),
        Poll::Ready(Err(RequestError::TimedOut))
    );
    for _ in 0..4 {
        assert_eq!(poll(&mut pin!(transmit.send(&[1; 60], FrameMeta(0), past)), Waker::noop()), Poll::Ready(Ok(())));
    }
    let refused = poll(&mut pin!(transmit.send(&[1; 60], FrameMeta(0), past)), Waker::noop());
    assert_eq!(refused, Poll::Ready(Err(RequestError::TimedOut)));
    arrive(&platform, &[2; 60]);
    serve(&platform, &interrupt);
    let received = poll(&mut pin!(receive.receive(&mut room, past)), Waker::noop());
    assert!(matches!(received, Poll::Ready(Ok(frame)) if frame.length == 60));
}

#[test]
fn a_lie_about_a_frame_is_told_and_the_queue_goes_on() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, _net, pair) = open(&platform);
    let mut receive = AsyncRx::new(pair.receive, &interrupt);
    let mut lies = 1;
    platform.calls.host().tamper = Box::new(move |stored, bytes| {
        if stored == Stored::Completion && lies > 0 {
            (bytes[2], lies) = (0xff, lies - 1);
        }
    });
    let mut room = [0; 1518];
    for ended in [false, true] {
        let mut frame = pin!(receive.receive(&mut room, LATE));
        assert!(poll(&mut frame, Waker::noop()).is_pending());
        arrive(&platform, &[3; 60]);
        serve(&platform, &interrupt);
        match poll(&mut frame, Waker::noop()) {
            Poll::Ready(Ok(_)) => assert!(ended),
            Poll::Ready(Err(RequestError::PeerFault(HostFault::Length { .. }))) => assert!(!ended),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_device_that_was_closed_ends_both() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (mut bus, mut net, pair) = open(&platform);
    let (mut receive, mut transmit) = (AsyncRx::new(pair.receive, &interrupt), AsyncTx::new(pair.transmit, &interrupt));
    net.close(&mut bus, LATE).unwrap();
    receive.queue().follow(&net).unwrap();
    transmit.queue().follow(&net).unwrap();
    let gone = RequestError::Disconnected;
    let mut room = [0; 1518];
    assert_eq!(poll(&mut pin!(receive.receive(&mut room, LATE)), Waker::noop()), Poll::Ready(Err(gone)));
    assert_eq!(poll(&mut pin!(transmit.send(&[1; 60], FrameMeta(0), LATE)), Waker::noop()), Poll::Ready(Err(gone)));
}
