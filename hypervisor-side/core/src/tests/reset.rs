//! A guest that starts anew: PV-on-HVM drivers that are loaded again, kexec, a machine's reset.

use super::{ALL, accepted, connected, domain, offers, open_queue, share_one, status};
use crate::fake::{FakeGuest, FakeMachine, FakeMemory, with_body};
use crate::{Domain, DomainConfig, Effect, EventPath};
use pvkit_abi::bus::Kind;
use pvkit_abi::event::NO_PORT;
use pvkit_abi::hypercall::Call;
use pvkit_abi::status::CallError;
use pvkit_abi::version::Group;

fn reset(machine: &mut FakeMachine<'_>) {
    machine.host(|domain, memory, effects| domain.reset(memory, effects));
}

#[test]
fn guest_negotiates_anew_after_a_reset() {
    let memory = FakeMemory::new(64);
    let (mut machine, _) = connected(&memory);
    let before = machine.domain.negotiated();
    reset(&mut machine);
    assert_eq!(machine.domain.negotiated(), []);
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), CallError::NOT_NEGOTIATED.to_result());
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    assert_eq!(machine.domain.negotiated(), before);
}

#[test]
fn reset_detaches_what_was_taken_and_epochs_grow() {
    let memory = FakeMemory::new(256);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let open = open_queue(&mut guest, 0, 8, NO_PORT);
    let reply = guest.request(&mut machine, &with_body(Kind::OPEN_QUEUE, 1, epoch, &open));
    assert_eq!(status(&reply), Ok(()));
    let share = share_one(&mut guest);
    let reply = guest.request(&mut machine, &with_body(Kind::GRANT_SHARE, 1, epoch, &share));
    assert_eq!(status(&reply), Ok(()));
    machine.take_effects();
    reset(&mut machine);
    assert!(machine.take_effects().contains(&Effect::CloseDevice { token: None, device: 1 }));
    // A second reset finds nothing attached.
    reset(&mut machine);
    assert_eq!(machine.take_effects(), []);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    let bus = guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert!(bus > epoch && offers(&mut guest).iter().all(|(_, offered)| *offered > epoch));
}

#[test]
fn answer_to_what_a_reset_ended_has_no_effect() {
    let memory = FakeMemory::new(256);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    machine.answers = false;
    let share = share_one(&mut guest);
    assert!(guest.post(&with_body(Kind::GRANT_SHARE, 1, epoch, &share)).is_some());
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0);
    let late = machine.waiting[0];
    reset(&mut machine);
    let answers = machine.domain.counters().late_answers;
    machine.answer(late, Ok(crate::Finished::Done));
    assert_eq!(machine.domain.counters().late_answers, answers + 1);
}

#[test]
fn ports_are_free_after_a_reset_even_those_in_use() {
    let memory = FakeMemory::new(64);
    let mut machine = FakeMachine::new(domain(), &memory);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    assert_eq!(machine.call(Call::EVENT_ALLOC, [0; 5]), 0);
    guest.bus_setup(&mut machine, 0).unwrap();
    reset(&mut machine);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    assert_eq!(machine.call(Call::EVENT_ALLOC, [0; 5]), 0);
    guest.bus_setup(&mut machine, NO_PORT).unwrap();
    assert_eq!(machine.call(Call::EVENT_CLOSE, [0; 5]), 0);
}

#[test]
fn guest_without_vcpu_areas_is_refused_what_needs_them() {
    let memory = FakeMemory::new(64);
    let config = DomainConfig {
        vcpus: 2,
        groups: Domain::hvm_groups(),
        devices: vec![],
        cpl3_allowed: false,
        events: EventPath::MsiX,
        epochs_after: 0,
    };
    let mut machine = FakeMachine::new(Domain::new(config), &memory);
    let mut guest = FakeGuest::new(&memory);
    assert_ne!(guest.negotiate(&mut machine, &ALL).0, 0, "the group of vCPUs is not offered");
    let groups: Vec<_> = ALL.into_iter().filter(|group| *group != Group::VCPU).collect();
    assert_eq!(guest.negotiate(&mut machine, &groups).0, 0);
    assert_eq!(machine.call(Call::EVENT_ALLOC, [1, 0, 0, 0, 0]), 0);
    for call in [Call::EVENT_BIND, Call::EVENT_SET_UPCALL, Call::EVENT_UPCALL_RETURN, Call::SCHED_BLOCK] {
        assert_eq!(machine.call(call, [0; 5]), CallError::UNSUPPORTED.to_result(), "{call:?}");
    }
    assert_eq!(machine.call(Call::EVENT_SIGNAL, [0; 5]), 0);
    assert_eq!(machine.take_effects(), [Effect::Raise { vcpu: 1, port: 0 }]);
}
