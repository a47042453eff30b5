//! What stands in a PV guest's memory before its first instruction: tables, image, boot info, stack.
//!
//! ```text
//! 0                 nothing mapped at page 0; the rest of the first 2 MiB is the host's, out of CPL 3's reach:
//!                   GDT, IDT, TSS with its I/O bitmap, page tables
//! 2 MiB             the image, 4 KiB pages with the rights of its segments
//! next 2 MiB        boot info, command line, vCPU areas, exception stacks, boot stack; a page without memory below each
//!                   stack, so that one that overflows faults
//! next 2 MiB .. end free memory, read-write, never executable
//! ```
//! Identity mapped throughout. The host builds the tables once and never writes guest code.

use crate::error::MachineError;
use crate::image::{Image, Rights};
use crate::memory::GuestRam;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::discovery::{
    BOOT_MAGIC, BootFlags, BootInfo, DOORBELL_PORT_BASE, HYPERCALL_PORT, MAX_DOORBELLS, Region, RegionKind, Transport,
};
use pvkit_abi::entry::{BOOT_STACK_BYTES, EXCEPTION_STUB_BYTES};
use pvkit_abi::version::GroupOffer;
use pvkit_core::{Fault, GuestAddr};
use zerocopy::{FromZeros, IntoBytes};

/// Page size as addresses need it.
const PAGE: u64 = PAGE_SIZE as u64;
/// Bytes of a large page.
const LARGE: u64 = 2 << 20;

/// Most memory of a PV guest: its tables must fit below the image.
pub const MAX_MEMORY: u64 = 64 << 30;
/// Least memory that the layout itself needs.
pub const MIN_MEMORY: u64 = 16 << 20;
/// Longest command line, in bytes: the boot region's tables must fit below the image.
const MAX_CMDLINE: usize = 1 << 20;
/// Largest boot stack, in bytes, likewise.
const MAX_STACK: u32 = 16 << 20;

/// Selectors. At CPL 3 they are those of a Linux process, because a software KVM that runs guest code as user code
/// shows the processor's own: only with these is an `iretq` inside the guest right.
pub mod selector {
    pub const KERNEL_CODE: u16 = 0x10;
    pub const KERNEL_DATA: u16 = 0x18;
    pub const USER_DATA: u16 = 0x2b;
    pub const USER_CODE: u16 = 0x33;
    pub const TASK: u16 = 0x40;
}

/// Global descriptor table.
pub const GDT: u64 = 0x1000;
/// Bytes of the global descriptor table.
pub const GDT_BYTES: u64 = 10 * 8;
/// Interrupt descriptor table, a page.
pub const IDT: u64 = 0x2000;
/// One task state segment per vCPU, three pages each: segment, I/O bitmap, end marker.
const TSS: u64 = 0x4000;
const TSS_STRIDE: u64 = 3 * PAGE;
/// Limit of a task state segment with a full I/O bitmap.
pub const TSS_LIMIT: u32 = TSS_HEAD as u32 + BITMAP_BYTES as u32;
const TSS_HEAD: u64 = 0x68;
const BITMAP_BYTES: u64 = 8192;
/// Root of the page tables.
pub const PML4: u64 = 0xe_0000;
/// Largest window.
pub const MAX_WINDOW: u64 = 16 << 30;
/// Most vCPUs: their task state segments must fit below the page tables.
pub const MAX_VCPUS: u32 = 64;
const _: () = assert!(TSS + MAX_VCPUS as u64 * TSS_STRIDE <= PML4);

/// Bytes of a vCPU's exception stack, its guard page included.
const EXCEPTION_STACK: u64 = 3 * PAGE;

/// Address of a vCPU's task state segment.
pub const fn tss_of(vcpu: u32) -> u64 {
    TSS + vcpu as u64 * TSS_STRIDE
}

/// Where the pieces are.
#[derive(Clone, Debug)]
pub struct Layout {
    pub boot_info: u64,
    pub cmdline: u64,
    pub vcpu_areas: u64,
    exception_stacks: u64,
    /// The page without memory below the boot stack.
    guard: u64,
    /// First byte above the boot stack.
    pub stack_top: u64,
    image_end: u64,
    free: u64,
    memory: u64,
    /// Address and bytes of the window, if there is one.
    pub window: Option<(u64, u64)>,
}

