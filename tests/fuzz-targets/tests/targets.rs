//! Every fuzz target as a property test: bytes of proptest's, and the inputs that are kept.
//!
//! `PVKIT_FUZZ_CASES` says how many cases of each target (default 200); more take as long as they take. `PVKIT_FUZZ_SECONDS` has each
//! target called for at least so long, several of them at a time.
//! `PVKIT_FUZZ_ONLY` names the targets that are to be called, separated by commas.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use pvkit_fuzz_targets::{TARGETS, Target};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Targets that share a CPU while each is called for its time: some wait for threads and sockets.
const TARGETS_A_CPU: usize = 4;
/// Milliseconds for making a broken input smaller: a network that died is waited for each time.
const SHRINKING: u32 = 10_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

/// Inputs that are kept for a target.
fn kept(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(folder) = fs::read_dir(corpus().join(name)) else { return Vec::new() };
    let files = folder.map(|entry| entry.expect("a folder that can be read").path());
    files.map(|path| (path.clone(), fs::read(path).expect("a file that can be read"))).collect()
}

fn number(variable: &str) -> Option<u32> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn cases() -> u32 {
    number("PVKIT_FUZZ_CASES").unwrap_or(200)
}

fn time() -> Duration {
    Duration::from_secs(number("PVKIT_FUZZ_SECONDS").unwrap_or(0).into())
}

/// Bytes of any value; runs of one value; many small ones.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let any_byte = prop_oneof![4 => any::<u8>(), 3 => 0..8u8, 1 => Just(0xff)];
    prop_oneof![
        4 => proptest::collection::vec(any_byte, 0..400),
        1 => (any::<u8>(), 0..400usize).prop_map(|(value, length)| vec![value; length]),
        1 => proptest::collection::vec(any::<u8>(), 400..3000),
    ]
}

/// A kept input with a few bytes changed, or noise.
fn bytes(kept: &[(PathBuf, Vec<u8>)]) -> BoxedStrategy<Vec<u8>> {
    if kept.is_empty() {
        return noise().boxed();
    }
    let inputs: Vec<Vec<u8>> = kept.iter().map(|(_, bytes)| bytes.clone()).collect();
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    let changed = (prop::sample::select(inputs), changes, any::<Option<prop::sample::Index>>()).prop_map(
        |(mut bytes, changes, cut)| {
            for (at, value) in changes.into_iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            bytes
        },
    );
    prop_oneof![noise(), changed].boxed()
}

fn hold(&(name, target): &Target) {
    let kept = kept(name);
    for (path, bytes) in &kept {
        println!("{name}: {}", path.display());
        target(bytes);
    }
    let (begin, mut rounds) = (Instant::now(), 0);
    while rounds == 0 || begin.elapsed() < time() {
        // Each with other bytes.
        let config =
            Config { cases: cases(), failure_persistence: None, max_shrink_time: SHRINKING, ..Config::default() };
        let held = TestRunner::new(config).run(&bytes(&kept), |bytes| {
            target(&bytes);
            Ok(())
        });
        if let Err(error) = held {
            panic!("{name}: {error}");
        }
        rounds += 1;
    }
    println!("{name}: {} cases in {:.1} s", rounds * cases(), begin.elapsed().as_secs_f64());
}

/// Calls `targets`, so many at a time. One that fails tells of itself, and fails the test when the others are done.
fn hold_all(targets: &[&Target], at_once: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    hold(target);
                }
            });
        }
    });
}

#[test]
fn every_target_holds_for_any_bytes() {
    let only = std::env::var("PVKIT_FUZZ_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    let chosen = |(name, _): &&Target| only.is_empty() || only.contains(name);
    assert!(TARGETS.iter().any(|target| chosen(&target)), "no target is called {only:?}");
    let chosen: Vec<_> = TARGETS.iter().filter(chosen).collect();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    hold_all(&chosen, if time().is_zero() { 1 } else { cpus * TARGETS_A_CPU });
}

#[test]
fn every_target_has_a_shim_and_every_shim_and_corpus_a_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let mut shims = names(&fuzz.join("fuzz_targets"));
    shims.sort();
    let mut known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    known.sort();
    assert_eq!(shims, known);
    assert!(names(&corpus()).iter().all(|name| known.contains(name)));
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in known {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in tests/fuzz/Cargo.toml");
    }
}
