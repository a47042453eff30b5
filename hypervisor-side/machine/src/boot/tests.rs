use super::*;
use crate::image::Segment;
use pvkit_abi::discovery::GuestNote;
use pvkit_core::GuestMemory;

fn image() -> Image {
    let mut note = GuestNote::new_zeroed();
    note.exception_entry = 0x20_0000;
    let segment = |address, memory_size, write, execute| Segment {
        address,
        memory_size,
        rights: Rights { write, execute },
        data: vec![0xc3; 16],
    };
    let segments = vec![
        segment(0x20_0000, 0x1800, false, true),
        segment(0x20_2000, 0x1000, false, false),
        segment(0x20_3000, 0x1234, true, false),
    ];
    Image { entry: 0x20_0000, note, segments }
}

fn loaded(memory: u64) -> (std::sync::Arc<GuestRam>, Layout) {
    let (image, ram) = (image(), GuestRam::new(memory).unwrap());
    let layout = Layout::new(&image, "word", 2, memory, 0).unwrap();
    let facts = Facts {
        flags: BootFlags::CPL3,
        transport: Transport::PORT_REGISTERS,
        vcpus: 2,
        groups: vec![],
        tsc_khz: 1,
        tsc_at_start: 0,
        wall_clock_ns: 0,
        seed: [7; 32],
    };
    load(&ram, &image, &layout, "word", &facts).unwrap();
    (ram, layout)
}

fn word(ram: &GuestRam, at: u64) -> u64 {
    let mut raw = [0; 8];
    ram.part(GuestAddr(at), 8).unwrap().read(0, &mut raw).unwrap();
    u64::from_le_bytes(raw)
}

/// Walks the tables as the processor does: the entry that maps `address`, and the physical address.
fn walk(ram: &GuestRam, address: u64) -> Option<(u64, u64)> {
    let mut table = PML4;
    for level in [39, 30, 21, 12] {
        let entry = word(ram, table + (address >> level & 511) * 8);
        if entry & PRESENT == 0 {
            return None;
        }
        let frame = entry & 0x000f_ffff_ffff_f000;
        if level == 12 || entry & LARGE_PAGE != 0 {
            let within = address & ((1 << level) - 1);
            return Some((entry, frame + within));
        }
        table = frame;
    }
    None
}

#[test]
fn all_memory_but_page_0_and_the_guards_is_mapped_at_its_own_address_and_nothing_above() {
    let memory = 34 << 20;
    let (ram, layout) = loaded(memory);
    assert_eq!(walk(&ram, 0), None);
    assert_eq!(walk(&ram, 0xfff), None);
    for address in (0x1000..memory).step_by(4096) {
        let expected = (!layout.is_guard(address)).then_some(address);
        assert_eq!(walk(&ram, address).map(|(_, physical)| physical), expected, "{address:#x}");
    }
    assert_eq!(walk(&ram, memory), None);
    assert_eq!(walk(&ram, 1 << 40), None);
}

#[test]
fn tables_are_the_supervisors_and_the_image_has_its_segments_rights() {
    let (ram, layout) = loaded(34 << 20);
    let entry = |address| walk(&ram, address).map_or(0, |(entry, _)| entry);
    for table in [GDT, IDT, tss_of(1), PML4] {
        assert_eq!(entry(table) & USER, 0, "{table:#x}");
    }
    let rights = |address| (entry(address) & (WRITE | USER), entry(address) & NO_EXECUTE != 0);
    assert_eq!(rights(0x20_1000), (USER, false), "code");
    assert_eq!(rights(0x20_2000), (USER, true), "constants");
    assert_eq!(rights(0x20_4000), (WRITE | USER, true), "data");
    assert_eq!(rights(layout.stack_top - 8), (WRITE | USER, true), "stack");
    assert_eq!(rights(layout.free), (WRITE | USER, true), "free memory");
}

