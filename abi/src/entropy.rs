//! Entropy protocol: random bytes of the host's generator.
//!
//! One queue; slots are laid out as in [`crate::block`], word 1 is zero.

open_enum! {
    /// Operation.
    pub struct EntropyOp(u8) {
        /// Fills the segment; the grant needs `WRITE`; detail = bytes written, which may be fewer than asked for.
        READ = 1,
    }
}

/// Longest single request, in bytes.
pub const MAX_REQUEST: u32 = 4096;
