//! The audited bulk copy: between private memory and memory that someone else may be writing.
//!
//! A plain `memcpy` of racing memory is undefined behaviour in Rust's memory model. On x86-64 the copy is one
//! `rep movsb`, opaque to the abstract machine like any access by a device. Elsewhere, and under Miri, it is a loop of
//! relaxed atomic words in `words.rs`. What is copied may be torn at any byte; the callers check the copy, never the
//! original.
//!
//! *Ordering.* Relaxed, byte by byte; the ring's Release and Acquire order a copy against the slots that name it. That
//! holds for `rep movsb` too: its stores may pass each other, but not a later store of the same processor (Intel SDM
//! volume 3, 9.2.4 "Fast-String Operation and Out-of-Order Stores"), and the compiler moves no access across the `asm!`.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod arch {
    /// Copies shared bytes into private ones.
    ///
    /// # Safety
    /// `from` is valid for reads of `into.len()` bytes and does not overlap `into`.
    pub unsafe fn read(from: *const u8, into: &mut [u8]) {
        // SAFETY: `rep movsb` touches exactly `len` bytes from each pointer: `from` by the caller's promise, `into` as
        // it is exclusively borrowed. The direction flag is clear on entry to any `asm!` block and is not changed.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") into.len() => _,
                inout("rsi") from => _,
                inout("rdi") into.as_mut_ptr() => _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Copies private bytes into shared ones.
    ///
    /// # Safety
    /// `to` is valid for writes of `from.len()` bytes and does not overlap `from`.
    pub unsafe fn write(from: &[u8], to: *mut u8) {
        // SAFETY: as for `read`, with the roles exchanged.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") from.len() => _,
                inout("rsi") from.as_ptr() => _,
                inout("rdi") to => _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Stores `length` zero bytes.
    ///
    /// # Safety
    /// `to` is valid for writes of `length` bytes.
    pub unsafe fn zero(to: *mut u8, length: usize) {
        // SAFETY: `rep stosb` writes exactly `length` bytes; the direction flag is as in `read`.
        unsafe {
            core::arch::asm!(
                "rep stosb",
                inout("rcx") length => _,
                inout("rdi") to => _,
                in("al") 0u8,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(any(not(target_arch = "x86_64"), miri))]
use crate::words as arch;

pub(crate) use arch::{read, write, zero};
