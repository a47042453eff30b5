//! A guest that writes anything: no panic, one completion for each request, nothing touched that was not named.

use super::*;
use crate::RamDisk;
use crate::fake_guest::{PAGES, READ_ONLY, WRITE_ONLY};
use proptest::prelude::*;
use pvkit_abi::grant::GrantRef;
use std::ops::Range;

const SMALL: u64 = 64 << 10;

/// Mostly a plausible number, so that a request is often right but for one field; else one near an edge, or any.
fn number(plausible: Range<u64>, unit: u64, edges: &'static [u64]) -> impl Strategy<Value = u64> {
    prop_oneof![
        30 => plausible.prop_map(move |n| n * unit),
        2 => prop::sample::select(edges),
        1 => (prop::sample::select(edges), -2i64..=2).prop_map(|(edge, by)| edge.wrapping_add_signed(by)),
        1 => any::<u64>(),
    ]
}

fn position() -> impl Strategy<Value = u64> {
    number(0..SMALL / 512, 512, &[0, SMALL - 512, SMALL, u64::MAX, 1 << 63])
}

fn length() -> impl Strategy<Value = u32> {
    number(1..8, 512, &[0, 8, 4 << 20, 1 << 31, 0xffff_ffff]).prop_map(|length| length as u32)
}

fn offset() -> impl Strategy<Value = u64> {
    number(0..64, 64, &[3 * 4096, PAGES as u64 * 4096 - 512, u64::MAX, 1 << 32])
}

fn grant() -> impl Strategy<Value = GrantRef> {
    prop_oneof![
        20 => Just(ALL),
        3 => Just(READ_ONLY),
        3 => Just(WRITE_ONLY),
        1 => any::<u32>().prop_map(GrantRef),
    ]
}

fn entry() -> impl Strategy<Value = Segment> {
    (grant(), length(), offset()).prop_map(|(grant, length, offset)| Segment { grant, length, offset })
}

fn list() -> impl Strategy<Value = Vec<Segment>> {
    prop::collection::vec(entry(), 1..6)
}

/// Where the lists of the guest lie.
const LIST_AT: u64 = 40 * 4096;

fn ask() -> impl Strategy<Value = (Ask, Option<Vec<Segment>>)> {
    let op = prop_oneof![20 => prop::sample::select(&[1u8, 2, 1, 2, 6]), 1 => any::<u8>()];
    let flags = prop_oneof![20 => Just(0u8), 2 => Just(16u8), 1 => any::<u8>()];
    let inline = (op.clone(), flags, prop_oneof![20 => Just(0u16), 1 => any::<u16>()], position(), entry()).prop_map(
        |(op, flags, aux, position, entry)| {
            let words = [position, place(entry.grant, entry.length), entry.offset];
            (Ask { op, flags, aux, words }, None)
        },
    );
    let run = (4..=5u8, position(), length()).prop_map(|(op, position, length)| {
        (Ask { op, flags: 0, aux: 0, words: [position, 0, u64::from(length)] }, None)
    });
    let indirect = (op, position(), list(), prop_oneof![20 => Just(0i16), 1 => any::<i16>()]).prop_map(
        |(op, position, list, lie)| {
            let aux = (list.len() as u16).wrapping_add_signed(lie);
            let words = [position, place(ALL, list.len() as u32 * 16), LIST_AT];
            (Ask { op, flags: 1, aux, words }, Some(list))
        },
    );
    prop_oneof![3 => inline, 1 => run, 2 => indirect]
}

/// The run of the disk that a request which went well may have changed, told by the words alone.
fn named_run(ask: &Ask, list: Option<&[Segment]>) -> Range<usize> {
    let [position, place, last] = ask.words;
    let length = match BlockOp(ask.op) {
        BlockOp::WRITE => list.map_or(place >> 32, |list| list.iter().map(|entry| u64::from(entry.length)).sum()),
        BlockOp::DISCARD | BlockOp::WRITE_ZEROES => last,
        _ => return 0..0,
    };
    let end = u128::from(position) + u128::from(length);
    assert!(end <= u128::from(SMALL), "{ask:x?} went well beyond the end");
    position as usize..end as usize
}

