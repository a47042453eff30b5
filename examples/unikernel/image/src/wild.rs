//! A hostile guest on one vCPU: every call number and argument that must be refused, strings to the hypercall port,
//! ports and addresses where nothing is. It must live to tell, and the host must not notice more than counters.
#![allow(unsafe_code, reason = "guest arch: instructions that only a hostile guest executes")]

use crate::arch::{BootMemory, call, exception_stubs};
use crate::print;
use crate::random::step;
use pvkit_abi::bus::BusSetup;
use pvkit_abi::discovery::{DOORBELL_PORT_BASE, HYPERCALL_PORT, MAX_DOORBELLS};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::hypercall::Call;
use zerocopy::FromZeros;

/// Calls with random numbers and arguments.
const CALLS: u32 = 3000;
/// Doorbells of queues that are not open.
const RINGS: u32 = 2000;
/// Calls that come back.
const REAL: [u32; 11] = [
    Call::NEGOTIATE.0,
    Call::EVENT_ALLOC.0,
    Call::EVENT_BIND.0,
    Call::EVENT_CLOSE.0,
    Call::EVENT_MASK.0,
    Call::EVENT_SIGNAL.0,
    Call::EVENT_STATUS.0,
    Call::BUS_SETUP.0,
    Call::BUS_KICK.0,
    Call::SCHED_YIELD.0,
    Call::VCPU_START.0,
];

pub fn run(memory: &BootMemory) -> Result<(), &'static str> {
    strings(memory)?;
    for ring in 0..RINGS {
        doorbell(DOORBELL_PORT_BASE + (ring % u32::from(MAX_DOORBELLS)) as u16 * 4);
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || step(&mut state);
    let interesting = [0, 1, 4095, 0x20_0000, memory.ram.as_ptr() as u64, 1 << 46, u64::MAX, u64::MAX - 4095];
    for _ in 0..CALLS {
        let mut argument = || {
            let pick = random();
            *interesting.get((pick % 16) as usize).unwrap_or(&random())
        };
        let arguments = [argument(), argument(), argument()];
        // Half of them real calls, half anything.
        let number = match random() % 2 {
            0 => (random() % 0x1000) as u32,
            _ => *REAL.get((random() % REAL.len() as u64) as usize).unwrap_or(&0),
        };
        if does_not_return(Call(number)) {
            continue;
        }
        call(Call(number), arguments);
    }
    print("tiny: the host stood it\n");
    Ok(())
}

/// Names the host's own tables in arguments that the host writes through: below the image nothing is the guest's.
pub fn tables() -> Result<(), &'static str> {
    // Root of the page tables and the interrupt descriptor table, as this host happens to lay them out.
    for target in [0xe_0000, 0x2000, 0x1000] {
        let mut setup = BusSetup::new_zeroed();
        setup.size = size_of::<BusSetup>() as u32;
        setup.event_port = NO_PORT;
        setup.guest_pages = [0x40_0000, 0x40_1000];
        setup.host_pages = [target, target + 0x1000];
        if call(Call::BUS_SETUP, [&raw const setup as u64, 0, 0]) >= 0 {
            return Err("the host made its tables a bus page");
        }
        let upcall = [exception_stubs as *const () as u64, target + 0x100, 0];
        let port = call(Call::EVENT_ALLOC, [0, 0, 0]);
        if port < 0 || call(Call::EVENT_SET_UPCALL, upcall) < 0 {
            return Err("no event port or upcall");
        }
        // Delivered on the way back, if it could be: then the stubs would report an exception.
        call(Call::EVENT_SIGNAL, [port as u64, 0, 0]);
        if call(Call::NEGOTIATE, [target, target, 16]) >= 0 {
            return Err("the host took its tables for a negotiation");
        }
    }
    print("tiny: the tables are the host's\n");
    Ok(())
}

/// Calls that would end the guest, or put it to sleep for long.
fn does_not_return(call: Call) -> bool {
    let ends = [Call::SCHED_BLOCK, Call::SCHED_SHUTDOWN, Call::SCHED_CRASH, Call::SCHED_EXCEPTION];
    ends.contains(&call) || call == Call::EVENT_UPCALL_RETURN || call == Call::EVENT_SET_UPCALL
}

/// Rings where nothing is.
fn doorbell(port: u16) {
    // SAFETY: a port write that traps to the host; it changes no register and no memory.
    unsafe { core::arch::asm!("out dx, eax", in("dx") port, in("eax") 1_u32, options(nostack, preserves_flags)) };
}

/// `outsd` to the hypercall port: memory that looks like a call number, but EAX is another. Must not be a hypercall.
fn strings(memory: &BootMemory) -> Result<(), &'static str> {
    let words = [Call::SCHED_SHUTDOWN.0; 8];
    // SAFETY: reads eight words of a live array; the port traps to the host.
    unsafe {
        core::arch::asm!(
            "rep outsd",
            in("dx") HYPERCALL_PORT,
            inout("rsi") words.as_ptr() => _,
            inout("rcx") words.len() => _,
            in("rax") 0x1234_5678_u64,
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: narrow writes to the hypercall port are not hypercalls; they change nothing.
    unsafe {
        core::arch::asm!("out dx, ax", "out dx, al", in("dx") HYPERCALL_PORT, in("rax") u64::from(Call::SCHED_SHUTDOWN.0),
            options(nostack, preserves_flags));
    }
    if memory.info.port == u32::from(HYPERCALL_PORT) { Ok(()) } else { Err("the host uses another port") }
}
