//! Devices that close, go, come back; guests that start over; answers that come late.

use super::{ACCEPT, accepted, grant_of, offer_in, offers, open_queue, share_one, status};
use crate::fake::{FakeGuest, FakeMachine, FakeMemory, message, with_body};
use crate::{Effect, Finished};
use pvkit_abi::bus::{Accept, CONFIG_BYTES, DeviceState, DoorbellKind, Kind, Message, NameGrant, StateChanged};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use zerocopy::FromBytes;

/// Device 1 with queue 0 open on a port of its own.
fn connected(memory: &FakeMemory) -> (FakeMachine<'_>, FakeGuest<'_>, u64, u64) {
    let (mut machine, mut guest, epoch) = accepted(memory);
    let port = machine.call(Call::EVENT_ALLOC, [0; 5]) as u64;
    let open = open_queue(&mut guest, 0, 64, port as u32);
    let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &open));
    assert_eq!(status(&reply), Ok(()));
    machine.take_effects();
    (machine, guest, epoch, port)
}

fn state_in(message: &Message) -> (Kind, u32, DeviceState) {
    let (body, _) = StateChanged::read_from_prefix(&message.body).unwrap();
    (message.kind, message.device, body.state)
}

#[test]
fn close_releases_ports_pages_and_grants_once_the_machine_says_drained() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch, port) = connected(&memory);
    let share = share_one(&mut guest);
    let grant = grant_of(&guest.request(&mut machine, &with_body(Kind::GRANT_SHARE, 1, epoch, &share)));
    machine.answers = false;
    guest.post(&message(Kind::CLOSE, 1, epoch)).unwrap();
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    assert_eq!(guest.replies(), [], "not before it is drained");
    let busy = CallError::BUSY;
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port, 0, 0, 0, 0]), busy.to_result());
    let query = with_body(Kind::GRANT_QUERY, 1, epoch, &NameGrant { grant, reserved: 0 });
    assert_eq!(status(&guest.request(&mut machine, &query)), Err(busy));

    machine.answer_all();
    let (_, reply) = guest.replies()[0];
    assert_eq!(status(&reply), Ok(()));
    assert!(reply.epoch > epoch);
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port, 0, 0, 0, 0]), 0);
    let messages = guest.messages();
    assert_eq!(state_in(messages.last().unwrap()), (Kind::STATE_CHANGED, 1, DeviceState::OFFERED));
    machine.answers = true;
    let other = Accept { features: 0b1010, queues: 1, ..ACCEPT };
    let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, reply.epoch, &other));
    assert_eq!(status(&reply), Ok(()), "closing breaks the seal");
    let query = with_body(Kind::GRANT_QUERY, 1, reply.epoch, &NameGrant { grant, reserved: 0 });
    assert_eq!(status(&guest.request(&mut machine, &query)), Err(CallError::NOT_FOUND));
}

#[test]
fn close_waits_for_the_answers_to_what_was_asked_before_it() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch, _) = connected(&memory);
    machine.answers = false;
    let share = share_one(&mut guest);
    guest.post(&with_body(Kind::GRANT_SHARE, 1, epoch, &share)).unwrap();
    guest.post(&message(Kind::CLOSE, 1, epoch)).unwrap();
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    assert!(matches!(machine.take_effects()[..], [Effect::ShareGrant { .. }]), "no close beside an unanswered share");
    let token = machine.waiting[0];
    machine.answer(token, Ok(Finished::Done));
    assert!(matches!(machine.effects[..], [Effect::CloseDevice { token: Some(_), device: 1 }]));
    machine.answer_all();
    assert_eq!(guest.replies().iter().map(|(_, reply)| status(reply)).collect::<Vec<_>>(), [Ok(()), Ok(())]);
}

#[test]
fn close_that_failed_keeps_everything_until_the_bus_is_set_up_again() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch, port) = connected(&memory);
    machine.answers = false;
    guest.post(&message(Kind::CLOSE, 1, epoch)).unwrap();
    machine.call(Call::BUS_KICK, [0; 5]);
    let token = machine.waiting[0];
    machine.answer(token, Err(CallError::BACKEND));
    assert_eq!(status(&guest.replies()[0].1), Err(CallError::BACKEND));
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port, 0, 0, 0, 0]), CallError::BUSY.to_result());
    machine.take_effects();
    guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert_eq!(machine.take_effects(), [Effect::CloseDevice { token: None, device: 1 }]);
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port, 0, 0, 0, 0]), 0);
}

#[test]
fn queue_that_the_machine_could_not_open_can_be_tried_again_on_the_same_pages() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    machine.answers = false;
    let open = open_queue(&mut guest, 0, 64, NO_PORT);
    let request = with_body(Kind::OPEN_QUEUE, 1, epoch, &open);
    guest.post(&request).unwrap();
    machine.call(Call::BUS_KICK, [0; 5]);
    let token = machine.waiting[0];
    machine.answer(token, Err(CallError::LIMIT));
    assert_eq!(status(&guest.replies()[0].1), Err(CallError::LIMIT));
    machine.answers = true;
    assert_eq!(status(&guest.request(&mut machine, &request)), Ok(()));
}