impl Layout {
    /// Lays out `memory` bytes for `image`, and `window` bytes behind them.
    ///
    /// # Errors
    /// If the memory is too small for the image, its note or its stack, or larger than the tables can map.
    pub fn new(image: &Image, cmdline: &str, vcpus: u32, memory: u64, window: u64) -> Result<Self, MachineError> {
        let image_end = image.end().next_multiple_of(LARGE);
        let stack = match image.note.stack {
            0 => BOOT_STACK_BYTES,
            bytes => bytes,
        };
        if stack > MAX_STACK || cmdline.len() > MAX_CMDLINE {
            return Err(MachineError::BootRegion { stack, cmdline: cmdline.len() });
        }
        let boot_info = image_end;
        let cmdline_at = boot_info + PAGE;
        let vcpu_areas = cmdline_at + (cmdline.len() as u64).next_multiple_of(PAGE).max(PAGE);
        let exception_stacks = vcpu_areas + u64::from(vcpus) * PAGE;
        let guard = exception_stacks + u64::from(vcpus) * EXCEPTION_STACK;
        let stack_bottom = guard + PAGE;
        let stack_top = stack_bottom + u64::from(stack).next_multiple_of(PAGE);
        let free = stack_top.next_multiple_of(LARGE);
        let least = (free + LARGE).max(image.note.memory).max(MIN_MEMORY);
        if memory < least {
            return Err(MachineError::TooLittleMemory { memory, least });
        }
        Ok(Self {
            boot_info,
            cmdline: cmdline_at,
            vcpu_areas,
            exception_stacks,
            guard,
            stack_top,
            image_end,
            free,
            memory,
            // A gigabyte's boundary, as in a fully virtualized machine.
            window: (window > 0).then(|| (memory.next_multiple_of(1 << 30), window)),
        })
    }

    /// Whether the page is one without memory, below a stack.
    fn is_guard(&self, page: u64) -> bool {
        let below_exception = page >= self.exception_stacks && page < self.guard;
        page == self.guard || below_exception && (page - self.exception_stacks).is_multiple_of(EXCEPTION_STACK)
    }

    fn regions(&self) -> Vec<Region> {
        let region = |base, end, kind| Region { base, length: end - base, kind, reserved: 0 };
        let window = self.window.map(|(base, length)| region(base, base + length, RegionKind::WINDOW));
        let main = [
            region(0, LARGE, RegionKind::BOOT),
            region(LARGE, self.image_end, RegionKind::IMAGE),
            region(self.image_end, self.free, RegionKind::BOOT),
            region(self.free, self.memory, RegionKind::RAM),
        ];
        main.into_iter().chain(window).collect()
    }
}

/// Facts for the boot info that only the machine knows.
#[derive(Clone, Debug)]
pub struct Facts {
    pub flags: BootFlags,
    pub transport: Transport,
    pub vcpus: u32,
    pub groups: Vec<GroupOffer>,
    pub tsc_khz: u64,
    pub tsc_at_start: u64,
    /// Wall clock at the moment of `tsc_at_start`, nanoseconds since 1970.
    pub wall_clock_ns: u64,
    pub seed: [u8; 32],
}

/// Loads the image and writes everything around it.
///
/// # Errors
/// If a piece does not lie in guest memory, which the layout excludes.
pub fn load(ram: &GuestRam, image: &Image, layout: &Layout, cmdline: &str, facts: &Facts) -> Result<(), Fault> {
    for segment in &image.segments {
        ram.lay_out(GuestAddr(segment.address), &segment.data)?;
    }
    ram.lay_out(GuestAddr(layout.cmdline), cmdline.as_bytes())?;
    let info = boot_info(facts, layout.cmdline, cmdline.len(), layout.vcpu_areas, &layout.regions());
    ram.lay_out(GuestAddr(layout.boot_info), info.as_bytes())?;
    descriptor_tables(ram, image, layout, facts)?;
    page_tables(ram, image, layout)?;
    // A guest that could name the tables in an argument could have the host rewrite them.
    ram.set_floor(LARGE);
    Ok(())
}

