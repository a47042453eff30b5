//! Negotiation and the hypercalls that are not about the bus.

use super::{ALL, connected, domain, quota_lines};
use crate::fake::{FakeGuest, FakeMachine, FakeMemory};
use crate::{Domain, DomainConfig, Effect, EventPath, Outcome};
use pvkit_abi::event::{PortStatus, UpcallFrame};
use pvkit_abi::hypercall::{Call, MAX_BLOCK_NS, ShutdownReason, VcpuStart};
use pvkit_abi::status::CallError;
use pvkit_abi::version::{CURRENT, Group, GroupChoice, GroupOffer, RefusalReason};
use zerocopy::{FromZeros, IntoBytes};

const MISSING: u64 = 0x10;

#[test]
fn calls_before_negotiation_are_refused() {
    let memory = FakeMemory::new(8);
    let mut machine = FakeMachine::new(domain(), &memory);
    for call in [Call::EVENT_ALLOC, Call::BUS_SETUP, Call::SCHED_YIELD, Call::TIME_WALL_CLOCK, Call::VCPU_START] {
        assert_eq!(machine.call(call, [0; 5]), CallError::NOT_NEGOTIATED.to_result(), "{call:?}");
    }
    assert_eq!(machine.take_effects(), []);
}

#[test]
fn guest_can_end_before_negotiation() {
    let memory = FakeMemory::new(8);
    let mut machine = FakeMachine::new(domain(), &memory);
    let mut guest = FakeGuest::new(&memory);
    let text = guest.page();
    guest.write(text, b"no memory");
    let crash = machine.outcome(0, 0, Call::SCHED_CRASH, [text, 9, 0, 0, 0]);
    assert_eq!(crash, Outcome::Crash { message: b"no memory".to_vec() });
    let off = machine.outcome(0, 0, Call::SCHED_SHUTDOWN, [0, 3, 0, 0, 0]);
    assert_eq!(off, Outcome::Shutdown { reason: ShutdownReason::POWER_OFF, code: 3 });
}

#[test]
fn calls_of_a_group_that_was_not_chosen_are_refused() {
    let memory = FakeMemory::new(8);
    let mut machine = FakeMachine::new(domain(), &memory);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &[Group::EVENT]).0, 0);
    assert_eq!(machine.call(Call::EVENT_ALLOC, [0; 5]), 0);
    assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), CallError::NOT_NEGOTIATED.to_result());
}

#[test]
fn second_negotiation_is_sealed() {
    let memory = FakeMemory::new(8);
    let mut machine = FakeMachine::new(domain(), &memory);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, CallError::SEALED.to_result());
}

#[test]
fn refused_negotiation_names_the_group_and_the_reason_and_can_be_tried_again() {
    let memory = FakeMemory::new(32);
    let strange = GroupOffer { required: 0b100, features: 0b101, ..Domain::default_groups()[0] };
    let config = DomainConfig {
        vcpus: 1,
        groups: vec![strange],
        devices: vec![],
        cpl3_allowed: false,
        events: EventPath::VcpuArea,
        epochs_after: 0,
    };
    let mut machine = FakeMachine::new(Domain::new(config), &memory);
    let mut guest = FakeGuest::new(&memory);
    let good =
        GroupChoice { group: Group::EVENT, major: CURRENT.major, minor: CURRENT.minor, reserved: 0, features: 0b100 };
    let refusals = [
        (GroupChoice { group: Group(77), ..good }, RefusalReason::UNKNOWN_GROUP, 0),
        (GroupChoice { major: 9, ..good }, RefusalReason::VERSION, 0),
        (GroupChoice { minor: CURRENT.minor + 1, ..good }, RefusalReason::VERSION, 0),
        (GroupChoice { features: 0b1110, ..good }, RefusalReason::UNKNOWN_FEATURE, 0b1010),
        (GroupChoice { features: 0b001, ..good }, RefusalReason::REQUIRED_FEATURE, 0b100),
    ];
    for (choice, reason, features) in refusals {
        let (result, reply) = guest.negotiate_choices(&mut machine, &[choice]);
        assert_eq!(result, CallError::REFUSED.to_result());
        assert_eq!((reply.refused_group, reply.reason, reply.refused_features), (choice.group, reason, features));
    }
    let (_, reply) = guest.negotiate_choices(&mut machine, &[good, good]);
    assert_eq!((reply.refused_group, reply.reason), (Group::EVENT, RefusalReason::DUPLICATE));
    assert_eq!(guest.negotiate_choices(&mut machine, &[good]).0, 0);
    assert_eq!(machine.domain.negotiated()[0].to_string(), "group EVENT 0.1 features 0x4");
}

