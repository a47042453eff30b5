//! What a guest sees that has no processor of its own.

use super::*;
use crate::config::Program;
use pvkit_abi::version::{CURRENT, Group, Negotiate};
use zerocopy::{FromZeros, IntoBytes};

fn exit_code(main: fn(&InProcessPlatform, &str) -> i32) -> End {
    let config = MachineConfig {
        program: Program::InProcess(main),
        cmdline: String::new(),
        cpus: 1,
        memory: 16 << 20,
        window: 0,
        cpl: None,
        devices: vec![],
        early_console: Box::new(io::sink()),
    };
    crate::run(config, &Control::new()).unwrap().end
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
