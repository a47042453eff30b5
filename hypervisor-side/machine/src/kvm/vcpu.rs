//! One virtual CPU: its thread's loop, its exits, the switch to an upcall.
//!
//! *Registers.* While an exit of an instruction is pending, only RAX may change: on one KVM the instruction pointer is
//! already past the `out`, on another it is not. [`Vcpu::settle`] completes the instruction first; after it (and after
//! an interrupted `KVM_RUN`) every register may be changed.
#![allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]

use super::kick::Registration;
use super::machine::KvmMachine;
use super::{exit, fault};
use crate::boot::{self, selector};
use crate::gate::{Upcall, Wake};
use crate::report::{End, printable};
use kvm_bindings::{KVM_SYNC_X86_REGS, kvm_dtable, kvm_regs, kvm_segment};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use pvkit_abi::discovery::HYPERCALL_PORT;
use pvkit_abi::entry::{CR0, CR4, EFER, RFLAGS_ENTRY, RFLAGS_GUEST, RFLAGS_IOPL3};
use pvkit_abi::event::UpcallFrame;
use pvkit_abi::hypercall::{Call, ShutdownReason};
use pvkit_abi::status::CallError;
use pvkit_core::{GuestAddr, GuestMemory, Outcome};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use zerocopy::{FromZeros, IntoBytes};

/// Rounds that completing an instruction may take: a 16-byte store to nowhere comes in two pieces.
const MAX_SETTLE: u32 = 8;

/// Where a vCPU begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub entry: u64,
    pub stack_top: u64,
    pub boot_info: u64,
    pub argument: u64,
}

/// Why the guest left, with what is needed to answer.
enum Exit {
    Hypercall { number: u32 },
    Stray,
    Halt,
    Shutdown,
    Internal(u32),
    Kicked,
    Other(String),
}

/// Whether the loop goes on, and whether all registers may be changed now.
enum Next {
    Continue { settled: bool },
    End(End),
}

/// A virtual CPU, on its own thread.
pub struct Vcpu<'a> {
    fd: VcpuFd,
    number: u32,
    cpl: u8,
    machine: &'a KvmMachine,
}

impl<'a> Vcpu<'a> {
    /// Puts the vCPU into the PV entry state.
    ///
    /// # Errors
    /// What KVM says.
    pub fn new(mut fd: VcpuFd, number: u32, cpl: u8, start: Start, machine: &'a KvmMachine) -> io::Result<Self> {
        fd.set_cpuid2(&super::machine::cpuid_of(&machine.cpuid, number)).map_err(io::Error::from)?;
        let mut sregs = fd.get_sregs().map_err(io::Error::from)?;
        (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, boot::PML4, CR4, EFER);
        let (code, data) = match cpl {
            3 => (selector::USER_CODE, selector::USER_DATA),
            _ => (selector::KERNEL_CODE, selector::KERNEL_DATA),
        };
        sregs.cs = segment(code, 0xb, cpl);
        for register in [&mut sregs.ss, &mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs] {
            *register = segment(data, 0x3, cpl);
        }
        sregs.tr = task_segment(number);
        sregs.gdt = kvm_dtable { base: boot::GDT, limit: boot::GDT_BYTES as u16 - 1, padding: [0; 3] };
        sregs.idt = kvm_dtable { base: boot::IDT, limit: if machine.has_gates { 0xfff } else { 0 }, padding: [0; 3] };
        fd.set_sregs(&sregs).map_err(io::Error::from)?;
        let iopl = if cpl == 3 { RFLAGS_IOPL3 } else { 0 };
        let regs = kvm_regs {
            rip: start.entry,
            rsp: (start.stack_top & !15).wrapping_sub(8),
            rdi: start.boot_info,
            rsi: u64::from(number),
            rdx: start.argument,
            rflags: RFLAGS_ENTRY | iopl,
            ..Default::default()
        };
        fd.set_regs(&regs).map_err(io::Error::from)?;
        fd.set_sync_valid_reg(SyncReg::Register);
        if cpl == 0 {
            // A CPL 0 guest can lower its own privilege, so each call looks. A CPL 3 guest cannot raise it: descriptor
            // and page tables are out of its reach, and out of the reach of every argument it hands to the host.
            fd.set_sync_valid_reg(SyncReg::SystemRegister);
        }
        Ok(Self { fd, number, cpl, machine })
    }

