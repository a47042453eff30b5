//! Loading a stock kernel: a bzImage by Linux's 64-bit boot protocol, an ELF image by its PVH note.
//! (Documentation/arch/x86/boot.rst; Xen's PVH start-of-day, include/xen/arch-x86/hvm/start_info.h.)

use super::layout::{self, Memory};
use crate::config::Hvm;
use crate::error::MachineError;
use crate::memory::GuestRam;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use linux_loader::loader::{BzImage, KernelLoader};
use pvkit_abi::PAGE_SIZE;
use pvkit_core::GuestAddr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use vm_memory::{ByteValued, GuestAddress};

/// Offset of the setup header in a bzImage and in the zero page, and fields of both.
const HEADER: usize = 0x1f1;
const HEADER_LENGTH: usize = 0x201;
const HEADER_END: usize = 0x290;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADER: usize = 0x210;
const RAMDISK_ADDRESS: usize = 0x218;
const RAMDISK_BYTES: usize = 0x21c;
const CMDLINE_ADDRESS: usize = 0x228;
const RAMDISK_MOST: usize = 0x22c;
const LOAD_FLAGS: usize = 0x236;
const CMDLINE_MOST: usize = 0x238;
const PREFERRED: usize = 0x258;
const INIT_BYTES: usize = 0x260;
/// Fields of the zero page alone.
const ACPI_ROOT: usize = 0x070;
const E820_COUNT: usize = 0x1e8;
const E820: usize = 0x2d0;
/// Bit of the load flags: there is a 64-bit entry point, 512 bytes into the kernel.
const HAS_64_BIT_ENTRY: u16 = 1;
/// First version of the protocol with load flags and `init_size`.
const LEAST_VERSION: u16 = 0x020c;
/// A loader without a registered number.
const UNREGISTERED: u8 = 0xff;
/// Magic of `hvm_start_info`.
const START_MAGIC: u32 = 0x336e_c578;

/// How the first vCPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// 64-bit mode, paging on, the zero page in RSI.
    Linux64 { rip: u64 },
    /// 32-bit protected mode, paging off, the start info in EBX.
    Pvh { rip: u64 },
}

/// Loads everything into memory that is all zero.
///
/// # Errors
/// A file that cannot be read, is no kernel that boots here, or does not fit.
pub fn load(ram: &GuestRam, memory: &Memory, images: &Hvm, cmdline: &str) -> Result<Entry, MachineError> {
    let no = |why: String| MachineError::Image { path: images.kernel.clone(), error: why };
    let mut kernel = open(&images.kernel)?;
    let mut start = [0; HEADER_END];
    let length = read_up_to(&mut kernel, &mut start).map_err(|error| no(error.to_string()))?;
    let is_elf = start.starts_with(b"\x7fELF");
    if !is_elf && (length < HEADER_END || start.get(MAGIC..MAGIC + 4) != Some(b"HdrS")) {
        return Err(no("it is neither a bzImage nor an ELF image".into()));
    }
    let loader = ram.loader_view().map_err(MachineError::host("mapping the guest's memory"))?;
    put(ram, layout::CMDLINE, cmdline.as_bytes())?;
    if cmdline.len() as u64 >= layout::CMDLINE_BYTES {
        return Err(MachineError::BootRegion { stack: 0, cmdline: cmdline.len() });
    }
    if is_elf {
        let loaded = Elf::load(&loader, None, &mut kernel, None).map_err(|error| no(error.to_string()))?;
        let PvhBootCapability::PvhEntryPresent(entry) = loaded.pvh_boot_cap else {
            return Err(no("it has no PVH note; build it with CONFIG_PVH, or use its bzImage".into()));
        };
        let ramdisk = ramdisk(ram, images, memory.low_end(), loaded.kernel_end)?;
        start_info(ram, memory, ramdisk)?;
        return Ok(Entry::Pvh { rip: entry.0 });
    }
    let needs = header_needs(&start).map_err(no)?;
    if cmdline.len() as u64 > u64::from(needs.cmdline) {
        return Err(no(format!("it takes a command line of at most {} bytes", needs.cmdline)));
    }
    if needs.end > memory.low_end() {
        return Err(no(format!("it needs memory up to {} MiB to unpack itself; give the guest more", needs.end >> 20)));
    }
    let at = GuestAddress(layout::KERNEL);
    let loaded = BzImage::load(&loader, Some(at), &mut kernel, None).map_err(|error| no(error.to_string()))?;
    let most = memory.low_end().min(u64::from(needs.ramdisk_end) + 1);
    let ramdisk = ramdisk(ram, images, most, loaded.kernel_end.max(needs.end))?;
    zero_page(ram, memory, &start, cmdline, ramdisk)?;
    Ok(Entry::Linux64 { rip: layout::KERNEL + 0x200 })
}

fn open(path: &Path) -> Result<File, MachineError> {
    File::open(path).map_err(|error| MachineError::Image { path: path.to_path_buf(), error: error.to_string() })
}

fn read_up_to(file: &mut File, into: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = into.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(length)
}

/// What a bzImage's header asks for.
#[derive(Debug)]
struct Needs {
    /// First byte behind what unpacking takes.
    end: u64,
    /// Most bytes of the command line.
    cmdline: u32,
    /// Last byte that an initramfs may have.
    ramdisk_end: u32,
}

