//! A host that changes whatever it stores, and rewrites any shared word at any time: no panic, no endless loop, and
//! every page is either back or counted as leaked.

use super::*;
use proptest::prelude::*;
use pvkit_abi::PAGE_SIZE;
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::block::Request;
use pvkit_guest_drivers::platform::test::{COHERENT_BASE, TestMemory};
use std::sync::Arc;

/// How often, in percent, and how.
#[derive(Clone, Copy, Debug)]
struct Habits {
    lies: u64,
    scribbles: u64,
    lazy: bool,
    spin: u32,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// Something for the host to do before it stores anything.
fn liar(habits: Habits, seed: u64, memory: Arc<TestMemory>) -> fake::Tamper {
    let mut random = Random(seed | 1);
    Box::new(move |_, bytes| {
        if random.percent(habits.lies) {
            let at = random.next() as usize % bytes.len();
            bytes[at] = match random.next() % 4 {
                0 => 0,
                1 => 0xff,
                2 => bytes[at] ^ (1 << (random.next() % 8)),
                _ => random.next() as u8,
            };
        }
        if random.percent(habits.scribbles) {
            // The first pages are the rings and messages.
            let word = COHERENT_BASE + random.next() % (16 * PAGE_SIZE as u64 / 8) * 8;
            let value = if random.percent(50) { (random.next() % 4) << 48 } else { random.next() };
            let _ = memory.host(word, 8).unwrap().write(0, &value.to_le_bytes());
        }
    })
}

/// Everything that the drivers can do, in spite of every error.
fn work(platform: &TestPlatform) {
    let soon = |platform: &TestPlatform| platform.calls.host().clock() + 200_000;
    let Ok(mut bus) = Bus::connect(platform) else { return };
    let devices: Vec<u32> = bus.devices().map(|device| device.id).collect();
    for device in devices.into_iter().take(4) {
        if let Ok(mut console) = Console::open(&mut bus, device, GrantPolicy::WholeRam, soon(platform)) {
            let _ = console.write(&[b'x'; 9000], soon(platform));
            platform.calls.host().type_in(device, b"typed");
            let _ = console.read(&mut [0; 4], soon(platform));
            let _ = bus.poll();
            console.refresh(&bus);
            let _ = console.close(&mut bus, soon(platform));
        }
        let disk: Result<Block<'_, _>, _> = Block::open(&mut bus, device, 8, GrantPolicy::Extent, soon(platform));
        if let Ok(mut disk) = disk {
            let _ = disk.write(0, &pattern(70_000 / 512 * 512), soon(platform));
            let _ = disk.read(512, &mut [0; 1024], soon(platform));
            let _ = disk.read_serial(soon(platform));
            let requests =
                (0..12).filter_map(|i| Some(Request::read(i * 512, 512, Buffer::allocate(platform, 512).ok()?)));
            let _ = disk.submit_batch(requests, |_| {});
            let _ = disk.poll(5, |_| {});
            let _ = disk.wait(soon(platform));
            let _ = disk.handle_interrupt(20, |_| {});
            let _ = bus.poll();
            let _ = disk.refresh(&bus);
            let _ = disk.flush(soon(platform));
            let _ = disk.close(&mut bus, soon(platform));
            let _ = disk.poll(20, |_| {});
        }
    }
    let _ = bus.poll();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_host_stores_the_guest_ends_and_its_pages_are_accounted_for(
        seed in any::<u64>(),
        lies in prop_oneof![Just(0u64), 0..10u64, 10..60u64],
        scribbles in prop_oneof![Just(0u64), 0..5u64, 5..40u64],
        lazy in any::<bool>(),
        spin in 0..4u32,
    ) {
        let habits = Habits { lies, scribbles, lazy, spin };
        let mut platform = with_disk_and_console();
        platform.calls.spin = habits.spin;
        let memory = platform.pages.0.clone();
        let mut host = platform.calls.host();
        host.lazy = habits.lazy;
        host.tamper = liar(habits, seed, memory.clone());
        drop(host);
        work(&platform);
        let counts = platform.calls.host().counts;
        prop_assert!(counts.hypercalls + counts.waits < 20_000, "{:?}", counts);
        prop_assert_eq!(memory.live(), memory.leaked());
        if lies == 0 && scribbles == 0 {
            prop_assert_eq!(counts.vain_waits, 0);
        }
    }
}

#[test]
fn an_honest_host_is_served_to_the_end_by_the_same_work() {
    let platform = with_disk_and_console();
    work(&platform);
    let counts = platform.calls.host().counts;
    assert!(counts.doorbells >= 6, "{counts:?}");
    assert_eq!(counts.vain_waits, 0);
}
