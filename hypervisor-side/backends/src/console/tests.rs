//! A guest writes and waits for what is typed.

use super::*;
use crate::fake_guest::{ALL, Ask, Guest, READ_ONLY, WRITE_ONLY, connect, ok, refused};
use crate::{Pass, QueueEngine};
use proptest::prelude::*;
use pvkit_abi::console::{ConsoleConfig, ConsoleOp, MAX_TRANSFER};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::Park;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

type Sink = Arc<Mutex<Vec<u8>>>;

fn open(depth: u32, input_limit: usize) -> (Guest, ConsoleQueue, Sink, Arc<ConsoleInput>) {
    let (guest, setup) = connect(depth);
    let (sink, input) = (Sink::default(), ConsoleInput::new(input_limit).unwrap());
    let queue = ConsoleQueue::new(setup, sink.clone(), Arc::clone(&input));
    (guest, queue, sink, input)
}

fn write(length: u32, offset: u64) -> Ask {
    Ask::segment(ConsoleOp::WRITE.0, 0, length, offset)
}

fn read(length: u32, offset: u64) -> Ask {
    Ask::segment(ConsoleOp::READ.0, 0, length, offset)
}

#[test]
fn what_the_guest_writes_arrives_in_order() {
    let (mut guest, mut queue, sink, _input) = open(8, 64);
    guest.fill(0, b"hello, world");
    assert_eq!(guest.ask(&mut queue, write(5, 0)), ok(5));
    assert_eq!(guest.ask(&mut queue, write(7, 5)), ok(7));
    assert_eq!(*sink.lock().unwrap(), b"hello, world");
    assert_eq!(guest.counters.snapshot().bytes_written, 12);
}

#[test]
fn a_read_stays_in_flight_until_something_is_typed() {
    let (mut guest, mut queue, _sink, input) = open(8, 64);
    let ids = guest.submit(&[read(4, 0), read(16, 4096)]);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    assert_eq!(queue.pass(8), Pass::Idle);
    assert_eq!(queue.park(), Park::Armed);
    assert!(guest.completions().is_empty());

    assert_eq!(input.push(b"abcdef"), 6);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    let done = guest.completions();
    assert_eq!(done.iter().map(|done| (done.id, done.result)).collect::<Vec<_>>(), [(ids[0], ok(4)), (ids[1], ok(2))]);
    assert_eq!((guest.bytes(0, 4), guest.bytes(4096, 2)), (b"abcd".to_vec(), b"ef".to_vec()));
    assert_eq!(guest.counters.snapshot().bytes_read, 6);
}

#[test]
fn input_that_came_first_waits_for_its_read() {
    let (mut guest, mut queue, _sink, input) = open(8, 64);
    input.push(b"early");
    assert_eq!(queue.pass(8), Pass::Idle);
    assert_eq!(queue.park(), Park::Armed, "input without a reader is no reason to stay awake");
    guest.submit(&[read(64, 0)]);
    assert_eq!(queue.pass(1), Pass::Worked(2));
    assert_eq!(guest.completions()[0].result, ok(5));
}

#[test]
fn input_typed_while_the_thread_goes_to_sleep_keeps_it_awake() {
    let (mut guest, mut queue, _sink, input) = open(8, 64);
    guest.submit(&[read(64, 0)]);
    assert_eq!(queue.pass(8), Pass::Worked(1));
    input.push(b"x");
    assert_eq!(queue.park(), Park::Ready);
}

#[test]
fn input_is_bounded_and_the_rest_is_the_callers() {
    let (_guest, _queue, _sink, input) = open(8, 4);
    assert_eq!(input.push(b"abcdef"), 4);
    assert_eq!(input.push(b"g"), 0);
    assert_eq!(input.take(3), Some(b"abc".to_vec()));
    assert_eq!(input.push(b"ghijkl"), 3);
    assert_eq!(input.take(64), Some(b"dghi".to_vec()));
    assert_eq!(input.take(64), None);
}

#[test]
fn after_the_end_of_input_reads_get_the_rest_and_then_nothing() {
    let (mut guest, mut queue, _sink, input) = open(8, 64);
    input.push(b"last");
    input.end();
    assert_eq!(input.push(b"more"), 0);
    guest.submit(&[read(64, 0), read(64, 0), read(64, 0)]);
    assert_eq!(queue.pass(8), Pass::Worked(6));
    let results: Vec<_> = guest.completions().iter().map(|done| done.result).collect();
    assert_eq!(results, [ok(4), ok(0), ok(0)]);
}

#[test]
fn a_grant_revoked_under_a_waiting_read_costs_that_read_and_no_input() {
    let (mut guest, mut queue, _sink, input) = open(8, 64);
    guest.submit(&[read(64, 0).grant(WRITE_ONLY), read(64, 0)]);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    guest.grants.remove(WRITE_ONLY).unwrap();
    input.push(b"kept");
    assert_eq!(queue.pass(8), Pass::Worked(2));
    let results: Vec<_> = guest.completions().iter().map(|done| done.result).collect();
    assert_eq!(results, [refused(Status::BAD_GRANT), ok(4)]);
    assert_eq!(guest.bytes(0, 4), b"kept");
}

