//! The configuration space of one function: 256 bytes, of which some bits can be written.

/// Offset of the command register, and bits of it.
const COMMAND: usize = 0x04;
/// Memory accesses are decoded.
const COMMAND_MEMORY: u16 = 1 << 1;
/// Messages are sent.
const COMMAND_MASTER: u16 = 1 << 2;
/// Legacy interrupts are off; kept, without effect.
const COMMAND_NO_INTX: u16 = 1 << 10;
/// Offset of the status register; its bit that says that there are capabilities.
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Offset of BAR 0.
const BAR0: usize = 0x10;
/// Offset of the pointer to the first capability.
const CAPABILITIES: usize = 0x34;
/// Where the MSI-X capability is placed.
const MSIX: usize = 0x40;
const MSIX_ID: u8 = 0x11;
/// Message control of MSI-X: on, and all entries masked.
const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_MASK_ALL: u16 = 1 << 14;

/// What a function is.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub vendor: u16,
    pub device: u16,
    /// 24 bits: base class, class, interface.
    pub class: u32,
    pub revision: u8,
}

/// One function.
#[derive(Clone, Debug)]
pub struct Function {
    bytes: [u8; 256],
    /// Bits that a write changes.
    writable: [u8; 256],
}

impl Function {
    /// A function without BARs and capabilities.
    pub fn new(header: Header) -> Self {
        let mut function = Self { bytes: [0; 256], writable: [0; 256] };
        function.put16(0x00, header.vendor);
        function.put16(0x02, header.device);
        function.put32(0x08, header.class << 8 | u32::from(header.revision));
        function.put16(0x2c, header.vendor);
        function.put16(0x2e, header.device);
        function
    }

    /// With a 32-bit memory BAR 0 of `bytes` (a power of two, at least 16) at `address`.
    pub fn with_bar(mut self, address: u32, bytes: u32) -> Self {
        self.put32(BAR0, address);
        self.allow32(BAR0, !(bytes - 1));
        self.allow16(COMMAND, COMMAND_MEMORY | COMMAND_MASTER | COMMAND_NO_INTX);
        self
    }

    /// With MSI-X: `entries` at `table` of BAR 0, pending bits at `pending`.
    pub fn with_msix(mut self, entries: u16, table: u32, pending: u32) -> Self {
        self.put16(STATUS, STATUS_CAPABILITIES);
        self.put8(CAPABILITIES, MSIX as u8);
        self.put8(MSIX, MSIX_ID);
        self.put16(MSIX + 2, entries - 1);
        self.allow16(MSIX + 2, MSIX_ENABLE | MSIX_MASK_ALL);
        self.put32(MSIX + 4, table);
        self.put32(MSIX + 8, pending);
        self
    }

    /// Where BAR 0 is decoded, if it is.
    pub fn bar(&self) -> Option<u32> {
        (self.get16(COMMAND) & COMMAND_MEMORY != 0).then(|| self.get32(BAR0) & !0xf)
    }

    /// Whether messages are sent: bus master, MSI-X on, not masked as a whole.
    pub fn sends_messages(&self) -> bool {
        let control = self.get16(MSIX + 2);
        self.get16(COMMAND) & COMMAND_MASTER != 0 && control & MSIX_ENABLE != 0 && control & MSIX_MASK_ALL == 0
    }

    /// Reads bytes; those beyond the end are ones.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
        }
    }

    /// Writes the bits that can be written.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, new) in (offset..).zip(data) {
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = *byte & !mask | new & mask;
            }
        }
    }

    fn put8(&mut self, offset: usize, value: u8) {
        if let Some(byte) = self.bytes.get_mut(offset) {
            *byte = value;
        }
    }

    fn put16(&mut self, offset: usize, value: u16) {
        let [a, b] = value.to_le_bytes();
        self.put8(offset, a);
        self.put8(offset + 1, b);
    }

    fn put32(&mut self, offset: usize, value: u32) {
        self.put16(offset, value as u16);
        self.put16(offset + 2, (value >> 16) as u16);
    }

    fn allow16(&mut self, offset: usize, bits: u16) {
        for (at, byte) in (offset..).zip(bits.to_le_bytes()) {
            if let Some(mask) = self.writable.get_mut(at) {
                *mask |= byte;
            }
        }
    }

    fn allow32(&mut self, offset: usize, bits: u32) {
        self.allow16(offset, bits as u16);
        self.allow16(offset + 2, (bits >> 16) as u16);
    }

    fn get16(&self, offset: usize) -> u16 {
        let mut raw = [0; 2];
        self.read(offset, &mut raw);
        u16::from_le_bytes(raw)
    }

    fn get32(&self, offset: usize) -> u32 {
        let mut raw = [0; 4];
        self.read(offset, &mut raw);
        u32::from_le_bytes(raw)
    }
}
