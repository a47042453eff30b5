//! The buffers of one queue: a fixed table, each entry idle or in flight under a ring id.
//!
//! *Invariants.* An index is either on the idle list or bound to exactly one id in flight.

use crate::buffer::Buffer;
use crate::platform::Platform;

/// No entry.
const NONE: u16 = u16::MAX;

/// Up to `N` buffers.
#[derive(Debug)]
pub(super) struct Pool<'p, P: Platform, const N: usize, const PAGES: usize> {
    buffers: [Option<Buffer<'p, P, PAGES>>; N],
    by_id: [u16; N],
    idle: [u16; N],
    idle_count: usize,
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Pool<'p, P, N, PAGES> {
    /// `entries` idle ones, all empty.
    pub(super) fn new(entries: u32) -> Self {
        let mut pool = Self { buffers: [const { None }; N], by_id: [NONE; N], idle: [NONE; N], idle_count: 0 };
        (0..entries.min(N as u32)).for_each(|index| pool.push(index as u16));
        pool
    }

    /// Idle entries.
    pub(super) const fn idle(&self) -> usize {
        self.idle_count
    }

    /// Takes an idle entry. It is lost unless it is bound or pushed again.
    pub(super) fn pop(&mut self) -> Option<u16> {
        let last = self.idle_count.checked_sub(1)?;
        let index = *self.idle.get(last)?;
        self.idle_count = last;
        Some(index)
    }

    /// Gives an entry back.
    pub(super) fn push(&mut self, index: u16) {
        if let Some(slot) = self.idle.get_mut(self.idle_count) {
            *slot = index;
            self.idle_count += 1;
        }
    }

    /// The entry's buffer.
    pub(super) fn buffer(&mut self, index: u16) -> Option<&mut Option<Buffer<'p, P, PAGES>>> {
        self.buffers.get_mut(usize::from(index))
    }

    /// The entry is in flight under `id`.
    pub(super) fn bind(&mut self, id: u16, index: u16) {
        if let Some(slot) = self.by_id.get_mut(usize::from(id)) {
            *slot = index;
        }
    }

    /// The entry that was in flight under `id`.
    pub(super) fn unbind(&mut self, id: u16) -> Option<u16> {
        let slot = self.by_id.get_mut(usize::from(id))?;
        Some(core::mem::replace(slot, NONE)).filter(|index| *index != NONE)
    }

    /// The queue is detached: nothing is in flight any more. Frees every page; says how many entries were in flight.
    pub(super) fn clear(&mut self) -> usize {
        let lost = self.by_id.iter().filter(|index| **index != NONE).count();
        self.buffers.iter_mut().for_each(|buffer| *buffer = None);
        for id in 0..N {
            if let Some(index) = self.unbind(id as u16) {
                self.push(index);
            }
        }
        lost
    }

    /// The host may still write to what is in flight: it is never freed. Says how many pages that are.
    pub(super) fn leak(&mut self) -> usize {
        let mut pages = 0;
        for slot in &mut self.by_id {
            let index = core::mem::replace(slot, NONE);
            pages += self.buffers.get_mut(usize::from(index)).and_then(Option::take).map_or(0, Buffer::leak);
        }
        pages
    }
}