/// Nanoseconds since 1970; 0 on a host whose clock stands before that.
pub fn wall_clock_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// The boot info that both machines hand over.
pub fn boot_info(facts: &Facts, cmdline: u64, length: usize, vcpu_areas: u64, regions: &[Region]) -> BootInfo {
    let mut info = BootInfo::new_zeroed();
    info.magic = BOOT_MAGIC;
    info.size = size_of::<BootInfo>() as u32;
    info.flags = facts.flags.bits();
    info.transport = facts.transport;
    info.port = u32::from(HYPERCALL_PORT);
    info.vcpu_count = facts.vcpus;
    info.cmdline = cmdline;
    info.cmdline_length = length as u32;
    info.vcpu_areas = vcpu_areas;
    info.tsc_khz = facts.tsc_khz;
    info.tsc_at_start = facts.tsc_at_start;
    info.wall_clock_ns = facts.wall_clock_ns;
    info.seed = facts.seed;
    for (slot, group) in info.groups.iter_mut().zip(&facts.groups) {
        *slot = *group;
        info.group_count += 1;
    }
    for (slot, region) in info.regions.iter_mut().zip(regions) {
        *slot = *region;
        info.region_count += 1;
    }
    info
}

fn descriptor_tables(ram: &GuestRam, image: &Image, layout: &Layout, facts: &Facts) -> Result<(), Fault> {
    // The task descriptor names vCPU 0's segment; the others load theirs directly, never by the selector.
    let limit = u64::from(TSS_LIMIT);
    let task = 0x8b_u64 << 40 | (limit & 0xffff) | (TSS & 0xff_ffff) << 16 | (TSS >> 24 & 0xff) << 56;
    let gdt: [u64; 10] = [
        0,
        0,
        0x00af_9b00_0000_ffff, // KERNEL_CODE
        0x00cf_9300_0000_ffff, // KERNEL_DATA
        0,
        0x00cf_f300_0000_ffff, // USER_DATA
        0x00af_fb00_0000_ffff, // USER_CODE
        0,
        task,
        TSS >> 32,
    ];
    ram.lay_out(GuestAddr(GDT), gdt.as_bytes())?;
    for vcpu in 0..facts.vcpus {
        task_segment(ram, vcpu, layout.exception_stacks + u64::from(vcpu + 1) * EXCEPTION_STACK)?;
    }
    let user = facts.flags.contains(BootFlags::CPL3);
    let code = if user { selector::USER_CODE } else { selector::KERNEL_CODE };
    match image.note.exception_entry {
        0 => Ok(()),
        entry => exception_gates(ram, entry, code),
    }
}

/// Stack for exceptions, and the ports that CPL 3 may use: the hypercall port and the doorbells.
fn task_segment(ram: &GuestRam, vcpu: u32, exception_stack: u64) -> Result<(), Fault> {
    let at = tss_of(vcpu);
    ram.lay_out(GuestAddr(at + 36), &exception_stack.to_le_bytes())?;
    ram.lay_out(GuestAddr(at + 102), &(TSS_HEAD as u16).to_le_bytes())?;
    let mut bitmap = [0xff_u8; BITMAP_BYTES as usize + 1];
    let doorbells = u32::from(DOORBELL_PORT_BASE)..u32::from(DOORBELL_PORT_BASE) + u32::from(MAX_DOORBELLS) * 4;
    for port in (u32::from(HYPERCALL_PORT)..u32::from(HYPERCALL_PORT) + 4).chain(doorbells) {
        if let Some(byte) = bitmap.get_mut(port as usize / 8) {
            *byte &= !(1 << (port % 8));
        }
    }
    ram.lay_out(GuestAddr(at + TSS_HEAD), &bitmap)
}

