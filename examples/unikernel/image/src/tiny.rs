//! The smallest guest: no drivers, no heap; one word of its command line names what it does. For tests.
//!
//! `hello` negotiates and says so · `cpuid` also looks for the host's leaves · `smp` starts every other vCPU and waits for
//! each to signal · `upcalls` runs a loop that checks every register while another vCPU interrupts it · `null`, `ud2`,
//! `text`, `stack`, `overflow` die in the way they are called · `wild` makes every mistake that needs no second vCPU, and
//! lives · `tables` tries to have the host write the tables that are out of its own reach · `scribble` uses a disk, takes grants back
//! under its requests, and has a second vCPU write anything over all memory that they share with the host.
#![no_std]
#![no_main]

mod arch;
#[cfg(not(target_os = "none"))]
mod builtins;
#[expect(dead_code, reason = "the drivers are linked with what may allocate; nothing here does")]
mod heap;
mod integrity;
mod note;
mod random;
mod scribble;
mod wild;

use arch::{BootMemory, call};
use core::sync::atomic::{AtomicU64, Ordering};
use note::Note;
use pvkit_abi::discovery::BootFlags;
use pvkit_abi::hypercall::{Call, VcpuStart};
use pvkit_abi::version::{CURRENT, Group, GroupChoice, MAX_GROUPS, Negotiate, NegotiateReply};
use zerocopy::FromZeros;

const GROUPS: [Group; 5] = [Group::EVENT, Group::BUS, Group::SCHED, Group::CONSOLE, Group::VCPU];

/// Boot stack: a bus and a disk stand on it.
const STACK_BYTES: u32 = 256 * 1024;

#[unsafe(link_section = ".note.pvkit")]
#[used]
#[allow(unsafe_code, reason = "guest arch: a section name for the linker script; the note is plain data")]
static NOTE: Note = Note::new(STACK_BYTES, GROUPS, []);

/// Nanoseconds that any wait of this image may last: the emulated lanes are slow.
const PATIENCE_NS: u64 = 20_000_000_000;

/// vCPUs that reached [`secondary`].
static ARRIVED: AtomicU64 = AtomicU64::new(0);

#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "guest arch: the entry symbol of the linker script; no other symbol has this name")]
extern "C" fn pvkit_start(boot_info: u64, _vcpu: u64, _argument: u64) -> ! {
    let memory = arch::boot_memory(boot_info).unwrap_or_else(|why| arch::crash(why));
    match serve(&memory) {
        Ok(()) => {
            print("tiny: done\n");
            arch::power_off(0)
        }
        Err(why) => arch::crash(why),
    }
}

fn serve(memory: &BootMemory) -> Result<(), &'static str> {
    if memory.cmdline() == "scribble" {
        // Its bus negotiates, and that is done once.
        return scribble::run(memory);
    }
    negotiate()?;
    let cpl3 = memory.info.flags & BootFlags::CPL3.bits() != 0;
    print(if cpl3 { "tiny: hello from CPL 3\n" } else { "tiny: hello from CPL 0\n" });
    for word in memory.cmdline().split_whitespace() {
        match word {
            "hello" => {}
            "cpuid" => find_leaves()?,
            "smp" => start_others(memory)?,
            "upcalls" => integrity::run(memory)?,
            "wild" => wild::run(memory)?,
            "tables" => wild::tables()?,
            fatal => die(fatal)?,
        }
    }
    Ok(())
}

fn negotiate() -> Result<(), &'static str> {
    let mut request = Negotiate::new_zeroed();
    request.size = size_of::<Negotiate>() as u32;
    request.count = GROUPS.len() as u32;
    let choice = |group| GroupChoice { group, major: CURRENT.major, minor: CURRENT.minor, reserved: 0, features: 0 };
    for (slot, group) in request.groups.iter_mut().take(MAX_GROUPS).zip(GROUPS) {
        *slot = choice(group);
    }
    let reply = NegotiateReply::new_zeroed();
    let arguments = [&raw const request as u64, &raw const reply as u64, size_of::<NegotiateReply>() as u64];
    if call(Call::NEGOTIATE, arguments) < 0 { Err("the negotiation was refused") } else { Ok(()) }
}

/// Early console output.
fn print(text: &str) {
    call(Call::CONSOLE_WRITE, [text.as_ptr() as u64, text.len() as u64, 0]);
}

