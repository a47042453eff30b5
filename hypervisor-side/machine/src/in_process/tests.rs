//! What a guest sees that has no processor of its own.

use super::*;
use crate::config::Program;
use pvkit_abi::version::{CURRENT, Group, Negotiate};
use zerocopy::{FromZeros, IntoBytes};

fn exit_code(main: fn(&InProcessPlatform, &str) -> i32) -> End {
    report(main, vec![]).end
}

fn report(main: fn(&InProcessPlatform, &str) -> i32, devices: Vec<crate::Device>) -> Report {
    let config = MachineConfig {
        program: Program::InProcess(main),
        cmdline: String::new(),
        cpus: 1,
        memory: 16 << 20,
        window: 0,
        cpl: None,
        devices,
        early_console: Box::new(io::sink()),
    };
    crate::run(config, &Control::new()).unwrap()
}

/// Chooses one group; the result of `NEGOTIATE`.
fn negotiate(platform: &InProcessPlatform, group: Group) -> i64 {
    let mut choice = Negotiate::new_zeroed();
    choice.size = size_of::<Negotiate>() as u32;
    choice.count = 1;
    choice.groups[0].group = group;
    choice.groups[0].major = CURRENT.major;
    choice.groups[0].minor = CURRENT.minor;
    let memory = platform.memory().unwrap();
    let free = platform.boot_info().regions[1].base;
    let offset = (free - platform.boot_info().regions[0].base) as usize;
    memory.write(offset, choice.as_bytes()).unwrap();
    platform.hypercall(Call::NEGOTIATE, [free, free, 0, 0, 0])
}

#[test]
fn wall_clock_is_the_hosts_and_needs_its_group() {
    let end = exit_code(|platform, _| {
        assert!(platform.hypercall(Call::TIME_WALL_CLOCK, [0; 5]) < 0, "not negotiated");
        assert_eq!(negotiate(platform, Group::TIME), 0);
        let now = platform.hypercall(Call::TIME_WALL_CLOCK, [0; 5]) as u64;
        // The clock may be set while this runs, but not by an hour.
        i32::from(now.abs_diff(boot::wall_clock_ns()) < 3_600_000_000_000)
    });
    assert!(matches!(end, End::PowerOff { code: 1 }), "{end:?}");
}

#[test]
fn a_guest_that_floods_the_bus_is_held_back_and_counted_and_ends_as_it_wants() {
    let flood: fn(&InProcessPlatform, &str) -> i32 = |platform, _| {
        assert_eq!(negotiate(platform, Group::BUS), 0);
        let memory = platform.memory().unwrap();
        let free = platform.boot_info().regions[1].base;
        let page = |index: u64| free + index * 4096;
        let mut setup = pvkit_abi::bus::BusSetup::new_zeroed();
        setup.size = size_of_val(&setup) as u32;
        setup.event_port = pvkit_abi::event::NO_PORT;
        (setup.guest_pages, setup.host_pages) = ([page(1), page(2)], [page(3), page(4)]);
        memory.write((free - platform.boot_info().regions[0].base) as usize, setup.as_bytes()).unwrap();
        // Each one has both devices offered again: 8000 messages.
        for _ in 0..4000 {
            assert!(platform.hypercall(Call::BUS_SETUP, [free, 0, 0, 0, 0]) > 0);
        }
        7
    };
    let report = report(flood, vec![crate::Device::Entropy, crate::Device::Entropy]);
    assert_eq!(report.end, End::PowerOff { code: 7 });
    let bus = report.counters.bus;
    assert_eq!(bus.messages, 8000);
    assert!(bus.held_back > 0, "{bus}");
    assert!(report.to_string().contains("times held back"), "{report}");
}
