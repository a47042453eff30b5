//! The sleep protocol and publication under loom: every interleaving, and every stale value that the orderings allow.
//!
//! *Lost wake-up.* A side answered `Armed` (it sleeps) and the publication that it waits for answered `NotNeeded` (nobody
//! rings). The small models assert that this never happens; the whole queue sleeps in earnest, so that loom reports a
//! lost wake-up as a deadlock.
//!
//! *Mutants.* The same models on memory whose fence does nothing, or whose Release is none, must fail; else the models
//! would prove nothing.
//!
//! Only with `--release`: loom's small stacks do not hold the frames of an unoptimised build.
#![cfg(not(debug_assertions))]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use loom::sync::Notify as Bell;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use pvkit_abi::ring::{REQUEST_WORDS, RequestFlags};
use pvkit_abi::status::CompletionResult;
use pvkit_ring::{Backend, Cursor, Frontend, Memory, Notify, Park, RingSize};
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    None,
    NoFence,
    NoRelease,
}

/// An area of loom's atomics.
#[derive(Clone)]
struct Area {
    words: Arc<Vec<AtomicU64>>,
    mutant: Mutant,
}

impl Area {
    fn new(words_per_slot: usize, mutant: Mutant) -> Self {
        let words = (0..SIZE.area_bytes(words_per_slot) / 8).map(|_| AtomicU64::new(0)).collect();
        Self { words: Arc::new(words), mutant }
    }
}

impl Memory for Area {
    fn bytes(&self) -> usize {
        self.words.len() * 8
    }
    fn load(&self, offset: usize) -> u64 {
        self.words[offset / 8].load(Ordering::Relaxed)
    }
    fn load_acquire(&self, offset: usize) -> u64 {
        self.words[offset / 8].load(Ordering::Acquire)
    }
    fn store(&self, offset: usize, value: u64) {
        self.words[offset / 8].store(value, Ordering::Relaxed);
    }
    fn store_release(&self, offset: usize, value: u64) {
        let order = if self.mutant == Mutant::NoRelease { Ordering::Relaxed } else { Ordering::Release };
        self.words[offset / 8].store(value, order);
    }
    fn fence(&self) {
        if self.mutant != Mutant::NoFence {
            fence(Ordering::SeqCst);
        }
    }
}

const SIZE: RingSize = RingSize::new(2).unwrap();
/// Not zero, which an untouched event word would seem to wait for.
const BEGIN: Cursor = Cursor::at(u32::MAX - 1, 0);

type Front = Frontend<Area, 2>;
type Back = Backend<Area>;

fn queue(mutant: Mutant) -> (Front, Back) {
    let (requests, completions) = (Area::new(REQUEST_WORDS, mutant), Area::new(1, mutant));
    let frontend = Frontend::resume(requests.clone(), completions.clone(), SIZE, BEGIN).unwrap();
    (frontend, Backend::resume(completions, requests, SIZE, BEGIN).unwrap())
}

fn submit(frontend: &mut Front, numbers: std::ops::Range<u64>) -> Notify {
    let mut batch = frontend.batch();
    for number in numbers {
        batch.reserve(1, RequestFlags::empty(), 0, [number, number + 100, number + 200]).unwrap();
    }
    batch.commit()
}

/// Takes what is there, in order, and parks; says how many were taken when it was armed.
fn take_and_park(backend: &mut Back, taken: &mut Vec<u16>) {
    loop {
        while let Some(request) = backend.take().unwrap() {
            let number = taken.len() as u64;
            assert_eq!(request.words, [number, number + 100, number + 200], "torn or stale request");
            taken.push(request.word.id());
        }
        if backend.park().1 == Park::Armed {
            return;
        }
    }
}

/// Two requests in batches of `batch` to a backend that takes them and goes to sleep.
fn requests(mutant: Mutant, batch: u64) {
    loom::model(move || {
        let (mut frontend, mut backend) = queue(mutant);
        let producer = thread::spawn(move || {
            let rung: Vec<bool> =
                (0..2).step_by(batch as usize).map(|at| submit(&mut frontend, at..at + batch).is_needed()).collect();
            rung
        });
        let mut taken = Vec::new();
        take_and_park(&mut backend, &mut taken);
        let rung = producer.join().unwrap();
        if let Some(due) = rung.get(taken.len() / batch as usize) {
            assert!(due, "lost wake-up: armed after {} requests", taken.len());
        }
    });
}

