//! The demo application on the in-process machine: the one crate that knows both halves.
//!
//! *Purpose.* [`main`] is what `pvkit_machine::Program::InProcess` runs. It makes the drivers' platform out of the
//! machine's doors, as the image crate makes it out of an `out` instruction.
#![forbid(unsafe_code)]

use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::DoorbellKind;
use pvkit_abi::discovery::{BootInfo, RegionKind};
use pvkit_abi::event::PENDING_WORDS;
use pvkit_abi::hypercall::{Call, MAX_BLOCK_NS};
use pvkit_guest_drivers::platform::identity::IdentityPages;
use pvkit_guest_drivers::platform::{Calls, Composed, Doorbell};
use pvkit_machine::InProcessPlatform;
use pvkit_shared_memory::SharedBytes;
use std::sync::atomic::Ordering;

/// Most bytes of pages that the drivers may hand out.
const SHARED_BYTES: usize = 16 << 20;

struct InProcessCalls<'a> {
    machine: &'a InProcessPlatform,
    area: SharedBytes,
}

impl InProcessCalls<'_> {
    /// Takes all pending events. True if there were any.
    fn take_pending(&self) -> bool {
        // ORDER: Acquire, pairs with the host's Release when it sets a bit.
        let take = |i: usize| self.area.word(i * 8).map_or(0, |word| word.swap(0, Ordering::Acquire));
        let taken: [u64; PENDING_WORDS] = std::array::from_fn(take);
        taken != [0; PENDING_WORDS]
    }
}

impl Calls for InProcessCalls<'_> {
    fn hypercall(&self, call: Call, args: [u64; 5]) -> i64 {
        self.machine.hypercall(call, args)
    }

    fn doorbell(&self, doorbell: Doorbell) {
        if doorbell.kind == DoorbellKind::TOKEN {
            self.machine.doorbell(doorbell.address);
        }
    }

    fn now(&self) -> u64 {
        self.machine.now()
    }

    fn wait(&self, deadline: u64) {
        if self.take_pending() {
            return;
        }
        let timeout = deadline.saturating_sub(self.now()).min(MAX_BLOCK_NS);
        if timeout > 0 {
            let _ = self.machine.hypercall(Call::SCHED_BLOCK, [timeout, 0, 0, 0, 0]);
            self.take_pending();
        }
    }

    fn boot_info(&self) -> &BootInfo {
        self.machine.boot_info()
    }
}

/// Runs the application; its result is the guest's exit status.
#[must_use]
pub fn main(machine: &InProcessPlatform, cmdline: &str) -> i32 {
    match platform(machine) {
        Some(platform) => unikernel_app::main(&platform, cmdline),
        None => {
            eprintln!("in-process guest: the machine's memory map is not what this guest was made for");
            1
        }
    }
}

fn platform(machine: &InProcessPlatform) -> Option<Composed<IdentityPages, InProcessCalls<'_>>> {
    let (memory, info) = (machine.memory()?, machine.boot_info());
    let base = memory.as_ptr().addr() as u64;
    let part = |address: u64, length| memory.part(usize::try_from(address.checked_sub(base)?).ok()?, length).ok();
    let area = part(info.vcpu_areas, PAGE_SIZE)?;
    let ram = info.regions.iter().take(info.region_count as usize).find(|region| region.kind == RegionKind::RAM)?;
    // What the host has set aside for it, if anything; else a part of memory.
    let shared = match machine.window() {
        Some(window) => window,
        None => part(ram.base, SHARED_BYTES.min(usize::try_from(ram.length).ok()?))?,
    };
    Some(Composed { pages: IdentityPages::new(shared), calls: InProcessCalls { machine, area } })
}