#[test]
fn reply_that_cannot_be_written_seals_nothing() {
    let memory = FakeMemory::new(8);
    let mut machine = FakeMachine::new(domain(), &memory);
    let mut guest = FakeGuest::new(&memory);
    let input = guest.store(&[8_u8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.call(Call::NEGOTIATE, [input, MISSING, 16, 0, 0]), CallError::FAULT.to_result());
    assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
}

#[test]
fn caller_at_level_three_is_denied_unless_allowed() {
    let memory = FakeMemory::new(8);
    for cpl3_allowed in [false, true] {
        let config = DomainConfig {
            vcpus: 1,
            groups: Domain::default_groups(),
            devices: vec![],
            cpl3_allowed,
            events: EventPath::VcpuArea,
            epochs_after: 0,
        };
        let mut machine = FakeMachine::new(Domain::new(config), &memory);
        let mut guest = FakeGuest::new(&memory);
        assert_eq!(guest.negotiate(&mut machine, &ALL).0, 0);
        let expected = if cpl3_allowed { Outcome::Yield } else { Outcome::Return(CallError::DENIED.to_result()) };
        assert_eq!(machine.outcome(0, 3, Call::SCHED_YIELD, [0; 5]), expected);
    }
}

#[test]
fn unknown_call_is_refused_and_counted_and_logged_at_powers_of_two() {
    let memory = FakeMemory::new(16);
    let (mut machine, _) = connected(&memory);
    machine.take_effects();
    for _ in 0..100 {
        assert_eq!(machine.call(Call(0x2ff), [0; 5]), CallError::UNKNOWN.to_result());
    }
    assert_eq!(machine.domain.counters().unknown_hypercalls, 100);
    // The 1st, 2nd, 4th, 8th, 16th, 32nd and 64th.
    assert_eq!(machine.take_effects().len(), 7);
}

#[test]
fn block_is_capped() {
    let memory = FakeMemory::new(16);
    let (mut machine, _) = connected(&memory);
    let block = machine.outcome(0, 0, Call::SCHED_BLOCK, [u64::MAX, 0, 0, 0, 0]);
    assert_eq!(block, Outcome::Block { timeout_ns: MAX_BLOCK_NS });
    assert_eq!(machine.outcome(0, 0, Call::SCHED_BLOCK, [5, 0, 0, 0, 0]), Outcome::Block { timeout_ns: 5 });
}

#[test]
fn wall_clock_is_the_machines_to_tell() {
    let memory = FakeMemory::new(8);
    let mut machine = FakeMachine::new(domain(), &memory);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &[Group::TIME]).0, 0);
    assert_eq!(machine.outcome(0, 0, Call::TIME_WALL_CLOCK, [u64::MAX; 5]), Outcome::WallClock);
    assert_eq!(machine.take_effects(), []);
}

#[test]
fn shutdown_takes_known_reasons_and_the_low_byte_of_the_code() {
    let memory = FakeMemory::new(16);
    let (mut machine, _) = connected(&memory);
    let reboot = machine.outcome(0, 0, Call::SCHED_SHUTDOWN, [1, 0x1_02, 0, 0, 0]);
    assert_eq!(reboot, Outcome::Shutdown { reason: ShutdownReason::REBOOT, code: 2 });
    for reason in [2, 1 << 32] {
        assert_eq!(machine.call(Call::SCHED_SHUTDOWN, [reason, 0, 0, 0, 0]), CallError::INVALID.to_result());
    }
}