fn header_needs(start: &[u8]) -> Result<Needs, String> {
    let version = get16(start, VERSION);
    if version < LEAST_VERSION || get16(start, LOAD_FLAGS) & HAS_64_BIT_ENTRY == 0 {
        return Err(format!(
            "boot protocol {}.{} without a 64-bit entry; a 64-bit kernel is needed",
            version >> 8,
            version & 0xff
        ));
    }
    let preferred = u64::from(get32(start, PREFERRED)) | u64::from(get32(start, PREFERRED + 4)) << 32;
    let end = preferred.max(layout::KERNEL).saturating_add(u64::from(get32(start, INIT_BYTES)));
    Ok(Needs { end, cmdline: get32(start, CMDLINE_MOST), ramdisk_end: get32(start, RAMDISK_MOST) })
}

/// Reads the initramfs to the top of the memory below `most`. Address and bytes; zeros if there is none.
fn ramdisk(ram: &GuestRam, images: &Hvm, most: u64, above: u64) -> Result<(u64, u64), MachineError> {
    let Some(path) = &images.initramfs else { return Ok((0, 0)) };
    let no = |error: String| MachineError::Image { path: path.clone(), error };
    let mut file = open(path)?;
    let length = file.seek(SeekFrom::End(0)).map_err(|error| no(error.to_string()))?;
    file.seek(SeekFrom::Start(0)).map_err(|error| no(error.to_string()))?;
    let place = most.checked_sub(length).map(|at| at & !(PAGE_SIZE as u64 - 1)).filter(|at| *at >= above);
    let Some(place) = place else {
        return Err(no(format!("its {} MiB do not fit behind the kernel; give the guest more memory", length >> 20)));
    };
    let mut chunk = vec![0; 1 << 20];
    let mut at = place;
    while at < place + length {
        let count = file.read(&mut chunk).map_err(|error| no(error.to_string()))?;
        let piece =
            chunk.get(..count).filter(|piece| !piece.is_empty()).ok_or_else(|| no("it became shorter".into()))?;
        put(ram, at, piece)?;
        at += count as u64;
    }
    Ok((place, length))
}

fn zero_page(
    ram: &GuestRam,
    memory: &Memory,
    start: &[u8],
    cmdline: &str,
    ramdisk: (u64, u64),
) -> Result<(), MachineError> {
    let mut page = [0; PAGE_SIZE];
    let end = (MAGIC + usize::from(*start.get(HEADER_LENGTH).unwrap_or(&0))).min(HEADER_END);
    if let (Some(to), Some(from)) = (page.get_mut(HEADER..end), start.get(HEADER..end)) {
        to.copy_from_slice(from);
    }
    set(&mut page, LOADER, &[UNREGISTERED]);
    set(&mut page, RAMDISK_ADDRESS, &(ramdisk.0 as u32).to_le_bytes());
    set(&mut page, RAMDISK_BYTES, &(ramdisk.1 as u32).to_le_bytes());
    set(&mut page, CMDLINE_ADDRESS, &(layout::CMDLINE as u32).to_le_bytes());
    set(&mut page, CMDLINE_MOST, &(cmdline.len() as u32).to_le_bytes());
    set(&mut page, ACPI_ROOT, &layout::ACPI.to_le_bytes());
    let map = memory.e820();
    set(&mut page, E820_COUNT, &[map.len() as u8]);
    for (index, (base, length, kind)) in map.iter().enumerate() {
        let at = E820 + index * 20;
        set(&mut page, at, &base.to_le_bytes());
        set(&mut page, at + 8, &length.to_le_bytes());
        set(&mut page, at + 16, &kind.to_le_bytes());
    }
    put(ram, layout::ZERO_PAGE, &page)
}

fn start_info(ram: &GuestRam, memory: &Memory, ramdisk: (u64, u64)) -> Result<(), MachineError> {
    let map = memory.e820();
    for (index, (base, length, kind)) in map.iter().enumerate() {
        let entry = hvm_memmap_table_entry { addr: *base, size: *length, type_: *kind, reserved: 0 };
        let bytes = size_of::<hvm_memmap_table_entry>() as u64;
        put(ram, layout::MEMORY_MAP + index as u64 * bytes, entry.as_slice())?;
    }
    let module = hvm_modlist_entry { paddr: ramdisk.0, size: ramdisk.1, ..Default::default() };
    put(ram, layout::MODULES, module.as_slice())?;
    let info = hvm_start_info {
        magic: START_MAGIC,
        version: 1,
        nr_modules: u32::from(ramdisk.1 > 0),
        modlist_paddr: layout::MODULES,
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: layout::ACPI,
        memmap_paddr: layout::MEMORY_MAP,
        memmap_entries: map.len() as u32,
        ..Default::default()
    };
    put(ram, layout::START_INFO, info.as_slice())
}

/// Writes what the layout has a place for.
pub fn put(ram: &GuestRam, at: u64, bytes: &[u8]) -> Result<(), MachineError> {
    let outside = |_| MachineError::MemorySize { memory: ram.len(), why: "the layout does not fit".into() };
    ram.lay_out(GuestAddr(at), bytes).map_err(outside)
}

fn set(page: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = page.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn get16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|raw| raw.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