/// Finds the host by its CPUID leaves. At CPL 3 the instruction may show the machine's own, so this is for CPL 0.
fn find_leaves() -> Result<(), &'static str> {
    use pvkit_abi::discovery::{CPUID_FIRST, CPUID_LAST, CPUID_SIGNATURE, CPUID_STEP, HYPERCALL_PORT};
    let signature = |leaf| {
        let found = core::arch::x86_64::__cpuid(leaf);
        let mut bytes = [0; 12];
        for (slot, byte) in
            bytes.iter_mut().zip([found.ebx, found.ecx, found.edx].into_iter().flat_map(u32::to_le_bytes))
        {
            *slot = byte;
        }
        bytes
    };
    let mut leaves = (CPUID_FIRST..=CPUID_LAST).step_by(CPUID_STEP as usize);
    let base = leaves.find(|leaf| signature(*leaf) == CPUID_SIGNATURE).ok_or("no CPUID leaves of the host")?;
    let facts = core::arch::x86_64::__cpuid(base + 1);
    if facts.ecx == u32::from(HYPERCALL_PORT) { Ok(()) } else { Err("the CPUID leaves name another port") }
}

fn start_others(memory: &BootMemory) -> Result<(), &'static str> {
    let count = memory.info.vcpu_count;
    let port = call(Call::EVENT_ALLOC, [0, 0, 0]);
    if port < 0 {
        return Err("no event port");
    }
    for vcpu in 1..count {
        start_vcpu(memory, vcpu, secondary, port as u64)?;
    }
    while ARRIVED.load(Ordering::Acquire) + 1 < u64::from(count) {
        if call(Call::SCHED_BLOCK, [PATIENCE_NS, 0, 0]) != 0 {
            return Err("a vCPU did not signal in time");
        }
        take_pending(memory);
    }
    print("tiny: every vCPU signalled\n");
    Ok(())
}

/// Starts a vCPU on a stack of its own, taken from the end of free memory.
fn start_vcpu(
    memory: &BootMemory,
    vcpu: u32,
    entry: extern "C" fn(u64, u64, u64) -> !,
    argument: u64,
) -> Result<(), &'static str> {
    let stack_top = memory.ram.as_ptr() as u64 + memory.ram.len() as u64 - u64::from(vcpu) * 0x1_0000;
    let start =
        VcpuStart { size: size_of::<VcpuStart>() as u32, vcpu, entry: entry as usize as u64, stack_top, argument };
    if call(Call::VCPU_START, [&raw const start as u64, 0, 0]) < 0 {
        Err("a vCPU could not be started")
    } else {
        Ok(())
    }
}

extern "C" fn secondary(_boot_info: u64, _vcpu: u64, port: u64) -> ! {
    ARRIVED.fetch_add(1, Ordering::Release);
    call(Call::EVENT_SIGNAL, [port, 0, 0]);
    loop {
        call(Call::SCHED_BLOCK, [PATIENCE_NS, 0, 0]);
    }
}

/// Takes the first word of pending events; this image uses no higher ports.
fn take_pending(memory: &BootMemory) -> u64 {
    memory.vcpu_area.word(0).map_or(0, |word| word.swap(0, Ordering::Acquire))
}

/// Dies. An unknown word is an error instead.
#[allow(unsafe_code, reason = "guest arch: faults on purpose")]
fn die(word: &str) -> Result<(), &'static str> {
    match word {
        "panic" => panic!("on purpose"),
        "crash" => arch::crash("last words"),
        "null" => {
            // SAFETY: not safe at all: nothing is mapped there, and the processor says so. That is the test.
            unsafe { core::arch::asm!("mov eax, dword ptr [{0}]", in(reg) 0_u64, out("eax") _) };
        }
        // SAFETY: raises the invalid-opcode exception, which ends this guest.
        "ud2" => unsafe { core::arch::asm!("ud2") },
        "text" => {
            // SAFETY: the store faults, as code is mapped read-only; nothing changes.
            unsafe { core::arch::asm!("mov byte ptr [{0}], 0", in(reg) pvkit_start as *const () as u64) };
        }
        "stack" => {
            // SAFETY: never comes back: the push faults on a bad stack, and the exception is reported from its own.
            unsafe { core::arch::asm!("mov rsp, 8", "push rax", "2: jmp 2b", options(noreturn)) };
        }
        // SAFETY: never comes back: pushes until the guard page below the stack, which is the test.
        "overflow" => unsafe { core::arch::asm!("2: push rax", "jmp 2b", options(noreturn)) },
        // SAFETY: an endless loop that touches nothing.
        "spin" => unsafe { core::arch::asm!("2: pause", "jmp 2b", options(noreturn)) },
        _ => return Err("a word of the command line that this guest does not know"),
    }
    Err("a fault did not happen")
}
