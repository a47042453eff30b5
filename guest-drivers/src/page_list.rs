//! A short list of pages without an allocator.

use crate::platform::{NoMemory, Page, Platform};
use pvkit_ring::Misuse;
use pvkit_shared_memory::SharedPages;

/// Up to `MAX` pages. Dropping it frees nothing: pages that the host may still write to must never be reused.
#[derive(Debug)]
pub(crate) struct PageList<const MAX: usize> {
    pages: [Option<Page>; MAX],
    count: usize,
}

impl<const MAX: usize> PageList<MAX> {
    pub(crate) const fn new() -> Self {
        Self { pages: [const { None }; MAX], count: 0 }
    }

    /// Appends `count` pages that `allocate` gives.
    ///
    /// # Errors
    /// [`NoMemory`] if there is none left or the list is full; what was appended stays.
    pub(crate) fn fill(&mut self, count: usize, allocate: impl Fn() -> Result<Page, NoMemory>) -> Result<(), NoMemory> {
        for _ in 0..count {
            let slot = self.pages.get_mut(self.count).ok_or(NoMemory)?;
            *slot = Some(allocate()?);
            self.count += 1;
        }
        Ok(())
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Page> {
        self.pages.iter().flatten()
    }

    pub(crate) fn last(&self) -> Option<&Page> {
        self.get(self.count.checked_sub(1)?)
    }

    /// Frees the last page. Only if the host has no more business with it.
    pub(crate) fn free_last(&mut self, platform: &impl Platform) {
        if let Some(page) = self.count.checked_sub(1).and_then(|last| self.pages.get_mut(last)?.take()) {
            self.count -= 1;
            platform.free(page);
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Page> {
        self.pages.get(index)?.as_ref()
    }

    /// The pages from `first` on, `count` of them, as one run of words.
    pub(crate) fn area(&self, first: usize, count: usize) -> Result<SharedPages, Misuse> {
        let mut area = SharedPages::new();
        for page in self.iter().skip(first).take(count) {
            area.push(page.bytes).map_err(|_| Misuse::AreaTooSmall)?;
        }
        Ok(area)
    }

    /// Frees every page. Only for pages that the host has no more business with.
    pub(crate) fn free(&mut self, platform: &impl Platform) {
        for page in self.pages.iter_mut().filter_map(Option::take) {
            platform.free(page);
        }
        self.count = 0;
    }
}
