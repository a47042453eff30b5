//! Requests that are refused: each with its status, and none of them touches the disk.

use super::*;
use crate::fake_guest::{READ_ONLY, WRITE_ONLY};
use pvkit_abi::grant::GrantRef;

/// Asks, expects `status`, and that the disk saw nothing.
#[track_caller]
fn expect(status: Status, ask: impl FnOnce(&Guest) -> Ask) {
    expect_with(BlockFeatures::all(), status, ask);
}

#[track_caller]
fn expect_with(features: BlockFeatures, status: Status, ask: impl FnOnce(&Guest) -> Ask) {
    let (mut guest, mut queue, disk) = open_with(8, features);
    let ask = ask(&guest);
    assert_eq!(guest.ask(&mut queue, ask), refused(status), "{ask:x?}");
    assert_eq!(disk.asked(), [], "{ask:x?}");
    assert_eq!(guest.counters.snapshot().errors, 1);
}

#[test]
fn unknown_operations_are_unsupported() {
    for op in [0, 7, 99, 255] {
        expect(Status::UNSUPPORTED, |_| Ask::segment(op, 0, 512, 0));
    }
}

#[test]
fn unknown_flags_are_unsupported() {
    for flags in [2, 4, 8, 32, 64, 128, 0xff] {
        expect(Status::UNSUPPORTED, |_| Ask { flags, ..read(0, 512, 0) });
        expect(Status::UNSUPPORTED, |_| Ask { flags, ..flush() });
    }
}

#[test]
fn flags_are_refused_where_they_mean_nothing() {
    expect(Status::UNSUPPORTED, |_| read(0, 512, 0).flags(RequestFlags::FUA));
    expect(Status::UNSUPPORTED, |_| flush().flags(RequestFlags::FUA));
    expect(Status::UNSUPPORTED, |_| run(BlockOp::DISCARD, 0, 512).flags(RequestFlags::FUA));
    expect(Status::UNSUPPORTED, |_| run(BlockOp::WRITE_ZEROES, 0, 512).flags(RequestFlags::INDIRECT));
    expect(Status::UNSUPPORTED, |_| Ask::segment(BlockOp::GET_ID.0, 0, 32, 0).flags(RequestFlags::INDIRECT));
}

#[test]
fn features_that_were_not_sealed_are_unsupported() {
    let without = |feature| BlockFeatures::all() - feature;
    let unsupported = Status::UNSUPPORTED;
    expect_with(without(BlockFeatures::FLUSH), unsupported, |_| flush());
    expect_with(without(BlockFeatures::FLUSH), unsupported, |_| write(0, 512, 0).flags(RequestFlags::FUA));
    expect_with(without(BlockFeatures::DISCARD), unsupported, |_| run(BlockOp::DISCARD, 0, 512));
    expect_with(without(BlockFeatures::WRITE_ZEROES), unsupported, |_| run(BlockOp::WRITE_ZEROES, 0, 512));
    expect_with(without(BlockFeatures::INDIRECT), unsupported, |guest| {
        indirect(guest, BlockOp::READ, 0, &[segment(0, 512)], 4096)
    });
}

#[test]
fn runs_beyond_the_end_are_out_of_range_also_where_the_sum_overflows() {
    for (position, length) in [(CAPACITY, 512), (CAPACITY - 512, 1024), (u64::MAX - 511, 512), (1 << 63, 512)] {
        expect(Status::OUT_OF_RANGE, |_| read(position, length, 0));
        expect(Status::OUT_OF_RANGE, |_| write(position, length, 0));
        expect(Status::OUT_OF_RANGE, |_| run(BlockOp::DISCARD, position, u64::from(length)));
        expect(Status::OUT_OF_RANGE, |_| run(BlockOp::WRITE_ZEROES, position, u64::from(length)));
    }
}

#[test]
fn half_blocks_are_misaligned() {
    for (position, length) in [(1, 512), (256, 512), (0, 511), (0, 513), (u64::MAX, 512)] {
        expect(Status::MISALIGNED, |_| read(position, length, 0));
        expect(Status::MISALIGNED, |_| write(position, length, 0));
        expect(Status::MISALIGNED, |_| run(BlockOp::WRITE_ZEROES, position, u64::from(length)));
    }
    expect(Status::MISALIGNED, |_| read(0, 512, 4));
    expect(Status::MISALIGNED, |guest| indirect(guest, BlockOp::READ, 0, &[segment(0, 256), segment(257, 256)], 4096));
}

