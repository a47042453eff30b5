//! `CONTROL`: judged here as far as the bus knows it, handed to the machine, answered by it.

use super::{ACCEPT, accepted, connected, offers, status};
use crate::fake::{FakeMemory, message, with_body};
use crate::{Effect, Finished};
use pvkit_abi::bus::{CONTROL_BYTES, Control, DoorbellKind, Kind, Message};
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::Group;

const fn control(operation: u16, size: u16) -> Control {
    Control { operation, size, reserved: 0, data: [0; CONTROL_BYTES] }
}

#[test]
fn control_reaches_the_machine_with_the_data_that_are_meant() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    machine.take_effects();
    for size in [0, 1, 4, CONTROL_BYTES] {
        let mut body = control(0xbeef, size as u16);
        body.data[..size].fill(7);
        let reply = guest.request(&mut machine, &with_body(Kind::CONTROL, 1, epoch, &body));
        assert_eq!((status(&reply), reply.values), (Ok(()), [0; 6]));
        let effects = machine.take_effects();
        let [Effect::Control { device: 1, operation: 0xbeef, data, .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(*data, vec![7; size]);
    }
}

#[test]
fn control_that_does_not_say_all_of_its_data_is_extended_with_zeros() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    machine.take_effects();
    let short = Message { size: 8, ..with_body(Kind::CONTROL, 1, epoch, &control(1, 4)) };
    assert_eq!(status(&guest.request(&mut machine, &short)), Ok(()));
    let effects = machine.take_effects();
    let [Effect::Control { data, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*data, [0; 4]);
}

#[test]
fn malformed_control_is_refused_and_the_machine_never_sees_it() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let mut tail = control(1, 4);
    tail.data[4] = 1;
    let bodies = [
        (control(1, CONTROL_BYTES as u16 + 1), CallError::INVALID),
        (control(1, u16::MAX), CallError::INVALID),
        (Control { reserved: 1, ..control(1, 0) }, CallError::INVALID),
        (tail, CallError::INVALID),
    ];
    let good = with_body(Kind::CONTROL, 1, epoch, &control(1, 0));
    let messages = [
        (Message { device: 0, ..good }, CallError::NOT_FOUND),
        (Message { device: 9, ..good }, CallError::NOT_FOUND),
        (Message { epoch: epoch + 1, ..good }, CallError::STALE),
        (Message { epoch: epoch - 1, ..good }, CallError::STALE),
        (Message { reserved: 1, ..good }, CallError::INVALID),
    ];
    let lies = bodies.map(|(body, error)| (with_body(Kind::CONTROL, 1, epoch, &body), error));
    machine.take_effects();
    for (lie, expected) in lies.into_iter().chain(messages) {
        assert_eq!(status(&guest.request(&mut machine, &lie)), Err(expected), "{lie:?}");
    }
    assert_eq!(machine.take_effects(), []);
}

#[test]
fn control_of_a_device_that_is_not_taken_is_busy() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest) = connected(&memory);
    let epoch = offers(&mut guest)[0].1;
    let request = with_body(Kind::CONTROL, 1, epoch, &control(1, 0));
    assert_eq!(status(&guest.request(&mut machine, &request)), Err(CallError::BUSY));
    let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &ACCEPT));
    let request = with_body(Kind::CONTROL, 1, reply.epoch, &control(1, 0));
    assert_eq!(status(&guest.request(&mut machine, &request)), Ok(()), "no queue needs to be open");
}

#[test]
fn control_needs_no_grants() {
    let memory = FakeMemory::new(32);
    let mut machine = crate::fake::FakeMachine::new(super::domain(), &memory);
    let mut guest = crate::fake::FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &[Group::BUS]).0, 0);
    guest.bus_setup(&mut machine, pvkit_abi::event::NO_PORT).unwrap();
    let epoch = offers(&mut guest)[0].1;
    let epoch = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, epoch, &ACCEPT)).epoch;
    let request = with_body(Kind::CONTROL, 1, epoch, &control(1, 0));
    assert_eq!(status(&guest.request(&mut machine, &request)), Ok(()));
}

#[test]
fn backend_that_refuses_a_control_is_heard_by_the_guest() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    machine.answers = false;
    let queue = Finished::Queue { kind: DoorbellKind::NONE, address: 1 };
    let answers = [
        (Err(CallError::UNSUPPORTED), CallError::UNSUPPORTED),
        (Err(CallError::INVALID), CallError::INVALID),
        (Ok(queue), CallError::BACKEND),
    ];
    for (answer, expected) in answers {
        let id = guest.post(&with_body(Kind::CONTROL, 1, epoch, &control(1, 0))).unwrap();
        assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
        assert!(guest.replies().is_empty(), "the backend has not answered");
        machine.answer(machine.waiting[0], answer);
        let replies = guest.replies();
        assert_eq!((replies.len(), replies[0].0, status(&replies[0].1)), (1, id, Err(expected)));
    }
}

#[test]
fn device_is_drained_only_when_its_controls_are_answered() {
    let memory = FakeMemory::new(32);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    machine.answers = false;
    machine.take_effects();
    let _ = guest.post(&with_body(Kind::CONTROL, 1, epoch, &control(1, 0))).unwrap();
    let _ = guest.post(&message(Kind::CLOSE, 1, epoch)).unwrap();
    let _ = guest.post(&with_body(Kind::CONTROL, 1, epoch, &control(2, 0))).unwrap();
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    let replies = guest.replies();
    assert_eq!((replies.len(), status(&replies[0].1)), (1, Err(CallError::BUSY)), "nothing is served behind a CLOSE");
    assert!(matches!(machine.take_effects()[..], [Effect::Control { operation: 1, .. }]));
    machine.answer(machine.waiting[0], Ok(Finished::Done));
    assert!(matches!(machine.take_effects()[..], [Effect::CloseDevice { device: 1, token: Some(_) }]));
}
