//! Where things are in a fully virtualized machine's address spaces. (Linux's boot protocol, Documentation/arch/x86/boot.rst,
//! leaves the places below 1 MiB to the loader.)

use pvkit_abi::discovery::{Region, RegionKind};

/// Descriptor table of the boot code.
pub const GDT: u64 = 0x500;
/// `hvm_start_info` of a PVH boot.
pub const START_INFO: u64 = 0x6000;
/// The modules of a PVH boot: one, the initramfs.
pub const MODULES: u64 = 0x6100;
/// Memory map of a PVH boot.
pub const MEMORY_MAP: u64 = 0x6200;
/// `boot_params`.
pub const ZERO_PAGE: u64 = 0x7000;
/// Page tables of the boot code: a root, its one table, four directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// The command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Most bytes of it, its terminator included.
pub const CMDLINE_BYTES: u64 = 0x1_0000;
/// End of the memory below the legacy hole.
pub const LOW_END: u64 = 0xa_0000;
/// ACPI tables, found by their signature (ACPI 6.5, 5.2.5.1).
pub const ACPI: u64 = 0xe_0000;
/// End of the ACPI tables' place.
pub const ACPI_END: u64 = 0x10_0000;
/// Where a bzImage goes.
pub const KERNEL: u64 = 0x10_0000;

/// From here to 4 GiB there is no memory: the devices' place.
pub const HOLE: u64 = 0xc000_0000;
/// First byte above the hole.
pub const HIGH: u64 = 1 << 32;
/// Addresses that the PCI root hands to BARs.
pub const PCI_MEMORY: (u32, u32) = (0xc000_0000, 0xfdff_ffff);
/// I/O APIC, as KVM has it.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Local APIC, as KVM has it.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages for KVM's own use on Intel processors (KVM API, KVM_SET_TSS_ADDR).
pub const KVM_TSS: u64 = 0xfffb_d000;
/// One more (KVM_SET_IDENTITY_MAP_ADDR).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// First port of the serial line, and its interrupt.
pub const SERIAL: u16 = 0x3f8;
/// Interrupt of the serial line.
pub const SERIAL_IRQ: u32 = 4;
/// Writing 1 resets the machine.
pub const RESET_PORT: u16 = 0x0a60;
/// ACPI's fixed registers: events (status and enable, two bytes each), then control (ACPI 6.5, 4.8.3).
pub const PM_EVENTS: u16 = 0x0a64;
/// The control register.
pub const PM_CONTROL: u16 = 0x0a68;
/// Interrupt of ACPI; it never comes.
pub const SCI_IRQ: u16 = 9;
/// Sleep type of S5, soft off, in the control register's bits 10 to 12.
pub const SLEEP_TYPE_S5: u8 = 5;

/// Most vCPUs.
pub const MAX_VCPUS: u32 = 16;
/// Most memory.
pub const MAX_MEMORY: u64 = 512 << 30;
/// Largest window.
pub const MAX_WINDOW: u64 = 16 << 30;
/// Least memory: what a stock kernel needs to unpack itself.
pub const MIN_MEMORY: u64 = 64 << 20;

/// RAM and window of a machine.
#[derive(Clone, Debug)]
pub struct Memory {
    /// (address, bytes), ascending.
    pub ram: Vec<(u64, u64)>,
    /// The same, none or one, above RAM.
    pub window: Vec<(u64, u64)>,
}

impl Memory {
    /// Places `ram` bytes around the hole and `window` bytes behind them.
    pub fn new(ram: u64, window: u64) -> Self {
        let low = ram.min(HOLE);
        let mut all = vec![(0, low)];
        if ram > low {
            all.push((HIGH, ram - low));
        }
        // A gigabyte's boundary: the guest may map it with large pages.
        let end = HIGH.max(HIGH + (ram - low)).next_multiple_of(1 << 30);
        Self { ram: all, window: if window == 0 { Vec::new() } else { vec![(end, window)] } }
    }

    /// End of the memory below the hole.
    pub fn low_end(&self) -> u64 {
        self.ram.first().map_or(0, |(base, length)| base + length)
    }

    /// What grants may name.
    pub fn regions(&self) -> Vec<Region> {
        let region =
            |kind| move |(base, length): &(u64, u64)| Region { base: *base, length: *length, kind, reserved: 0 };
        let ram = self.ram.iter().map(region(RegionKind::RAM));
        ram.chain(self.window.iter().map(region(RegionKind::WINDOW))).collect()
    }

    /// The firmware's map: (address, bytes, E820 type).
    pub fn e820(&self) -> Vec<(u64, u64, u32)> {
        const RAM: u32 = 1;
        const RESERVED: u32 = 2;
        let low = self.low_end();
        let mut map = vec![(0, LOW_END, RAM), (ACPI, ACPI_END - ACPI, RESERVED), (KERNEL, low - KERNEL, RAM)];
        map.extend(self.ram.iter().skip(1).map(|(base, length)| (*base, *length, RAM)));
        map.extend(self.window.iter().map(|(base, length)| (*base, *length, RESERVED)));
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_around_the_hole() {
        let small = Memory::new(512 << 20, 0);
        assert_eq!((small.ram, small.window), (vec![(0, 512 << 20)], vec![]));
        let large = Memory::new(6 << 30, 64 << 20);
        assert_eq!(large.ram, [(0, 3 << 30), (4 << 30, 3 << 30)]);
        assert_eq!(large.window, [(7 << 30, 64 << 20)]);
        assert_eq!(Memory::new(3 << 30, 0).ram, [(0, 3 << 30)]);
    }

    #[test]
    fn firmware_map_ascends_and_does_not_overlap() {
        let map = Memory::new(6 << 30, 64 << 20).e820();
        assert!(map.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{map:x?}");
        assert_eq!(map.len(), 5);
    }
}
