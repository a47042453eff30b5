//! Instructions per request, counted by callgrind: the ring's cost without the noise of a clock.
//!
//! *What.* 100,000 requests pass through a queue of depth 64 on shared pages, both halves on one thread. A bench counts
//! one side or both, so `Instructions` divided by 100,000 is instructions per request.
//!
//! *Limit.* [`LIMIT`] per request for both sides at batches of 32; the run fails above it.
//!
//! *Needs.* `valgrind` and `gungraun-runner` of this crate's version. `cargo bench -p pvkit-ring --bench instructions`
#![allow(clippy::unwrap_used, missing_docs, unused_qualifications, reason = "a bench; the macros make such items")]

use gungraun::prelude::*;
use gungraun::{Callgrind, EntryPoint, EventKind};
use pvkit_abi::ring::{REQUEST_WORDS, RequestFlags};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Backend, Frontend, Notify, RingSize};
use pvkit_shared_memory::{HeapPages, SharedPages};
use std::hint::black_box;

const REQUESTS: u64 = 100_000;
/// Most instructions per request, both sides together, at batches of 32.
const LIMIT: u64 = 180;
const DEPTH: u32 = 64;

struct Queue {
    frontend: Frontend<SharedPages, { DEPTH as usize }>,
    backend: Backend<SharedPages>,
}

fn queue() -> Box<Queue> {
    let size = RingSize::new(DEPTH).unwrap();
    let pages = |words| HeapPages::new(size.area_bytes(words).div_ceil(4096)).leak_pages().unwrap();
    let (requests, completions) = (pages(REQUEST_WORDS), pages(1));
    Box::new(Queue {
        frontend: Frontend::new(requests, completions, size, 1).unwrap(),
        backend: Backend::new(completions, requests, size, 1).unwrap(),
    })
}

/// Takes every completion, then submits `batch` requests at once.
#[inline(never)]
fn frontend_side(queue: &mut Queue, batch: u64, base: u64) -> Notify {
    let mut ids = 0;
    while let Some(completed) = queue.frontend.take().unwrap() {
        ids ^= completed.id;
    }
    black_box(ids);
    let mut open = queue.frontend.batch();
    for i in 0..batch {
        open.reserve(1, RequestFlags::empty(), 0, [base + i, 4096 << 32 | 7, i]).unwrap();
    }
    open.commit()
}

/// Takes every request and completes it at once.
#[inline(never)]
fn backend_side(queue: &mut Queue) -> Notify {
    let mut notify = Notify::NotNeeded;
    let mut read = 0;
    while let Some(request) = queue.backend.take().unwrap() {
        read ^= request.words[0] ^ request.words[1] ^ request.words[2];
        notify = notify.or(queue.backend.complete(request.word.id(), CompletionResult::new(Status::OK, 0)).unwrap());
    }
    black_box(read);
    notify.or(queue.backend.flush())
}

#[inline(never)]
fn rounds(mut queue: Box<Queue>, batch: u64) -> Box<Queue> {
    for round in 0..REQUESTS / batch {
        let _ = black_box(frontend_side(&mut queue, batch, round * batch));
        let _ = black_box(backend_side(&mut queue));
    }
    queue
}

fn only(side: &str) -> LibraryBenchmarkConfig {
    let entry = EntryPoint::Custom(format!("instructions::{side}"));
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().entry_point(entry));
    config
}

fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions * REQUESTS)]));
    config
}

#[library_benchmark(setup = queue)]
#[bench::both_sides(config = at_most(LIMIT))]
#[bench::frontend(config = only("frontend_side"))]
#[bench::backend(config = only("backend_side"))]
fn batch_of_32(queue: Box<Queue>) -> Box<Queue> {
    rounds(queue, 32)
}

#[library_benchmark(setup = queue)]
#[bench::both_sides()]
#[bench::frontend(config = only("frontend_side"))]
#[bench::backend(config = only("backend_side"))]
fn one_at_a_time(queue: Box<Queue>) -> Box<Queue> {
    rounds(queue, 1)
}

library_benchmark_group!(name = per_100_000_requests, benchmarks = [batch_of_32, one_at_a_time]);
main!(library_benchmark_groups = per_100_000_requests);
