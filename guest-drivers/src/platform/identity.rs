//! Pages of a range that is given at run time and mapped where it lies: virtual address = guest-physical address.

use super::pool::{Pool, pages_by_pool};
use pvkit_shared_memory::SharedBytes;

/// Hands out up to `64 * WORDS` pages (the default: 16 MiB) of one identity-mapped range.
#[derive(Debug)]
pub struct IdentityPages<const WORDS: usize = 64>(Pool<WORDS>);

impl<const WORDS: usize> IdentityPages<WORDS> {
    /// Hands out `memory`. Whoever named it vouched that it is mapped; that it is mapped at its physical address is
    /// what the host will find out: a wrong address is refused with `FAULT`, or shares other memory than was meant.
    #[must_use]
    pub fn new(memory: SharedBytes) -> Self {
        Self(Pool::new(memory, memory.as_ptr().addr() as u64))
    }
}

pages_by_pool!(IdentityPages);
