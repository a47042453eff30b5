//! The image's heap: one run of memory under a kept allocator.
#![allow(unsafe_code, reason = "guest arch: the heap's memory is named by its address; listed in SAFETY.md")]

use pvkit_shared_memory::SharedBytes;
use talc::TalcLock;
use talc::source::Manual;

#[global_allocator]
static HEAP: TalcLock<spin::Mutex<()>, Manual> = TalcLock::new(Manual);

/// Gives the heap its memory. Called once, before anything is allocated.
pub fn give(memory: SharedBytes) {
    // SAFETY: the bytes are mapped for ever, nothing else names them after this call, and `memory` is not used again:
    // they are private to the allocator from here on.
    unsafe { HEAP.lock().claim(memory.as_ptr(), memory.len()) };
}
