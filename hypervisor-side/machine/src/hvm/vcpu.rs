//! One vCPU of a fully virtualized machine: its thread's loop and its exits. Interrupts, halts and timers stay in KVM.
#![allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]

use super::machine::HvmMachine;
use super::ports::{self, Written};
use crate::kvm::kick::Registration;
use crate::kvm::{exit, fault};
use crate::report::{End, printable};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};
use pvkit_abi::discovery::HYPERCALL_PORT;
use pvkit_abi::hypercall::{Call, ShutdownReason};
use pvkit_abi::status::CallError;
use pvkit_core::Outcome;
use std::sync::atomic::{AtomicU64, Ordering};

/// A vCPU, on its own thread.
pub struct Vcpu<'a> {
    fd: VcpuFd,
    number: u32,
    machine: &'a HvmMachine,
}

/// What is left to do when the borrow of an exit is over.
enum Rest {
    Nothing,
    Hypercall,
    End(End),
    Died,
    Internal,
}

impl<'a> Vcpu<'a> {
    pub fn new(mut fd: VcpuFd, number: u32, machine: &'a HvmMachine) -> Self {
        // A hypercall needs registers and the caller's privilege level; no other exit looks at them.
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::SystemRegister);
        Self { fd, number, machine }
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
            let rest = self.enter();
            // After the exit and before looking at the flag: a kick from now on sets it again.
            self.fd.set_kvm_immediate_exit(0);
            if machine.is_stopped() {
                break End::Stopped;
            }
            if let Some(end) = self.finish(rest) {
                break end;
            }
        };
        drop(registration);
        end
    }

    fn enter(&mut self) -> Rest {
        let (machine, counts) = (self.machine, &self.machine.host.exits);
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let device = |found: bool| count(if found { &counts.device } else { &counts.stray });
        match self.fd.run() {
            Ok(VcpuExit::IoOut(HYPERCALL_PORT, _)) => return Rest::Hypercall,
            Ok(VcpuExit::IoOut(port, data)) => match ports::write(port, data, &machine.platform, &machine.serial) {
                Written::Stray => device(false),
                Written::Done(consequence) => {
                    machine.carry_out(consequence);
                    device(true)
                }
                Written::End(end) => return Rest::End(end),
            },
            Ok(VcpuExit::IoIn(port, data)) => device(ports::read(port, data, &machine.platform, &machine.serial)),
            Ok(VcpuExit::MmioRead(address, data)) => {
                data.fill(0xff);
                device(machine.platform.read(address, data))
            }
            Ok(VcpuExit::MmioWrite(address, data)) => match machine.platform.write(address, data) {
                Some(consequence) => {
                    machine.carry_out(consequence);
                    device(true)
                }
                None => device(false),
            },
            // In-kernel controllers keep halts to themselves; what comes all the same is no reason to end.
            Ok(VcpuExit::Hlt | VcpuExit::IrqWindowOpen | VcpuExit::Intr) => count(&counts.halt),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => count(&counts.kick),
            Ok(VcpuExit::Shutdown) => return Rest::Died,
            Ok(VcpuExit::InternalError) => return Rest::Internal,
            Ok(VcpuExit::FailEntry(reason, _)) => {
                return Rest::End(crash(format!("KVM refused to enter the guest, reason {reason:#x}")));
            }
            Ok(other) => return Rest::End(crash(format!("unexpected exit {other:?}"))),
            Err(error) => return Rest::End(crash(format!("KVM_RUN: {error}"))),
        };
        Rest::Nothing
    }

    fn finish(&mut self, rest: Rest) -> Option<End> {
        let counts = &self.machine.host.exits;
        match rest {
            Rest::Nothing => None,
            Rest::Hypercall => match exit::hypercall_number(&mut self.fd) {
                Some(number) => {
                    counts.hypercall.fetch_add(1, Ordering::Relaxed);
                    self.hypercall(Call(number))
                }
                None => {
                    counts.stray.fetch_add(1, Ordering::Relaxed);
                    None
                }
            },
            Rest::Died => Some(fault::shutdown(&self.fd)),
            Rest::Internal => {
                let suberror = exit::internal_suberror(&mut self.fd);
                Some(fault::internal(&self.fd, suberror))
            }
            Rest::End(End::Crash { message, registers }) if registers.is_empty() => {
                Some(End::Crash { message, registers: fault::registers(&self.fd) })
            }
            Rest::End(end) => Some(end),
        }
    }

    fn hypercall(&mut self, call: Call) -> Option<End> {
        let state = self.fd.sync_regs();
        let (regs, level) = (state.regs, state.sregs.ss.dpl);
        let args = [regs.rdi, regs.rsi, regs.r8, regs.r9, regs.r10];
        let result = match self.machine.host.hypercall(self.number, level, call, args) {
            Outcome::Return(result) => result,
            Outcome::Yield => {
                std::thread::yield_now();
                0
            }
            Outcome::WallClock => crate::boot::wall_clock_ns() as i64,
            // The core refuses these to a guest without vCPU areas.
            Outcome::Block { .. } | Outcome::UpcallReturn(_) => CallError::UNSUPPORTED.to_result(),
            Outcome::Shutdown { reason: ShutdownReason::REBOOT, .. } => return Some(End::Reboot),
            Outcome::Shutdown { code, .. } => return Some(End::PowerOff { code }),
            Outcome::Crash { message } => {
                let registers = fault::registers(&self.fd);
                return Some(End::Crash { message: printable(&message), registers });
            }
        };
        // RAX is the only register that may change while the `out` is pending.
        self.fd.sync_regs_mut().regs.rax = result as u64;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        None
    }
}

fn crash(message: String) -> End {
    End::Crash { message, registers: String::new() }
}
