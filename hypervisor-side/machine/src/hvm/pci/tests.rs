use super::*;

const HEADER: Header = Header { vendor: 0x7076, device: 1, class: 0x08_8000, revision: 1 };

fn bus() -> Bus {
    let bridge = Function::new(Header { class: 0x06_0000, ..HEADER });
    let platform = Function::new(HEADER).with_bar(0xc000_0000, 0x4000).with_msix(256, 0x1000, 0x2000);
    Bus::new(vec![bridge, platform])
}

fn select(bus: &mut Bus, device: u32, offset: u32) {
    bus.write(ADDRESS_PORT, &(1 << 31 | device << 11 | offset).to_le_bytes());
}

fn read32(bus: &Bus) -> u32 {
    let mut data = [0; 4];
    bus.read(DATA_PORT, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn functions_that_are_not_there_read_as_ones() {
    let mut bus = bus();
    for address in [1 << 31 | 2 << 11, 1 << 31 | 1 << 8, 1 << 31 | 1 << 16, 1 << 31 | 31 << 11, 0, 1 << 11] {
        bus.write(ADDRESS_PORT, &u32::to_le_bytes(address));
        assert_eq!(read32(&bus), u32::MAX, "{address:#x}");
        assert_eq!(bus.write(DATA_PORT, &[0; 4]).filter(|device| *device < 2), None);
    }
    select(&mut bus, 1, 0);
    assert_eq!(read32(&bus), 0x0001_7076);
}

#[test]
fn bar_says_its_size_and_can_be_moved() {
    let mut bus = bus();
    select(&mut bus, 1, 0x10);
    assert_eq!(read32(&bus), 0xc000_0000);
    bus.write(DATA_PORT, &[0xff; 4]);
    assert_eq!(read32(&bus), 0xffff_c000);
    bus.write(DATA_PORT, &0xd000_0000_u32.to_le_bytes());
    assert_eq!(bus.function(1).unwrap().bar(), None, "memory accesses are off");
    select(&mut bus, 1, 4);
    assert_eq!(bus.write(DATA_PORT, &[2, 0]), Some(1));
    assert_eq!(bus.function(1).unwrap().bar(), Some(0xd000_0000));
}

#[test]
fn identity_and_capabilities_cannot_be_written() {
    let mut bus = bus();
    for offset in (0..256).step_by(4) {
        select(&mut bus, 1, offset);
        bus.write(DATA_PORT, &[0xff; 4]);
    }
    select(&mut bus, 1, 0);
    assert_eq!(read32(&bus), 0x0001_7076);
    select(&mut bus, 1, 0x34);
    assert_eq!(read32(&bus) & 0xff, 0x40);
    select(&mut bus, 1, 0x40);
    assert_eq!(read32(&bus), 0xc0ff_0011);
}

#[test]
fn event_behind_a_mask_is_sent_once_at_unmask() {
    let mut msix = MsiX::default();
    assert_eq!(msix.signal(3), None);
    assert_eq!(msix.signal(3), None);
    let mut pending = [0; 8];
    msix.read_pending(0, &mut pending);
    assert_eq!(pending[0], 8);
    assert_eq!(msix.write_table(3 * 16, &0xfee0_1000_u64.to_le_bytes()), None);
    assert_eq!(msix.write_table(3 * 16 + 8, &0x41_u32.to_le_bytes()), None);
    assert_eq!(msix.write_table(3 * 16 + 12, &0_u32.to_le_bytes()), None, "the function is off");
    let message = Message { address: 0xfee0_1000, data: 0x41 };
    assert_eq!(msix.set_on(true), [message]);
    assert_eq!(msix.set_on(true), []);
    assert_eq!(msix.signal(3), Some(message));
    assert_eq!(msix.write_table(3 * 16 + 12, &1_u32.to_le_bytes()), None);
    assert_eq!(msix.signal(3), None);
    assert_eq!(msix.write_table(3 * 16 + 12, &0_u32.to_le_bytes()), Some(message));
    assert_eq!(msix.write_table(3 * 16 + 12, &0_u32.to_le_bytes()), None);
}

#[test]
fn entries_and_widths_that_are_not_there_have_no_effect() {
    let mut msix = MsiX::default();
    assert_eq!(msix.signal(256), None);
    assert_eq!(msix.signal(usize::MAX), None);
    for (offset, length) in [(1, 4), (0, 1), (0, 2), (4096, 4), (4092, 8), (0, 0)] {
        assert_eq!(msix.write_table(offset, &vec![0; length]), None);
    }
    let mut data = [0xaa; 8];
    msix.read_table(4096, &mut data);
    assert_eq!(data, [0; 8]);
    msix.read_table(12, &mut data);
    assert_eq!(data, [1, 0, 0, 0, 0, 0, 0, 0]);
}
