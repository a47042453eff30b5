//! A host that changes whatever it stores, and rewrites any shared word at any time: no panic, no endless loop, and
//! every page is either back or counted as leaked.

use super::*;
use crate::waking::{poll, serve};
use core::pin::Pin;
use core::task::Waker;
use proptest::prelude::*;
use pvkit_abi::PAGE_SIZE;
use pvkit_guest_drivers::Buffer;
use pvkit_guest_drivers::asynchronous::Interrupt;
use pvkit_guest_drivers::block::{AsyncBlock, Request};
use pvkit_guest_drivers::console::AsyncConsole;
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
            let mut console = talk_on(platform, console, soon(platform));
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
            let mut disk = futures_on(platform, &mut bus, disk, soon(platform));
            let _ = disk.close(&mut bus, soon(platform));
            let _ = disk.poll(20, |_| {});
        }
    }
    let _ = bus.poll();
}

/// More futures than slots; some are dropped in flight, the others are polled to an end or given up.
fn futures_on<'p>(
    platform: &'p TestPlatform,
    bus: &mut Bus<'p, TestPlatform>,
    disk: Block<'p, TestPlatform>,
    deadline: u64,
) -> Block<'p, TestPlatform> {
    let interrupt = Interrupt::new();
    let disk = AsyncBlock::new(disk, &interrupt);
    let mut reads: Vec<_> = (0..12).map(|number| Some(Box::pin(work_on(&disk, number, deadline)))).collect();
    let mut bottom = Box::pin(disk.bottom_half());
    let mut ended = false;
    for round in 0..6 {
        ended = ended || poll(&mut bottom.as_mut(), Waker::noop()).is_ready();
        for read in &mut reads {
            if read.as_mut().is_some_and(|read| poll(&mut read.as_mut(), Waker::noop()).is_ready()) {
                *read = None;
            }
        }
        if round == 1 {
            reads.truncate(6);
            let _ = bus.poll();
            let _ = disk.refresh(bus);
        }
        if reads.iter().any(Option::is_some) {
            serve(platform, &interrupt);
        }
    }
    drop((reads, bottom));
    let _ = disk.collect();
    disk.into_inner()
}

async fn work_on(
    disk: &AsyncBlock<'_, '_, TestPlatform>,
    number: u64,
    deadline: u64,
) -> Result<(), pvkit_guest_drivers::error::RequestError> {
    disk.read(number * 512, &mut [0; 1024], deadline).await?;
    disk.write(number * 512, &[1; 512], deadline).await?;
    disk.flush(deadline).await
}

/// A reader and a writer.
fn talk_on<'p>(
    platform: &'p TestPlatform,
    console: Console<'p, TestPlatform>,
    deadline: u64,
) -> Console<'p, TestPlatform> {
    let interrupt = Interrupt::new();
    let console: AsyncConsole<'_, '_, _> = AsyncConsole::new(console, &interrupt);
    let mut tasks = [
        Some(Box::pin(async { console.read(&mut [0; 4], deadline).await.map(|_| ()) })
            as Pin<Box<dyn Future<Output = _>>>),
        Some(Box::pin(async {
            console.write(&[b'x'; 50_000], deadline).await?;
            console.flush(deadline).await
        })),
    ];
    for _ in 0..6 {
        for task in &mut tasks {
            if task.as_mut().is_some_and(|task| poll(&mut task.as_mut(), Waker::noop()).is_ready()) {
                *task = None;
            }
        }
        if tasks.iter().any(Option::is_some) {
            serve(platform, &interrupt);
        }
        let _ = console.collect();
    }
    drop(tasks);
    console.into_inner()
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
