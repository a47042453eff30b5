use super::*;
use proptest::prelude::*;
use pvkit_abi::version::{CURRENT, Group};

const HEADER: usize = 64;
const PROGRAM: usize = 56;
const TEXT_AT: usize = 0x200;
const NOTE_AT: usize = 0x300;

/// A smallest image: header, a text segment, a note segment.
fn elf(note: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = vec![0; 0x500];
    put(&mut bytes, 0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(&mut bytes, 16, &elf::ET_EXEC.to_le_bytes());
    put(&mut bytes, 18, &elf::EM_X86_64.to_le_bytes());
    put(&mut bytes, 20, &1_u32.to_le_bytes());
    put(&mut bytes, 24, &(IMAGE_BASE_MIN + 0x10).to_le_bytes());
    put(&mut bytes, 32, &(HEADER as u64).to_le_bytes());
    put(&mut bytes, 52, &(HEADER as u16).to_le_bytes());
    put(&mut bytes, 54, &(PROGRAM as u16).to_le_bytes());
    put(&mut bytes, 56, &2_u16.to_le_bytes());
    program(&mut bytes, 0, elf::PT_LOAD, elf::PF_R | elf::PF_X, (TEXT_AT, IMAGE_BASE_MIN, 0x100, 0x2000));
    if let Some(desc) = note {
        let mut record = Vec::new();
        record.extend((NOTE_NAME.len() as u32).to_le_bytes());
        record.extend((desc.len() as u32).to_le_bytes());
        record.extend(NOTE_TYPE.to_le_bytes());
        record.extend(b"pvkit\0\0\0");
        record.extend(desc);
        put(&mut bytes, NOTE_AT, &record);
        program(&mut bytes, 1, elf::PT_NOTE, elf::PF_R, (NOTE_AT, 0, record.len() as u64, record.len() as u64));
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

fn program(
    bytes: &mut [u8],
    index: usize,
    kind: u32,
    flags: u32,
    (offset, address, file, memory): (usize, u64, u64, u64),
) {
    let at = HEADER + index * PROGRAM;
    put(bytes, at, &kind.to_le_bytes());
    put(bytes, at + 4, &flags.to_le_bytes());
    put(bytes, at + 8, &(offset as u64).to_le_bytes());
    put(bytes, at + 16, &address.to_le_bytes());
    put(bytes, at + 32, &file.to_le_bytes());
    put(bytes, at + 40, &memory.to_le_bytes());
    put(bytes, at + 48, &4_u64.to_le_bytes());
}

fn note() -> GuestNote {
    let mut note = GuestNote::new_zeroed();
    note.size = size_of::<GuestNote>() as u32;
    note.flags = NoteFlags::CPL3.bits();
    note.group_count = 1;
    note.groups[0].group = Group::EVENT;
    note.groups[0].major = CURRENT.major;
    note
}

#[test]
fn image_with_a_note_is_taken_as_it_is() {
    let image = Image::parse(&elf(Some(note().as_bytes()))).unwrap();
    assert_eq!(image.entry, IMAGE_BASE_MIN + 0x10);
    assert_eq!(image.note, note());
    assert_eq!(image.end(), IMAGE_BASE_MIN + 0x2000);
    assert_eq!(image.segments.len(), 1);
    assert_eq!(image.segments[0].rights, Rights { write: false, execute: true });
}

#[test]
fn image_without_a_note_is_refused_with_the_remedy() {
    let error = Image::parse(&elf(None)).unwrap_err();
    assert!(matches!(error, ImageError::NoNote));
    assert!(error.to_string().contains(".note.pvkit"), "{error}");
}

#[test]
fn note_of_a_later_minor_is_taken_if_its_tail_is_zero() {
    let mut longer = note().as_bytes().to_vec();
    longer.extend([0; 16]);
    let size = longer.len() as u32;
    put(&mut longer, 0, &size.to_le_bytes());
    let image = Image::parse(&elf(Some(&longer))).unwrap();
    assert_eq!(image.note.groups, note().groups);
    *longer.last_mut().unwrap() = 1;
    assert!(matches!(Image::parse(&elf(Some(&longer))), Err(ImageError::NewerNote)));
}

#[test]
fn note_with_counts_beyond_its_tables_or_unknown_flags_is_refused() {
    let mut lie = note();
    lie.group_count = 9;
    assert!(matches!(Image::parse(&elf(Some(lie.as_bytes()))), Err(ImageError::Malformed(_))));
    let mut lie = note();
    lie.flags = 0x80;
    assert!(matches!(Image::parse(&elf(Some(lie.as_bytes()))), Err(ImageError::UnknownFlags(0x80))));
}

#[test]
fn segment_below_the_hosts_tables_or_beyond_all_memory_is_refused() {
    let mut bytes = elf(Some(note().as_bytes()));
    put(&mut bytes, HEADER + 16, &0x1000_u64.to_le_bytes());
    assert!(matches!(Image::parse(&bytes), Err(ImageError::TooLow { address: 0x1000, .. })));
    put(&mut bytes, HEADER + 16, &(u64::MAX - 0x100).to_le_bytes());
    assert!(matches!(Image::parse(&bytes), Err(ImageError::Malformed(_))));
}

#[test]
fn entry_outside_the_code_is_refused() {
    let mut bytes = elf(Some(note().as_bytes()));
    put(&mut bytes, 24, &0x9999_9999_u64.to_le_bytes());
    assert!(matches!(Image::parse(&bytes), Err(ImageError::Malformed(_))));
}

#[test]
fn other_files_are_named_for_what_they_are() {
    assert!(matches!(Image::parse(b"#!/bin/sh\n"), Err(ImageError::NotElf)));
    let mut arm = elf(Some(note().as_bytes()));
    put(&mut arm, 18, &elf::EM_AARCH64.to_le_bytes());
    assert!(matches!(Image::parse(&arm), Err(ImageError::WrongMachine)));
    let mut pie = elf(Some(note().as_bytes()));
    put(&mut pie, 16, &elf::ET_DYN.to_le_bytes());
    assert!(matches!(Image::parse(&pie), Err(ImageError::NotStatic)));
}

proptest! {
    /// Whatever the bytes: an error, or an image whose segments fit one another and the address space.
    #[test]
    fn spoilt_image_is_an_error_or_keeps_every_promise(
        spoils in prop::collection::vec((0_usize..0x500, any::<u8>()), 1..12),
        cut in 0_usize..=0x500,
    ) {
        let mut bytes = elf(Some(note().as_bytes()));
        for (at, value) in spoils {
            bytes[at] = value;
        }
        bytes.truncate(cut.max(0x20));
        if let Ok(image) = Image::parse(&bytes) {
            let mut last = IMAGE_BASE_MIN;
            for segment in &image.segments {
                prop_assert!(segment.address >= last);
                prop_assert!(segment.data.len() as u64 <= segment.memory_size);
                last = segment.address.checked_add(segment.memory_size).unwrap();
            }
            prop_assert!(usize::from(image.note.group_count) <= MAX_ENTRIES);
            prop_assert!(image.segments.len() <= MAX_SEGMENTS);
        }
    }
}

const MAX_ENTRIES: usize = pvkit_abi::discovery::MAX_NOTE_ENTRIES;
