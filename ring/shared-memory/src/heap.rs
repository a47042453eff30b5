//! Shared pages on the heap, for tests and for the in-process machine.
//!
//! A [`SharedBytes`] can be copied and outlives its owner, so memory that was once handed out as shared is never given
//! back to the allocator: dropped pages go to a pool for the next [`HeapPages`]. A stale handle can therefore disturb a
//! later owner, as any peer can, but never reach memory that is something else.

use crate::{SharedBytes, SharedPages, TooManyPages};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

const PAGE: usize = 4096;

/// Runs that are not in use at the moment.
static POOL: Mutex<Vec<SharedBytes>> = Mutex::new(Vec::new());
/// Runs that [`HeapPages::leak`] gave away. Kept only so that leak checkers find them reachable.
static LEAKED: Mutex<Vec<SharedBytes>> = Mutex::new(Vec::new());

/// Whole pages that are zero at first, returned to the pool at drop.
#[derive(Debug)]
pub struct HeapPages {
    bytes: SharedBytes,
}

impl HeapPages {
    /// `count` contiguous zeroed pages, at least one.
    ///
    /// Aborts, as `Vec` does, if the allocator has no memory.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let length = count.max(1).saturating_mul(PAGE);
        let bytes = from_pool(length).unwrap_or_else(|| from_allocator(length));
        Self { bytes }
    }

    /// A name for all the bytes. It stays valid after the owner is dropped; the bytes then may become someone else's.
    #[must_use]
    pub const fn bytes(&self) -> SharedBytes {
        self.bytes
    }

    /// A name for the same memory as a list of pages. Keep the owner as long: of a temporary the pages go back to the
    /// pool at once (see [`HeapPages::leak_pages`]).
    ///
    /// # Errors
    /// [`TooManyPages`] if there are more than an area can have.
    pub fn pages(&self) -> Result<SharedPages, TooManyPages> {
        let mut pages = SharedPages::new();
        pages.push(self.bytes)?;
        Ok(pages)
    }

    /// As [`HeapPages::pages`], and gives the memory away for the rest of the program.
    ///
    /// # Errors
    /// [`TooManyPages`] if there are more than an area can have.
    pub fn leak_pages(self) -> Result<SharedPages, TooManyPages> {
        let pages = self.pages()?;
        let _ = self.leak();
        Ok(pages)
    }

    /// Gives the memory away for the rest of the program.
    #[must_use]
    pub fn leak(self) -> SharedBytes {
        let bytes = self.bytes;
        core::mem::forget(self);
        LEAKED.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        bytes
    }
}

impl Drop for HeapPages {
    fn drop(&mut self) {
        POOL.lock().unwrap_or_else(PoisonError::into_inner).push(self.bytes);
    }
}

fn from_pool(length: usize) -> Option<SharedBytes> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let place = pool.iter().position(|bytes| bytes.len() == length)?;
    let bytes = pool.swap_remove(place);
    bytes.zero(0, length).ok()?;
    Some(bytes)
}

fn from_allocator(length: usize) -> SharedBytes {
    let Ok(layout) = Layout::from_size_align(length, PAGE) else { handle_alloc_error(Layout::new::<[u8; PAGE]>()) };
    // SAFETY: `length` is at least a page (`new`), so the layout is not of size zero.
    let start = unsafe { alloc_zeroed(layout) };
    let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
    // SAFETY: `layout.size()` bytes that were allocated just now and are never freed; whole aligned words, being pages;
    // nobody else has the pointer, so all accesses go through the handle.
    unsafe { SharedBytes::from_raw(start, layout.size()) }
}
