//! Memory for the data of one request: pages of the platform, owned by one value.

use crate::device::Grant;
use crate::error::{Misuse, RequestError};
use crate::page_list::PageList;
use crate::platform::{NoMemory, Page, Platform};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::grant::Segment;
use pvkit_abi::ring::RequestFlags;
use zerocopy::IntoBytes;

/// Entries that fit the one page of an indirect list.
pub(crate) const LIST_ENTRIES: usize = PAGE_SIZE / size_of::<Segment>();

/// Up to `PAGES` pages that read as one run of bytes. Dropping it frees the pages.
///
/// Submitting moves the buffer into the driver; the completion moves it out. The bytes are shared with the host while
/// the device is open, so they are only ever copied in and out.
#[derive(Debug)]
pub struct Buffer<'p, P: Platform, const PAGES: usize> {
    platform: &'p P,
    pages: PageList<PAGES>,
    /// For the segments, when the pages are not one run.
    list: Option<Page>,
}

/// How a request names its memory: flags and `aux` of word 0, then words 2 and 3.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Described {
    pub(crate) indirect: bool,
    pub(crate) aux: u16,
    pub(crate) word2: u64,
    pub(crate) word3: u64,
}

impl Described {
    pub(crate) const fn flags(&self) -> RequestFlags {
        if self.indirect { RequestFlags::INDIRECT } else { RequestFlags::empty() }
    }
}

impl<'p, P: Platform, const PAGES: usize> Buffer<'p, P, PAGES> {
    /// Room for `bytes`, zeroed.
    ///
    /// # Errors
    /// [`NoMemory`], also if `bytes` needs more than `PAGES` pages; nothing is kept.
    pub fn allocate(platform: &'p P, bytes: usize) -> Result<Self, NoMemory> {
        let mut buffer = Self { platform, pages: PageList::new(), list: None };
        buffer.pages.fill(bytes.div_ceil(PAGE_SIZE), || platform.allocate_buffer())?;
        if buffer.runs() > 1 {
            buffer.list = Some(platform.allocate()?);
        }
        Ok(buffer)
    }

    /// Bytes of room.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    /// Whether there is no room at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pages.len() == 0
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// Beyond the end; what fits may have been copied.
    pub fn write(&mut self, offset: usize, from: &[u8]) -> Result<(), Misuse> {
        let mut offset = offset;
        let mut rest = from;
        while !rest.is_empty() {
            let page = self.page(offset)?;
            let inside = offset % PAGE_SIZE;
            let (now, later) = rest.split_at_checked(PAGE_SIZE - inside).unwrap_or((rest, &[]));
            page.bytes.write(inside, now).map_err(|_| self.too_long())?;
            offset += now.len();
            rest = later;
        }
        Ok(())
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// Beyond the end; what is there may have been copied.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), Misuse> {
        let mut offset = offset;
        for chunk in Chunks::new(offset % PAGE_SIZE, into) {
            self.page(offset)?.bytes.read(offset % PAGE_SIZE, chunk).map_err(|_| self.too_long())?;
            offset += chunk.len();
        }
        Ok(())
    }

    /// Segments that the whole buffer needs.
    #[must_use]
    pub fn runs(&self) -> usize {
        let mut next = None;
        self.pages.iter().fold(0, |runs, page| {
            let joined = next == Some(page.address);
            next = page.address.checked_add(PAGE_SIZE as u64);
            if joined { runs } else { runs + 1 }
        })
    }

    /// Names the first `length` bytes under `grant`; writes the list if one run does not do. Then the host may look.
    pub(crate) fn describe(&self, grant: &Grant, length: u32, max_segments: u32) -> Result<Described, RequestError> {
        if length as usize > self.len() {
            return Err(self.too_long().into());
        }
        let mut count = 0u16;
        let mut last = Segment { grant: grant.name, length: 0, offset: 0 };
        let mut rest = length;
        for page in self.pages.iter() {
            if rest == 0 {
                break;
            }
            let offset = grant.offset(page)?;
            let part = rest.min(PAGE_SIZE as u32);
            if last.length > 0 && last.offset + u64::from(last.length) == offset {
                last.length += part;
            } else {
                if last.length > 0 {
                    self.store(count, &last)?;
                    count += 1;
                }
                last = Segment { grant: grant.name, length: part, offset };
            }
            rest -= part;
            self.platform.hand_over(page);
        }
        if count == 0 {
            return Ok(Described { indirect: false, aux: 0, word2: word2(&last), word3: last.offset });
        }
        self.store(count, &last)?;
        count += 1;
        if u32::from(count) > max_segments {
            return Err(self.too_long().into());
        }
        let list = self.list.as_ref().ok_or(self.too_long())?;
        let bytes = u32::from(count) * size_of::<Segment>() as u32;
        let named = Segment { grant: grant.name, length: bytes, offset: grant.offset(list)? };
        Ok(Described { indirect: true, aux: count, word2: word2(&named), word3: named.offset })
    }

    /// After the completion: what the host stored becomes visible.
    pub(crate) fn hand_back(&self) {
        self.pages.iter().for_each(|page| self.platform.hand_back(page));
    }

    /// Never frees the pages: the host may still write to them. Says how many they are.
    pub(crate) fn leak(self) -> usize {
        let pages = self.pages.len() + usize::from(self.list.is_some());
        core::mem::forget(self);
        pages
    }

    fn store(&self, entry: u16, segment: &Segment) -> Result<(), RequestError> {
        let list = self.list.as_ref().ok_or(self.too_long())?;
        let offset = usize::from(entry) * size_of::<Segment>();
        list.bytes.write(offset, segment.as_bytes()).map_err(|_| self.too_long().into())
    }

    fn page(&self, offset: usize) -> Result<&Page, Misuse> {
        self.pages.get(offset / PAGE_SIZE).ok_or(self.too_long())
    }

    const fn too_long(&self) -> Misuse {
        Misuse::BufferLength { limit: self.len() as u64 }
    }
}

const fn word2(segment: &Segment) -> u64 {
    segment.grant.0 as u64 | (segment.length as u64) << 32
}

impl<P: Platform, const PAGES: usize> Drop for Buffer<'_, P, PAGES> {
    fn drop(&mut self) {
        self.pages.free(self.platform);
        if let Some(list) = self.list.take() {
            self.platform.free(list);
        }
    }
}

/// A run of private bytes, cut where pages end.
struct Chunks<'a> {
    first: usize,
    rest: &'a mut [u8],
}

impl<'a> Chunks<'a> {
    const fn new(inside: usize, rest: &'a mut [u8]) -> Self {
        Self { first: PAGE_SIZE - inside, rest }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let rest = core::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let size = core::mem::replace(&mut self.first, PAGE_SIZE).min(rest.len());
        let (now, later) = rest.split_at_mut_checked(size)?;
        self.rest = later;
        Some(now)
    }
}
