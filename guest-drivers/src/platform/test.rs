//! Pages for tests: what the host sees of a buffer is a copy, so that a forgotten hand-over or hand-back fails.

use super::pool::Pool;
use super::{Extent, NoMemory, Page, Pages};
use core::sync::atomic::{AtomicUsize, Ordering};
use pvkit_abi::PAGE_SIZE;
use pvkit_shared_memory::{HeapPages, SharedBytes};
use std::sync::Arc;
use std::vec;

/// Words of a pool's map.
const WORDS: usize = 4;
/// Pages of each kind.
pub const PAGES: usize = WORDS * 64;
const REGION_BYTES: usize = PAGES * PAGE_SIZE;
/// Where the host sees ring and message pages.
pub const COHERENT_BASE: u64 = 0x10_0000;
/// Where the host sees its copy of buffer pages.
pub const BUFFER_BASE: u64 = COHERENT_BASE + REGION_BYTES as u64;
/// What the host sees in a buffer that was not handed over.
pub const POISON: u8 = 0xa5;

/// The memory of one test guest.
#[derive(Debug)]
pub struct TestMemory {
    coherent_bytes: HeapPages,
    /// Named by `buffers`.
    _guest_bytes: HeapPages,
    host_bytes: HeapPages,
    coherent: Pool<WORDS>,
    buffers: Pool<WORDS>,
    live: AtomicUsize,
    leaked: AtomicUsize,
}

impl TestMemory {
    /// Fresh memory.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let [coherent_bytes, guest_bytes, host_bytes] = [(); 3].map(|()| HeapPages::new(PAGES));
        let _ = host_bytes.bytes().write(0, &vec![POISON; REGION_BYTES]);
        Arc::new(Self {
            coherent: Pool::new(coherent_bytes.bytes(), COHERENT_BASE),
            buffers: Pool::new(guest_bytes.bytes(), BUFFER_BASE),
            coherent_bytes,
            _guest_bytes: guest_bytes,
            host_bytes,
            live: AtomicUsize::new(0),
            leaked: AtomicUsize::new(0),
        })
    }

    /// What the host sees at an address; `None` outside the guest's memory.
    #[must_use]
    pub fn host(&self, address: u64, length: usize) -> Option<SharedBytes> {
        let (bytes, base) = match address {
            COHERENT_BASE..BUFFER_BASE => (&self.coherent_bytes, COHERENT_BASE),
            _ => (&self.host_bytes, BUFFER_BASE),
        };
        bytes.bytes().part(usize::try_from(address.checked_sub(base)?).ok()?, length).ok()
    }

    /// Pages that were handed out and did not come back.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Pages of which a driver said that they will never come back.
    #[must_use]
    pub fn leaked(&self) -> usize {
        self.leaked.load(Ordering::Relaxed)
    }
}

/// The page half of the test platform.
#[derive(Clone, Debug)]
pub struct TestPages(pub Arc<TestMemory>);

impl TestPages {
    fn count(&self, page: Result<Page, NoMemory>) -> Result<Page, NoMemory> {
        self.0.live.fetch_add(usize::from(page.is_ok()), Ordering::Relaxed);
        page
    }

    /// The guest's page and the host's copy; of a coherent page there is no copy.
    fn copy(&self, page: &Page, to_host: bool) {
        if page.address < BUFFER_BASE {
            return;
        }
        let mut bytes = [0; PAGE_SIZE];
        if let Some(host) = self.0.host(page.address, PAGE_SIZE) {
            let (from, to) = if to_host { (&page.bytes, &host) } else { (&host, &page.bytes) };
            let _ = from.read(0, &mut bytes).and_then(|()| to.write(0, &bytes));
        }
    }
}

impl Pages for TestPages {
    fn allocate(&self) -> Result<Page, NoMemory> {
        self.count(self.0.coherent.take())
    }

    fn free(&self, page: Page) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
        if page.address < BUFFER_BASE {
            self.0.coherent.give(&page);
        } else {
            if let Some(host) = self.0.host(page.address, PAGE_SIZE) {
                let _ = host.write(0, &[POISON; PAGE_SIZE]);
            }
            self.0.buffers.give(&page);
        }
    }

    fn allocate_buffer(&self) -> Result<Page, NoMemory> {
        self.count(self.0.buffers.take())
    }

    fn hand_over(&self, page: &Page) {
        self.copy(page, true);
    }

    fn hand_back(&self, page: &Page) {
        self.copy(page, false);
    }

    fn shareable(&self) -> Extent {
        Extent { base: COHERENT_BASE, length: 2 * REGION_BYTES as u64 }
    }

    fn note_leak(&self, pages: usize) {
        self.0.leaked.fetch_add(pages, Ordering::Relaxed);
    }
}
