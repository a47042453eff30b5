//! Packing and unpacking of words: every part comes back, no part reaches into another.

use pvkit_abi::grant::GrantRef;
use pvkit_abi::hypercall::Call;
use pvkit_abi::net::{FrameFlags, FrameHash, FrameMeta, HashKind, MIN_SEGMENT, NetFeatures, Segmentation};
use pvkit_abi::ring::{
    CompletionWord, FIRST_TAG, MAX_DEPTH, MIN_DEPTH, REQUEST_BYTES, RequestFlags, RequestWord, area_pages, next_tag,
};
use pvkit_abi::status::{CallError, CompletionResult, MAX_DETAIL, Status};
use pvkit_abi::version::Group;

/// Values that show a shift or a mask that is wrong by one.
const SIXTEEN: [u16; 6] = [0, 1, 0x00ff, 0x5aa5, 0x8000, 0xffff];

#[test]
fn request_word_gives_back_every_part() {
    for op in [0, 1, 0x80, 0xff] {
        for flags in [RequestFlags::empty(), RequestFlags::INDIRECT, RequestFlags::FUA, RequestFlags::all()] {
            for id in SIXTEEN {
                for aux in SIXTEEN {
                    for tag in SIXTEEN {
                        let word = RequestWord::new(op, flags, id, aux).with_tag(tag);
                        let parts = (word.op(), word.flags(), word.id(), word.aux(), word.tag());
                        assert_eq!(parts, (op, flags.bits(), id, aux, tag));
                    }
                }
            }
        }
    }
}

#[test]
fn request_word_without_a_tag_looks_empty() {
    assert_eq!(RequestWord::new(0xff, RequestFlags::all(), 0xffff, 0xffff).tag(), 0);
}

#[test]
fn tag_replaces_the_tag_before_it() {
    assert_eq!(RequestWord(u64::MAX).with_tag(1).0, 0x0001_ffff_ffff_ffff);
    assert_eq!(CompletionWord(u64::MAX).with_tag(1).0, 0x0001_ffff_ffff_ffff);
}

#[test]
fn request_word_keeps_flags_that_this_version_does_not_know() {
    let word = RequestWord(0xee << 8);
    assert_eq!(word.flags(), 0xee);
    assert_eq!(RequestFlags::from_bits(word.flags()), None);
}

#[test]
fn completion_word_gives_back_every_part() {
    for status in [Status::OK, Status::TOO_LARGE, Status(0xff)] {
        for detail in [0, 1, 0x5a_a55a, MAX_DETAIL] {
            for id in SIXTEEN {
                for tag in SIXTEEN {
                    let word = CompletionWord::new(id, CompletionResult::new(status, detail)).with_tag(tag);
                    let result = word.result();
                    assert_eq!((result.status(), result.detail(), word.id(), word.tag()), (status, detail, id, tag));
                }
            }
        }
    }
}

#[test]
fn detail_that_does_not_fit_is_cut_to_the_largest() {
    for detail in [MAX_DETAIL + 1, u32::MAX] {
        let result = CompletionResult::new(Status::IO_ERROR, detail);
        assert_eq!((result.status(), result.detail()), (Status::IO_ERROR, MAX_DETAIL));
    }
}

#[test]
fn grant_ref_gives_back_index_and_generation() {
    for index in SIXTEEN {
        for generation in SIXTEEN {
            let grant = GrantRef::new(index, generation);
            assert_eq!((grant.index(), grant.generation()), (index, generation));
        }
    }
}

#[test]
fn frame_meta_gives_back_every_part() {
    let flags = [FrameFlags::empty(), FrameFlags::NEEDS_CHECKSUM, FrameFlags::MORE, FrameFlags::all()];
    for flags in flags {
        for segmentation in [Segmentation::NONE, Segmentation::UDP, Segmentation(0x5a), Segmentation(0xff)] {
            for start in SIXTEEN {
                for offset in SIXTEEN {
                    for size in SIXTEEN {
                        let meta = FrameMeta::new(flags, start, offset, segmentation, size);
                        assert_eq!((meta.flags(), meta.checksum_start()), (flags.bits(), start));
                        assert_eq!((meta.checksum_offset(), meta.segment_size()), (offset, size));
                        assert_eq!(meta.segmentation(), segmentation);
                    }
                }
            }
        }
    }
}

#[test]
fn frame_meta_keeps_flags_that_this_version_does_not_know() {
    let meta = FrameMeta(0xf1 << 56);
    assert_eq!((meta.flags(), FrameFlags::from_bits(meta.flags())), (0xf1, None));
}