/// The runs of the guest's memory that a request which went well may have changed.
fn named_memory(ask: &Ask, list: Option<&[Segment]>) -> Vec<Range<usize>> {
    let [_, place, offset] = ask.words;
    let inline = Segment { grant: GrantRef(place as u32), length: (place >> 32) as u32, offset };
    let entries: &[Segment] = match BlockOp(ask.op) {
        BlockOp::READ => list.unwrap_or(std::slice::from_ref(&inline)),
        BlockOp::GET_ID => std::slice::from_ref(&inline),
        _ => &[],
    };
    let base = |grant| match grant {
        ALL => 0,
        WRITE_ONLY => 2 * 4096,
        other => panic!("{other:?} went well and is not writable"),
    };
    entries
        .iter()
        .map(|entry| base(entry.grant) + entry.offset as usize)
        .zip(entries)
        .map(|(start, entry)| start..start + entry.length as usize)
        .collect()
}

/// Bytes outside `runs` are equal.
fn assert_unchanged(what: &str, before: &[u8], after: &[u8], runs: &[Range<usize>]) {
    const PART: usize = 512;
    for (part, (old, new)) in
        before.chunks(PART).zip(after.chunks(PART)).enumerate().filter(|(_, (old, new))| old != new)
    {
        for at in (0..old.len()).filter(|at| old[*at] != new[*at]).map(|at| part * PART + at) {
            assert!(runs.iter().any(|run| run.contains(&at)), "{what} was changed at {at}, outside {runs:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_completed_once_and_touches_only_what_it_names(asks in prop::collection::vec(ask(), 1..20)) {
        let (mut guest, setup) = connect(8);
        let disk = Arc::new(FakeDisk::over(RamDisk::with_content(vec![0x5a; SMALL as usize])));
        let mut queue = BlockQueue::new(setup, disk.clone(), BlockLimits::default(), BlockFeatures::all());
        for (ask, list) in asks {
            if let Some(list) = &list {
                guest.fill(LIST_AT as usize, list.as_bytes());
            }
            let (before, memory) = (disk.ram.content(), copy_of(&guest.memory.bytes()));
            let result = guest.ask(&mut queue, ask);
            let went_well = result.status() == Status::OK;
            let list = list.as_deref();
            let runs = if went_well { vec![named_run(&ask, list)] } else { vec![] };
            assert_unchanged("the disk", &before, &disk.ram.content(), &runs);
            let runs = if went_well { named_memory(&ask, list) } else { vec![] };
            assert_unchanged("the guest's memory", &memory, &copy_of(&guest.memory.bytes()), &runs);
        }
    }

    #[test]
    fn any_words_in_the_ring_are_answered_or_latch_the_queue(
        writes in prop::collection::vec((0..8usize, 0..4usize, slot_word()), 1..60),
    ) {
        let (guest, setup) = connect(8);
        let disk = Arc::new(FakeDisk::new(SMALL));
        let mut queue = BlockQueue::new(setup, disk, BlockLimits::default(), BlockFeatures::all());
        let mut latched = false;
        for (slot, word, value) in writes {
            let at = HEADER_BYTES + slot * REQUEST_BYTES + word * 8;
            guest.requests.word(at).unwrap().store(value, Ordering::SeqCst);
            match queue.pass(8) {
                Pass::Worked(served) => prop_assert!(!latched && served <= 8),
                Pass::Idle => prop_assert!(!latched, "a latched queue stays latched"),
                Pass::Latched => latched = true,
            }
            let counted = guest.counters.snapshot();
            prop_assert_eq!(counted.requests, counted.completions);
            prop_assert_eq!(counted.faults, u64::from(latched));
        }
        // Whatever happened: parking ends, and closing leaves nothing in flight.
        let _ = queue.park();
        queue.close();
        prop_assert_eq!(queue.pass(8), Pass::Latched);
    }
}

/// Words that look like word 0 of a slot in an early lap, or like anything.
fn slot_word() -> impl Strategy<Value = u64> {
    let plausible = (0..8u64, 0..9u64, prop_oneof![8 => 1..3u64, 1 => any::<u64>()])
        .prop_map(|(op, id, tag)| op | id << 16 | tag << 48);
    prop_oneof![3 => plausible, 1 => any::<u64>()]
}
