//! Both halves of a ring against a peer that writes what it likes.

use crate::input::Input;
use pvkit_abi::ring::{RequestFlags, area_pages};
use pvkit_abi::status::{CompletionResult, Status};
use pvkit_ring::{Backend, Frontend, RingSize};
use pvkit_shared_memory::HeapPages;
use std::sync::atomic::Ordering;

const DEPTH: u32 = 8;

/// One step of the peer: a word anywhere in one of the areas.
fn scribble(input: &mut Input<'_>, areas: &[&HeapPages; 2]) {
    let area = areas[usize::from(input.below(2))].pages().unwrap();
    let at = usize::from(input.below(64)) * 8;
    let value = match input.below(3) {
        0 => input.u64(),
        1 => u64::from(input.below(4)) << 48 | u64::from(input.u16()) << 16 | u64::from(input.byte()),
        _ => u64::from(input.below(4)) << 48 | u64::from(input.below(10)) << 32,
    };
    area.word(at).unwrap().store(value, Ordering::SeqCst);
}

fn areas() -> (HeapPages, HeapPages) {
    (HeapPages::new(area_pages(DEPTH, 32)), HeapPages::new(area_pages(DEPTH, 8)))
}

/// A backend takes no more than the depth, completes only what it took, and stays latched.
pub fn backend(data: &[u8]) {
    let (requests, completions) = areas();
    let size = RingSize::new(DEPTH).unwrap();
    let mut ring: Backend<_> = Backend::new(completions.pages().unwrap(), requests.pages().unwrap(), size, 1).unwrap();
    let mut input = Input::new(data);
    let (mut held, mut latched) = (Vec::new(), false);
    while !input.is_empty() {
        match input.below(4) {
            0 | 1 => scribble(&mut input, &[&requests, &completions]),
            2 => match ring.take() {
                Ok(Some(request)) => {
                    assert!(!latched, "a latched ring takes nothing");
                    held.push(request.word.id());
                    assert!(held.len() <= DEPTH as usize);
                }
                Ok(None) => assert!(!latched),
                Err(_) => latched = true,
            },
            _ => {
                if let Some(id) = held.pop() {
                    let _ = ring.complete(id, CompletionResult::new(Status::OK, 7));
                }
                let _ = ring.flush();
                let _ = ring.park();
            }
        }
    }
}

/// A frontend hands out each id once, and gets it back only from a completion.
pub fn frontend(data: &[u8]) {
    let (requests, completions) = areas();
    let size = RingSize::new(DEPTH).unwrap();
    let mut ring: Frontend<_, 8> =
        Frontend::new(requests.pages().unwrap(), completions.pages().unwrap(), size, 1).unwrap();
    let mut input = Input::new(data);
    let (mut flying, mut latched) = (0u32, false);
    while !input.is_empty() {
        match input.below(4) {
            0 | 1 => scribble(&mut input, &[&requests, &completions]),
            2 => {
                let mut batch = ring.batch();
                let count = input.below(4);
                let reserved =
                    (0..count).filter(|_| batch.reserve(1, RequestFlags::empty(), 0, [1, 2, 3]).is_ok()).count();
                if input.below(4) == 0 {
                    batch.revert();
                } else {
                    let _ = batch.commit();
                    flying += reserved as u32;
                }
                assert!(flying <= DEPTH);
            }
            _ => match ring.take() {
                Ok(Some(completed)) => {
                    assert!(!latched && u32::from(completed.id) < DEPTH);
                    flying -= 1;
                }
                Ok(None) => assert!(!latched),
                Err(_) => latched = true,
            },
        }
    }
}