#[test]
fn malformed_requests_are_refused_and_reach_neither_side() {
    let (mut guest, mut queue, sink, input) = open(8, 64);
    input.push(b"typed");
    let cases = [
        (Ask::segment(0, 0, 1, 0), Status::UNSUPPORTED),
        (Ask::segment(3, 0, 1, 0), Status::UNSUPPORTED),
        (Ask { flags: 1, ..write(1, 0) }, Status::UNSUPPORTED),
        (Ask { flags: 16, ..read(1, 0) }, Status::UNSUPPORTED),
        (Ask { aux: 1, ..write(1, 0) }, Status::INVALID),
        (Ask::segment(ConsoleOp::WRITE.0, 1, 1, 0), Status::INVALID),
        (write(0, 0), Status::INVALID),
        (read(0, 0), Status::INVALID),
        (write(MAX_TRANSFER + 1, 0), Status::TOO_LARGE),
        (read(u32::MAX, 0), Status::TOO_LARGE),
        (write(1, u64::MAX), Status::BAD_GRANT),
        (write(1, 0).grant(WRITE_ONLY), Status::BAD_GRANT),
        (read(1, 0).grant(READ_ONLY), Status::BAD_GRANT),
        (read(4097, 0).grant(WRITE_ONLY), Status::BAD_GRANT),
    ];
    for (ask, status) in cases {
        assert_eq!(guest.ask(&mut queue, ask), refused(status), "{ask:x?}");
    }
    assert_eq!(*sink.lock().unwrap(), b"");
    assert_eq!(input.take(64), Some(b"typed".to_vec()));
}

/// A pipe whose reader left.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(libc::EPIPE))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_broken_sink_costs_an_error_and_the_console_goes_on() {
    let (mut guest, setup) = connect(8);
    let input = ConsoleInput::new(64).unwrap();
    let mut queue = ConsoleQueue::new(setup, Arc::new(Mutex::new(Broken)), Arc::clone(&input));
    let broken = CompletionResult::new(Status::IO_ERROR, libc::EPIPE as u32);
    assert_eq!(guest.ask(&mut queue, write(5, 0)), broken);
    assert_eq!(guest.ask(&mut queue, write(5, 0)), broken);
    input.push(b"still here");
    guest.submit(&[read(64, 0)]);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    assert_eq!(guest.completions()[0].result, ok(10));
}

/// A terminal that is not ready three times out of four and takes three bytes when it is.
#[derive(Default)]
struct Slow {
    calls: usize,
    shown: Sink,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        match self.calls % 4 {
            0 => self.shown.lock().unwrap().write(&bytes[..bytes.len().min(3)]),
            1 => Err(io::ErrorKind::Interrupted.into()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.calls.is_multiple_of(2) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}

#[test]
fn a_sink_that_is_not_ready_gets_everything_in_the_end() {
    let (mut guest, setup) = connect(8);
    let slow = Slow::default();
    let shown = Arc::clone(&slow.shown);
    let mut queue = ConsoleQueue::new(setup, Arc::new(Mutex::new(slow)), ConsoleInput::new(64).unwrap());
    guest.fill(0, b"hello, world");
    assert_eq!(guest.ask(&mut queue, write(12, 0)), ok(12));
    assert_eq!(*shown.lock().unwrap(), b"hello, world");
}

#[test]
fn closing_aborts_the_reads_that_wait() {
    let (mut guest, mut queue, _sink, input) = open(8, 64);
    guest.submit(&[read(4, 0), read(4, 8)]);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    queue.close();
    let results: Vec<_> = guest.completions().iter().map(|done| done.result).collect();
    assert_eq!(results, [refused(Status::ABORTED); 2]);
    input.push(b"late");
    assert_eq!(queue.pass(8), Pass::Latched);
    assert_eq!(guest.bytes(0, 4), [0; 4]);
    guest.grants.remove(ALL).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_completed_once_by_the_time_the_queue_closes(
        asks in prop::collection::vec((0..4u8, 0..2u8, any_word(), 0..9000u64, any_word()), 1..8),
        typed in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (mut guest, mut queue, _sink, input) = open(8, 64);
        let asks: Vec<_> = asks.into_iter().map(|(op, flags, position, length, offset)| {
            Ask { flags: flags * 16, ..Ask::segment(op, position, length as u32, offset) }
        }).collect();
        let mut ids = guest.submit(&asks);
        let mut done = Vec::new();
        input.push(&typed);
        for _ in 0..3 {
            let _ = queue.pass(3);
            done.extend(guest.completions());
        }
        queue.close();
        done.extend(guest.completions());
        let mut completed: Vec<_> = done.iter().map(|done| done.id).collect();
        completed.sort_unstable();
        ids.sort_unstable();
        prop_assert_eq!(completed, ids);
        let given: u64 = done.iter().map(|done| match asks[usize::from(done.id)].op {
            2 if done.result.status() == Status::OK => u64::from(done.result.detail()),
            _ => 0,
        }).sum();
        prop_assert_eq!(given, guest.counters.snapshot().bytes_read);
        prop_assert!(given <= typed.len() as u64);
    }
}

/// Mostly zero, as it must be.
fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![9 => Just(0), 1 => any::<u64>()]
}

#[test]
fn the_size_is_told_in_columns_and_rows() {
    let config = config_bytes(ConsoleConfig { columns: 0x0150, rows: 0x0032 });
    assert_eq!(config[..5], [0x50, 0x01, 0x32, 0x00, 0x00]);
    assert_eq!(offer(0, ConsoleConfig { columns: 80, rows: 25 }, 64).config[..4], [80, 0, 25, 0]);
}
