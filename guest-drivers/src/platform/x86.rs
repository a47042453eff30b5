//! Hypercalls, doorbells, clock and sleep of an x86-64 PV guest.
//!
//! *Purpose.* The call half of a platform for images that run on the KVM machine, at CPL 3 (IOPL 3) or CPL 0.
//!
//! *Owners.* The pending words of the vCPU's area are taken here, in [`X86Calls::wait`], or by the kernel's upcall
//! handler through [`X86Calls::take_pending`].
#![allow(unsafe_code, reason = "guest arch: port output and the time-stamp counter; listed in SAFETY.md")]

use super::{Calls, Doorbell};
use core::sync::atomic::Ordering;
use pvkit_abi::bus::DoorbellKind;
use pvkit_abi::discovery::{BootInfo, Transport};
use pvkit_abi::event::PENDING_WORDS;
use pvkit_abi::hypercall::{Call, MAX_BLOCK_NS};
use pvkit_shared_memory::SharedBytes;

/// Why this half cannot be used with what the host said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Hypercalls do not trap by a port.
    Transport(Transport),
    /// The hypercall port is not a port number.
    Port(u32),
    /// The host forbids the time-stamp counter, and there is no other clock.
    NoClock,
    /// The vCPU area is shorter than its pending words.
    Area,
}

impl core::fmt::Display for Unusable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Transport(transport) => write!(f, "hypercalls by {transport:?} are not for this platform"),
            Self::Port(port) => write!(f, "hypercall port {port:#x} is not a port"),
            Self::NoClock => f.write_str("the host gives no time-stamp counter frequency; there is no clock"),
            Self::Area => f.write_str("the vCPU area is too short"),
        }
    }
}

/// The call half for one vCPU.
#[derive(Debug)]
pub struct X86Calls {
    boot: BootInfo,
    port: u16,
    area: SharedBytes,
    /// Nanoseconds per tick, in 2^-32.
    scale: u64,
    spin: u32,
}

impl X86Calls {
    /// `area` is the calling vCPU's [`pvkit_abi::event::VcpuArea`].
    ///
    /// # Errors
    /// [`Unusable`] names what the host's boot info lacks.
    pub fn new(boot: &BootInfo, area: SharedBytes) -> Result<Self, Unusable> {
        if boot.transport != Transport::PORT_REGISTERS {
            return Err(Unusable::Transport(boot.transport));
        }
        let port = u16::try_from(boot.port).map_err(|_| Unusable::Port(boot.port))?;
        let scale = (1_000_000u64 << 32).checked_div(boot.tsc_khz).ok_or(Unusable::NoClock)?;
        area.part(0, PENDING_WORDS * 8).map_err(|_| Unusable::Area)?;
        Ok(Self { boot: *boot, port, area, scale, spin: super::DEFAULT_SPIN })
    }

    /// Looks before a sleep; 0 where vCPUs outnumber CPUs.
    #[must_use]
    pub const fn with_spin(mut self, looks: u32) -> Self {
        self.spin = looks;
        self
    }

    /// Takes all pending ports of this vCPU.
    pub fn take_pending(&self) -> [u64; PENDING_WORDS] {
        let mut taken = [0; PENDING_WORDS];
        for (i, slot) in taken.iter_mut().enumerate() {
            if let Ok(word) = self.area.word(i * 8) {
                // ORDER: Acquire, pairs with the host's Release when it sets a bit; what was published before the
                // event is visible. Looked at first because an exchange dirties the line.
                if word.load(Ordering::Relaxed) != 0 {
                    *slot = word.swap(0, Ordering::Acquire);
                }
            }
        }
        taken
    }
}

impl Calls for X86Calls {
    fn hypercall(&self, call: Call, args: [u64; 5]) -> i64 {
        let [a, b, c, d, e] = args;
        let result: u64;
        // SAFETY: port output traps to the host, which changes only rax, and memory only as the call documents: memory
        // that the caller named by address, reached on this side as shared bytes.
        unsafe {
            core::arch::asm!(
                "out dx, eax",
                in("dx") self.port,
                inlateout("rax") u64::from(call.0) => result,
                in("rdi") a,
                in("rsi") b,
                in("r8") c,
                in("r9") d,
                in("r10") e,
                options(nostack, preserves_flags),
            );
        }
        result as i64
    }

    /// Memory doorbells are not rung: a guest that stores where the host says would let the host write its memory.
    fn doorbell(&self, doorbell: Doorbell) {
        if doorbell.kind != DoorbellKind::PORT {
            return;
        }
        let Ok(port) = u16::try_from(doorbell.address) else { return };
        // SAFETY: port output to a doorbell, checked to lie in the doorbell range; it changes no register or memory.
        unsafe {
            core::arch::asm!("out dx, eax", in("dx") port, in("eax") 1u32, options(nostack, preserves_flags));
        }
    }

    fn now(&self) -> u64 {
        // SAFETY: the instruction exists on every x86-64, and the host allows it: it gave the frequency (`new`).
        let ticks = unsafe { core::arch::x86_64::_rdtsc() };
        let since = ticks.wrapping_sub(self.boot.tsc_at_start);
        ((u128::from(since) * u128::from(self.scale)) >> 32) as u64
    }

    fn wait(&self, deadline: u64) {
        if self.take_pending() != [0; PENDING_WORDS] {
            return;
        }
        let timeout = deadline.saturating_sub(self.now()).min(MAX_BLOCK_NS);
        if timeout > 0 {
            self.hypercall(Call::SCHED_BLOCK, [timeout, 0, 0, 0, 0]);
            self.take_pending();
        }
    }

    fn boot_info(&self) -> &BootInfo {
        &self.boot
    }

    fn spin_limit(&self) -> u32 {
        self.spin
    }
}
