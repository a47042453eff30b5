//! The console's futures.

use super::*;
use crate::waking::{Count, poll, serve};
use core::pin::pin;
use core::task::{Poll, Waker};
use pvkit_abi::status::Status;
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::console::AsyncConsole;
use pvkit_guest_drivers::error::{HostFault, RequestError};
use pvkit_guest_drivers::fake::{Kind, Stored};
use pvkit_guest_drivers::platform::Platform;

fn open<'p>(
    platform: &'p TestPlatform,
    interrupt: &'p Interrupt,
) -> (Bus<'p, TestPlatform>, AsyncConsole<'p, 'p, TestPlatform>) {
    let (bus, console) = open_console(platform);
    platform.calls.host().lazy = true;
    (bus, AsyncConsole::new(console, interrupt))
}

fn platform() -> TestPlatform {
    fake::platform(vec![Device::console()])
}

fn output(platform: &TestPlatform) -> Vec<u8> {
    match &platform.calls.host().devices[0].kind {
        Kind::Console { output, .. } => output.clone(),
        _ => panic!("device 1 is a console"),
    }
}

#[test]
fn a_task_reads_while_another_writes() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, console) = open(&platform, &interrupt);
    let mut bottom = pin!(console.bottom_half());
    let (bottoms, waker) = Count::new();
    assert!(poll(&mut bottom, &waker).is_pending());
    let (reads, read_waker) = Count::new();
    let mut typed = [0; 8];
    {
        let mut read = pin!(console.read(&mut typed, LATE));
        assert!(poll(&mut read, &read_waker).is_pending());
        let text = pattern(70_001);
        let mut write = pin!(async {
            console.write(&text, LATE).await?;
            console.flush(LATE).await
        });
        let mut rounds = 0;
        while poll(&mut write, Waker::noop()).is_pending() {
            serve(&platform, &interrupt);
            assert!(poll(&mut bottom, &waker).is_pending());
            rounds += 1;
        }
        assert!(output(&platform) == text);
        assert_eq!(bottoms.woken(), rounds);
        platform.calls.host().type_in(1, b"abc");
        serve(&platform, &interrupt);
        assert!(poll(&mut bottom, &waker).is_pending());
        assert!(reads.woken() > 0);
        assert_eq!(poll(&mut read, &read_waker), Poll::Ready(Ok(3)));
    }
    assert_eq!(typed[..3], *b"abc");
    assert_eq!(platform.calls.host().counts.vain_waits, 0);
}

#[test]
fn what_is_typed_for_a_read_that_was_dropped_goes_to_the_next() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, console) = open(&platform, &interrupt);
    let mut first = Box::pin(async { console.read(&mut [0; 8], LATE).await });
    assert!(poll(&mut first.as_mut(), Waker::noop()).is_pending());
    drop(first);
    platform.calls.host().type_in(1, b"abc");
    serve(&platform, &interrupt);
    console.collect().unwrap();
    let mut typed = [0; 8];
    let mut second = Box::pin(console.read(&mut typed, LATE));
    assert_eq!(poll(&mut second.as_mut(), Waker::noop()), Poll::Ready(Ok(3)));
    drop(second);
    assert_eq!(typed[..3], *b"abc");
    assert_eq!(console.counters().requests, 1);
}

#[test]
fn a_read_ends_at_its_deadline_and_not_if_input_came_before() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, console) = open(&platform, &interrupt);
    for (typed, ended) in [(&b""[..], Err(RequestError::TimedOut)), (b"x", Ok(1))] {
        let deadline = platform.now() + 50_000;
        let mut into = [0; 8];
        let mut read = pin!(console.read(&mut into, deadline));
        assert!(poll(&mut read, Waker::noop()).is_pending());
        platform.calls.host().type_in(1, typed);
        serve(&platform, &interrupt);
        while platform.now() < deadline {}
        assert_eq!(poll(&mut read, Waker::noop()), Poll::Ready(ended));
    }
}

#[test]
fn a_write_that_failed_is_told_to_a_writer_and_not_to_the_reader() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, console) = open(&platform, &interrupt);
    platform.calls.host().devices[0].statuses.push_back(Some((Status::IO_ERROR, 5)));
    let mut write = pin!(console.write(b"lost", LATE));
    assert_eq!(poll(&mut write, Waker::noop()), Poll::Ready(Ok(())));
    let mut into = [0; 8];
    let mut read = pin!(console.read(&mut into, LATE));
    assert!(poll(&mut read, Waker::noop()).is_pending());
    serve(&platform, &interrupt);
    console.collect().unwrap();
    assert!(poll(&mut read, Waker::noop()).is_pending());
    let mut flush = pin!(console.flush(LATE));
    let error = RequestError::Io { status: Status::IO_ERROR, detail: 5 };
    assert_eq!(poll(&mut flush, Waker::noop()), Poll::Ready(Err(error)));
}

#[test]
fn as_many_tasks_as_there_are_seats_get_their_text_out_and_one_more_is_refused() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, console) = open(&platform, &interrupt);
    let text = vec![b'x'; 9 * 4096];
    let counts: Vec<_> = (0..9).map(|_| Count::new()).collect();
    let mut writes: Vec<_> = counts.iter().map(|_| Some(Box::pin(console.write(&text, LATE)))).collect();
    for write in writes.iter_mut().flatten().take(8) {
        // The first fills the queue.
        assert!(poll(&mut write.as_mut(), Waker::noop()).is_pending());
    }
    let refused = writes.pop().flatten().map(|mut write| poll(&mut write.as_mut(), Waker::noop()));
    assert_eq!(refused, Some(Poll::Ready(Err(RequestError::Full))));
    let mut seen = vec![usize::MAX; writes.len()];
    for _ in 0..200 {
        for (number, write) in writes.iter_mut().enumerate() {
            let (count, waker) = &counts[number];
            if let Some(future) = write
                && core::mem::replace(&mut seen[number], count.woken()) != count.woken()
                && poll(&mut future.as_mut(), waker).is_ready()
            {
                *write = None;
            }
        }
        serve(&platform, &interrupt);
        console.collect().unwrap();
    }
    assert_eq!(writes.iter().flatten().count(), 0);
    assert_eq!(output(&platform).len(), 8 * text.len());
}

#[test]
fn a_host_that_claims_another_length_ends_the_flush_with_an_error() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (_bus, console) = open(&platform, &interrupt);
    platform.calls.host().tamper = Box::new(|stored, bytes| {
        if stored == Stored::Completion {
            bytes[0] ^= 1;
        }
    });
    let mut write = pin!(async {
        console.write(b"four", LATE).await?;
        console.flush(LATE).await
    });
    assert!(poll(&mut write, Waker::noop()).is_pending());
    serve(&platform, &interrupt);
    console.collect().unwrap();
    let caught = RequestError::PeerFault(HostFault::Length { asked: 4, claimed: 5 });
    assert_eq!(poll(&mut write, Waker::noop()), Poll::Ready(Err(caught)));
}

#[test]
fn closing_ends_every_future() {
    let (platform, interrupt) = (platform(), Interrupt::new());
    let (mut bus, console) = open(&platform, &interrupt);
    let (count, waker) = Count::new();
    let mut into = [0; 8];
    let mut read = pin!(console.read(&mut into, LATE));
    assert!(poll(&mut read, &waker).is_pending());
    console.close(&mut bus, LATE).unwrap();
    assert_eq!(count.woken(), 1);
    assert_eq!(poll(&mut read, &waker), Poll::Ready(Err(RequestError::Disconnected)));
}
