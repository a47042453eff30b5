//! The memory shared with a device's backend: one grant per device, made when the device is opened.

use crate::error::Misuse;
use crate::platform::{Extent, Page, Platform};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::discovery::MAX_REGIONS;
use pvkit_abi::grant::GrantRef;

/// How much is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrantPolicy {
    /// All memory that lies in one piece with the platform's pages: no isolation from the backend.
    WholeRam,
    /// Only the memory that the platform hands out pages from: all that these drivers ever name.
    #[default]
    Extent,
}

/// A grant that the host confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) name: GrantRef,
    pub(crate) extent: Extent,
}

impl Grant {
    /// Where a page lies in the grant.
    ///
    /// # Errors
    /// A page outside.
    pub(crate) fn offset(&self, page: &Page) -> Result<u64, Misuse> {
        let outside = Misuse::OutsideGrant(page.address);
        let offset = page.address.checked_sub(self.extent.base).ok_or(outside)?;
        let end = offset.checked_add(PAGE_SIZE as u64).ok_or(outside)?;
        if end <= self.extent.length { Ok(offset) } else { Err(outside) }
    }
}

/// The extent to grant under `policy`.
pub(crate) fn extent(platform: &impl Platform, policy: GrantPolicy) -> Extent {
    let pages = platform.shareable();
    match policy {
        GrantPolicy::Extent => pages,
        GrantPolicy::WholeRam => surroundings(platform, pages).unwrap_or(pages),
    }
}

/// The run of adjoining regions of the boot info that contains `pages`. The host wrote the regions; a run that is not
/// page-aligned, overflows, or does not contain `pages`, is not used.
fn surroundings(platform: &impl Platform, pages: Extent) -> Option<Extent> {
    let boot = platform.boot_info();
    let count = (boot.region_count as usize).min(MAX_REGIONS);
    let mut run = Extent { base: 0, length: 0 };
    for region in boot.regions.get(..count)? {
        let end = run.base.checked_add(run.length)?;
        if region.base == end && run.length > 0 {
            run.length = run.length.checked_add(region.length)?;
        } else if contains(&run, &pages) {
            break;
        } else {
            run = Extent { base: region.base, length: region.length };
        }
    }
    let aligned = |value: u64| value.is_multiple_of(PAGE_SIZE as u64);
    (contains(&run, &pages) && aligned(run.base) && aligned(run.length)).then_some(run)
}

fn contains(outer: &Extent, inner: &Extent) -> bool {
    let end = |extent: &Extent| extent.base.checked_add(extent.length);
    match (end(outer), end(inner)) {
        (Some(outer_end), Some(inner_end)) => outer.base <= inner.base && inner_end <= outer_end,
        _ => false,
    }
}