/// Gates to the image's own stubs, at the guest's own privilege level, on the exception stack.
fn exception_gates(ram: &GuestRam, entry: u64, code: u16) -> Result<(), Fault> {
    for vector in 0..256 {
        let stub = entry.wrapping_add(vector * EXCEPTION_STUB_BYTES);
        // Offset 15:0, selector, IST 1, present DPL 3 interrupt gate, offset 31:16; then offset 63:32.
        let low = (stub & 0xffff) | u64::from(code) << 16 | 1 << 32 | 0xee << 40 | (stub >> 16 & 0xffff) << 48;
        ram.lay_out(GuestAddr(IDT + vector * 16), [low, stub >> 32].as_bytes())?;
    }
    Ok(())
}

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const LARGE_PAGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;

fn page_tables(ram: &GuestRam, image: &Image, layout: &Layout) -> Result<(), Fault> {
    let pdpt = PML4 + PAGE;
    let directories = pdpt + PAGE;
    let end = layout.window.map_or(layout.memory, |(base, length)| base + length);
    let gigabytes = end.div_ceil(1 << 30);
    let mut next_table = directories + gigabytes * PAGE;
    ram.lay_out(GuestAddr(PML4), &(pdpt | PRESENT | WRITE | USER).to_le_bytes())?;
    for gigabyte in 0..gigabytes {
        let directory = directories + gigabyte * PAGE;
        ram.lay_out(GuestAddr(pdpt + gigabyte * 8), &(directory | PRESENT | WRITE | USER).to_le_bytes())?;
    }
    for large in 0..layout.memory / LARGE {
        let address = large * LARGE;
        let table = next_table | PRESENT | WRITE | USER;
        let entry = if address == 0 {
            // Page 0 stays unmapped, so the first 2 MiB are 4 KiB pages, for the supervisor alone.
            small_pages(ram, next_table, 0, |page| (page != 0).then_some(PRESENT | WRITE | NO_EXECUTE))?;
            next_table += PAGE;
            table
        } else if address < layout.image_end {
            small_pages(ram, next_table, address, |page| Some(image_rights(image, page)))?;
            next_table += PAGE;
            table
        } else if address < layout.free {
            let rights = PRESENT | WRITE | USER | NO_EXECUTE;
            small_pages(ram, next_table, address, |page| (!layout.is_guard(page)).then_some(rights))?;
            next_table += PAGE;
            table
        } else {
            address | PRESENT | WRITE | USER | NO_EXECUTE | LARGE_PAGE
        };
        ram.lay_out(GuestAddr(directories + large * 8), &entry.to_le_bytes())?;
    }
    let (window, length) = layout.window.unwrap_or((0, 0));
    for large in window / LARGE..(window + length) / LARGE {
        let entry = (large * LARGE) | PRESENT | WRITE | USER | NO_EXECUTE | LARGE_PAGE;
        ram.lay_out(GuestAddr(directories + large * 8), &entry.to_le_bytes())?;
    }
    debug_assert!(next_table <= LARGE);
    Ok(())
}

fn small_pages(ram: &GuestRam, table: u64, start: u64, rights: impl Fn(u64) -> Option<u64>) -> Result<(), Fault> {
    for index in 0..512 {
        let page = start + index * PAGE;
        let entry = rights(page).map_or(0, |bits| page | bits);
        ram.lay_out(GuestAddr(table + index * 8), &entry.to_le_bytes())?;
    }
    Ok(())
}

/// Rights of a page of the image's range; a page that two segments share has the rights of both.
fn image_rights(image: &Image, page: u64) -> u64 {
    let touching = |s: &&crate::image::Segment| s.address < page + PAGE && page < s.address + s.memory_size;
    let none = Rights { write: false, execute: false };
    let mut touched = false;
    let rights = image.segments.iter().filter(touching).fold(none, |sum, segment| {
        touched = true;
        Rights { write: sum.write | segment.rights.write, execute: sum.execute | segment.rights.execute }
    });
    let write = if rights.write || !touched { WRITE } else { 0 };
    let execute = if rights.execute { 0 } else { NO_EXECUTE };
    PRESENT | USER | write | execute
}

#[cfg(test)]
mod tests;
