//! A run of shared bytes.

use crate::copy;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

/// An access outside a run of shared bytes. The peer chose the numbers, or the caller miscounted; nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

impl core::fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("access outside the shared bytes, or not aligned: nothing was touched")
    }
}

impl core::error::Error for OutOfRange {}

/// A run of memory that others may read and write at any time.
///
/// Copying the handle does not copy the bytes. There is no way to borrow them as bytes; words are atomics of 64 bits,
/// and of no other size, as atomics of different sizes that race are undefined behaviour.
#[derive(Clone, Copy, Debug)]
pub struct SharedBytes {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the handle is a pointer and a length. Every access through it is atomic or by the audited copy, which are
// sound from any thread; that the memory stays mapped is promised to `from_raw` without regard to threads.
unsafe impl Send for SharedBytes {}
// SAFETY: as for `Send`; the handle has no interior state.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// Names `length` bytes from `start`.
    ///
    /// # Safety
    /// The bytes, and the rest of the aligned eight-byte words that contain the first and the last of them, lie in one
    /// mapping of at most `isize::MAX` bytes that stays readable and writable while this handle, a copy or a part of it
    /// is used. All parties inside this program access them only through this crate (others may do what they like).
    #[must_use]
    pub const unsafe fn from_raw(start: NonNull<u8>, length: usize) -> Self {
        Self { start, length }
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Address of the first byte, for system calls that fill or drain memory in the kernel (`preadv`, `pwritev`).
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The part `offset .. offset + length`.
    ///
    /// # Errors
    /// [`OutOfRange`] if it is not all inside.
    #[inline]
    pub fn part(&self, offset: usize, length: usize) -> Result<Self, OutOfRange> {
        let end = offset.checked_add(length).ok_or(OutOfRange)?;
        if end > self.length {
            return Err(OutOfRange);
        }
        // SAFETY: `offset <= end <= self.length`, so the result is inside the run or one past its end.
        let start = unsafe { self.start.add(offset) };
        Ok(Self { start, length })
    }

    /// Copies bytes out, once. They may be torn if the peer writes meanwhile.
    ///
    /// # Errors
    /// [`OutOfRange`] if `offset .. offset + into.len()` is not all inside; nothing is copied.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.part(offset, into.len())?;
        // SAFETY: `from` is `into.len()` bytes that are mapped with the words around them (`from_raw`); `into` is
        // exclusively borrowed, so it does not overlap with memory that is accessed only through this crate.
        unsafe { copy::read(from.as_ptr(), into) };
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`OutOfRange`] if `offset .. offset + from.len()` is not all inside; nothing is copied.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfRange> {
        let to = self.part(offset, from.len())?;
        // SAFETY: `to` is `from.len()` bytes that are mapped with the words around them (`from_raw`); `from` is borrowed
        // private memory and does not overlap with memory that is accessed only through this crate.
        unsafe { copy::write(from, to.as_ptr()) };
        Ok(())
    }

    /// Stores zeroes.
    ///
    /// # Errors
    /// [`OutOfRange`] if `offset .. offset + length` is not all inside; nothing is written.
    pub fn zero(&self, offset: usize, length: usize) -> Result<(), OutOfRange> {
        let to = self.part(offset, length)?;
        // SAFETY: `to` is `length` bytes that are mapped with the words around them (`from_raw`).
        unsafe { copy::zero(to.as_ptr(), length) };
        Ok(())
    }

    /// The 64-bit word at `offset`.
    ///
    /// # Errors
    /// [`OutOfRange`] if it is not all inside or not aligned to eight bytes.
    #[inline]
    pub fn word(&self, offset: usize) -> Result<&AtomicU64, OutOfRange> {
        let word = self.part(offset, 8)?.start.cast::<AtomicU64>();
        if !word.is_aligned() {
            return Err(OutOfRange);
        }
        // SAFETY: eight mapped bytes (`from_raw`), aligned, and accessed by this program only atomically or by the
        // audited copy. The reference lives no longer than the borrow of the handle.
        Ok(unsafe { word.as_ref() })
    }
}
