//! A guest listens and answers.

use super::*;
use crate::fake_guest::{Ask, Guest, READ_ONLY, connect, ok, refused};
use crate::{Pass, QueueEngine};
use proptest::prelude::*;
use pvkit_abi::services::{ServiceEvent, ServiceKind, ServiceOp, ServiceReport};
use pvkit_abi::status::Status;
use pvkit_ring::Park;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::FromBytes;

const EVENT: usize = size_of::<ServiceEvent>();
const SOON: Duration = Duration::from_millis(1);

fn open() -> (Guest, ServicesQueue, Arc<Services>) {
    let (guest, setup) = connect(8);
    let services = Services::new([7; 16]).unwrap();
    let queue = ServicesQueue::new(setup, Arc::clone(&services));
    (guest, queue, services)
}

fn listen(offset: u64) -> Ask {
    Ask::segment(ServiceOp::LISTEN.0, 0, EVENT as u32, offset)
}

fn report(report: ServiceReport, sequence: u64) -> Ask {
    Ask { op: ServiceOp::REPORT.0, flags: 0, aux: report.0, words: [sequence, 0, 0] }
}

fn event(guest: &Guest, offset: usize) -> ServiceEvent {
    ServiceEvent::read_from_bytes(&guest.bytes(offset, EVENT)).unwrap()
}

#[test]
fn an_event_answers_the_oldest_listen_and_its_answer_reaches_who_asked() {
    let (mut guest, mut queue, services) = open();
    let ids = guest.submit(&[listen(0), listen(4096)]);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    assert_eq!(queue.park(), Park::Armed);
    let sequence = services.ask(ServiceKind::SHUTDOWN, SOON);
    assert_eq!(queue.park(), Park::Ready);
    assert_eq!(queue.pass(8), Pass::Worked(1));
    let done = guest.completions();
    assert_eq!((done[0].id, done[0].result), (ids[0], ok(EVENT as u32)));
    let seen = event(&guest, 0);
    assert_eq!((seen.kind, seen.sequence, seen.generation), (ServiceKind::SHUTDOWN, sequence, [7; 16]));
    assert!(seen.wall_clock_ns > 0);
    assert_eq!(services.wait(sequence, SOON), Answer::None);
    assert_eq!(guest.ask(&mut queue, report(ServiceReport::ACCEPTED, sequence)), ok(0));
    assert_eq!(services.wait(sequence, SOON), Answer::Report(ServiceReport::ACCEPTED));
}

#[test]
fn of_each_kind_one_event_waits_the_newest() {
    let (mut guest, mut queue, services) = open();
    let old = services.ask(ServiceKind::TIME_SYNC, SOON);
    services.ask(ServiceKind::HEARTBEAT, SOON);
    let new = services.ask(ServiceKind::TIME_SYNC, SOON);
    guest.submit(&[listen(0), listen(4096), listen(8192)]);
    assert_eq!(queue.pass(8), Pass::Worked(5));
    assert_eq!(guest.completions().len(), 2);
    assert_eq!(event(&guest, 0).kind, ServiceKind::HEARTBEAT);
    assert_eq!(event(&guest, 4096).sequence, new);
    assert_eq!(services.wait(old, SOON), Answer::Gone);
}

#[test]
fn a_report_that_nobody_waits_for_is_counted_and_changes_nothing() {
    let (mut guest, mut queue, services) = open();
    assert_eq!(guest.ask(&mut queue, report(ServiceReport::DONE, 99)), ok(0));
    assert_eq!(services.stray_reports(), 1);
    assert!(!services.is_ready());
    assert_eq!(guest.ask(&mut queue, report(ServiceReport::READY, 0)), ok(0));
    assert!(services.is_ready());
    queue.close();
    assert!(!services.is_ready());
}

#[test]
fn a_new_generation_is_told() {
    let (mut guest, mut queue, services) = open();
    services.set_generation([9; 16], SOON);
    guest.submit(&[listen(0)]);
    assert_eq!(queue.pass(8), Pass::Worked(2));
    assert_eq!((event(&guest, 0).kind, event(&guest, 0).generation), (ServiceKind::GENERATION, [9; 16]));
    assert_eq!(services.config().generation, [9; 16]);
}

#[test]
fn a_listen_that_cannot_hold_an_event_is_refused() {
    let (mut guest, mut queue, _) = open();
    let short = Ask::segment(ServiceOp::LISTEN.0, 0, EVENT as u32 - 1, 0);
    assert_eq!(guest.ask(&mut queue, short), refused(Status::INVALID));
    assert_eq!(guest.ask(&mut queue, listen(0).grant(READ_ONLY)), refused(Status::BAD_GRANT));
    assert_eq!(guest.ask(&mut queue, report(ServiceReport(77), 1)), refused(Status::INVALID));
}

proptest! {
    #[test]
    fn requests_of_any_bits_are_answered_once_or_listen(
        asks in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u16>(), any::<[u64; 3]>()), 1..8),
    ) {
        let (mut guest, mut queue, _) = open();
        let asks: Vec<_> = asks.into_iter().map(|(op, flags, aux, words)| Ask { op: op % 4, flags, aux, words }).collect();
        let ids = guest.submit(&asks);
        prop_assert_eq!(queue.pass(64), Pass::Worked(ids.len() as u32));
        let answered = guest.completions().len();
        queue.close();
        prop_assert_eq!(answered + guest.completions().len(), ids.len());
    }
}

#[test]
fn who_waits_for_a_guest_that_went_away_is_told_at_once() {
    const LONG: Duration = Duration::from_secs(600);
    let (mut guest, mut queue, services) = open();
    guest.submit(&[listen(0)]);
    assert_eq!(queue.pass(8), Pass::Worked(1));
    let taken = services.ask(ServiceKind::HEARTBEAT, LONG);
    assert_eq!(queue.pass(8), Pass::Worked(1));
    let waits = services.ask(ServiceKind::THAW, LONG);
    queue.close();
    assert_eq!(services.wait(taken, LONG), Answer::Gone);
    assert_eq!(services.wait(waits, SOON), Answer::None, "the next life may answer it");
    services.end();
    assert_eq!(services.wait(waits, LONG), Answer::Gone);
}
