//! What a vCPU of a fully virtualized machine finds: CPUID, control registers, the interrupt controller's pins.

use super::boot::{Entry, put};
use super::layout::{CMDLINE, GDT, PAGE_TABLES, START_INFO, ZERO_PAGE};
use crate::cpuid::with_host;
use crate::error::MachineError;
use crate::memory::GuestRam;
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment,
};
use kvm_ioctls::{Kvm, VcpuFd};
use std::io;
use zerocopy::IntoBytes;

/// Selectors of the boot protocol (`__BOOT_CS`, `__BOOT_DS`).
const BOOT_CODE: u16 = 0x10;
const BOOT_DATA: u16 = 0x18;
/// Flat segments: 64-bit code, 32-bit code for PVH, data.
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Memory type of everything that no range register names: write-back, ranges on (AMD64 manual volume 2, 7.7.2).
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
const MTRR_ENABLE_WRITE_BACK: u64 = 1 << 11 | 6;

/// Leaf 1: x2APIC, TSC deadline timer, hypervisor present in ECX; several threads in EDX.
const TSC_DEADLINE: u32 = 1 << 24;
const X2APIC: u32 = 1 << 21;
const HYPERVISOR: u32 = 1 << 31;
const THREADS: u32 = 1 << 28;

/// The platform function says what a boot info would.
const NO_BOOT_INFO: u64 = 0;

/// The leaves that all vCPUs share: the processor's, KVM's, ours.
pub fn leaves(kvm: &Kvm, vcpus: u32) -> io::Result<CpuId> {
    let mut leaves = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(io::Error::from)?;
    for leaf in leaves.as_mut_slice() {
        suit(leaf, vcpus);
    }
    with_host(&leaves, NO_BOOT_INFO)
}

fn suit(leaf: &mut kvm_cpuid_entry2, vcpus: u32) {
    match leaf.function {
        1 => {
            leaf.ecx |= HYPERVISOR | X2APIC | TSC_DEADLINE;
            leaf.ebx = leaf.ebx & 0xff00_ffff | vcpus << 16;
            leaf.edx = if vcpus > 1 { leaf.edx | THREADS } else { leaf.edx & !THREADS };
        }
        // One core each: no threads that share one.
        4 => leaf.eax &= 0x0000_3fff,
        // Cores in the package, and bits of an APIC id that name them.
        0x8000_0008 => leaf.ecx = (vcpus - 1) & 0xff | bits_for(vcpus) << 12,
        _ => {}
    }
}

/// The leaves of one vCPU: its number where the processor's own stood.
pub fn leaves_of(shared: &CpuId, vcpu: u32, vcpus: u32) -> CpuId {
    let mut own = shared.clone();
    for leaf in own.as_mut_slice() {
        match leaf.function {
            1 => leaf.ebx = leaf.ebx & 0x00ff_ffff | vcpu << 24,
            0xb | 0x1f => topology(leaf, vcpu, vcpus),
            0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (vcpu, vcpu & 0xff, 0),
            _ => {}
        }
    }
    own
}

/// Extended topology: one thread a core, all cores in one package.
fn topology(leaf: &mut kvm_cpuid_entry2, vcpu: u32, vcpus: u32) {
    const THREAD: u32 = 1;
    const CORE: u32 = 2;
    let (shift, count, kind) = match leaf.index {
        0 => (0, 1, THREAD),
        1 => (bits_for(vcpus), vcpus, CORE),
        _ => (0, 0, 0),
    };
    (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (shift, count, leaf.index | kind << 8, vcpu);
}

/// Bits that number so many.
const fn bits_for(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// Boot tables in guest memory: descriptors, and 4 GiB mapped one to one.
pub fn boot_tables(ram: &GuestRam, entry: Entry) -> Result<(), MachineError> {
    let code = match entry {
        Entry::Linux64 { .. } => CODE_64,
        Entry::Pvh { .. } => CODE_32,
    };
    put(ram, GDT, [0, 0, code, DATA].as_bytes())?;
    const PRESENT_WRITE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let (root, table, first) = (PAGE_TABLES, PAGE_TABLES + 0x1000, PAGE_TABLES + 0x2000);
    put(ram, root, (table | PRESENT_WRITE).as_bytes())?;
    for gigabyte in 0..4_u64 {
        let directory = first + gigabyte * 0x1000;
        put(ram, table + gigabyte * 8, (directory | PRESENT_WRITE).as_bytes())?;
        let pages: Vec<u64> = (0..512).map(|page| (gigabyte << 30 | page << 21) | PRESENT_WRITE | LARGE).collect();
        put(ram, directory, pages.as_bytes())?;
    }
    Ok(())
}

/// Registers of the first vCPU. The others wait for the first one's interrupt, as on real hardware.
pub fn start(fd: &VcpuFd, entry: Entry) -> io::Result<()> {
    let mut sregs = fd.get_sregs().map_err(io::Error::from)?;
    let long = matches!(entry, Entry::Linux64 { .. });
    sregs.gdt = kvm_dtable { base: GDT, limit: 31, padding: [0; 3] };
    sregs.idt = kvm_dtable { base: 0, limit: 0, padding: [0; 3] };
    sregs.cs = segment(BOOT_CODE, 0xb, long);
    for register in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *register = segment(BOOT_DATA, 0x3, false);
    }
    sregs.tr = kvm_segment { limit: 0x67, type_: 0xb, present: 1, ..Default::default() };
    sregs.cr0 = CR0_PE | CR0_ET;
    if long {
        (sregs.cr3, sregs.cr4) = (PAGE_TABLES, sregs.cr4 | CR4_PAE);
        sregs.efer |= EFER_LME | EFER_LMA;
        sregs.cr0 |= CR0_PG;
    } else {
        sregs.cr4 = 0;
    }
    fd.set_sregs(&sregs).map_err(io::Error::from)?;
    let regs = match entry {
        Entry::Linux64 { rip } => kvm_regs { rip, rsi: ZERO_PAGE, rsp: CMDLINE, rflags: 2, ..Default::default() },
        Entry::Pvh { rip } => kvm_regs { rip, rbx: START_INFO, rflags: 2, ..Default::default() },
    };
    fd.set_regs(&regs).map_err(io::Error::from)
}

/// What every vCPU has from the start: memory types, and the pins of the local controller as firmware leaves them.
pub fn prepare(fd: &VcpuFd) -> io::Result<()> {
    let default_type = kvm_msr_entry { index: MTRR_DEFAULT_TYPE, data: MTRR_ENABLE_WRITE_BACK, ..Default::default() };
    let msrs = Msrs::from_entries(&[default_type]).map_err(|error| io::Error::other(format!("{error:?}")))?;
    fd.set_msrs(&msrs).map_err(io::Error::from)?;
    let mut lapic = fd.get_lapic().map_err(io::Error::from)?;
    /// Registers of the two pins, and delivery modes (AMD64 manual volume 2, 16.4).
    const PIN_0: usize = 0x350;
    const PIN_1: usize = 0x360;
    const EXTERNAL: u8 = 7;
    const NON_MASKABLE: u8 = 4;
    for (pin, mode) in [(PIN_0, EXTERNAL), (PIN_1, NON_MASKABLE)] {
        // The delivery mode is in bits 8 to 10.
        if let Some(byte) = lapic.regs.get_mut(pin + 1) {
            *byte = (*byte as u8 & !7 | mode) as _;
        }
    }
    fd.set_lapic(&lapic).map_err(io::Error::from)
}

fn segment(selector: u16, kind: u8, long: bool) -> kvm_segment {
    kvm_segment {
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}
