//! A guest image: an ELF file with our note, judged before it is loaded.

use crate::error::ImageError;
use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use pvkit_abi::discovery::{GuestNote, NOTE_NAME, NOTE_TYPE, NoteFlags};
use pvkit_abi::entry::IMAGE_BASE_MIN;
use std::io::Read;
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

/// Largest image file read, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// End of the highest segment: the 4 KiB tables of the image must fit below it.
pub const MAX_END: u64 = 64 << 20;
/// Most loadable segments.
const MAX_SEGMENTS: usize = 32;

/// What a segment may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub write: bool,
    pub execute: bool,
}

/// One piece of the image as it stands in memory.
#[derive(Debug)]
pub struct Segment {
    pub address: u64,
    pub memory_size: u64,
    pub rights: Rights,
    pub data: Vec<u8>,
}

/// An image that has been judged: segments ascending, not overlapping, above [`IMAGE_BASE_MIN`].
#[derive(Debug)]
pub struct Image {
    pub entry: u64,
    pub note: GuestNote,
    pub segments: Vec<Segment>,
}

impl Image {
    /// Reads and judges an image.
    ///
    /// # Errors
    /// Names what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, ImageError> {
        let file = std::fs::File::open(path).map_err(ImageError::Read)?;
        let about = file.metadata().map_err(ImageError::Read)?;
        if !about.is_file() {
            return Err(ImageError::NotAFile);
        }
        let mut bytes = Vec::new();
        // A file may grow while it is read.
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(ImageError::Read)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(ImageError::TooLarge { size: about.len(), limit: MAX_FILE });
        }
        Self::parse(&bytes)
    }

    /// Judges an image's bytes. Whatever they are, the result is an image that fits its own claims, or an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let header = FileHeader64::<LE>::parse(bytes).map_err(|_| ImageError::NotElf)?;
        let endian = header.endian().map_err(|_| ImageError::NotElf)?;
        if header.e_machine(endian) != elf::EM_X86_64 {
            return Err(ImageError::WrongMachine);
        }
        if header.e_type(endian) != elf::ET_EXEC {
            return Err(ImageError::NotStatic);
        }
        let programs = header.program_headers(endian, bytes).map_err(|_| ImageError::Malformed("program headers"))?;
        let note = find_note(programs, bytes)?;
        let segments = load_segments(programs, bytes)?;
        let entry = header.e_entry(endian);
        let inside = |s: &Segment| s.rights.execute && entry >= s.address && entry - s.address < s.memory_size;
        if !segments.iter().any(inside) {
            return Err(ImageError::Malformed("entry point outside the executable segments"));
        }
        Ok(Self { entry, note, segments })
    }

    /// First address after the image.
    pub fn end(&self) -> u64 {
        self.segments.last().map_or(IMAGE_BASE_MIN, |s| s.address + s.memory_size)
    }

    pub fn flags(&self) -> NoteFlags {
        NoteFlags::from_bits_truncate(self.note.flags)
    }
}

/// Whether a file is a stock kernel: a bzImage, or an ELF image with a PVH note and without ours. What it is else, the
/// reader of PV images says.
///
/// # Errors
/// It cannot be read.
pub fn is_stock_kernel(path: &Path) -> std::io::Result<bool> {
    /// Offset and magic of a bzImage's header. (Documentation/arch/x86/boot.rst)
    const HEADER: std::ops::Range<usize> = 0x202..0x206;
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.by_ref().take(HEADER.end as u64).read_to_end(&mut bytes)?;
    if bytes.get(HEADER) == Some(b"HdrS") {
        return Ok(true);
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        return Ok(false);
    }
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(has_pvh_note(&bytes).unwrap_or(false))
}

fn has_pvh_note(bytes: &[u8]) -> object::Result<bool> {
    /// XEN_ELFNOTE_PHYS32_ENTRY (Xen, include/public/elfnote.h).
    const PVH_ENTRY: u32 = 18;
    let header = FileHeader64::<LE>::parse(bytes)?;
    let mut has = false;
    for program in header.program_headers(header.endian()?, bytes)? {
        let Some(mut notes) = program.notes(LE, bytes)? else { continue };
        while let Some(note) = notes.next()? {
            if note.name() == &NOTE_NAME[..NOTE_NAME.len() - 1] && note.n_type(LE) == NOTE_TYPE {
                return Ok(false);
            }
            has |= note.name() == b"Xen" && note.n_type(LE) == PVH_ENTRY;
        }
    }
    Ok(has)
}

