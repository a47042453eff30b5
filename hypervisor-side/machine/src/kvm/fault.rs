//! Telling how a guest died.

use crate::host::Host;
use crate::report::End;
use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;
use pvkit_core::{GuestAddr, GuestMemory};
use std::fmt::Write;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The processor's exception frame without the error code (AMD64 manual volume 2, 8.9.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
struct HardwareFrame {
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// Whether the processor pushes an error code for the vector (AMD64 manual volume 2, table 8-1).
const fn has_error_code(vector: u64) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

fn vector_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        3 => "breakpoint",
        4 => "overflow",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        19 => "SIMD error",
        _ => "exception",
    }
}

/// The vCPU's registers as text.
pub fn registers(fd: &VcpuFd) -> String {
    match (fd.get_regs(), fd.get_sregs()) {
        (Ok(regs), Ok(sregs)) if regs.rip == 0xfff0 && sregs.cs.selector == 0xf000 => {
            "registers: lost, the processor was reset when it shut down".into()
        }
        (Ok(regs), Ok(sregs)) => dump(&regs, sregs.cr2, u64::from(sregs.cs.selector)),
        _ => "registers: not readable".into(),
    }
}

fn dump(regs: &kvm_regs, cr2: u64, cs: u64) -> String {
    let mut text = String::new();
    let rows: [[(&str, u64); 4]; 5] = [
        [("rip", regs.rip), ("rsp", regs.rsp), ("rflags", regs.rflags), ("cr2", cr2)],
        [("rax", regs.rax), ("rbx", regs.rbx), ("rcx", regs.rcx), ("rdx", regs.rdx)],
        [("rsi", regs.rsi), ("rdi", regs.rdi), ("rbp", regs.rbp), ("cs", cs)],
        [("r8", regs.r8), ("r9", regs.r9), ("r10", regs.r10), ("r11", regs.r11)],
        [("r12", regs.r12), ("r13", regs.r13), ("r14", regs.r14), ("r15", regs.r15)],
    ];
    for row in rows {
        for (name, value) in row {
            let _ = write!(text, "{name:>7}={value:016x}");
        }
        text.push('\n');
    }
    text
}

/// The guest's own stub reported an exception: the frame tells where. Everything in it is the guest's word.
pub fn exception(fd: &VcpuFd, host: &Host, vector: u64, frame: u64) -> End {
    let mut code = 0_u64;
    let mut at = frame;
    if has_error_code(vector) {
        let _ = host.ram.read(GuestAddr(frame), code.as_mut_bytes());
        at = frame.wrapping_add(8);
    }
    let mut hardware = HardwareFrame::new_zeroed();
    let readable = host.ram.read(GuestAddr(at), hardware.as_mut_bytes()).is_ok();
    let name = vector_name(vector);
    let cr2 = fd.get_sregs().map_or(0, |sregs| sregs.cr2);
    let mut message = format!("{name} (vector {vector}, error code {code:#x}) at {:#x}", hardware.rip);
    if vector == 14 {
        let _ = write!(message, ", address {cr2:#x}");
    }
    let registers = match (readable, fd.get_regs()) {
        (true, Ok(mut regs)) => {
            (regs.rip, regs.rsp, regs.rflags) = (hardware.rip, hardware.rsp, hardware.rflags);
            format!("{}        (rax rdi rsi rdx are the report's own)\n", dump(&regs, cr2, hardware.cs))
        }
        _ => registers_of_stub(fd),
    };
    End::Crash { message, registers }
}

fn registers_of_stub(fd: &VcpuFd) -> String {
    format!("the exception frame is not in guest memory; in the stub:\n{}", registers(fd))
}

/// The vCPU shut down: a fault that could not be delivered.
pub fn shutdown(fd: &VcpuFd) -> End {
    // What KVM still knows of the last exception; a leftover, so it is given as a hint.
    let hint = fd.get_vcpu_events().ok().map(|events| events.exception);
    let mut message = "the processor shut down (a fault that could not be delivered)".to_string();
    if let Some(exception) = hint.filter(|e| e.nr != 0 || e.error_code != 0) {
        let (nr, code) = (exception.nr, exception.error_code);
        let _ = write!(message, "; last exception: {} (vector {nr}, error code {code:#x})", vector_name(nr.into()));
    }
    End::Crash { message, registers: registers(fd) }
}

/// KVM could not emulate an instruction.
pub fn internal(fd: &VcpuFd, suberror: u32) -> End {
    let message = match suberror {
        1 => {
            "KVM could not emulate an instruction of the guest (on a software KVM: SSE at CPL 0, or a wild jump)".into()
        }
        other => format!("KVM internal error {other}"),
    };
    End::Crash { message, registers: registers(fd) }
}