#[test]
fn crash_takes_at_most_1024_bytes_and_ends_the_guest_even_if_they_cannot_be_read() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest) = connected(&memory);
    let text = guest.page();
    guest.write(text, &[b'x'; 4096]);
    let crash = machine.outcome(0, 0, Call::SCHED_CRASH, [text, 4096, 0, 0, 0]);
    assert_eq!(crash, Outcome::Crash { message: vec![b'x'; 1024] });
    for at in [MISSING, u64::MAX] {
        let crash = machine.outcome(0, 0, Call::SCHED_CRASH, [at, u64::MAX, 0, 0, 0]);
        assert!(matches!(crash, Outcome::Crash { message } if !message.is_empty()));
    }
}

#[test]
fn console_write_says_how_much_it_took() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest) = connected(&memory);
    let text = guest.page();
    guest.write(text, b"hello");
    machine.take_effects();
    assert_eq!(machine.call(Call::CONSOLE_WRITE, [text, 5, 0, 0, 0]), 5);
    assert_eq!(machine.take_effects(), [Effect::ConsoleWrite(b"hello".to_vec())]);
    assert_eq!(machine.call(Call::CONSOLE_WRITE, [text, u64::MAX, 0, 0, 0]), 1024);
    assert_eq!(machine.call(Call::CONSOLE_WRITE, [MISSING, 5, 0, 0, 0]), CallError::FAULT.to_result());
    machine.take_effects();
    assert_eq!(machine.call(Call::CONSOLE_WRITE, [MISSING, 0, 0, 0, 0]), 0);
    assert_eq!(machine.take_effects(), []);
}

#[test]
fn entry_that_is_no_address_is_refused() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest) = connected(&memory);
    for entry in [1 << 47, 1 << 63, u64::MAX >> 1] {
        assert_eq!(machine.call(Call::EVENT_SET_UPCALL, [entry, 0x1000, 0, 0, 0]), CallError::INVALID.to_result());
        let start = VcpuStart { size: 32, vcpu: 1, entry, stack_top: 0x1000, argument: 0 };
        let at = guest.page();
        guest.write(at, start.as_bytes());
        assert_eq!(machine.call(Call::VCPU_START, [at, 0, 0, 0, 0]), CallError::INVALID.to_result());
    }
}

#[test]
fn vcpu_starts_once() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest) = connected(&memory);
    machine.take_effects();
    let mut start = |vcpu| {
        let size = size_of::<VcpuStart>() as u32;
        let at = guest.store(&VcpuStart { size, vcpu, entry: 1, stack_top: 2, argument: 3 });
        machine.call(Call::VCPU_START, [at, 0, 0, 0, 0])
    };
    assert_eq!(start(3), 0);
    assert_eq!(start(3), CallError::BUSY.to_result());
    assert_eq!(start(0), CallError::BUSY.to_result(), "the first vCPU runs from the beginning");
    assert_eq!(start(4), CallError::NOT_FOUND.to_result());
    let expected = Effect::StartVcpu { vcpu: 3, entry: 1, stack_top: 2, argument: 3 };
    assert_eq!(machine.take_effects(), [expected]);
}

#[test]
fn upcall_needs_both_or_neither_of_entry_and_stack() {
    let memory = FakeMemory::new(16);
    let (mut machine, _) = connected(&memory);
    machine.take_effects();
    for (args, expected) in
        [([1, 0], CallError::INVALID.to_result()), ([0, 1], CallError::INVALID.to_result()), ([1, 2], 0), ([0, 0], 0)]
    {
        let [a, b] = args;
        assert_eq!(machine.outcome(2, 0, Call::EVENT_SET_UPCALL, [a, b, 0, 0, 0]), Outcome::Return(expected));
    }
    let effects = machine.take_effects();
    assert!(effects.contains(&Effect::SetUpcall { vcpu: 2, entry: 1, stack_top: 2 }));
    assert!(effects.contains(&Effect::SetUpcall { vcpu: 2, entry: 0, stack_top: 0 }));
}

