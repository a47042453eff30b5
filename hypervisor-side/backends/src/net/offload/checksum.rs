//! The Internet checksum.
//!
//! *Reference.* RFC 1071; the sum is associative and may be taken in any width (section 2, B and C).

use super::{OffloadError, is_partial, valid};
use crate::net::Frame;

/// A running sum of 16-bit words, most significant byte first, not yet folded. One addition is of less than 2^49: a
/// frame of [`MAX_FRAME`](pvkit_abi::net::MAX_FRAME) bytes and a pseudo header do not overflow it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even place. An odd last byte is taken as if a zero followed.
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let sum: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Self(self.0 + sum + u64::from(u32::from_be_bytes(last)))
    }

    /// Adds a number as if its bytes stood there.
    #[must_use]
    pub const fn add_number(self, number: u32) -> Self {
        Self(self.0 + number as u64)
    }

    /// The sum in 16 bits, not complemented: what a partial checksum field holds.
    #[must_use]
    pub const fn fold(self) -> u16 {
        // 64 -> 33 -> 18 -> 17 -> 16 bits.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// What goes into the header.
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// The same with the other representation of zero, as UDP means "none" by zero (RFC 768). Right for TCP too.
    #[must_use]
    pub const fn transport_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Finishes a partial checksum; a frame without one is left as it is.
///
/// # Errors
/// [`OffloadError::ChecksumPlace`]; the frame is unchanged.
pub fn finish(frame: &mut Frame) -> Result<(), OffloadError> {
    let meta = frame.meta;
    if !is_partial(meta) {
        return Ok(());
    }
    let start = usize::from(meta.checksum_start());
    let covered = frame.bytes.get_mut(start..).ok_or(OffloadError::ChecksumPlace)?;
    // The field itself holds the sum of the pseudo header and is part of what is covered.
    let checksum = Sum::default().add_bytes(covered).transport_checksum();
    let at = usize::from(meta.checksum_offset());
    store(covered, at, checksum).ok_or(OffloadError::ChecksumPlace)?;
    frame.meta = valid();
    Ok(())
}

/// Stores a 16-bit field; `None` if it is not all inside.
pub(super) fn store(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

/// Loads a 16-bit field.
pub(super) fn load(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|field| u16::from_be_bytes(*field))
}
