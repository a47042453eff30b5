//! The gate of one vCPU: where events wait for it, and where it waits for events.
//!
//! *Ordering.* `raise` sets the pending bit and then takes the lock; `block` takes the lock and then looks at the bits.
//! So either the sleeper sees the bit, or the raiser sees the sleeper and wakes it.

use crate::memory::GuestRam;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::event::{PENDING_WORDS, VcpuArea};
use pvkit_core::{Fault, GuestAddr, GuestMemory};
use pvkit_shared_memory::SharedBytes;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where upcalls of a vCPU go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upcall {
    pub entry: u64,
    pub stack_top: u64,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    Event,
    Deadline,
    Stopped,
}

#[derive(Debug, Default)]
struct State {
    blocked: bool,
    stopped: bool,
    upcall: Option<Upcall>,
}

/// One vCPU's gate.
#[derive(Debug)]
pub struct Gate {
    area: SharedBytes,
    /// Keeps `area` mapped.
    _ram: Arc<GuestRam>,
    state: Mutex<State>,
    bell: Condvar,
    /// Events delivered: pending bits that were set and had not been pending.
    pub raised: AtomicU64,
}

impl Gate {
    /// The gate of the vCPU whose area is at `area`.
    ///
    /// # Errors
    /// If the area is not in guest memory.
    pub fn new(ram: &Arc<GuestRam>, area: GuestAddr) -> Result<Self, Fault> {
        Ok(Self {
            area: ram.shared(area, PAGE_SIZE as u64)?,
            _ram: ram.clone(),
            state: Mutex::default(),
            bell: Condvar::new(),
            raised: AtomicU64::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `port` pending and wakes the vCPU if it waits. True if it runs and should be interrupted.
    pub fn raise(&self, port: u32) -> bool {
        let bit = 1 << (port % 64);
        let Ok(word) = self.area.word(port as usize / 64 * 8) else { return false };
        // ORDER: Release, pairs with the guest's Acquire exchange; the completion is visible before the event. SeqCst
        // adds nothing for that, but keeps raise/block as simple as they read.
        let fresh = word.fetch_or(bit, Ordering::SeqCst) & bit == 0;
        if fresh {
            self.raised.fetch_add(1, Ordering::Relaxed);
        }
        let state = self.state();
        if state.blocked {
            self.bell.notify_all();
        }
        fresh && !state.blocked && state.upcall.is_some() && !self.masked()
    }

    /// Takes a pending bit away, for a port that moves to another vCPU. True if it was set.
    pub fn withdraw(&self, port: u32) -> bool {
        let bit = 1 << (port % 64);
        self.area.word(port as usize / 64 * 8).is_ok_and(|word| word.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }

    /// Waits until an event is pending, the gate is stopped, or the time is over.
    pub fn block(&self, timeout: Duration) -> Wake {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        state.blocked = true;
        let wake = loop {
            if state.stopped {
                break Wake::Stopped;
            }
            if self.any_pending() {
                break Wake::Event;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Wake::Deadline;
            }
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.blocked = false;
        wake
    }

    /// Ends every wait, now and later.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.bell.notify_all();
    }

    /// Whether the gate is stopped.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Sets or removes the upcall.
    pub fn set_upcall(&self, upcall: Option<Upcall>) {
        self.state().upcall = upcall;
    }

    /// The upcall to deliver now: one is registered, not masked, and something is pending.
    pub fn upcall_due(&self) -> Option<Upcall> {
        let upcall = self.state().upcall?;
        (self.any_pending() && !self.masked()).then_some(upcall)
    }

    /// Stores the mask on the vCPU's behalf; only while it does not run.
    pub fn set_mask(&self, masked: bool) {
        if let Ok(word) = self.area.word(offset_of!(VcpuArea, upcall_mask)) {
            word.store(u64::from(masked), Ordering::SeqCst);
        }
    }

    fn masked(&self) -> bool {
        let mask = self.area.word(offset_of!(VcpuArea, upcall_mask));
        mask.map_or(true, |word| word.load(Ordering::SeqCst) != 0)
    }

    fn any_pending(&self) -> bool {
        (0..PENDING_WORDS).any(|i| self.area.word(i * 8).is_ok_and(|word| word.load(Ordering::SeqCst) != 0))
    }
}

#[cfg(test)]
mod tests;
