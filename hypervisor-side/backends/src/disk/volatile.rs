//! A disk with a volatile cache: what was not flushed dies with the process, or at [`VolatileDisk::kill`].
//!
//! *Purpose.* To show that a log survives a crash because its writer flushes, and not because the host is kind. On a
//! raw image alone an unflushed write survives the death of this process in the host's page cache.
//!
//! *Invariants.* Reads see every completed write. The disk beneath sees a write only by a flush, by its own FUA, or
//! when the cache is full: then the whole cache goes down first, which a real disk may do at any time as well.

use super::pieces::Pieces;
use super::{Disk, DiskError, total};
use pvkit_abi::block::{BlockConfig, BlockFeatures};
use pvkit_shared_memory::{HeapPages, SharedBytes};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Pages that carry cached blocks down.
const BOUNCE_PAGES: usize = 16;

/// A block that is not written down yet; `None` for one that reads as zeroes.
type Cached = Option<Box<[u8]>>;

/// A volatile cache over `inner`.
#[derive(Debug)]
pub struct VolatileDisk<D> {
    inner: D,
    block: u64,
    limit: u64,
    cache: Mutex<Cache>,
    mutation: Mutation,
}

#[derive(Debug, Default)]
struct Cache {
    /// By block number.
    blocks: BTreeMap<u64, Cached>,
    dead: bool,
    /// The disk beneath has lost writes, or may have: it takes no more, and neither does the cache.
    lost: Option<DiskError>,
}

/// How a disk breaks its promises. Only a test asks for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutation {
    /// FLUSH completes without writing anything down.
    pub ignore_flush: bool,
    /// A FUA write is kept in the cache like any other.
    pub ignore_fua: bool,
}

impl<D: Disk> VolatileDisk<D> {
    /// A cache of at most `limit` bytes.
    #[must_use]
    pub fn new(inner: D, limit: u64) -> Self {
        let block = u64::from(inner.config().logical_block);
        Self { inner, block, limit: limit / block, cache: Mutex::default(), mutation: Mutation::default() }
    }

    /// A cache that lies about what is durable, to show that the tests notice.
    #[cfg(any(test, feature = "mutants"))]
    #[must_use]
    pub fn mutant(inner: D, limit: u64, mutation: Mutation) -> Self {
        Self { mutation, ..Self::new(inner, limit) }
    }

    /// Loses every write that is not durable, as a power failure would, and answers how many blocks that were. The
    /// disk fails from then on; the next life begins with a new one over the same medium.
    pub fn kill(&self) -> usize {
        let mut cache = self.lock();
        cache.dead = true;
        std::mem::take(&mut cache.blocks).len()
    }

    /// Bytes that would be lost now.
    #[must_use]
    pub fn unflushed(&self) -> u64 {
        self.lock().blocks.len() as u64 * self.block
    }

    /// The disk beneath.
    #[must_use]
    pub const fn inner(&self) -> &D {
        &self.inner
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> Result<MutexGuard<'_, Cache>, DiskError> {
        let cache = self.lock();
        if cache.dead { Err(DiskError::Io(libc::ENODEV)) } else { Ok(cache) }
    }

    /// What changes the content or makes it durable; nothing does after a sync beneath that failed.
    fn change(&self, act: impl FnOnce(&mut Cache) -> Result<(), DiskError>) -> Result<(), DiskError> {
        let mut cache = self.live()?;
        if let Some(lost) = cache.lost {
            return Err(lost);
        }
        let result = act(&mut cache);
        cache.lost = result.err().filter(|error| matches!(error, DiskError::Lost(_)));
        result
    }

    fn run(&self, position: u64, length: u64) -> std::ops::Range<u64> {
        position / self.block..(position + length) / self.block
    }

    /// Makes room for a run. False if it is larger than the whole cache.
    fn make_room(&self, cache: &mut Cache, run: &std::ops::Range<u64>) -> Result<bool, DiskError> {
        let more = run.end - run.start;
        if more > self.limit {
            return Ok(false);
        }
        if cache.blocks.len() as u64 + more > self.limit {
            self.write_down(cache)?;
        }
        Ok(true)
    }

    /// Writes every cached block to the disk beneath, neighbours together.
    fn write_down(&self, cache: &mut Cache) -> Result<(), DiskError> {
        let pages = HeapPages::new(BOUNCE_PAGES);
        let mut bounce = Bounce { bytes: pages.bytes(), start: 0, filled: 0 };
        for (number, content) in &cache.blocks {
            let position = number * self.block;
            if !bounce.continues(position, self.block) {
                bounce.empty(&self.inner)?;
                bounce.start = position;
            }
            bounce.push(content.as_deref(), self.block)?;
        }
        bounce.empty(&self.inner)?;
        cache.blocks.clear();
        Ok(())
    }
}