    /// Runs until the guest ends or the machine stops. The first vCPU to end decides how the guest ended.
    pub fn run(mut self) -> End {
        let machine = self.machine;
        let Some(kicker) = machine.threads.kicker(self.number) else { return End::Stopped };
        let immediate_exit = &raw mut self.fd.get_kvm_run().immediate_exit;
        // SAFETY: the byte lies in the `kvm_run` mapping that `self.fd` owns; `self` lives to the end of this function
        // and the registration is dropped before it, on this thread.
        let registration = unsafe { Registration::new(kicker, immediate_exit) };
        let end = loop {
            let exit = self.enter();
            // After the exit and before looking at the flags: a kick from now on sets it again.
            self.fd.set_kvm_immediate_exit(0);
            if machine.host.gate(self.number).is_stopped() {
                break End::Stopped;
            }
            match self.handle(exit) {
                Next::Continue { settled } => self.deliver_upcall(settled),
                Next::End(end) => break end,
            }
        };
        drop(registration);
        end
    }

    fn enter(&mut self) -> Exit {
        let counts = &self.machine.host.exits;
        let exit = match self.fd.run() {
            Ok(VcpuExit::IoOut(port, _)) => {
                let hypercall = port == HYPERCALL_PORT;
                if hypercall {
                    exit::hypercall_number(&mut self.fd).map_or(Exit::Stray, |number| Exit::Hypercall { number })
                } else {
                    Exit::Stray
                }
            }
            Ok(VcpuExit::IoIn(_, data)) | Ok(VcpuExit::MmioRead(_, data)) => {
                data.fill(0xff);
                Exit::Stray
            }
            Ok(VcpuExit::MmioWrite(..)) => Exit::Stray,
            Ok(VcpuExit::Hlt) => Exit::Halt,
            Ok(VcpuExit::Shutdown) => Exit::Shutdown,
            Ok(VcpuExit::InternalError) => Exit::Internal(0),
            Ok(VcpuExit::FailEntry(reason, _)) => {
                Exit::Other(format!("KVM refused to enter the guest, reason {reason:#x}"))
            }
            Ok(other) => Exit::Other(format!("unexpected exit {other:?}")),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Exit::Kicked,
            Err(error) => Exit::Other(format!("KVM_RUN: {error}")),
        };
        let exit = match exit {
            Exit::Internal(_) => Exit::Internal(exit::internal_suberror(&mut self.fd)),
            other => other,
        };
        let counter = match &exit {
            Exit::Hypercall { .. } => &counts.hypercall,
            Exit::Stray => &counts.stray,
            Exit::Halt => &counts.halt,
            Exit::Kicked => &counts.kick,
            Exit::Shutdown | Exit::Internal(_) | Exit::Other(_) => &counts.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        exit
    }

    fn handle(&mut self, exit: Exit) -> Next {
        match exit {
            Exit::Hypercall { number } => self.hypercall(number),
            Exit::Stray => {
                self.machine.host.log_stray();
                Next::Continue { settled: false }
            }
            Exit::Halt => match self.machine.host.gate(self.number).block(Duration::from_secs(3600)) {
                Wake::Stopped => Next::End(End::Stopped),
                Wake::Event | Wake::Deadline => Next::Continue { settled: true },
            },
            Exit::Kicked => Next::Continue { settled: true },
            Exit::Shutdown => Next::End(fault::shutdown(&self.fd)),
            Exit::Internal(suberror) => Next::End(fault::internal(&self.fd, suberror)),
            Exit::Other(what) => Next::End(End::Crash { message: what, registers: fault::registers(&self.fd) }),
        }
    }

    fn hypercall(&mut self, number: u32) -> Next {
        let regs = self.fd.sync_regs().regs;
        let args = [regs.rdi, regs.rsi, regs.r8, regs.r9, regs.r10];
        let call = Call(number);
        let cpl = if self.cpl == 3 { 3 } else { self.fd.sync_regs().sregs.ss.dpl };
        if call == Call::SCHED_EXCEPTION && (cpl == 0 || self.cpl == 3) {
            return Next::End(fault::exception(&self.fd, &self.machine.host, args[0], args[1]));
        }
        match self.machine.host.hypercall(self.number, cpl, call, args) {
            Outcome::Return(result) => self.answer(result),
            Outcome::Block { timeout_ns } => {
                match self.machine.host.gate(self.number).block(Duration::from_nanos(timeout_ns)) {
                    Wake::Event => self.answer(0),
                    Wake::Deadline => self.answer(1),
                    Wake::Stopped => Next::End(End::Stopped),
                }
            }
            Outcome::Yield => {
                std::thread::yield_now();
                self.answer(0)
            }
            Outcome::WallClock => self.answer(boot::wall_clock_ns() as i64),
            Outcome::UpcallReturn(frame) => self.upcall_return(&frame),
            Outcome::Shutdown { reason: ShutdownReason::REBOOT, .. } => Next::End(End::Reboot),
            Outcome::Shutdown { code, .. } => Next::End(End::PowerOff { code }),
            Outcome::Crash { message } => {
                Next::End(End::Crash { message: printable(&message), registers: fault::registers(&self.fd) })
            }
        }
    }

    /// Sets RAX, the only register that may change while the `out` is pending.
    fn answer(&mut self, result: i64) -> Next {
        self.fd.sync_regs_mut().regs.rax = result as u64;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        Next::Continue { settled: false }
    }

    /// Completes a pending instruction: re-enters with `immediate_exit` until KVM says that nothing is left to do.
    fn settle(&mut self) -> bool {
        for _ in 0..MAX_SETTLE {
            self.fd.set_kvm_immediate_exit(1);
            self.machine.host.exits.settle.fetch_add(1, Ordering::Relaxed);
            let done = matches!(self.fd.run(), Err(error) if error.errno() == libc::EINTR);
            self.fd.set_kvm_immediate_exit(0);
            if done {
                return true;
            }
        }
        false
    }

    fn deliver_upcall(&mut self, settled: bool) {
        let gate = self.machine.host.gate(self.number);
        if gate.upcall_due().is_none() || self.runs_user_code() || !(settled || self.settle()) {
            return;
        }
        if let Some(upcall) = gate.upcall_due()
            && self.switch(upcall).is_err()
        {
            gate.set_upcall(None);
            let count = self.machine.host.exits.lost_upcalls.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                let number = self.number;
                self.machine.host.log(format!(
                    "vCPU {number}: the upcall stack is not in guest memory; upcalls removed ({count} such so far)"
                ));
            }
        }
    }