/// Two completions, published each for itself or held back until the backend parks, to a frontend that goes to sleep.
fn completions(mutant: Mutant, held_back: bool) {
    loom::model(move || {
        let (mut frontend, mut backend) = queue(mutant);
        let _ = submit(&mut frontend, 0..2);
        let mut taken = Vec::new();
        while let Some(request) = backend.take().unwrap() {
            taken.push(request.word.id());
        }
        let producer = thread::spawn(move || {
            let mut rung = Vec::new();
            for id in taken {
                let mut notify = backend.complete(id, CompletionResult(u32::from(id) + 7)).unwrap();
                if !held_back {
                    notify = notify.or(backend.flush());
                    rung.push(notify.is_needed());
                }
            }
            if held_back {
                rung = vec![backend.park().0.is_needed(); 2];
            }
            rung
        });
        let mut got = 0;
        loop {
            while let Some(completed) = frontend.take().unwrap() {
                assert_eq!(completed.result, CompletionResult(u32::from(completed.id) + 7), "torn completion");
                got += 1;
            }
            if frontend.park() == Park::Armed {
                break;
            }
        }
        let rung = producer.join().unwrap();
        if let Some(due) = rung.get(got) {
            assert!(due, "lost wake-up: armed after {got} completions");
        }
    });
}

/// Both sides of a queue with `total` requests of which `at_once` are in flight; each side sleeps whenever it can.
///
/// Three requests through two slots also show that no slot is written before it was copied out.
fn whole_queue(mutant: Mutant, total: u64, at_once: u64) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        let (mut frontend, mut backend) = queue(mutant);
        let (doorbell, interrupt) = (Arc::new(Bell::new()), Arc::new(Bell::new()));
        let (door, line) = (doorbell.clone(), interrupt.clone());
        let host = thread::spawn(move || {
            let mut number = 0;
            while number < total {
                match backend.take().unwrap() {
                    Some(request) => {
                        assert_eq!(request.words, [number, number + 100, number + 200], "torn or stale request");
                        number += 1;
                        if backend.complete(request.word.id(), CompletionResult(9)).unwrap().is_needed() {
                            line.notify();
                        }
                    }
                    None => {
                        let (notify, park) = backend.park();
                        if notify.is_needed() {
                            line.notify();
                        }
                        if park == Park::Armed {
                            door.wait();
                        }
                    }
                }
            }
            if backend.flush().is_needed() {
                line.notify();
            }
        });
        let (mut sent, mut got) = (0, 0);
        while got < total {
            let more = (total - sent).min(at_once - (sent - got));
            if more > 0 && submit(&mut frontend, sent..sent + more).is_needed() {
                doorbell.notify();
            }
            sent += more;
            match frontend.take().unwrap() {
                Some(_) => got += 1,
                None if frontend.park() == Park::Armed => interrupt.wait(),
                None => {}
            }
        }
        host.join().unwrap();
    });
}

const PREEMPTIONS: usize = 3;

#[test]
fn a_request_is_seen_or_rung_for() {
    requests(Mutant::None, 1);
}

#[test]
fn a_batch_of_requests_is_seen_whole_or_rung_for() {
    requests(Mutant::None, 2);
}

#[test]
fn a_completion_is_seen_or_rung_for() {
    completions(Mutant::None, false);
}

#[test]
fn completions_held_back_are_published_by_park() {
    completions(Mutant::None, true);
}

#[test]
fn a_queue_whose_sides_both_sleep_never_hangs() {
    whole_queue(Mutant::None, 2, 1);
}

#[test]
fn slots_are_reused_only_after_they_were_copied_out() {
    whole_queue(Mutant::None, 3, 2);
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn mutant_without_fence_loses_a_wakeup_for_requests() {
    requests(Mutant::NoFence, 1);
}

#[test]
#[should_panic(expected = "lost wake-up")]
fn mutant_without_fence_loses_a_wakeup_for_completions() {
    completions(Mutant::NoFence, false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn mutant_without_fence_hangs_the_queue() {
    whole_queue(Mutant::NoFence, 2, 1);
}

#[test]
#[should_panic(expected = "torn or stale request")]
fn mutant_without_release_tears_a_request() {
    requests(Mutant::NoRelease, 2);
}
