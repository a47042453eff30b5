//! One PCI bus: a host bridge and the platform function, by configuration mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2).

mod config;
mod msix;

pub use config::{Function, Header};
pub use msix::{Message, MsiX};

/// Port of the address register.
pub const ADDRESS_PORT: u16 = 0xcf8;
/// First port of the data register, four of them.
pub const DATA_PORT: u16 = 0xcfc;
/// Bit of the address register without which the data register is a port like any other.
const ENABLE: u32 = 1 << 31;

/// The bus, with its functions by device number.
#[derive(Debug)]
pub struct Bus {
    address: u32,
    functions: Vec<Function>,
}

impl Bus {
    /// A bus of these, function 0 of devices 0, 1, ...
    pub const fn new(functions: Vec<Function>) -> Self {
        Self { address: 0, functions }
    }

    /// A function.
    pub fn function(&self, device: usize) -> Option<&Function> {
        self.functions.get(device)
    }

    /// Reads a port of the mechanism; what is not there reads as ones.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        match port {
            ADDRESS_PORT if data.len() == 4 => data.copy_from_slice(&self.address.to_le_bytes()),
            DATA_PORT..=0xcff => {
                if let Some((function, offset)) = self.selected(port) {
                    function.read(offset, data);
                }
            }
            _ => {}
        }
    }

    /// Writes a port of the mechanism. The number of the device that was written, if there is one.
    pub fn write(&mut self, port: u16, data: &[u8]) -> Option<usize> {
        match (port, data) {
            (ADDRESS_PORT, [a, b, c, d]) => self.address = u32::from_le_bytes([*a, *b, *c, *d]),
            (DATA_PORT..=0xcff, _) => {
                let (device, offset) = self.target(port)?;
                self.functions.get_mut(device)?.write(offset, data);
                return Some(device);
            }
            _ => {}
        }
        None
    }

    /// Device and offset that the data register stands for: bus 0, function 0 only.
    fn target(&self, port: u16) -> Option<(usize, usize)> {
        let number = self.address >> 8 & 0xff_ff;
        if self.address & ENABLE == 0 || number & 7 != 0 || number >> 8 != 0 {
            return None;
        }
        Some((number as usize >> 3, (self.address & 0xfc) as usize + usize::from(port - DATA_PORT)))
    }

    fn selected(&self, port: u16) -> Option<(&Function, usize)> {
        let (device, offset) = self.target(port)?;
        Some((self.functions.get(device)?, offset))
    }
}

#[cfg(test)]
mod tests;