    /// Whether a CPL 0 guest is in code of its own at another level: its kernel's upcall entry cannot be entered from
    /// there, as an upcall changes no segments. The event waits until the kernel runs again.
    fn runs_user_code(&self) -> bool {
        self.cpl == 0 && self.fd.sync_regs().sregs.ss.dpl != 0
    }

    /// Stores the interrupted registers below the upcall stack's top and goes to the upcall entry, masked.
    fn switch(&mut self, upcall: Upcall) -> Result<(), pvkit_core::Fault> {
        let regs = self.fd.sync_regs().regs;
        let mut frame = UpcallFrame::new_zeroed();
        frame.gpr = [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rsp, regs.rbp, regs.r8, regs.r9, regs.r10,
            regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        (frame.rip, frame.rflags) = (regs.rip, regs.rflags);
        let at = (upcall.stack_top & !15).wrapping_sub(size_of::<UpcallFrame>() as u64);
        self.machine.host.ram.write(GuestAddr(at), frame.as_bytes())?;
        self.machine.host.gate(self.number).set_mask(true);
        self.machine.host.exits.upcalls.fetch_add(1, Ordering::Relaxed);
        self.fd.sync_regs_mut().regs = kvm_regs {
            rip: upcall.entry,
            rsp: at.wrapping_sub(8),
            rdi: at,
            rflags: RFLAGS_ENTRY | regs.rflags & RFLAGS_IOPL3,
            ..Default::default()
        };
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        Ok(())
    }

    /// Puts back every register of the frame and unmasks; the next upcall, if one is due, follows at once.
    fn upcall_return(&mut self, frame: &UpcallFrame) -> Next {
        if !canonical(frame.rip) || !canonical(frame.gpr[6]) {
            return self.answer(CallError::INVALID.to_result());
        }
        if !self.settle() {
            return Next::End(End::Crash {
                message: "the return from an upcall could not be completed".into(),
                registers: fault::registers(&self.fd),
            });
        }
        let old = self.fd.sync_regs().regs.rflags;
        let [rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15] = frame.gpr;
        let rflags = frame.rflags & RFLAGS_GUEST | old & RFLAGS_IOPL3 | RFLAGS_ENTRY;
        let rip = frame.rip;
        self.fd.sync_regs_mut().regs =
            kvm_regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags };
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        self.machine.host.gate(self.number).set_mask(false);
        Next::Continue { settled: true }
    }
}

const _: () = assert!(KVM_SYNC_X86_REGS == 1);

/// Whether an address is canonical with four-level paging.
const fn canonical(address: u64) -> bool {
    let top = (address as i64) >> 47;
    top == 0 || top == -1
}

fn segment(selector: u16, kind: u8, dpl: u8) -> kvm_segment {
    let code = kind & 8 != 0;
    kvm_segment {
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        dpl,
        db: u8::from(!code),
        s: 1,
        l: u8::from(code),
        g: 1,
        ..Default::default()
    }
}

fn task_segment(vcpu: u32) -> kvm_segment {
    kvm_segment {
        base: boot::tss_of(vcpu),
        limit: boot::TSS_LIMIT,
        selector: selector::TASK,
        type_: 11,
        present: 1,
        ..Default::default()
    }
}
