//! Tests of names, bounds and copies; the races are for Miri.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::{HeapPages, OutOfRange, SharedBytes, SharedPages, TooManyPages, words};
use core::sync::atomic::Ordering;
use std::thread;
use std::vec::Vec;

const PAGE: usize = 4096;
/// Miri is a thousand times slower: it looks at every seventh length.
const STRIDE: usize = if cfg!(miri) { 7 } else { 1 };

fn page() -> SharedBytes {
    HeapPages::new(1).leak()
}

fn contents(bytes: &SharedBytes) -> Vec<u8> {
    let mut copy = std::vec![0; bytes.len()];
    bytes.read(0, &mut copy).unwrap();
    copy
}

#[test]
fn part_beyond_the_end_is_out_of_range() {
    let bytes = page();
    assert_eq!(bytes.part(PAGE, 1).err(), Some(OutOfRange));
    assert_eq!(bytes.part(PAGE - 1, 2).err(), Some(OutOfRange));
    assert_eq!(bytes.part(usize::MAX, 1).err(), Some(OutOfRange));
    assert_eq!(bytes.part(1, usize::MAX).err(), Some(OutOfRange));
    assert_eq!(bytes.part(PAGE, 0).unwrap().len(), 0);
}

#[test]
fn part_of_a_part_keeps_the_inner_bounds() {
    let inner = page().part(8, 16).unwrap();
    assert_eq!(inner.part(8, 9).err(), Some(OutOfRange));
    inner.part(8, 8).unwrap().write(0, &[7; 8]).unwrap();
    assert_eq!(contents(&inner)[8..], [7; 8]);
}

#[test]
fn copies_beyond_the_end_touch_nothing() {
    let bytes = page().part(0, 16).unwrap();
    let mut copy = [9; 17];
    assert_eq!(bytes.read(0, &mut copy), Err(OutOfRange));
    assert_eq!(copy, [9; 17]);
    assert_eq!(bytes.write(1, &[1; 16]), Err(OutOfRange));
    assert_eq!(bytes.zero(16, 1), Err(OutOfRange));
    assert_eq!(contents(&bytes), [0; 16]);
}

#[test]
fn copies_at_every_offset_and_length_leave_the_neighbours_alone() {
    let bytes = page().part(0, 40).unwrap();
    for offset in (0..16).step_by(STRIDE.min(3)) {
        for length in (0..=24).step_by(STRIDE) {
            let pattern: Vec<u8> = (0..length as u8).map(|i| i + 1).collect();
            bytes.write(0, &[0xee; 40]).unwrap();
            bytes.write(offset, &pattern).unwrap();
            let mut expected = [0xee; 40];
            expected[offset..offset + length].copy_from_slice(&pattern);
            assert_eq!(contents(&bytes), expected);
            let mut copy = std::vec![0; length];
            bytes.read(offset, &mut copy).unwrap();
            assert_eq!(copy, pattern);
            bytes.zero(offset, length).unwrap();
            expected[offset..offset + length].fill(0);
            assert_eq!(contents(&bytes), expected);
        }
    }
}

/// The portable loop is what Miri judges; here it is held against the instruction that ships.
#[test]
fn portable_copy_equals_the_audited_instruction() {
    let (ours, theirs) = (page().part(0, 64).unwrap(), page().part(0, 64).unwrap());
    for offset in (0..16).step_by(STRIDE.min(3)) {
        for length in (0..=40).step_by(STRIDE) {
            let pattern: Vec<u8> = (0..length as u8).map(|i| i ^ 0x5a).collect();
            ours.write(offset, &pattern).unwrap();
            let at = theirs.part(offset, length).unwrap();
            // SAFETY: `at` is `length` bytes inside a page.
            unsafe { words::write(&pattern, at.as_ptr()) };
            assert_eq!(contents(&ours), contents(&theirs));
            let mut copy = std::vec![0; length];
            // SAFETY: as above.
            unsafe { words::read(at.as_ptr(), &mut copy) };
            assert_eq!(copy, pattern);
            ours.zero(offset, length / 2).unwrap();
            // SAFETY: as above, with a shorter length.
            unsafe { words::zero(at.as_ptr(), length / 2) };
            assert_eq!(contents(&ours), contents(&theirs));
        }
    }
}

#[test]
fn word_must_be_aligned_and_inside() {
    let bytes = page().part(8, 24).unwrap();
    assert!(bytes.word(16).is_ok());
    assert_eq!(bytes.word(24).err(), Some(OutOfRange));
    assert_eq!(bytes.word(17).err(), Some(OutOfRange));
    assert_eq!(bytes.word(4).err(), Some(OutOfRange));
    assert_eq!(bytes.part(4, 12).unwrap().word(0).err(), Some(OutOfRange));
}

