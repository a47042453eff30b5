//! The kernel's side of a filter: one call, one program, one answer.

use libc::*;
use seccompiler::BpfProgram;

/// This machine, as filters see it (`linux/audit.h`).
#[cfg(target_arch = "x86_64")]
pub(super) const ARCH: u32 = 0xc000_003e;
/// This machine, as filters see it (`linux/audit.h`).
#[cfg(target_arch = "aarch64")]
pub(super) const ARCH: u32 = 0xc000_00b7;

/// `struct seccomp_data`: number, architecture, instruction pointer, six arguments.
#[derive(Clone, Copy)]
pub(super) struct Made {
    pub(super) number: u32,
    pub(super) arch: u32,
    pub(super) arguments: [u64; 6],
}

impl Made {
    fn word(self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("offset {offset}"),
        }
    }
}

/// The instructions that seccompiler writes; any other is a panic.
pub(super) fn run(program: &BpfProgram, made: Made) -> u32 {
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let step = &program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
        match u32::from(step.code) {
            code if code == BPF_LD | BPF_W | BPF_ABS => accumulator = made.word(step.k),
            code if code == BPF_ALU | BPF_AND | BPF_K => accumulator &= step.k,
            code if code == BPF_JMP | BPF_JA => at += step.k as usize,
            code if code == BPF_JMP | BPF_JEQ | BPF_K => at += jump(accumulator == step.k),
            code if code == BPF_JMP | BPF_JGE | BPF_K => at += jump(accumulator >= step.k),
            code if code == BPF_JMP | BPF_JGT | BPF_K => at += jump(accumulator > step.k),
            code if code == BPF_RET | BPF_K => return step.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}
