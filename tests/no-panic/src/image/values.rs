//! Sizes, positions, answers and spinning.

use super::kept;
use core::fmt::{Result, Write};
use pvkit_ring::{AdaptiveSpin, Cursor, Full, Misuse, Notify, PeerFault, RingIndex, RingSize};

kept! {
    fn size_new(depth: u32) -> Option<RingSize> { RingSize::new(depth) }
    fn depth(size: RingSize) -> u32 { size.depth() }
    fn area_bytes(size: RingSize, words: usize) -> usize { size.area_bytes(words) }
    fn advance(index: RingIndex, by: u32) -> RingIndex { index.advance(by) }
    fn distance_from(index: RingIndex, earlier: RingIndex) -> u32 { index.distance_from(earlier) }
    fn slot(index: RingIndex, size: RingSize) -> u32 { index.slot(size) }
    fn index_offset(index: RingIndex, size: RingSize, words: usize) -> usize { index.offset(size, words) }
    fn at(index: u32, previous: u16) -> Cursor { Cursor::at(index, previous) }
    fn index(cursor: Cursor) -> RingIndex { cursor.index() }
    fn tag(cursor: Cursor) -> u16 { cursor.tag() }
    fn previous(cursor: Cursor) -> u16 { cursor.previous() }
    fn offset(cursor: Cursor, size: RingSize, words: usize) -> usize { cursor.offset(size, words) }
    fn step(cursor: &mut Cursor, size: RingSize) { cursor.step(size) }
    fn or(notify: Notify, other: Notify) -> Notify { notify.or(other) }
    fn is_needed(notify: Notify) -> bool { notify.is_needed() }
    fn spin_new(limit: u32) -> AdaptiveSpin { AdaptiveSpin::new(limit) }
    fn set_limit(spin: &mut AdaptiveSpin, limit: u32) { spin.set_limit(limit) }
    fn run(spin: &mut AdaptiveSpin, look: &mut dyn FnMut() -> bool) -> bool { spin.run(look) }
    fn show(to: &mut dyn Write, fault: &PeerFault, misuse: &Misuse, full: &Full) -> Result { write!(to, "{fault}{misuse}{full}") }
}
