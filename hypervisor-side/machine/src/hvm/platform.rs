//! The platform function's BAR: what the host says of itself, the reset register, the MSI-X table.

use super::layout::{Memory, PCI_MEMORY};
use super::pci::{Bus, Function, Header, Message, MsiX};
use crate::slot::lock;
use pvkit_abi::discovery::{HYPERCALL_PORT, Transport};
use pvkit_abi::pci::{
    BAR_BYTES, CLASS_CODE, DEVICE_ID, INFO_OFFSET, MSIX_ENTRIES, MSIX_PBA_OFFSET, MSIX_TABLE_OFFSET, PLATFORM_MAGIC,
    PlatformInfo, RESET_ALL, RESET_OFFSET, VENDOR_ID,
};
use pvkit_abi::version::{CURRENT, GroupOffer};
use std::sync::Mutex;
use zerocopy::{FromZeros, IntoBytes};

/// Device number of the platform function.
const DEVICE: usize = 1;
/// Class of a host bridge.
const HOST_BRIDGE: u32 = 0x06_0000;
/// Our host bridge; nobody binds a driver to it.
const BRIDGE_DEVICE_ID: u16 = 0x0000;
/// Bytes of an MSI-X entry.
const ENTRY_BYTES: u32 = 16;

/// The PCI bus with the platform function on it.
pub struct Platform {
    info: PlatformInfo,
    bus: Mutex<Bus>,
    msix: Mutex<MsiX>,
}

/// What the machine has to do after a write.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Consequence {
    /// End everything that the guest has of the host.
    pub reset: bool,
    /// Interrupts that are due now.
    pub messages: Vec<Message>,
}

impl Platform {
    pub fn new(memory: &Memory, groups: &[GroupOffer]) -> Self {
        let id = Header { vendor: VENDOR_ID, device: BRIDGE_DEVICE_ID, class: HOST_BRIDGE, revision: 0 };
        let platform = Header { device: DEVICE_ID, class: CLASS_CODE, revision: CURRENT.minor as u8, ..id };
        let platform = Function::new(platform).with_bar(PCI_MEMORY.0, BAR_BYTES).with_msix(
            MSIX_ENTRIES,
            MSIX_TABLE_OFFSET,
            MSIX_PBA_OFFSET,
        );
        let bus = Bus::new(vec![Function::new(id), platform]);
        Self { info: info(memory, groups), bus: Mutex::new(bus), msix: Mutex::default() }
    }

    /// An event of `port`: the message to send now, if nothing holds it back.
    pub fn signal(&self, port: u32) -> Option<Message> {
        lock(&self.msix).signal(port as usize)
    }

    /// Reads a port of PCI's configuration mechanism.
    pub fn read_config(&self, port: u16, data: &mut [u8]) {
        lock(&self.bus).read(port, data);
    }

    /// Writes one.
    pub fn write_config(&self, port: u16, data: &[u8]) -> Consequence {
        let mut bus = lock(&self.bus);
        let written = bus.write(port, data);
        let function = bus.function(DEVICE).filter(|_| written == Some(DEVICE));
        let messages = function.map(|function| lock(&self.msix).set_on(function.sends_messages()));
        Consequence { reset: false, messages: messages.unwrap_or_default() }
    }

    /// Reads memory; false if nothing of ours is there.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let Some(offset) = self.offset(address, data.len()) else { return false };
        match offset {
            INFO_OFFSET..MSIX_TABLE_OFFSET => {
                let info = self.info.as_bytes();
                for (at, byte) in ((offset - INFO_OFFSET) as usize..).zip(data) {
                    *byte = info.get(at).copied().unwrap_or(0);
                }
            }
            MSIX_TABLE_OFFSET..MSIX_PBA_OFFSET => {
                lock(&self.msix).read_table((offset - MSIX_TABLE_OFFSET) as usize, data);
            }
            _ => lock(&self.msix).read_pending((offset - MSIX_PBA_OFFSET) as usize, data),
        }
        true
    }

    /// Writes memory; `None` if nothing of ours is there. What cannot be written stays.
    pub fn write(&self, address: u64, data: &[u8]) -> Option<Consequence> {
        let offset = self.offset(address, data.len())?;
        let mut done = Consequence::default();
        match offset {
            RESET_OFFSET => done.reset = data == RESET_ALL.to_le_bytes(),
            MSIX_TABLE_OFFSET..MSIX_PBA_OFFSET => {
                let write = lock(&self.msix).write_table((offset - MSIX_TABLE_OFFSET) as usize, data);
                done.messages.extend(write);
            }
            _ => {}
        }
        Some(done)
    }

    /// Offset in the BAR of an access that lies in it.
    fn offset(&self, address: u64, length: usize) -> Option<u32> {
        let bar = lock(&self.bus).function(DEVICE)?.bar()?;
        let offset = u32::try_from(address.checked_sub(u64::from(bar))?).ok()?;
        (offset.checked_add(length as u32)? <= BAR_BYTES).then_some(offset)
    }
}