/// A run of neighbouring blocks on its way down.
struct Bounce {
    bytes: SharedBytes,
    start: u64,
    filled: usize,
}

impl Bounce {
    fn continues(&self, position: u64, block: u64) -> bool {
        self.start + self.filled as u64 == position && self.filled + block as usize <= self.bytes.len()
    }

    fn push(&mut self, content: Option<&[u8]>, block: u64) -> Result<(), DiskError> {
        let result = match content {
            Some(content) => self.bytes.write(self.filled, content),
            None => self.bytes.zero(self.filled, block as usize),
        };
        result.map_err(|_| DiskError::Io(libc::EFAULT))?;
        self.filled += block as usize;
        Ok(())
    }

    fn empty(&mut self, inner: &impl Disk) -> Result<(), DiskError> {
        if self.filled > 0 {
            let part = self.bytes.part(0, self.filled).map_err(|_| DiskError::Io(libc::EFAULT))?;
            inner.write(self.start, &[part], false)?;
            self.filled = 0;
        }
        Ok(())
    }
}

fn forget(cache: &mut Cache, run: std::ops::Range<u64>) {
    let numbers: Vec<u64> = cache.blocks.range(run).map(|(number, _)| *number).collect();
    for number in numbers {
        cache.blocks.remove(&number);
    }
}

impl<D: Disk> Disk for VolatileDisk<D> {
    fn capacity(&self) -> u64 {
        self.inner.capacity()
    }

    fn config(&self) -> BlockConfig {
        let config = self.inner.config();
        // A zeroed run is cached block by block.
        BlockConfig { max_discard: config.max_discard.min((self.limit * self.block).max(self.block)), ..config }
    }

    fn features(&self) -> BlockFeatures {
        self.inner.features() | BlockFeatures::FLUSH
    }

    fn read(&self, position: u64, into: &[SharedBytes]) -> Result<(), DiskError> {
        let cache = self.live()?;
        self.inner.read(position, into)?;
        let mut pieces = Pieces::new(into);
        let zeroes = vec![0; self.block as usize];
        let mut next = position / self.block;
        for (number, content) in cache.blocks.range(self.run(position, total(into))) {
            pieces.skip(((number - next) * self.block) as usize)?;
            pieces.put(content.as_deref().unwrap_or(&zeroes))?;
            next = number + 1;
        }
        Ok(())
    }

    fn write(&self, position: u64, from: &[SharedBytes], fua: bool) -> Result<(), DiskError> {
        let run = self.run(position, total(from));
        let fua = fua && !self.mutation.ignore_fua;
        self.change(|cache| {
            if fua || !self.make_room(cache, &run)? {
                self.inner.write(position, from, fua)?;
                forget(cache, run);
                return Ok(());
            }
            let mut pieces = Pieces::new(from);
            for number in run {
                let mut content = vec![0; self.block as usize].into_boxed_slice();
                pieces.take(&mut content)?;
                cache.blocks.insert(number, Some(content));
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.change(|cache| {
            if self.mutation.ignore_flush {
                return Ok(());
            }
            self.write_down(cache)?;
            self.inner.flush()
        })
    }

    fn discard(&self, position: u64, length: u64) -> Result<(), DiskError> {
        self.change(|cache| {
            self.inner.discard(position, length)?;
            forget(cache, self.run(position, length));
            Ok(())
        })
    }

    fn write_zeroes(&self, position: u64, length: u64, fua: bool) -> Result<(), DiskError> {
        let run = self.run(position, length);
        let fua = fua && !self.mutation.ignore_fua;
        self.change(|cache| {
            if fua || !self.make_room(cache, &run)? {
                self.inner.write_zeroes(position, length, fua)?;
                forget(cache, run);
                return Ok(());
            }
            cache.blocks.extend(run.map(|number| (number, None)));
            Ok(())
        })
    }

    fn refresh(&self) -> Result<u64, DiskError> {
        let mut cache = self.live()?;
        let capacity = self.inner.refresh()?;
        // Where the medium ends there is nothing to write down any more.
        let beyond = cache.blocks.split_off(&(capacity / self.block));
        drop(beyond);
        Ok(capacity)
    }
}
