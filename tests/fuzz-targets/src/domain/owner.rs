//! A virtual machine that notes what it is told of its backend.

use pvkit_abi::bus::CONFIG_BYTES;
use pvkit_driver_domain::client::Owner;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

/// What was heard, of each kind in its order.
#[derive(Debug, Default)]
pub struct Told {
    pub interrupts: Vec<u32>,
    pub lost: Vec<u32>,
    pub failed: Vec<u32>,
    pub back: Vec<u32>,
    pub lines: Vec<String>,
    /// Requests by their numbers, with their answers.
    pub answers: Vec<(u64, Result<Vec<u8>, u32>)>,
}

/// Hears, and is waited for.
#[derive(Debug, Default)]
pub struct Ear {
    told: Mutex<Told>,
    more: Condvar,
}

impl Ear {
    pub fn note(&self, what: impl FnOnce(&mut Told)) {
        what(&mut self.told.lock().unwrap());
        self.more.notify_all();
    }

    /// Waits until it has heard enough.
    pub fn wait(&self, enough: impl Fn(&Told) -> bool) {
        let told = self.told.lock().unwrap();
        let (told, waited) = self.more.wait_timeout_while(told, SOON, |told| !enough(told)).unwrap();
        assert!(!waited.timed_out(), "nothing more is told after {told:?}");
    }

    pub fn take(&self) -> Told {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Owner for Ear {
    fn interrupt(&self, port: u32) {
        self.note(|told| told.interrupts.push(port));
    }

    fn lost(&self, device: u32) {
        self.note(|told| told.lost.push(device));
    }

    fn back(&self, device: u32, _: [u8; CONFIG_BYTES]) {
        self.note(|told| told.back.push(device));
    }

    fn failed(&self, device: u32) {
        self.note(|told| told.failed.push(device));
    }

    fn log(&self, line: String) {
        self.note(|told| told.lines.push(line));
    }
}