fn load_segments(programs: &[ProgramHeader64<LE>], bytes: &[u8]) -> Result<Vec<Segment>, ImageError> {
    let mut segments = Vec::new();
    for program in programs.iter().filter(|p| p.p_type(LE) == elf::PT_LOAD && p.p_memsz(LE) > 0) {
        let data = program.data(LE, bytes).map_err(|()| ImageError::Malformed("segment outside the file"))?;
        let (address, memory_size) = (program.p_vaddr(LE), program.p_memsz(LE));
        if address < IMAGE_BASE_MIN {
            return Err(ImageError::TooLow { address, least: IMAGE_BASE_MIN });
        }
        if data.len() as u64 > memory_size || address.checked_add(memory_size).is_none_or(|end| end > 1 << 46) {
            return Err(ImageError::Malformed("segment size"));
        }
        let flags = program.p_flags(LE);
        let rights = Rights { write: flags & elf::PF_W != 0, execute: flags & elf::PF_X != 0 };
        // Segments do not overlap (below), so what they hold together is bounded by where they may lie.
        if address + memory_size > MAX_END {
            return Err(ImageError::TooHigh { end: address + memory_size, limit: MAX_END });
        }
        if segments.len() == MAX_SEGMENTS {
            return Err(ImageError::Malformed("too many segments"));
        }
        segments.push((Segment { address, memory_size, rights, data: Vec::new() }, data));
    }
    let segments = ascending(segments)?;
    Ok(segments.into_iter().map(|(segment, data)| Segment { data: data.to_vec(), ..segment }).collect())
}

/// Segments with the part of the file that fills each.
type Found<'a> = Vec<(Segment, &'a [u8])>;

/// In the order of their addresses; none may overlap another.
fn ascending(mut segments: Found<'_>) -> Result<Found<'_>, ImageError> {
    segments.sort_by_key(|(segment, _)| segment.address);
    let mut pairs = segments.iter().zip(segments.iter().skip(1));
    let overlap = pairs.any(|((a, _), (b, _))| a.address + a.memory_size > b.address);
    match (segments.is_empty(), overlap) {
        (true, _) => Err(ImageError::Malformed("nothing to load")),
        (_, true) => Err(ImageError::Malformed("overlapping segments")),
        _ => Ok(segments),
    }
}

fn find_note(programs: &[ProgramHeader64<LE>], bytes: &[u8]) -> Result<GuestNote, ImageError> {
    for program in programs {
        let Ok(Some(mut notes)) = program.notes(LE, bytes) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == &NOTE_NAME[..NOTE_NAME.len() - 1] && note.n_type(LE) == NOTE_TYPE {
                return parse_note(note.desc());
            }
        }
    }
    Err(ImageError::NoNote)
}

/// A note may be longer than ours (its tail must be zero) or shorter (the rest reads as zero).
fn parse_note(desc: &[u8]) -> Result<GuestNote, ImageError> {
    let size = desc.first_chunk::<4>().map_or(0, |raw| u32::from_le_bytes(*raw)) as usize;
    if size < 24 || size > desc.len() || size > 4096 {
        return Err(ImageError::Malformed("size of the pvkit note"));
    }
    let meant = desc.get(..size).unwrap_or(desc);
    let mut note = GuestNote::new_zeroed();
    let known = meant.len().min(size_of::<GuestNote>());
    let (head, tail) = meant.split_at(known);
    if tail.iter().any(|byte| *byte != 0) {
        return Err(ImageError::NewerNote);
    }
    if let Some(target) = note.as_mut_bytes().get_mut(..known) {
        target.copy_from_slice(head);
    }
    if usize::from(note.group_count) > note.groups.len() || usize::from(note.device_count) > note.devices.len() {
        return Err(ImageError::Malformed("counts in the pvkit note"));
    }
    let unknown = note.flags & !NoteFlags::all().bits();
    if unknown != 0 {
        return Err(ImageError::UnknownFlags(unknown));
    }
    Ok(note)
}

#[cfg(test)]
mod tests;