#[test]
fn page_below_each_stack_has_no_memory() {
    let (ram, layout) = loaded(34 << 20);
    let boot_stack = layout.stack_top - u64::from(BOOT_STACK_BYTES);
    assert!(walk(&ram, boot_stack).is_some());
    assert_eq!(walk(&ram, boot_stack - 1), None);
    for vcpu in [0, 1] {
        let top = word(&ram, tss_of(vcpu) + 36);
        assert!(walk(&ram, top - 2 * PAGE).is_some());
        assert_eq!(walk(&ram, top - 2 * PAGE - 1), None, "vCPU {vcpu}");
    }
}

#[test]
fn hosts_tables_cannot_be_named_by_a_guest() {
    let (ram, _) = loaded(34 << 20);
    for at in [0x1000, PML4, LARGE - 8] {
        assert_eq!(ram.write(GuestAddr(at), &[0; 8]), Err(Fault), "{at:#x}");
        assert_eq!(ram.read(GuestAddr(at), &mut [0; 8]), Err(Fault), "{at:#x}");
        assert!(ram.shared(GuestAddr(at), 16).is_err(), "{at:#x}");
    }
    assert_eq!(ram.write(GuestAddr(LARGE), &[0; 8]), Ok(()));
}

#[test]
fn io_bitmap_allows_the_hypercall_port_and_the_doorbells_only() {
    let (ram, _) = loaded(34 << 20);
    for vcpu in [0, 1] {
        let mut bitmap = [0; 8192];
        ram.part(GuestAddr(tss_of(vcpu) + TSS_HEAD), 8192).unwrap().read(0, &mut bitmap).unwrap();
        let allowed = |port: u32| bitmap[port as usize / 8] >> (port % 8) & 1 == 0;
        let hypercall = u32::from(HYPERCALL_PORT);
        let doorbells = u32::from(DOORBELL_PORT_BASE)..u32::from(DOORBELL_PORT_BASE) + 4 * u32::from(MAX_DOORBELLS);
        for port in 0..=0xffff {
            let expected = (hypercall..hypercall + 4).contains(&port) || doorbells.contains(&port);
            assert_eq!(allowed(port), expected, "vCPU {vcpu}, port {port:#x}");
        }
    }
}

#[test]
fn gates_lead_to_the_images_stubs_on_the_exception_stack() {
    let (ram, _) = loaded(34 << 20);
    let low = word(&ram, IDT + 14 * 16);
    let target = low & 0xffff | low >> 48 << 16 | word(&ram, IDT + 14 * 16 + 8) << 32;
    assert_eq!(target, 0x20_0000 + 14 * EXCEPTION_STUB_BYTES);
    assert_eq!(low >> 16 & 0xffff, u64::from(selector::USER_CODE));
    assert_eq!(low >> 32 & 7, 1, "stack table entry");
    assert_eq!(low >> 40 & 0xff, 0xee);
}

#[test]
fn memory_that_cannot_hold_the_image_is_refused_with_the_least_that_can() {
    let error = Layout::new(&image(), "", 1, 4 << 20, 0).unwrap_err();
    assert!(matches!(error, MachineError::TooLittleMemory { least, .. } if least >= MIN_MEMORY));
    let mut greedy = image();
    greedy.note.memory = 1 << 30;
    let error = Layout::new(&greedy, "", 1, 64 << 20, 0).unwrap_err();
    assert!(matches!(error, MachineError::TooLittleMemory { least, .. } if least == 1 << 30));
}

#[test]
fn largest_memory_and_image_have_room_for_their_tables() {
    let boot = MAX_CMDLINE as u64 + u64::from(MAX_STACK) + u64::from(MAX_VCPUS) * (PAGE + EXCEPTION_STACK) + 4 * PAGE;
    let tables = 2 + MAX_MEMORY.div_ceil(1 << 30) + crate::image::MAX_END / LARGE + boot.div_ceil(LARGE) + 1;
    assert!(PML4 + tables * PAGE <= LARGE);
}
