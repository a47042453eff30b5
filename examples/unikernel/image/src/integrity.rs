//! Upcalls against a loop that notices any register that is not put back.
#![allow(unsafe_code, reason = "guest arch: every register by name")]

use crate::arch::{BootMemory, call};
use crate::{PATIENCE_NS, print, start_vcpu};
use core::sync::atomic::{AtomicU64, Ordering};
use pvkit_abi::discovery::HYPERCALL_PORT;
use pvkit_abi::hypercall::Call;

/// Upcalls taken.
static UPCALLS: AtomicU64 = AtomicU64::new(0);
/// Tells the loop to end.
static STOP: AtomicU64 = AtomicU64::new(0);
/// Pending word of vCPU 0, for the upcall entry.
static PENDING: AtomicU64 = AtomicU64::new(0);
/// Upcalls to provoke.
const ROUNDS: u64 = 200;

core::arch::global_asm!(
    ".text",
    // The upcall entry: takes what is pending, spoils every register it may, hands the frame back.
    ".global pvkit_tiny_upcall",
    "pvkit_tiny_upcall:",
    "cld",
    "mov rbx, rdi",
    "mov rcx, qword ptr [rip + {pending}]",
    "xor eax, eax",
    "xchg qword ptr [rcx], rax",
    "lock inc qword ptr [rip + {upcalls}]",
    "mov rbp, -1", "mov r9, -1", "mov r11, -1", "mov r12, -1", "mov r13, -1", "mov r14, -1", "mov r15, -1",
    "mov rdi, rbx",
    "mov edx, {port}",
    "mov eax, {upcall_return}",
    "out dx, eax",
    "ud2",
    // The loop: registers hold known values, the red zone too, carry is set. Returns in rax how far it came when it
    // was told to stop, or 0 if anything changed.
    ".global pvkit_tiny_loop",
    "pvkit_tiny_loop:",
    "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
    "mov qword ptr [rsp - 8], 0x77", "mov qword ptr [rsp - 128], 0x78",
    "mov rbx, 0x11", "mov rcx, 0x12", "mov rdx, 0x13", "mov rsi, 0x14", "mov rdi, 0x15", "mov rbp, 0x16",
    "mov r8, 0x18", "mov r9, 0x19", "mov r10, 0x1a", "mov r11, 0x1b", "mov r12, 0x1c", "mov r13, 0x1d",
    "mov r14, 0x1e", "mov r15, rsp",
    "mov rax, 1",
    "2:",
    "stc", "nop", "nop", "nop", "nop", "jnc 4f",
    "cmp rbx, 0x11", "jne 4f", "cmp rcx, 0x12", "jne 4f", "cmp rdx, 0x13", "jne 4f", "cmp rsi, 0x14", "jne 4f",
    "cmp rdi, 0x15", "jne 4f", "cmp rbp, 0x16", "jne 4f", "cmp r8, 0x18", "jne 4f", "cmp r9, 0x19", "jne 4f",
    "cmp r10, 0x1a", "jne 4f", "cmp r11, 0x1b", "jne 4f", "cmp r12, 0x1c", "jne 4f", "cmp r13, 0x1d", "jne 4f",
    "cmp r14, 0x1e", "jne 4f", "cmp r15, rsp", "jne 4f",
    "cmp qword ptr [rsp - 8], 0x77", "jne 4f", "cmp qword ptr [rsp - 128], 0x78", "jne 4f",
    "inc rax",
    "cmp qword ptr [rip + {stop}], 0", "je 2b",
    "jmp 5f",
    "4: xor eax, eax",
    "5:",
    "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
    "ret",
    pending = sym PENDING,
    upcalls = sym UPCALLS,
    stop = sym STOP,
    port = const HYPERCALL_PORT,
    upcall_return = const Call::EVENT_UPCALL_RETURN.0,
);

unsafe extern "C" {
    fn pvkit_tiny_upcall();
    fn pvkit_tiny_loop() -> u64;
}

/// Needs two vCPUs. The second interrupts the first [`ROUNDS`] times, each time after the last upcall was seen.
pub fn run(memory: &BootMemory) -> Result<(), &'static str> {
    let area = memory.vcpu_area.word(0).map_err(|_| "no vCPU area")?;
    PENDING.store(core::ptr::from_ref(area) as u64, Ordering::Release);
    let stack_top = memory.ram.as_ptr() as u64 + memory.ram.len() as u64 / 2;
    if call(Call::EVENT_SET_UPCALL, [pvkit_tiny_upcall as *const () as u64, stack_top, 0]) < 0 {
        return Err("the upcall was refused");
    }
    let port = call(Call::EVENT_ALLOC, [0, 0, 0]);
    if port < 0 {
        return Err("no event port");
    }
    // One to itself: delivered on the way back from the hypercall that raises it.
    call(Call::EVENT_SIGNAL, [port as u64, 0, 0]);
    if UPCALLS.load(Ordering::Acquire) != 1 {
        return Err("an event to itself was not delivered at once");
    }
    start_vcpu(memory, 1, interrupter, port as u64)?;
    // SAFETY: the loop keeps the C calling convention and touches only its own stack and the flag.
    if unsafe { pvkit_tiny_loop() } == 0 {
        return Err("an upcall changed a register");
    }
    call(Call::EVENT_SET_UPCALL, [0, 0, 0]);
    if UPCALLS.load(Ordering::Acquire) < ROUNDS {
        return Err("upcalls were lost");
    }
    print("tiny: every register survived every upcall\n");
    Ok(())
}

extern "C" fn interrupter(_boot_info: u64, _vcpu: u64, port: u64) -> ! {
    while UPCALLS.load(Ordering::Acquire) < ROUNDS {
        let before = UPCALLS.load(Ordering::Acquire);
        call(Call::EVENT_SIGNAL, [port, 0, 0]);
        // Bounded by the test's own deadline on the host.
        while UPCALLS.load(Ordering::Acquire) == before {
            call(Call::SCHED_YIELD, [0, 0, 0]);
        }
    }
    STOP.store(1, Ordering::Release);
    loop {
        call(Call::SCHED_BLOCK, [PATIENCE_NS, 0, 0]);
    }
}
