//! The host's end of the services channel: events on their way, answers that came.
//!
//! *Invariants.* Of each kind at most one event waits for the guest, so what waits is bounded. An answer belongs to the
//! event whose number it carries, or to none. Every wait has a deadline.

use pvkit_abi::services::{ServiceEvent, ServiceKind, ServiceReport, ServicesConfig};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Answers that are kept for whoever asked; older ones are forgotten.
const MAX_ANSWERS: usize = 32;

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The guest answered.
    Report(ServiceReport),
    /// It did not, in the time that it had.
    None,
    /// It never will: the guest went away, or a newer event of the same kind took the place of this one.
    Gone,
}

/// One guest's services channel. Outlives its queue: what is asked while the guest reconnects waits.
pub struct Services {
    state: Mutex<State>,
    answered: Condvar,
    wake: EventFd,
}

#[derive(Default)]
struct State {
    generation: [u8; 16],
    last: u64,
    waiting: VecDeque<ServiceEvent>,
    answers: BTreeMap<u64, ServiceReport>,
    /// Events that the guest has and may still answer.
    asked: VecDeque<u64>,
    ready: bool,
    stray: u64,
}

impl Services {
    /// A channel of a machine with this generation.
    ///
    /// # Errors
    /// No eventfd is to be had.
    pub fn new(generation: [u8; 16]) -> io::Result<Arc<Self>> {
        let state = Mutex::new(State { generation, ..State::default() });
        Ok(Arc::new(Self { state, answered: Condvar::new(), wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Properties as the guest is told.
    #[must_use]
    pub fn config(&self) -> ServicesConfig {
        ServicesConfig { generation: self.lock().generation }
    }

    /// Whether the guest said that its services run.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().ready
    }

    /// Reports that answered nothing that was asked.
    #[must_use]
    pub fn stray_reports(&self) -> u64 {
        self.lock().stray
    }

    /// Asks something of the guest; the number is what [`Services::wait`] waits for. An event of the same kind that the
    /// guest has not taken yet is replaced.
    pub fn ask(&self, kind: ServiceKind, patience: Duration) -> u64 {
        let mut state = self.lock();
        state.last += 1;
        let event = ServiceEvent {
            size: size_of::<ServiceEvent>() as u32,
            kind,
            sequence: state.last,
            wall_clock_ns: 0,
            patience_ns: u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX),
            generation: state.generation,
        };
        state.waiting.retain(|other| other.kind != kind);
        state.waiting.push_back(event);
        let sequence = state.last;
        drop(state);
        // Fails only if 2^64 wakes are pending.
        let _ = self.wake.write(1);
        sequence
    }

    /// The machine is a copy or was restored: a new generation, and the guest is told.
    pub fn set_generation(&self, generation: [u8; 16], patience: Duration) -> u64 {
        self.lock().generation = generation;
        self.ask(ServiceKind::GENERATION, patience)
    }

    /// Waits for the answer to an event, for at most `patience`.
    #[must_use]
    pub fn wait(&self, sequence: u64, patience: Duration) -> Answer {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        loop {
            if let Some(report) = state.answers.remove(&sequence) {
                return Answer::Report(report);
            }
            let awaited =
                state.asked.contains(&sequence) || state.waiting.iter().any(|event| event.sequence == sequence);
            if !awaited {
                return Answer::Gone;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Answer::None;
            }
            state = self.answered.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether an event waits for a buffer.
    pub(super) fn has_event(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// The oldest event that waits, with the clock as it is now.
    pub(super) fn take_event(&self) -> Option<ServiceEvent> {
        let mut state = self.lock();
        let mut event = state.waiting.pop_front()?;
        event.wall_clock_ns = wall_clock_ns();
        event.generation = state.generation;
        state.asked.push_back(event.sequence);
        if state.asked.len() > MAX_ANSWERS {
            state.asked.pop_front();
        }
        Some(event)
    }

    /// Puts an event back that found no memory.
    pub(super) fn untake_event(&self, event: ServiceEvent) {
        let mut state = self.lock();
        state.asked.retain(|sequence| *sequence != event.sequence);
        if state.waiting.iter().all(|other| other.kind != event.kind) {
            state.waiting.push_front(event);
        }
    }

    /// What the guest reports; numbers that nobody waits for are counted and have no effect.
    pub(super) fn report(&self, sequence: u64, report: ServiceReport) {
        let mut state = self.lock();
        if report == ServiceReport::READY && sequence == 0 {
            state.ready = true;
            return;
        }
        let Some(at) = state.asked.iter().position(|asked| *asked == sequence) else {
            state.stray += 1;
            return;
        };
        state.asked.remove(at);
        state.answers.insert(sequence, report);
        if state.answers.len() > MAX_ANSWERS {
            state.answers.pop_first();
        }
        drop(state);
        self.answered.notify_all();
    }

    /// The guest went: what it had and did not answer, it never will.
    pub(super) fn closed(&self) {
        let mut state = self.lock();
        state.ready = false;
        state.asked.clear();
        drop(state);
        self.answered.notify_all();
    }

    /// There will be no guest any more: whoever waits for an answer is told.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ready = false;
        state.asked.clear();
        state.waiting.clear();
        drop(state);
        self.answered.notify_all();
    }

    pub(super) fn wake_fd(&self) -> &EventFd {
        &self.wake
    }
}

fn wall_clock_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