#[test]
fn setup_again_ends_everything_older() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch, port) = connected(&memory);
    machine.answers = false;
    let share = share_one(&mut guest);
    guest.post(&with_body(Kind::GRANT_SHARE, 1, epoch, &share)).unwrap();
    machine.call(Call::BUS_KICK, [0; 5]);
    let token = machine.waiting[0];
    machine.take_effects();

    let bus = guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert_eq!(machine.take_effects(), [Effect::CloseDevice { token: None, device: 1 }]);
    let new = offers(&mut guest);
    assert!(new.iter().all(|(_, offered)| *offered > epoch) && bus > epoch);
    machine.answer(token, Ok(Finished::Done));
    assert_eq!(guest.replies(), [], "a late answer reaches nobody");
    assert_eq!(machine.domain.counters().late_answers, 1);
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port, 0, 0, 0, 0]), 0, "the queue's port is free");
    machine.answers = true;
    let stale = guest.request(&mut machine, &message(Kind::CLOSE, 1, epoch));
    assert_eq!(status(&stale), Err(CallError::STALE));
    assert!(!machine.domain.inspect().to_string().contains("grant"), "{}", machine.domain.inspect());
}

#[test]
fn gone_backend_disconnects_and_comes_back_under_a_new_epoch_with_the_same_seal() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch, port) = connected(&memory);
    guest.messages();
    machine.host(|domain, memory, effects| domain.backend_gone(1, memory, effects));
    assert_eq!(machine.take_effects(), [Effect::CloseDevice { token: None, device: 1 }]);
    let gone = guest.messages();
    assert_eq!(state_in(&gone[0]), (Kind::STATE_CHANGED, 1, DeviceState::DISCONNECTED));
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port, 0, 0, 0, 0]), 0);
    let early = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, gone[0].epoch, &ACCEPT));
    assert_eq!(status(&early), Err(CallError::BACKEND));

    machine.host(|domain, memory, effects| domain.backend_back(1, memory, effects));
    let back = guest.messages();
    assert_eq!(back.iter().map(|message| message.kind).collect::<Vec<_>>(), [Kind::OFFER, Kind::STATE_CHANGED]);
    assert_eq!(state_in(&back[1]).2, DeviceState::OFFERED);
    let offered = back[0].epoch;
    assert!(epoch < gone[0].epoch && gone[0].epoch < offered);
    let other = Accept { queues: 1, ..ACCEPT };
    let reply = guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, offered, &other));
    assert_eq!(status(&reply), Err(CallError::SEALED));
    assert_eq!(status(&guest.request(&mut machine, &with_body(Kind::ACCEPT, 1, offered, &ACCEPT))), Ok(()));
}

#[test]
fn requests_in_progress_when_the_backend_goes_are_answered() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch, _) = connected(&memory);
    machine.answers = false;
    let share = share_one(&mut guest);
    guest.post(&with_body(Kind::GRANT_SHARE, 1, epoch, &share)).unwrap();
    machine.call(Call::BUS_KICK, [0; 5]);
    machine.host(|domain, memory, effects| domain.backend_gone(1, memory, effects));
    assert_eq!(status(&guest.replies()[0].1), Err(CallError::BACKEND));
    let token = machine.waiting[0];
    machine.answer(token, Ok(Finished::Queue { kind: DoorbellKind::NONE, address: 0 }));
    assert_eq!(guest.replies(), []);
}

#[test]
fn disconnected_device_can_be_closed_and_stays_disconnected() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, _, _) = connected(&memory);
    guest.messages();
    machine.host(|domain, memory, effects| domain.backend_gone(1, memory, effects));
    let epoch = guest.messages()[0].epoch;
    assert_eq!(status(&guest.request(&mut machine, &message(Kind::CLOSE, 1, epoch))), Ok(()));
    assert!(machine.domain.inspect().to_string().contains("device 1 BLOCK.0 DISCONNECTED"));
}

#[test]
fn rescinded_device_is_drained_before_the_guest_hears_of_it() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch, _) = connected(&memory);
    guest.messages();
    machine.answers = false;
    machine.host(|domain, memory, effects| domain.rescind(1, memory, effects));
    assert!(matches!(machine.effects[..], [Effect::CloseDevice { token: Some(_), device: 1 }]));
    assert_eq!(guest.messages(), []);
    machine.answer_all();
    assert_eq!(guest.messages()[0].kind, Kind::RESCIND);
    machine.answers = true;
    assert_eq!(status(&guest.request(&mut machine, &message(Kind::CLOSE, 1, epoch))), Err(CallError::NOT_FOUND));
    guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert_eq!(offers(&mut guest).iter().map(|(device, _)| *device).collect::<Vec<_>>(), [2]);
}