fn info(memory: &Memory, groups: &[GroupOffer]) -> PlatformInfo {
    let mut info = PlatformInfo::new_zeroed();
    info.magic = PLATFORM_MAGIC;
    info.size = size_of::<PlatformInfo>() as u32;
    info.version = u32::from(CURRENT.major) << 16 | u32::from(CURRENT.minor);
    info.transport = Transport::PORT_REGISTERS;
    info.port = u32::from(HYPERCALL_PORT);
    for (slot, group) in info.groups.iter_mut().zip(groups) {
        *slot = *group;
        info.group_count += 1;
    }
    for (slot, region) in info.regions.iter_mut().zip(memory.regions()) {
        *slot = region;
        info.region_count += 1;
    }
    info
}

const _: () = assert!(MSIX_ENTRIES as u32 * ENTRY_BYTES == MSIX_PBA_OFFSET - MSIX_TABLE_OFFSET);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hvm::pci::{ADDRESS_PORT, DATA_PORT};
    use zerocopy::FromBytes;

    const BASE: u64 = PCI_MEMORY.0 as u64;

    fn config(platform: &Platform, offset: u32, data: &[u8]) -> Consequence {
        platform.write_config(ADDRESS_PORT, &(1 << 31 | 1 << 11 | offset & 0xfc).to_le_bytes());
        platform.write_config(DATA_PORT + (offset & 3) as u16, data)
    }

    fn platform() -> Platform {
        let platform = Platform::new(&Memory::new(6 << 30, 64 << 20), &pvkit_core::Domain::hvm_groups());
        config(&platform, 4, &[0x06, 0x00]);
        platform
    }

    #[test]
    fn info_is_read_word_by_word() {
        let platform = platform();
        let mut bytes = [0; size_of::<PlatformInfo>()];
        for (at, word) in (BASE..).step_by(4).zip(bytes.chunks_mut(4)) {
            assert!(platform.read(at, word));
        }
        let info = PlatformInfo::read_from_bytes(&bytes).unwrap();
        assert_eq!((info.magic, info.port, info.region_count), (PLATFORM_MAGIC, 0x0a50, 3));
        assert_eq!((info.regions[2].base, info.regions[2].length), (7 << 30, 64 << 20));
        assert_eq!(info.group_count as usize, pvkit_core::Domain::hvm_groups().len());
    }

    #[test]
    fn nothing_is_there_outside_the_bar_or_while_it_is_off() {
        let platform = platform();
        let mut word = [0; 4];
        for at in [0, BASE - 1, BASE + 0x3ffd, BASE + 0x4000, u64::MAX] {
            assert!(!platform.read(at, &mut word) && platform.write(at, &word).is_none(), "{at:#x}");
        }
        config(&platform, 4, &[0, 0]);
        assert!(!platform.read(BASE, &mut word));
    }

    #[test]
    fn only_the_word_resets() {
        let platform = platform();
        let reset = |at, data: &[u8]| platform.write(BASE + at, data).unwrap().reset;
        assert!(reset(0xf00, &RESET_ALL.to_le_bytes()));
        assert!(!reset(0xf00, &[0; 4]) && !reset(0xf00, &u64::from(RESET_ALL).to_le_bytes()));
        assert!(!reset(0xf04, &RESET_ALL.to_le_bytes()) && !reset(0, &RESET_ALL.to_le_bytes()));
    }

    #[test]
    fn event_waits_until_the_function_may_send() {
        let platform = platform();
        let message = Message { address: 0xfee0_0000, data: 0x31 };
        platform.write(BASE + 0x1000, &0xfee0_0000_u64.to_le_bytes());
        assert_eq!(platform.write(BASE + 0x1008, &0x31_u64.to_le_bytes()), Some(Consequence::default()));
        assert_eq!(platform.signal(0), None);
        assert_eq!(config(&platform, 0x42, &0x8000_u16.to_le_bytes()).messages, [message]);
        assert_eq!(platform.signal(0), Some(message));
        config(&platform, 0x42, &0xc000_u16.to_le_bytes());
        assert_eq!((platform.signal(0), platform.signal(0)), (None, None));
        assert_eq!(config(&platform, 0x42, &0x8000_u16.to_le_bytes()).messages, [message]);
        config(&platform, 4, &[0x02, 0x00]);
        assert_eq!(platform.signal(0), None, "no bus master, no message");
    }
}