#[test]
fn upcall_return_copies_the_frame() {
    let memory = FakeMemory::new(16);
    let (mut machine, mut guest) = connected(&memory);
    let mut frame = UpcallFrame::new_zeroed();
    frame.rip = 77;
    let at = guest.store(&frame);
    assert_eq!(machine.outcome(0, 0, Call::EVENT_UPCALL_RETURN, [at, 0, 0, 0, 0]), Outcome::UpcallReturn(frame));
    frame.reserved[1] = 1;
    let at = guest.store(&frame);
    assert_eq!(machine.call(Call::EVENT_UPCALL_RETURN, [at, 0, 0, 0, 0]), CallError::INVALID.to_result());
    assert_eq!(machine.call(Call::EVENT_UPCALL_RETURN, [MISSING, 0, 0, 0, 0]), CallError::FAULT.to_result());
}

#[test]
fn masked_port_holds_one_event_back_until_it_is_unmasked() {
    let memory = FakeMemory::new(16);
    let (mut machine, _) = connected(&memory);
    let port = machine.call(Call::EVENT_ALLOC, [2, 0, 0, 0, 0]) as u64;
    machine.take_effects();
    assert_eq!(machine.call(Call::EVENT_MASK, [port, 1, 0, 0, 0]), 0);
    machine.host(|domain, _, effects| domain.raise(port as u32, effects));
    machine.host(|domain, _, effects| domain.raise(port as u32, effects));
    assert_eq!(machine.take_effects(), []);
    let status = machine.call(Call::EVENT_STATUS, [port, 0, 0, 0, 0]) as u64;
    assert_eq!(status, 2 | u64::from((PortStatus::MASKED | PortStatus::LATCHED).bits()) << 32);
    assert_eq!(machine.call(Call::EVENT_MASK, [port, 0, 0, 0, 0]), 0);
    assert_eq!(machine.take_effects(), [Effect::Raise { vcpu: 2, port: port as u32 }]);
    assert_eq!(machine.call(Call::EVENT_MASK, [port, 2, 0, 0, 0]), CallError::INVALID.to_result());
}

#[test]
fn bound_port_takes_its_pending_event_along() {
    let memory = FakeMemory::new(16);
    let (mut machine, _) = connected(&memory);
    assert_eq!(machine.call(Call::EVENT_ALLOC, [1, 0, 0, 0, 0]), 0);
    machine.take_effects();
    assert_eq!(machine.call(Call::EVENT_BIND, [0, 3, 0, 0, 0]), 0);
    assert_eq!(machine.call(Call::EVENT_BIND, [0, 3, 0, 0, 0]), 0);
    assert_eq!(machine.call(Call::EVENT_SIGNAL, [0; 5]), 0);
    let expected = [Effect::MovePending { port: 0, from: 1, to: 3 }, Effect::Raise { vcpu: 3, port: 0 }];
    assert_eq!(machine.take_effects(), expected);
    assert_eq!(machine.call(Call::EVENT_BIND, [0, 4, 0, 0, 0]), CallError::NOT_FOUND.to_result());
}

#[test]
fn closed_port_is_gone_and_its_number_is_free_again() {
    let memory = FakeMemory::new(16);
    let (mut machine, _) = connected(&memory);
    machine.take_effects();
    assert_eq!(machine.call(Call::EVENT_ALLOC, [0; 5]), 0);
    assert_eq!(machine.call(Call::EVENT_CLOSE, [0; 5]), 0);
    for call in [Call::EVENT_CLOSE, Call::EVENT_SIGNAL, Call::EVENT_STATUS, Call::EVENT_MASK, Call::EVENT_BIND] {
        assert_eq!(machine.call(call, [0; 5]), CallError::NOT_FOUND.to_result(), "{call:?}");
    }
    machine.host(|domain, _, effects| domain.raise(0, effects));
    assert_eq!(machine.take_effects(), []);
    for expected in 0..256 {
        assert_eq!(machine.call(Call::EVENT_ALLOC, [0; 5]), expected);
    }
    machine.take_effects();
    for _ in 0..100 {
        assert_eq!(machine.call(Call::EVENT_ALLOC, [0; 5]), CallError::LIMIT.to_result());
    }
    let lines = quota_lines(machine.take_effects());
    assert_eq!((lines.len(), machine.domain.counters().over_quota), (7, 100), "1, 2, 4, .., 64");
    assert!(lines.iter().all(|line| line.contains("quota: event ports of a guest, 256")), "{lines:?}");
}
