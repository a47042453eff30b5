//! ACPI tables: processors, interrupt controller, the PCI root, the serial line, power-off and reset.
//! (ACPI 6.5; table numbers below are of that text.)
//!
//! Not hardware-reduced: on such a machine Linux (6.1 at least) restarts by EFI alone, which is not there, and hangs. So there
//! are the fixed registers, of which only the sleep type does anything.

use super::layout::{self, PCI_MEMORY, PM_CONTROL, PM_EVENTS, RESET_PORT, SCI_IRQ, SERIAL, SERIAL_IRQ, SLEEP_TYPE_S5};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Name, Package, Path, ResourceTemplate, Scope,
    ZERO,
};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as Space, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use pvkit_abi::discovery::{DOORBELL_PORT_BASE, HYPERCALL_PORT, MAX_DOORBELLS};

const OEM: [u8; 6] = *b"PVKIT ";
const OEM_TABLE: [u8; 8] = *b"PVKITHVM";
const REVISION: u32 = 1;
/// IA-PC boot architecture (table 5.11): no VGA, no CMOS clock; that there is no keyboard controller is a bit left out.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 5;

/// Bytes to be placed at `at`; the first of them is the root pointer.
pub fn tables(at: u64, vcpus: u32) -> Vec<u8> {
    let mut place = Place { start: at, bytes: vec![0; Rsdp::len().next_multiple_of(16)] };
    let dsdt = place.add(&dsdt());
    // Aligned to 64 bytes by its place (5.2.10).
    let facs = place.add_aligned(&FACS::new(), 64);
    let fadt = place.add(&fadt(dsdt, facs));
    let madt = place.add(&madt(vcpus));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place.add(&xsdt);
    let root = bytes_of(&Rsdp::new(OEM, xsdt));
    for (place, byte) in place.bytes.iter_mut().zip(root) {
        *place = byte;
    }
    place.bytes
}

/// Tables in a row.
struct Place {
    start: u64,
    bytes: Vec<u8>,
}

impl Place {
    /// Adds a table; where it is.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        self.add_aligned(table, 16)
    }

    fn add_aligned(&mut self, table: &dyn Aml, alignment: usize) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
        let at = self.start + self.bytes.len() as u64;
        self.bytes.extend(bytes_of(table));
        at
    }
}

/// Collects what a table emits.
struct Sink(Vec<u8>);

impl AmlSink for Sink {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut sink = Sink(Vec::new());
    table.to_aml_bytes(&mut sink);
    sink.0
}

fn port(port: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(Space::SystemIo, bits, 0, access, port.into())
}

fn fadt(dsdt: u64, facs: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .dsdt_64(dsdt)
        .firmware_ctrl_64(facs)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    (fadt.reset_reg, fadt.reset_value) = (port(RESET_PORT, 8, AccessSize::ByteAccess), 1);
    fadt.sci_int = SCI_IRQ.into();
    (fadt.pm1a_evt_blk, fadt.pm1_evt_len) = (u32::from(PM_EVENTS).into(), 4);
    (fadt.pm1a_cnt_blk, fadt.pm1_cnt_len) = (u32::from(PM_CONTROL).into(), 2);
    fadt.x_pm1a_evt_blk = port(PM_EVENTS, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = port(PM_CONTROL, 16, AccessSize::WordAccess);
    fadt.hypervisor_vendor_identity = u64::from_le_bytes(*b"pvkit\0\0\0").into();
    fadt.finalize()
}

fn madt(vcpus: u32) -> MADT {
    let mut madt = MADT::new(OEM, OEM_TABLE, REVISION, LocalInterruptController::Address(layout::LOCAL_APIC));
    for vcpu in 0..vcpus.min(layout::MAX_VCPUS) as u8 {
        madt.add_structure(ProcessorLocalApic::new(vcpu, vcpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(vcpus as u8, layout::IO_APIC, 0));
    madt
}

fn dsdt() -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 6, OEM, OEM_TABLE, REVISION);
    let s5 = Package::new(vec![&SLEEP_TYPE_S5, &ZERO, &ZERO, &ZERO]);
    Name::new("_S5_".into(), &s5).to_aml_bytes(&mut dsdt);
    let (pci, serial, taken) = (pci_root(), serial(), taken());
    let bodies: [&[u8]; 3] = [&pci, &serial, &taken];
    let parts: Vec<Raw<'_>> = bodies.into_iter().map(Raw).collect();
    Scope::new(Path::new("_SB_"), parts.iter().map(|part| part as &dyn Aml).collect()).to_aml_bytes(&mut dsdt);
    dsdt
}

/// Bytes that were emitted before.
struct Raw<'a>(&'a [u8]);

