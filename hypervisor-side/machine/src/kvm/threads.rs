//! The threads of a guest's vCPUs.

use super::kick::Kicker;
use crate::slot::lock;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a vCPU that must leave the guest is kicked again.
const KICK_AGAIN: Duration = Duration::from_millis(5);

/// Threads, and what reaches them while they run in the guest.
pub struct Threads {
    kickers: Vec<Kicker>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    pub fn new(vcpus: u32) -> Self {
        Self { kickers: (0..vcpus).map(|_| Kicker::default()).collect(), handles: Mutex::default() }
    }

    /// What reaches the vCPU, if there is such a one.
    pub fn kicker(&self, vcpu: u32) -> Option<&Kicker> {
        self.kickers.get(vcpu as usize)
    }

    /// Interrupts a vCPU that runs.
    pub fn kick(&self, vcpu: u32) {
        if let Some(kicker) = self.kicker(vcpu) {
            kicker.kick();
        }
    }

    /// Keeps a thread that was started.
    pub fn add(&self, thread: JoinHandle<()>) {
        lock(&self.handles).push(thread);
    }

    /// Waits for every thread, kicking: each looks after a kick whether it is to end.
    pub fn join(&self) {
        loop {
            // A thread may be just starting another vCPU: look until there is nothing left.
            let Some(thread) = lock(&self.handles).pop() else { break };
            while !thread.is_finished() {
                self.kickers.iter().for_each(Kicker::kick);
                std::thread::sleep(KICK_AGAIN);
            }
            let _ = thread.join();
        }
    }
}
