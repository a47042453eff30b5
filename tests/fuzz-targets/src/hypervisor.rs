//! Hypercalls, bus messages and the registers of the platform function.

use crate::input::Input;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{Class, Kind, Message};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::hypercall::Call;
use pvkit_abi::pci::{BAR_BYTES, RESET_ALL, RESET_OFFSET};
use pvkit_abi::version::Group;
use pvkit_core::fake::{FakeGuest, FakeMachine, FakeMemory, offer};
use pvkit_core::{DeviceConfig, Domain, DomainConfig, EventPath, GuestAddr, GuestMemory};
use pvkit_machine::fuzzing::Platform;

const PAGES: usize = 24;
const GROUPS: [Group; 7] =
    [Group::EVENT, Group::BUS, Group::GRANT, Group::SCHED, Group::CONSOLE, Group::TIME, Group::VCPU];
/// Effects that one call may have: each of 16 requests one, a raise, a log line, a close for each of three devices.
const MOST_EFFECTS: usize = 16 + 1 + 1 + 3;

fn domain(events: EventPath) -> Domain {
    let offers = [offer(Class::BLOCK, 0), offer(Class::CONSOLE, 0), offer(Class::NET, 0)];
    Domain::new(DomainConfig {
        vcpus: 4,
        groups: Domain::default_groups(),
        devices: offers.iter().map(|offer| DeviceConfig { offer: *offer }).collect(),
        cpl3_allowed: false,
        events,
        epochs_after: 0,
    })
}

/// A guest whose memory holds anything calls anything; afterwards an honest one is served.
pub fn hypercalls(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = FakeMemory::new(PAGES);
    let path = if input.below(2) == 0 { EventPath::VcpuArea } else { EventPath::MsiX };
    let mut machine = FakeMachine::new(domain(path), &memory);
    machine.answers = input.below(4) != 0;
    let (mut highest, mut calls) = (0, 0);
    while !input.is_empty() && calls < 200 {
        calls += 1;
        if input.below(3) == 0 {
            let at = memory.page(u64::from(input.below(PAGES as u8))) + u64::from(input.below(128)) * 8;
            let run = input.run();
            let end = run.len().min(PAGE_SIZE - 1024);
            let _ = memory.write(GuestAddr(at), &run[..end]);
        }
        let number = u32::from(input.below(9)) << 8 | u32::from(input.below(9));
        let mut args = [0; 5];
        for arg in &mut args {
            *arg = match input.below(3) {
                0 => u64::from(input.byte()),
                1 => memory.page(u64::from(input.below(PAGES as u8 + 2))) + u64::from(input.byte()) * 8,
                _ => input.u64(),
            };
        }
        let _ = machine.outcome(u32::from(input.below(5)), input.below(4), Call(number), args);
        assert!(machine.effects.len() <= MOST_EFFECTS * 2, "{:?}", machine.effects);
        machine.take_effects();
        assert!(machine.domain.last_epoch() >= highest, "epochs only grow");
        highest = machine.domain.last_epoch();
        if input.below(8) == 0 {
            machine.answer_all();
        }
        if input.below(32) == 0 {
            machine.host(|domain, memory, effects| domain.reset(memory, effects));
        }
    }
    machine.host(|domain, memory, effects| domain.reset(memory, effects));
    machine.answers = true;
    machine.answer_all();
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &GROUPS).0, 0, "an honest guest is served again");
    guest.bus_setup(&mut machine, NO_PORT).expect("its bus is set up");
    assert!(!guest.messages().is_empty(), "and it is offered its devices");
}

/// Messages of any form over a bus that is kept well: each gets one reply.
pub fn bus_messages(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = FakeMemory::new(PAGES);
    let mut machine = FakeMachine::new(domain(EventPath::VcpuArea), &memory);
    let mut guest = FakeGuest::new(&memory);
    assert_eq!(guest.negotiate(&mut machine, &GROUPS).0, 0);
    guest.bus_setup(&mut machine, NO_PORT).expect("an honest bus");
    let mut epochs = [0; 4];
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        for told in guest.messages() {
            if let Some(epoch) = epochs.get_mut(told.device as usize) {
                *epoch = told.epoch;
            }
        }
        let kind = match input.below(10) {
            9 => Kind(input.byte()),
            known => Kind(0x41 + known % 8),
        };
        let device = u32::from(input.below(5));
        let known = epochs.get(device as usize).copied().unwrap_or(0);
        let mut message = Message {
            size: u16::from(input.below(120)),
            kind,
            reserved: 0,
            device,
            epoch: if input.below(16) == 0 { input.u64() } else { known },
            body: [0; 112],
        };
        let body = input.bytes(usize::from(message.size).min(112));
        message.body[..body.len()].copy_from_slice(body);
        let reply = guest.request(&mut machine, &message);
        if reply.status == 0
            && let Some(epoch) = epochs.get_mut(device as usize)
        {
            *epoch = reply.epoch;
        }
        assert!(reply.status <= 0);
    }
}

/// Any accesses to the registers: a reset only by its word, one message at most for each entry.
pub fn platform_function(data: &[u8]) {
    let mut input = Input::new(data);
    let platform = Platform::default();
    while !input.is_empty() {
        let width = [1, 2, 4, 8][usize::from(input.below(4))];
        let bytes = input.array::<8>();
        let data = &bytes[..width];
        match input.below(6) {
            0 => assert!(platform.write_config(0xcf8 + u16::from(input.below(8)), data) <= 256),
            1 => {
                let address = 0x8000_0000 | u32::from(input.below(4)) << 11 | u32::from(input.byte() & 0xfc);
                let _ = platform.write_config(0xcf8, &address.to_le_bytes());
                assert!(platform.write_config(0xcfc + u16::from(input.below(4)), data) <= 256);
            }
            2 => platform.read_config(0xcf8 + u16::from(input.below(8)), &mut [0; 4]),
            3 => {
                let _ = platform.signal(u32::from(input.u16()));
            }
            4 => {
                let _ = platform.read(address(&mut input), &mut [0; 8][..width]);
            }
            _ => {
                let at = address(&mut input);
                if let Some((reset, messages)) = platform.write(at, data) {
                    assert!(
                        !reset
                            || (at % u64::from(BAR_BYTES) == u64::from(RESET_OFFSET)
                                && data == RESET_ALL.to_le_bytes())
                    );
                    assert!(messages <= 1);
                }
            }
        }
    }
}

/// Mostly where the BAR is at first.
fn address(input: &mut Input<'_>) -> u64 {
    match input.below(4) {
        0 => input.u64(),
        _ => 0xc000_0000 + u64::from(input.u16()) % (u64::from(BAR_BYTES) + 16),
    }
}
