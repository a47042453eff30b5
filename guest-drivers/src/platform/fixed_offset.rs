//! Pages of a range that is mapped at a fixed distance: guest-physical address = virtual address - offset. The usual
//! direct map of a kernel in the upper half.

use super::pool::{Pool, pages_by_pool};
use pvkit_shared_memory::SharedBytes;

/// Hands out up to `64 * WORDS` pages (the default: 16 MiB) of one range of the direct map.
#[derive(Debug)]
pub struct FixedOffsetPages<const WORDS: usize = 64>(Pool<WORDS>);

impl<const WORDS: usize> FixedOffsetPages<WORDS> {
    /// Hands out `memory`, whose guest-physical address is its virtual address minus `offset`.
    #[must_use]
    pub fn new(memory: SharedBytes, offset: u64) -> Self {
        Self(Pool::new(memory, (memory.as_ptr().addr() as u64).wrapping_sub(offset)))
    }
}

pages_by_pool!(FixedOffsetPages);
