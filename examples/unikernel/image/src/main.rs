//! The demo application as a PV guest image.
//!
//! *Purpose.* What stands between the host's first jump and [`unikernel_app::main`]: the note, the exception stubs, a
//! heap, and a platform made of the drivers' ready halves. The same file boots at CPL 3 and, built for the freestanding
//! target, at CPL 0.
#![no_std]
#![no_main]

mod arch;
#[cfg(not(target_os = "none"))]
mod builtins;
mod heap;
mod note;

use note::Note;
use pvkit_abi::bus::Class;
use pvkit_abi::discovery::NoteDevice;
use pvkit_abi::version::{CURRENT, Group};
use pvkit_guest_drivers::platform::Composed;
use pvkit_guest_drivers::platform::identity::IdentityPages;
use pvkit_guest_drivers::platform::x86::X86Calls;

/// Most bytes for pages that the host may be given; the heap has the rest.
const SHARED_BYTES: usize = 16 << 20;
/// Boot stack: SHA-256 and the file system reader keep buffers there.
const STACK_BYTES: u32 = 1024 * 1024;

#[unsafe(link_section = ".note.pvkit")]
#[used]
#[allow(unsafe_code, reason = "guest arch: a section name for the linker script; the note is plain data")]
static NOTE: Note = Note::new(
    STACK_BYTES,
    [Group::EVENT, Group::BUS, Group::GRANT, Group::SCHED],
    [NoteDevice { class: Class::CONSOLE, major: CURRENT.major, minor: CURRENT.minor, required: 1 }],
);

/// Where vCPU 0 begins, on the boot stack.
#[unsafe(no_mangle)]
#[allow(unsafe_code, reason = "guest arch: the entry symbol of the linker script; no other symbol has this name")]
extern "C" fn pvkit_start(boot_info: u64, _vcpu: u64, _argument: u64) -> ! {
    match start(boot_info) {
        Ok(code) => arch::power_off(code),
        Err(why) => arch::crash(why),
    }
}

fn start(boot_info: u64) -> Result<i32, &'static str> {
    let memory = arch::boot_memory(boot_info)?;
    let shared_bytes = if memory.window.is_some() { 0 } else { SHARED_BYTES.min(memory.ram.len() / 2) };
    let shared = memory.ram.part(0, shared_bytes).map_err(|_| "no memory to share")?;
    let shared = memory.window.unwrap_or(shared);
    let rest = memory.ram.part(shared_bytes, memory.ram.len() - shared_bytes).map_err(|_| "no memory for a heap")?;
    heap::give(rest);
    let calls = X86Calls::new(&memory.info, memory.vcpu_area).map_err(|_| "boot info: no transport, port or clock")?;
    let platform = Composed { pages: IdentityPages::<64>::new(shared), calls };
    Ok(unikernel_app::main(&platform, memory.cmdline()))
}