#[test]
fn frame_with_nothing_left_to_do_has_metadata_zero() {
    assert_eq!(FrameMeta::default(), FrameMeta::new(FrameFlags::empty(), 0, 0, Segmentation::NONE, 0));
    assert_eq!(FrameHash::default(), FrameHash::new(0, HashKind::NONE));
}

#[test]
fn frame_hash_gives_back_hash_and_kind() {
    for hash in [0, 1, 0x8000_0000, 0x5aa5_a55a, u32::MAX] {
        for kind in [HashKind::NONE, HashKind::UDP6, HashKind(0xff)] {
            let word = FrameHash::new(hash, kind);
            assert_eq!((word.hash(), word.kind(), word.0 >> 40), (hash, kind, 0));
        }
    }
}

#[test]
fn features_miss_exactly_what_they_need_and_lack() {
    let both = NetFeatures::RX_CHECKSUM | NetFeatures::MERGEABLE;
    for (feature, needs) in [
        (NetFeatures::TX_TSO4, NetFeatures::TX_CHECKSUM),
        (NetFeatures::TX_TSO6, NetFeatures::TX_CHECKSUM),
        (NetFeatures::TX_USO, NetFeatures::TX_CHECKSUM),
        (NetFeatures::RX_TSO4, both),
        (NetFeatures::RX_TSO6, both),
        (NetFeatures::RX_USO, both),
    ] {
        assert_eq!(feature.missing(), needs, "{feature:?}");
        assert_eq!((feature | needs).missing(), NetFeatures::empty(), "{feature:?}");
        assert_eq!((NetFeatures::all() - needs).missing(), needs, "{feature:?}");
    }
    assert_eq!((both | NetFeatures::TX_CHECKSUM | NetFeatures::RSS).missing(), NetFeatures::empty());
}

#[test]
fn smallest_segment_fits_the_smallest_mtu() {
    assert_eq!(MIN_SEGMENT, 28);
}

#[test]
fn no_grant_with_a_legal_generation_is_none() {
    assert_eq!(GrantRef::NONE.generation(), 0);
    assert!((1..=u16::MAX).all(|generation| GrantRef::new(0, generation) != GrantRef::NONE));
}

#[test]
fn tags_go_through_all_values_but_zero() {
    let mut tag = FIRST_TAG;
    for expected in 1..=u16::MAX {
        assert_eq!(tag, expected);
        tag = next_tag(tag);
    }
    assert_eq!(tag, FIRST_TAG);
}

#[test]
fn areas_have_exactly_the_pages_that_header_and_slots_fill() {
    assert_eq!(area_pages(MIN_DEPTH, 8), 1);
    assert_eq!(area_pages(64, REQUEST_BYTES), 1);
    // 128 + 124 * 32 = 4096: the last depth (were it a power of two) that fits one page.
    assert_eq!(area_pages(124, REQUEST_BYTES), 1);
    assert_eq!(area_pages(125, REQUEST_BYTES), 2);
    assert_eq!(area_pages(MAX_DEPTH, REQUEST_BYTES), 33);
}

#[test]
fn results_from_zero_up_are_values() {
    for raw in [0, 1, i64::MAX] {
        assert_eq!(CallError::from_result(raw), Ok(raw as u64));
    }
}

#[test]
fn errors_come_back_from_a_result_register() {
    for number in [1, 13, 14, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let error = CallError(number);
        assert!(error.to_result() < 0);
        assert_eq!(CallError::from_result(error.to_result()), Err(error));
    }
}

#[test]
fn negative_results_outside_the_table_stay_errors() {
    for raw in [-(u32::MAX as i64) - 1, i64::MIN + 1, i64::MIN] {
        assert_eq!(CallError::from_result(raw), Err(CallError(u32::MAX)));
    }
    assert_eq!(CallError::from_result(-14).map_err(CallError::name), Err(None));
}

#[test]
fn a_call_names_its_group() {
    assert_eq!(Call::EVENT_STATUS.group(), Group::EVENT);
    assert_eq!(Call::BUS_KICK.group(), Group::BUS);
    assert_eq!(Call::VCPU_START.group(), Group::VCPU);
    assert_eq!(Call::NEGOTIATE.group(), Group(0));
    // Above 16 bits nothing may fold into a known group.
    assert_ne!(Call(0x0100_0100).group(), Group::EVENT);
}

#[test]
fn unknown_values_print_as_numbers() {
    assert_eq!(format!("{:?} {:?}", Call::BUS_KICK, Call(0x999)), "BUS_KICK Call(0x999)");
}
