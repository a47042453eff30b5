//! The bulk copy as a loop of relaxed 64-bit atomics, for Miri and for architectures without an audited instruction.
//!
//! Every access is a whole aligned word, as in the rest of the crate: atomics of different sizes that race are
//! undefined behaviour too. At the ends of a run the word's other bytes are read and dropped, or kept by an
//! exclusive-or that is zero in them.

use core::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = size_of::<AtomicU64>();

/// Copies shared bytes into private ones.
///
/// # Safety
/// The aligned words that contain the `into.len()` bytes from `from` are valid for atomic reads.
pub(crate) unsafe fn read(from: *const u8, into: &mut [u8]) {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = from.wrapping_add(done);
        // SAFETY: `done < into.len()`, so this word holds one of the bytes that the caller vouches for.
        let (word, skip) = unsafe { word_of(at) };
        let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        done += bytes.iter().skip(skip).zip(rest).map(|(byte, slot)| *slot = *byte).count();
    }
}

/// Copies private bytes into shared ones.
///
/// # Safety
/// The aligned words that contain the `from.len()` bytes from `to` are valid for atomic reads and writes.
pub(crate) unsafe fn write(from: &[u8], to: *mut u8) {
    // SAFETY: the caller's promise covers `from.len()` bytes.
    unsafe { store(to, from.len(), |i| from.get(i).copied().unwrap_or(0)) };
}

/// Stores `length` zero bytes.
///
/// # Safety
/// The aligned words that contain the `length` bytes from `to` are valid for atomic reads and writes.
pub(crate) unsafe fn zero(to: *mut u8, length: usize) {
    // SAFETY: the caller's promise, handed on.
    unsafe { store(to, length, |_| 0) };
}

/// # Safety
/// As for [`zero`].
unsafe fn store(to: *mut u8, length: usize, byte: impl Fn(usize) -> u8) {
    let mut done = 0;
    while done < length {
        // SAFETY: `done < length`, so this word holds one of the bytes that the caller vouches for.
        let (word, skip) = unsafe { word_of(to.wrapping_add(done)) };
        let before = word.load(Ordering::Relaxed);
        let mut bytes = before.to_ne_bytes();
        let count =
            bytes.iter_mut().skip(skip).take(length - done).enumerate().map(|(i, slot)| *slot = byte(done + i)).count();
        let after = u64::from_ne_bytes(bytes);
        if count == WORD {
            word.store(after, Ordering::Relaxed);
        } else {
            word.fetch_xor(before ^ after, Ordering::Relaxed);
        }
        done += count;
    }
}

/// The aligned word that contains the byte at `at`, and the byte's place in it.
///
/// # Safety
/// That word is valid for atomic accesses for as long as the result is used.
unsafe fn word_of<'a>(at: *const u8) -> (&'a AtomicU64, usize) {
    let skip = at.addr() % WORD;
    let word = at.wrapping_sub(skip).cast::<AtomicU64>();
    // SAFETY: aligned by the subtraction; valid, and shared only by atomics of this size, by the caller's promise.
    (unsafe { &*word }, skip)
}
