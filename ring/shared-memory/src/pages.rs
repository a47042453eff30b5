//! A list of shared pages that reads as one run of words.

use crate::SharedBytes;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

/// Bytes of a page.
const PAGE: usize = 4096;
/// log2 of [`PAGE`].
const PAGE_SHIFT: u32 = PAGE.trailing_zeros();
/// Most pages of one area: a header and 4096 slots of 32 bytes.
const MAX_PAGES: usize = 33;

/// More pages than one area can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyPages;

impl core::fmt::Display for TooManyPages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "an area is 1 to {MAX_PAGES} whole aligned pages")
    }
}

impl core::error::Error for TooManyPages {}

/// Pages of shared memory in an order of their own, addressed as one run. Need not be contiguous.
#[derive(Clone, Copy, Debug)]
pub struct SharedPages {
    /// The first `count` are there.
    pages: [Option<NonNull<u8>>; MAX_PAGES],
    count: usize,
}

// SAFETY: as for `SharedBytes`, of which this is a list.
unsafe impl Send for SharedPages {}
// SAFETY: as for `SharedBytes`, of which this is a list.
unsafe impl Sync for SharedPages {}

impl SharedPages {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: [None; MAX_PAGES], count: 0 }
    }

    /// Appends every whole page of `bytes`.
    ///
    /// # Errors
    /// [`TooManyPages`] if the list would grow beyond its bound, or if `bytes` does not start at a multiple of eight
    /// bytes or has no whole page; the list is unchanged.
    pub fn push(&mut self, bytes: SharedBytes) -> Result<(), TooManyPages> {
        let more = bytes.len() / PAGE;
        if more == 0 || self.count + more > MAX_PAGES || bytes.word(0).is_err() {
            return Err(TooManyPages);
        }
        for page in 0..more {
            let part = bytes.part(page * PAGE, PAGE).map_err(|_| TooManyPages)?;
            *self.pages.get_mut(self.count).ok_or(TooManyPages)? = NonNull::new(part.as_ptr());
            self.count += 1;
        }
        Ok(())
    }

    /// Bytes in all pages.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count * PAGE
    }

    /// Whether there are no pages.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The 64-bit word at byte `offset`, or `None` if it lies outside or is not aligned.
    #[inline]
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<&AtomicU64> {
        self.words(offset, 1)?.first()
    }

    /// `count` 64-bit words from byte `offset`, or `None` if they lie outside, cross a page or are not aligned.
    #[inline]
    #[must_use]
    pub fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let inside = offset % PAGE;
        if !inside.is_multiple_of(8) || count > (PAGE - inside) / 8 {
            return None;
        }
        let page = (*self.pages.get(offset >> PAGE_SHIFT)?)?;
        // SAFETY: `inside < PAGE`, so the result is inside the page.
        let start = unsafe { page.add(inside) }.cast::<AtomicU64>();
        // SAFETY: `inside + count * 8 <= PAGE`, so the words are inside the page. It came from a `SharedBytes`, whose maker
        // vouches that it is mapped; it starts at a multiple of eight (`push`) and so does `inside`; all accesses in this
        // program are atomic or by the audited copy. The slice lives no longer than the borrow of the list.
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), count) })
    }
}

impl Default for SharedPages {
    fn default() -> Self {
        Self::new()
    }
}