#[test]
fn changed_configuration_reaches_the_guest_and_later_offers() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, _, _) = connected(&memory);
    guest.messages();
    machine.host(|domain, memory, effects| domain.config_changed(1, [7; CONFIG_BYTES], memory, effects));
    let messages = guest.messages();
    assert_eq!((messages[0].kind, &messages[0].body[..64]), (Kind::CONFIG_CHANGED, [7; 64].as_slice()));
    guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert_eq!(offer_in(&guest.messages()[0]).config, [7; CONFIG_BYTES]);
}

#[test]
fn guest_that_takes_no_messages_is_told_to_rescan() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, _, _) = connected(&memory);
    for _ in 0..1000 {
        machine.host(|domain, memory, effects| domain.backend_gone(2, memory, effects));
        machine.host(|domain, memory, effects| domain.backend_back(2, memory, effects));
    }
    assert!(machine.domain.counters().dropped_messages > 1000);
    let mut kinds = Vec::new();
    for _ in 0..10 {
        kinds.extend(guest.messages().iter().map(|message| message.kind));
        machine.call(Call::BUS_KICK, [0; 5]);
    }
    assert_eq!(kinds.last(), Some(&Kind::OVERFLOW), "{kinds:?}");
    let rescan = message(Kind::RESCAN, 0, guest.epoch);
    assert_eq!(status(&guest.request(&mut machine, &rescan)), Ok(()));
    let kinds: Vec<Kind> = guest.messages().iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [Kind::OFFER, Kind::STATE_CHANGED, Kind::OFFER, Kind::STATE_CHANGED]);
}

#[test]
fn rescan_tells_the_present_state_instead_of_the_history() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, _, _) = connected(&memory);
    guest.messages();
    machine.call(Call::BUS_KICK, [0; 5]);
    for _ in 0..20 {
        machine.host(|domain, memory, effects| domain.backend_gone(2, memory, effects));
        machine.host(|domain, memory, effects| domain.backend_back(2, memory, effects));
    }
    let rescan = message(Kind::RESCAN, 0, guest.epoch);
    assert_eq!(status(&guest.request(&mut machine, &rescan)), Ok(()));
    let mut count = 0;
    for _ in 0..5 {
        count += guest.messages().len();
        machine.call(Call::BUS_KICK, [0; 5]);
    }
    assert_eq!(count, 16 + 4, "what was on its way, and two messages for each device");
}

#[test]
fn resize_that_waits_is_told_once_in_its_newest_form() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, _, _) = connected(&memory);
    for round in 0..200 {
        machine.host(|domain, memory, effects| domain.config_changed(1, [round; CONFIG_BYTES], memory, effects));
    }
    assert_eq!(machine.domain.counters().dropped_messages, 0);
    let mut last = None;
    for _ in 0..4 {
        last = guest.messages().last().map(|message| message.body[0]).or(last);
        machine.call(Call::BUS_KICK, [0; 5]);
    }
    assert_eq!(last, Some(199));
}

#[test]
fn event_port_of_the_bus_fires_for_a_guest_that_sleeps() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest) = super::connected(&memory);
    let port = machine.call(Call::EVENT_ALLOC, [1, 0, 0, 0, 0]) as u32;
    machine.take_effects();
    guest.bus_setup(&mut machine, port).unwrap();
    assert!(machine.take_effects().contains(&Effect::Raise { vcpu: 1, port }));
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port.into(), 0, 0, 0, 0]), CallError::BUSY.to_result());
    guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert_eq!(machine.call(Call::EVENT_CLOSE, [port.into(), 0, 0, 0, 0]), 0);
}

#[test]
fn guest_that_sleeps_is_woken_by_an_answer_and_one_that_is_awake_is_not() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest) = super::connected(&memory);
    let port = machine.call(Call::EVENT_ALLOC, [1, 0, 0, 0, 0]) as u32;
    guest.bus_setup(&mut machine, port).unwrap();
    let epoch = offers(&mut guest)[0].1;
    let accept = with_body(Kind::ACCEPT, 1, epoch, &ACCEPT);
    let epoch = guest.request(&mut machine, &accept).epoch;
    machine.answers = false;
    let share = with_body(Kind::GRANT_SHARE, 1, epoch, &share_one(&mut guest));
    for sleeps in [true, false] {
        guest.post(&share).unwrap();
        assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
        if sleeps {
            guest.park();
        }
        machine.take_effects();
        let token = machine.waiting[0];
        machine.answer(token, Ok(Finished::Done));
        let raised = machine.take_effects().contains(&Effect::Raise { vcpu: 1, port });
        assert_eq!(raised, sleeps);
        assert_eq!(guest.replies().len(), 1);
    }
}
