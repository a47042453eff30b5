//! What an access to an I/O port means: serial line, PCI configuration, sleep and reset. KVM keeps those of the interrupt
//! controllers and the timer to itself.

use super::layout::{PM_CONTROL, PM_EVENTS, RESET_PORT, SERIAL, SLEEP_TYPE_S5};
use super::pci::{ADDRESS_PORT, DATA_PORT};
use super::platform::{Consequence, Platform};
use super::serial::Serial;
use crate::report::End;

/// The control register: ACPI is on; the sleep type; go to sleep now.
const SCI_ENABLE: u16 = 1;
const SLEEP_TYPE: u16 = 7 << 10;
const SLEEP_ENABLE: u16 = 1 << 13;
const GO_OFF: u16 = (SLEEP_TYPE_S5 as u16) << 10 | SLEEP_ENABLE;

const SERIAL_LAST: u16 = SERIAL + 7;
const ADDRESS_LAST: u16 = ADDRESS_PORT + 3;
const DATA_LAST: u16 = DATA_PORT + 3;

/// What a write came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing is there.
    Stray,
    /// It is done.
    Done(Consequence),
    /// The machine ends.
    End(End),
}

/// Reads a port; false if nothing is there, which reads as ones.
pub fn read(port: u16, data: &mut [u8], platform: &Platform, serial: &Serial) -> bool {
    match (port, &mut *data) {
        (SERIAL..=SERIAL_LAST, [byte]) => *byte = serial.read((port - SERIAL) as u8),
        (ADDRESS_PORT..=ADDRESS_LAST | DATA_PORT..=DATA_LAST, _) => platform.read_config(port, data),
        (PM_CONTROL, [low, high]) => [*low, *high] = SCI_ENABLE.to_le_bytes(),
        // No event ever happens.
        (PM_EVENTS..PM_CONTROL, _) => data.fill(0),
        _ => {
            data.fill(0xff);
            return false;
        }
    }
    true
}

/// Writes a port.
pub fn write(port: u16, data: &[u8], platform: &Platform, serial: &Serial) -> Written {
    match (port, data) {
        (SERIAL..=SERIAL_LAST, [byte]) => serial.write((port - SERIAL) as u8, *byte),
        (ADDRESS_PORT..=ADDRESS_LAST | DATA_PORT..=DATA_LAST, _) => {
            return Written::Done(platform.write_config(port, data));
        }
        (RESET_PORT, [1]) => return Written::End(End::Reboot),
        (PM_CONTROL, [low, high]) if u16::from_le_bytes([*low, *high]) & (SLEEP_TYPE | SLEEP_ENABLE) == GO_OFF => {
            return Written::End(End::PowerOff { code: 0 });
        }
        (RESET_PORT, [_]) | (PM_EVENTS..PM_CONTROL, _) | (PM_CONTROL, [_, _]) => {}
        _ => return Written::Stray,
    }
    Written::Done(Consequence::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hvm::layout::Memory;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_port_does_what_it_is_for_and_no_more() {
        let (platform, sink) = (Platform::new(&Memory::new(64 << 20, 0), &[]), Sink::default());
        let (serial, _wire) = Serial::new(Box::new(sink.clone())).unwrap();
        let done = Written::Done(Consequence::default());
        assert_eq!(write(SERIAL, b"x", &platform, &serial), done);
        assert_eq!(*sink.0.lock().unwrap(), b"x");
        assert_eq!(write(RESET_PORT, &[1], &platform, &serial), Written::End(End::Reboot));
        let control = |value: u16| write(PM_CONTROL, &value.to_le_bytes(), &platform, &serial);
        assert_eq!(control(0x3401), Written::End(End::PowerOff { code: 0 }));
        for value in [0, 0x1401, 0x2001, 0x3001] {
            assert_eq!(control(value), done, "{value:#x}: another state, or not yet");
        }
        assert_eq!(write(RESET_PORT, &[0], &platform, &serial), done);
        assert_eq!(write(PM_EVENTS + 2, &[0x20, 1], &platform, &serial), done);
        let mut status = [0xaa; 2];
        assert!(read(PM_CONTROL, &mut status, &platform, &serial) && status == [1, 0]);
        assert!(read(PM_EVENTS, &mut status, &platform, &serial) && status == [0, 0]);
        for (port, data) in [(0x80, &[1][..]), (RESET_PORT, &[1, 0]), (SERIAL, &[1, 2]), (0xffff, &[0; 4])] {
            assert_eq!(write(port, data, &platform, &serial), Written::Stray, "{port:#x}");
        }
        let mut data = [0; 2];
        assert!(!read(0x71, &mut data, &platform, &serial) && data == [0xff; 2]);
    }
}
