//! Between an honest completion area and the guest's: copies slot by slot, and lies.
//!
//! *Invariants.* What the engine publishes is read in its order, each slot once. The relay has a position of its own in
//! the guest's area, so that a slot too many is one in its turn.
//!
//! *Ordering.* As a producer's: payload, then word 0 with Release, a fence, the interrupt. The interrupt is raised for each
//! batch, wanted or not: one too many is no lie.

use super::random::Random;
use super::twist::{Plan, Twist};
use crate::Interrupt;
use pvkit_abi::ring::{CompletionWord, EPOCH_WORD, EVENT_WORD, HEADER_BYTES};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Cursor, Memory, RingSize};
use pvkit_shared_memory::{HeapPages, SharedPages, TooManyPages};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Words of the widest completion.
const MAX_WORDS: usize = 4;
/// How often a slot is rewritten after its publication.
const REWRITES: u32 = 2000;

/// A relay that a queue's thread and whoever gives orders use in turn.
pub type SharedRelay = Arc<Mutex<Relay>>;

/// See the module.
pub struct Relay {
    shadow: SharedPages,
    guest: SharedPages,
    size: RingSize,
    words: usize,
    from: Cursor,
    to: Cursor,
    plan: Arc<Mutex<Plan>>,
    random: Random,
    interrupt: Interrupt,
    withholds: bool,
    event: Option<u64>,
    closed: bool,
}

impl Relay {
    /// Between a fresh area of our own and `guest`, with completions of `words` words.
    ///
    /// # Errors
    /// An area of more pages than there can be.
    pub fn new(
        guest: SharedPages,
        size: RingSize,
        words: usize,
        plan: Arc<Mutex<Plan>>,
        interrupt: Interrupt,
    ) -> Result<Self, TooManyPages> {
        let shadow = HeapPages::new(guest.bytes() / pvkit_abi::PAGE_SIZE).leak_pages()?;
        Ok(Self {
            shadow,
            guest,
            size,
            words: words.min(MAX_WORDS),
            from: Cursor::START,
            to: Cursor::START,
            plan,
            random: Random::new(1),
            interrupt,
            withholds: false,
            event: None,
            closed: false,
        })
    }

    /// The area for the engine.
    #[must_use]
    pub const fn shadow(&self) -> SharedPages {
        self.shadow
    }

    /// The guest's area as a true host makes it: zeroed, then the epoch, which is `lie` instead if there is one.
    pub fn begin(&mut self, lie: Option<u64>) {
        for offset in (0..self.size.area_bytes(self.words)).step_by(8) {
            self.guest.store(offset, 0);
        }
        let epoch = self.shadow.load(EPOCH_WORD);
        // ORDER: Release; whoever sees the epoch sees zeroed slots, as in `WideBackend::new`.
        self.guest.store_release(EPOCH_WORD, lie.unwrap_or(epoch));
    }

    /// Hands on what the engine has published since, and where it sleeps.
    pub fn relay(&mut self) {
        if self.withholds || self.closed {
            return;
        }
        let mut some = false;
        let mut slot = [0; MAX_WORDS];
        while let Some(slot) = self.take(&mut slot) {
            some = true;
            self.tell(slot);
        }
        let event = self.event.unwrap_or_else(|| self.shadow.load(EVENT_WORD));
        self.guest.store(EVENT_WORD, event);
        self.guest.fence();
        if some {
            (self.interrupt)();
        }
    }

    fn take<'slot>(&mut self, slot: &'slot mut [u64; MAX_WORDS]) -> Option<&'slot mut [u64]> {
        let slot = slot.get_mut(..self.words)?;
        let (offset, tag) = (self.from.offset(self.size, self.words), self.from.tag());
        self.shadow.load_slot(offset, slot, |head| CompletionWord(head).tag() == tag).ok()?;
        self.from.step(self.size);
        Some(slot)
    }

    fn tell(&mut self, slot: &mut [u64]) {
        let twist = lock(&self.plan).next();
        if let Some(Twist::Random(seed)) = twist {
            // The seed opens the row; what follows continues it.
            self.random = Random::new(seed ^ self.random.next());
        }
        let tag = self.to.tag();
        let word = CompletionWord(slot.first().copied().unwrap_or(0)).with_tag(tag).0;
        if let Some(head) = slot.first_mut() {
            *head = word;
        }
        match twist {
            Some(Twist::Swallowed) => return,
            Some(twist) => twist.apply(slot, tag, &mut self.random),
            None => {}
        }
        let offset = self.put(slot);
        match twist {
            Some(Twist::Twice) => self.unsolicited(CompletionWord(word).id()),
            Some(Twist::Rewritten) => self.rewrite(offset, slot),
            _ => {}
        }
    }

    /// Publishes a slot; where it is.
    fn put(&mut self, slot: &[u64]) -> usize {
        let offset = self.to.offset(self.size, self.words);
        if let [head, payload @ ..] = slot {
            self.guest.store_words(offset + 8, payload);
            // ORDER: Release, pairs with the guest's Acquire load of word 0; the payload is visible before it.
            self.guest.store_release(offset, *head);
        }
        self.to.step(self.size);
        offset
    }

    fn rewrite(&mut self, offset: usize, slot: &[u64]) {
        (self.interrupt)();
        for _ in 0..REWRITES {
            for (index, word) in slot.iter().enumerate() {
                // Below the tag: what the guest has found published stays so.
                let garbage = self.random.next() >> 16 | word & 0xffff << 48;
                self.guest.store(offset + index * 8, garbage);
            }
            std::thread::yield_now();
        }
    }

    /// A completion that nothing asked for.
    pub fn unsolicited(&mut self, id: u16) {
        let mut slot = [0; MAX_WORDS];
        slot[0] = CompletionWord::new(id, CompletionResult::new(Status::OK, 0)).with_tag(self.to.tag()).0;
        if let Some(slot) = slot.get(..self.words) {
            self.put(slot);
            self.guest.fence();
            (self.interrupt)();
        }
    }

    /// Interrupts for nothing.
    pub fn storm(&self, count: u32) {
        (0..count).for_each(|_| (self.interrupt)());
    }

    /// Tells the guest nothing any more, or again all that there is.
    pub fn withhold(&mut self, withholds: bool) {
        self.withholds = withholds;
        self.relay();
    }

    /// What stands in the event word instead of where the engine sleeps.
    pub fn sleep_at(&mut self, event: Option<u64>) {
        self.event = event;
        self.relay();
    }

    /// Garbage in every word of the guest's area, header included.
    pub fn scribble(&mut self, seed: u64) {
        let mut random = Random::new(seed);
        for offset in (0..HEADER_BYTES + self.size.depth() as usize * self.words * 8).step_by(8) {
            self.guest.store(offset, random.next());
        }
        self.guest.fence();
        (self.interrupt)();
    }

    /// The engine has ended: the guest's memory is the guest's again.
    pub fn end(&mut self) {
        self.closed = true;
    }

    /// Whether it has.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
