//! A run of named memory handed out page by page: the body of every ready allocator.

use super::page_map::PageMap;
use super::{Extent, NoMemory, Page};
use pvkit_abi::PAGE_SIZE;
use pvkit_shared_memory::SharedBytes;

/// Pages out of one run. The run begins at a page boundary in guest-physical memory.
#[derive(Debug)]
pub(super) struct Pool<const WORDS: usize> {
    memory: SharedBytes,
    base: u64,
    map: PageMap<WORDS>,
}

impl<const WORDS: usize> Pool<WORDS> {
    /// Hands out `memory`, which the host sees at `base`. What does not fill a page at either end is left alone.
    pub(super) fn new(memory: SharedBytes, base: u64) -> Self {
        let page = PAGE_SIZE as u64;
        let skip = (base.wrapping_neg() % page) as usize;
        let usable = memory.len().saturating_sub(skip) / PAGE_SIZE * PAGE_SIZE;
        let inside = memory.part(skip, usable).or_else(|_| memory.part(0, 0)).unwrap_or(memory);
        Self { memory: inside, base: base.wrapping_add(skip as u64), map: PageMap::new() }
    }

    pub(super) fn pages(&self) -> usize {
        (self.memory.len() / PAGE_SIZE).min(WORDS * 64)
    }

    pub(super) fn take(&self) -> Result<Page, NoMemory> {
        let index = self.map.take(self.pages()).ok_or(NoMemory)?;
        let bytes = self.memory.part(index * PAGE_SIZE, PAGE_SIZE).map_err(|_| NoMemory)?;
        bytes.zero(0, PAGE_SIZE).map_err(|_| NoMemory)?;
        Ok(Page { bytes, address: self.base + (index * PAGE_SIZE) as u64 })
    }

    /// A page that is not of this pool, or was not taken, is ignored: its memory is then lost, never handed out twice.
    pub(super) fn give(&self, page: &Page) {
        let offset = page.address.wrapping_sub(self.base);
        if offset < self.memory.len() as u64 && offset.is_multiple_of(PAGE_SIZE as u64) {
            self.map.give(offset as usize / PAGE_SIZE);
        }
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { base: self.base, length: (self.pages() * PAGE_SIZE) as u64 }
    }
}

/// The [`super::Pages`] of an allocator that is a pool and nothing else.
macro_rules! pages_by_pool {
    ($name:ident) => {
        impl<const WORDS: usize> crate::platform::Pages for $name<WORDS> {
            fn allocate(&self) -> Result<crate::platform::Page, crate::platform::NoMemory> {
                self.0.take()
            }
            fn free(&self, page: crate::platform::Page) {
                self.0.give(&page);
            }
            fn shareable(&self) -> crate::platform::Extent {
                self.0.extent()
            }
        }
    };
}
pub(super) use pages_by_pool;
