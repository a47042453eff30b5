//! The drivers against the fake host: what they do when it is honest, slow, gone or lying.

mod block_async;
mod block_async_recovery;
mod block_blocking;
mod block_over;
mod block_poison;
mod block_polled;
mod block_recovery;
mod bus;
mod console;
mod console_async;
mod console_io;
mod entropy;
mod lying_host;
mod net;
mod net_async;
mod net_lies;
mod net_recovery;
mod quarantine;
mod send;
mod services;
mod services_async;
mod waking;

use pvkit_abi::bus::Class;
use pvkit_guest_drivers::fake::{self, Device, TestPlatform};
use pvkit_guest_drivers::{Block, Bus, Console, GrantPolicy};

/// Later than anything a test does.
const LATE: u64 = 1 << 40;
/// Bytes of the disks.
const DISK: usize = 1 << 20;

fn with_disk() -> TestPlatform {
    fake::platform(vec![Device::disk(0, DISK, 512)])
}

fn with_disk_and_console() -> TestPlatform {
    fake::platform(vec![Device::disk(0, DISK, 512), Device::console()])
}

/// Connects and opens disk 0.
fn open_disk(platform: &TestPlatform) -> (Bus<'_, TestPlatform>, Block<'_, TestPlatform>) {
    let mut bus = Bus::connect(platform).expect("connects");
    let device = bus.find(Class::BLOCK, 0).expect("a disk is offered");
    let disk = Block::open(&mut bus, device, 32, GrantPolicy::WholeRam, LATE).expect("opens");
    (bus, disk)
}

/// Connects and opens the console.
fn open_console(platform: &TestPlatform) -> (Bus<'_, TestPlatform>, Console<'_, TestPlatform>) {
    let mut bus = Bus::connect(platform).expect("connects");
    let device = bus.find(Class::CONSOLE, 0).expect("a console is offered");
    let console = Console::open(&mut bus, device, GrantPolicy::Extent, LATE).expect("opens");
    (bus, console)
}

/// Bytes in which every run of eight differs from every other.
fn pattern(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64).flat_map(|i| (i * 0x9e37_79b9 + 1).to_le_bytes()).take(length).collect()
}
