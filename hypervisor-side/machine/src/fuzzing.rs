//! What the fuzz targets use besides the public doors. No part of the library's interface.

pub use crate::hvm::fuzzing::{Platform, stock_kernel};

use crate::image::Image;

/// Segments of a guest image, as (address, bytes in the file, bytes in memory); `None` if it is refused.
#[must_use]
pub fn guest_image(bytes: &[u8]) -> Option<Vec<(u64, u64, u64)>> {
    let image = Image::parse(bytes).ok()?;
    Some(image.segments.iter().map(|at| (at.address, at.data.len() as u64, at.memory_size)).collect())
}