#[test]
fn empty_transfers_and_words_that_must_be_zero_are_invalid() {
    expect(Status::INVALID, |_| read(0, 0, 0));
    expect(Status::INVALID, |_| run(BlockOp::DISCARD, 0, 0));
    expect(Status::INVALID, |_| run(BlockOp::FLUSH, 512, 0));
    expect(Status::INVALID, |_| run(BlockOp::FLUSH, 0, 512));
    expect(Status::INVALID, |_| Ask { aux: 1, ..read(0, 512, 0) });
    expect(Status::INVALID, |_| Ask { words: [0, 1, 512], ..run(BlockOp::DISCARD, 0, 0) });
    expect(Status::INVALID, |_| Ask::segment(BlockOp::GET_ID.0, 512, 32, 0));
    expect(Status::INVALID, |_| Ask::segment(BlockOp::GET_ID.0, 0, 0, 0));
}

#[test]
fn a_discard_longer_than_was_offered_is_too_large() {
    expect(Status::TOO_LARGE, |_| run(BlockOp::DISCARD, 0, (1 << 30) + 512));
    expect(Status::TOO_LARGE, |_| run(BlockOp::WRITE_ZEROES, 0, u64::MAX));
}

#[test]
fn a_transfer_larger_than_was_offered_is_too_large() {
    expect(Status::TOO_LARGE, |_| read(0, (4 << 20) + 512, 0));
    // Each fits, the sum does not; also where it would wrap to something small in 32 bits.
    expect(Status::TOO_LARGE, |guest| {
        indirect(guest, BlockOp::READ, 0, &[segment(0, 3 << 20), segment(0, 2 << 20)], 0)
    });
    let wrapping = [segment(0, 0x8000_0000), segment(0, 0x8000_0000), segment(0, 512)];
    expect(Status::TOO_LARGE, |guest| indirect(guest, BlockOp::READ, 0, &wrapping, 0));
}

#[test]
fn lists_of_the_wrong_length_are_refused() {
    let list = |guest: &Guest| indirect(guest, BlockOp::READ, 0, &[segment(0, 512); 2], 4096);
    expect(Status::TOO_LARGE, |guest| Ask { aux: 257, ..list(guest) });
    expect(Status::INVALID, |guest| Ask { aux: 0, ..list(guest) });
    expect(Status::INVALID, |guest| Ask { aux: 1, ..list(guest) });
    expect(Status::INVALID, |guest| Ask { words: [0, place(ALL, 31), 4096], ..list(guest) });
    expect(Status::INVALID, |guest| indirect(guest, BlockOp::READ, 0, &[segment(0, 512), segment(0, 0)], 4096));
}

#[test]
fn a_list_entry_is_data_and_never_another_list() {
    let (mut guest, mut queue, disk) = open(8);
    // The first list names the second one; the disk gets the second list's own bytes.
    let inner = [segment(0, 512); 32];
    guest.fill(8192, inner.as_bytes());
    let ask = indirect(&guest, BlockOp::WRITE, 0, &[segment(8192, 512)], 4096);
    assert_eq!(guest.ask(&mut queue, ask), ok(0));
    assert_eq!(disk.ram.content()[..512], *inner.as_bytes());
}

#[test]
fn memory_that_was_not_granted_for_this_is_a_bad_grant() {
    for grant in [GrantRef::NONE, GrantRef::new(0, 2), GrantRef::new(200, 1), GrantRef(u32::MAX)] {
        expect(Status::BAD_GRANT, |_| read(0, 512, 0).grant(grant));
    }
    expect(Status::BAD_GRANT, |_| read(0, 512, 0).grant(READ_ONLY));
    expect(Status::BAD_GRANT, |_| write(0, 512, 0).grant(WRITE_ONLY));
    expect(Status::BAD_GRANT, |_| read(0, 512, 4096).grant(WRITE_ONLY));
    expect(Status::BAD_GRANT, |_| read(0, 512, u64::MAX - 7));
    expect(Status::BAD_GRANT, |_| Ask::segment(BlockOp::GET_ID.0, 0, 32, 0).grant(READ_ONLY));
    // The list itself must be readable, and every entry be granted.
    expect(Status::BAD_GRANT, |guest| indirect(guest, BlockOp::READ, 0, &[segment(0, 512)], 0).grant(WRITE_ONLY));
    let second_is_bad = [segment(0, 512), Segment { grant: READ_ONLY, length: 512, offset: 0 }];
    expect(Status::BAD_GRANT, |guest| indirect(guest, BlockOp::READ, 0, &second_is_bad, 0));
}

#[test]
fn a_read_only_disk_refuses_every_change_and_serves_the_rest() {
    let (mut guest, mut queue, disk) = open(8);
    disk.read_only.store(true, Ordering::Relaxed);
    for ask in [write(0, 512, 0), run(BlockOp::DISCARD, 0, 512), run(BlockOp::WRITE_ZEROES, 0, 512)] {
        assert_eq!(guest.ask(&mut queue, ask), refused(Status::READ_ONLY));
    }
    assert_eq!(disk.asked(), []);
    assert_eq!(guest.ask(&mut queue, read(0, 512, 0)), ok(0));
    assert_eq!(guest.ask(&mut queue, flush()), ok(0));
}