#[test]
fn pages_out_of_order_read_as_one_run() {
    let (first, second) = (page(), page());
    let mut pages = SharedPages::new();
    pages.push(second).unwrap();
    pages.push(first).unwrap();
    assert_eq!(pages.len(), 2 * PAGE);
    pages.word(PAGE - 8).unwrap().store(1, Ordering::Relaxed);
    pages.word(PAGE).unwrap().store(2, Ordering::Relaxed);
    assert_eq!(second.word(PAGE - 8).unwrap().load(Ordering::Relaxed), 1);
    assert_eq!(first.word(0).unwrap().load(Ordering::Relaxed), 2);
}

#[test]
fn page_words_outside_or_unaligned_are_none() {
    let pages = HeapPages::new(2).leak_pages().unwrap();
    assert!(pages.word(2 * PAGE - 8).is_some());
    assert!(pages.word(2 * PAGE).is_none());
    assert!(pages.word(4).is_none());
    assert!(pages.word(usize::MAX - 7).is_none());
    assert!(SharedPages::new().word(0).is_none());
}

#[test]
fn pages_beyond_an_area_or_misplaced_are_refused() {
    let mut pages = HeapPages::new(33).leak_pages().unwrap();
    assert_eq!(pages.push(page()), Err(TooManyPages));
    assert_eq!(pages.len(), 33 * PAGE);
    assert_eq!(HeapPages::new(34).leak_pages().err(), Some(TooManyPages));
    let two = HeapPages::new(2).leak();
    let mut pages = SharedPages::new();
    assert_eq!(pages.push(two.part(4, PAGE).unwrap()), Err(TooManyPages));
    assert_eq!(pages.push(two.part(0, PAGE - 1).unwrap()), Err(TooManyPages));
    assert!(pages.is_empty());
}

#[test]
fn pages_from_the_pool_are_zero_and_a_stale_name_stays_harmless() {
    let stale = {
        let pages = HeapPages::new(5);
        pages.bytes().write(PAGE - 50, &[1; 100]).unwrap();
        pages.bytes()
    };
    let next = HeapPages::new(5);
    assert_eq!(next.bytes().as_ptr(), stale.as_ptr());
    assert_eq!(contents(&next.bytes().part(PAGE - 50, 100).unwrap()), [0; 100]);
    stale.word(0).unwrap().store(3, Ordering::Relaxed);
    assert_eq!(next.bytes().word(0).unwrap().load(Ordering::Relaxed), 3);
}

/// Under Miri this fails if any access is not atomic, or is atomic in another size.
#[test]
fn words_and_bulk_copies_may_race() {
    let bytes = page().part(0, 64).unwrap();
    let rounds = if cfg!(miri) { 20 } else { 2_000 };
    thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..rounds {
                bytes.word((i % 8) * 8).unwrap().store(i as u64, Ordering::Release);
            }
        });
        scope.spawn(move || {
            for i in 0..rounds {
                bytes.write(i % 16, &[i as u8; 33]).unwrap();
                bytes.zero(i % 7, 9).unwrap();
            }
        });
        scope.spawn(move || {
            let mut copy = [0; 21];
            for i in 0..rounds {
                bytes.read(i % 32, &mut copy).unwrap();
                bytes.word((i % 8) * 8).unwrap().load(Ordering::Acquire);
            }
        });
    });
}

/// The promise that the ring builds on: bytes copied in before a Release store are there after the Acquire load.
#[test]
fn bulk_copy_before_release_is_seen_after_acquire() {
    let bytes = HeapPages::new(2).leak();
    let rounds: u64 = if cfg!(miri) { 10 } else { 5_000 };
    let flag = bytes.word(0).unwrap();
    let back = bytes.word(128).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for round in 1..=rounds {
                bytes.write(PAGE, &[round as u8; 45]).unwrap();
                flag.store(round, Ordering::Release);
                while back.load(Ordering::Acquire) != round {
                    thread::yield_now();
                }
            }
        });
        let mut copy = [0; 45];
        for round in 1..=rounds {
            while flag.load(Ordering::Acquire) != round {
                thread::yield_now();
            }
            bytes.read(PAGE, &mut copy).unwrap();
            assert_eq!(copy, [round as u8; 45]);
            back.store(round, Ordering::Release);
        }
    });
}
