//! The audited bulk copy: between private memory and memory that someone else may be writing.
//!
//! A plain `memcpy` of racing memory is undefined behaviour in Rust's memory model. On x86-64 the copy is one
//! `rep movsb`, opaque to the abstract machine like any access by a device. Elsewhere, and under Miri, it is a loop of
//! relaxed atomic bytes. What is copied may be torn at any byte; the callers check the copy, never the original.

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod arch {
    /// Copies `length` bytes.
    ///
    /// # Safety
    /// Both runs are valid for `length` bytes (`from` for reads, `to` for writes) and the private one of the two is
    /// not accessed by anyone else. They do not overlap.
    pub unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
        // SAFETY: `rep movsb` touches exactly `length` bytes from each pointer, both valid by the caller's promise.
        // The direction flag is clear on entry to any function (System V AMD64 ABI 3.2.1) and is not changed.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rcx") length => _,
                inout("rsi") from => _,
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
        // SAFETY: as above, `rep stosb` writes exactly `length` bytes.
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
mod arch {
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Copies `length` bytes, each by a relaxed atomic load and a relaxed atomic store.
    ///
    /// # Safety
    /// Both runs are valid for `length` bytes (`from` for reads, `to` for writes) and are accessed by others only
    /// atomically. They do not overlap.
    pub unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
        for i in 0..length {
            // SAFETY: `i < length`, so the byte is inside the run that the caller vouches for.
            let source = unsafe { from.add(i) };
            // SAFETY: the byte is valid for reads; only loads happen through this reference. A byte is always aligned.
            let value = unsafe { (*source.cast::<AtomicU8>()).load(Ordering::Relaxed) };
            // SAFETY: as for `source`.
            let target = unsafe { to.add(i) };
            // SAFETY: the byte is valid for writes and shared only atomically.
            unsafe { (*target.cast::<AtomicU8>()).store(value, Ordering::Relaxed) };
        }
    }

    /// Stores `length` zero bytes.
    ///
    /// # Safety
    /// `to` is valid for writes of `length` bytes and is accessed by others only atomically.
    pub unsafe fn zero(to: *mut u8, length: usize) {
        for i in 0..length {
            // SAFETY: `i < length`.
            let target = unsafe { to.add(i) };
            // SAFETY: the byte is valid for writes and shared only atomically.
            unsafe { (*target.cast::<AtomicU8>()).store(0, Ordering::Relaxed) };
        }
    }
}

pub use arch::{copy, zero};
