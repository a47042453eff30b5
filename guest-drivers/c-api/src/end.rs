//! How a guest ends: on purpose, by a crash of its own, or by a panic of this library.

use crate::edge;
use crate::start::machine_in_use;
use core::ffi::c_void;
use pvkit_abi::hypercall::{Call, MAX_CRASH_MESSAGE, ShutdownReason};
use pvkit_guest_drivers::platform::Platform;

/// Ends the guest; `code` becomes the exit status of the run. Spins if `pvkit_init` was not called: there is no host to
/// ask.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_shutdown(code: u8) -> ! {
    if let Ok(machine) = machine_in_use() {
        let reason = u64::from(ShutdownReason::POWER_OFF.0);
        machine.hypercall(Call::SCHED_SHUTDOWN, [reason, code.into(), 0, 0, 0]);
    }
    last_words(b"the host refused to power the guest off")
}

/// Ends the guest with its last words, of which the host takes 1024 bytes, and its registers. Spins if `pvkit_init` was
/// not called.
///
/// # Safety
/// `text` is readable for `length` bytes, and nobody writes to them any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_crash(text: *const c_void, length: usize) -> ! {
    // SAFETY: as this function's caller vouches.
    last_words(unsafe { edge::readable(text, length) }.unwrap_or_default())
}

/// Through a page of the pool: the text itself may lie where the host cannot look.
fn last_words(text: &[u8]) -> ! {
    loop {
        if let Ok(machine) = machine_in_use() {
            let text = text.get(..MAX_CRASH_MESSAGE as usize).unwrap_or(text);
            let page = machine.allocate().ok().filter(|page| page.bytes.write(0, text).is_ok());
            let (address, length) = page.map_or((0, 0), |page| (page.address, text.len() as u64));
            machine.hypercall(Call::SCHED_CRASH, [address, length, 0, 0, 0]);
        }
        core::hint::spin_loop();
    }
}

/// Only where nothing unwinds: a build with std around it (tests, checks) has a handler already.
#[cfg(all(panic = "abort", not(test)))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    last_words(b"the guest drivers panicked: a bug of pvkit")
}
