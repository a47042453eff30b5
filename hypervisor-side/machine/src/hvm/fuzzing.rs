//! The platform function and the loading of stock kernels, for fuzz targets.

use super::{boot, layout, platform};
use crate::config::Hvm;
use crate::memory::GuestRam;
use pvkit_core::{Domain, GuestAddr};
use std::path::Path;

/// Loads a stock kernel's file, with this initramfs, into 64 MiB of memory. Where the guest finds the initramfs, and the
/// bytes that lie there; `None` if the kernel is refused.
#[must_use]
pub fn stock_kernel(kernel: &Path, initramfs: &Path, cmdline: &str) -> Option<(u64, Vec<u8>)> {
    let memory = layout::Memory::new(layout::MIN_MEMORY, 0);
    let ram = GuestRam::scattered(&memory.ram, None).ok()?;
    let images = Hvm { kernel: kernel.into(), initramfs: Some(initramfs.into()), serial: None };
    let number = |at: u64, length: usize| {
        let mut bytes = [0; 8];
        ram.part(GuestAddr(at), length as u64).ok()?.read(0, bytes.get_mut(..length)?).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let (place, length) = match boot::load(&ram, &memory, &images, cmdline).ok()? {
        // Linux's boot protocol: ramdisk_image and ramdisk_size of the zero page.
        boot::Entry::Linux64 { .. } => (number(layout::ZERO_PAGE + 0x218, 4)?, number(layout::ZERO_PAGE + 0x21c, 4)?),
        // PVH: address and size of the first module.
        boot::Entry::Pvh { .. } => (number(layout::MODULES, 8)?, number(layout::MODULES + 8, 8)?),
    };
    let mut bytes = vec![0; length as usize];
    ram.part(GuestAddr(place), length).ok()?.read(0, &mut bytes).ok()?;
    Some((place, bytes))
}

/// The platform function, without a machine around it.
pub struct Platform(platform::Platform);

impl Default for Platform {
    fn default() -> Self {
        let memory = layout::Memory::new(layout::MIN_MEMORY, 2 << 20);
        Self(platform::Platform::new(&memory, &Domain::hvm_groups()))
    }
}

impl Platform {
    /// An event; whether a message is sent for it.
    #[must_use]
    pub fn signal(&self, port: u32) -> bool {
        self.0.signal(port).is_some()
    }

    /// An access to the ports of PCI's configuration mechanism.
    pub fn read_config(&self, port: u16, data: &mut [u8]) {
        self.0.read_config(port, data);
    }

    /// How many messages a write sends.
    #[must_use]
    pub fn write_config(&self, port: u16, data: &[u8]) -> usize {
        self.0.write_config(port, data).messages.len()
    }

    /// Whether something of the function is there.
    #[must_use]
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        self.0.read(address, data)
    }

    /// Whether it was a reset, and how many messages a write sends; `None` if nothing of the function is there.
    #[must_use]
    pub fn write(&self, address: u64, data: &[u8]) -> Option<(bool, usize)> {
        let done = self.0.write(address, data)?;
        Some((done.reset, done.messages.len()))
    }
}