impl Aml for Raw<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.0);
    }
}

/// Bus 0, its I/O ports (all but the mechanism's own and ours) and its memory.
fn pci_root() -> Vec<u8> {
    let (first, last) = PCI_MEMORY;
    let bus = AddressSpace::new_bus_number(0_u16, 0_u16);
    let mechanism = IO::new(super::pci::ADDRESS_PORT, super::pci::ADDRESS_PORT, 1, 8);
    let ports = AddressSpace::new_io(0xc000_u16, 0xffff, None);
    let memory = AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first, last, None);
    let resources = ResourceTemplate::new(vec![&bus, &mechanism, &ports, &memory]);
    bytes_of(&Device::new(
        "PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_SEG".into(), &ZERO),
            &Name::new("_BBN".into(), &ZERO),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

fn serial() -> Vec<u8> {
    let interrupt = Interrupt::new(true, true, false, false, SERIAL_IRQ);
    let ports = IO::new(SERIAL, SERIAL, 0, 8);
    let resources = ResourceTemplate::new(vec![&interrupt, &ports]);
    bytes_of(&Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

/// Ports that no device may be given: hypercalls, reset, ACPI's registers, doorbells.
fn taken() -> Vec<u8> {
    let control = IO::new(HYPERCALL_PORT, HYPERCALL_PORT, 1, 0x20);
    let last = DOORBELL_PORT_BASE + (MAX_DOORBELLS - 1) * 4 + 3;
    let doorbells = AddressSpace::new_io(DOORBELL_PORT_BASE, last, None);
    let resources = ResourceTemplate::new(vec![&control, &doorbells]);
    bytes_of(&Device::new(
        "PVK0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_CRS".into(), &resources),
        ],
    ))
}

const _: () =
    assert!(HYPERCALL_PORT == 0x0a50 && RESET_PORT < HYPERCALL_PORT + 0x20 && PM_CONTROL + 2 <= HYPERCALL_PORT + 0x20);

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
        bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    #[test]
    fn every_table_is_found_from_the_root_and_sums_to_zero() {
        let bytes = tables(layout::ACPI, 3);
        assert!(layout::ACPI + bytes.len() as u64 <= layout::ACPI_END);
        assert_eq!((&bytes[..8], sum(&bytes[..20]), sum(&bytes[..36])), (&b"RSD PTR "[..], 0, 0));
        let table = |at: u64| {
            let start = (at - layout::ACPI) as usize;
            let length = number(&bytes, start + 4, 4) as usize;
            assert_eq!(sum(&bytes[start..start + length]), 0);
            bytes[start..start + length].to_vec()
        };
        let xsdt = table(number(&bytes, 24, 8));
        assert_eq!(&xsdt[..4], b"XSDT");
        let (fadt, madt) = (table(number(&xsdt, 36, 8)), table(number(&xsdt, 44, 8)));
        assert_eq!((&fadt[..4], &madt[..4]), (&b"FACP"[..], &b"APIC"[..]));
        assert_eq!(&table(number(&fadt, 140, 8))[..4], b"DSDT");
        // Three processors of 8 bytes and an I/O APIC of 12 behind the header's 44.
        assert_eq!(madt.len(), 44 + 3 * 8 + 12);
        assert_eq!(number(&fadt, 112, 4) & (1 << 20 | 1 << 10), 1 << 10, "reset by the register, not hardware-reduced");
        let facs = (number(&fadt, 132, 8) - layout::ACPI) as usize;
        assert_eq!((&bytes[facs..facs + 4], facs % 64), (&b"FACS"[..], 0));
    }
}
