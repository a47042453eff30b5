//! What a host can write, seen by the guest drivers: they end, and account for every page.

use crate::input::Input;
use pvkit_abi::bus::Class;
use pvkit_abi::discovery::BootInfo;
use pvkit_abi::net::{FrameHash, FrameMeta, NetFeatures};
use pvkit_guest_drivers::fake::{self, Device, TestPlatform};
use pvkit_guest_drivers::net::{NetOptions, Pair};
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::{Block, Bus, Console, Entropy, GrantPolicy, Net, Services};
use zerocopy::IntoBytes;

/// A host that exchanges bytes of what it stores for those of the input.
fn lying(platform: &TestPlatform, data: &[u8]) {
    let mut rest = Vec::from(data).into_iter();
    platform.calls.host().tamper = Box::new(move |_, bytes| {
        // The low bits say how much is a lie: most of what is stored is left, so that the drivers get far.
        let Some(habit) = rest.next() else { return };
        if habit & 3 != 0 {
            return;
        }
        for _ in 0..=habit >> 6 {
            let (Some(at), Some(value)) = (rest.next(), rest.next()) else { return };
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
    });
}

fn soon(platform: &TestPlatform) -> u64 {
    platform.now() + 200_000
}

/// Works with a platform whose host lies; every page is back or counted as leaked afterwards.
fn with(devices: Vec<Device>, data: &[u8], work: impl FnOnce(&TestPlatform, &mut Bus<'_, TestPlatform>)) {
    let platform = fake::platform(devices);
    let memory = platform.pages.0.clone();
    lying(&platform, data);
    if let Ok(mut bus) = Bus::connect(&platform) {
        work(&platform, &mut bus);
        let _ = bus.poll();
    }
    let counts = platform.calls.host().counts;
    assert!(counts.hypercalls + counts.waits < 20_000, "{counts:?}");
    assert_eq!(memory.live(), memory.leaked());
}

/// Boot info of any content: refused, or a bus.
pub fn boot_info(data: &[u8]) {
    let mut platform = fake::platform(vec![Device::disk(0, 4096, 512)]);
    let mut input = Input::new(data);
    let boot: &mut BootInfo = &mut platform.calls.boot;
    while !input.is_empty() {
        let at = usize::from(input.u16()) % size_of::<BootInfo>();
        boot.as_mut_bytes()[at] = input.byte();
    }
    if let Ok(bus) = Bus::connect(&platform) {
        let _ = bus.devices().count();
    }
}

pub fn bus(data: &[u8]) {
    let devices = vec![Device::disk(0, 4096, 512), Device::console(), Device::entropy()];
    with(devices, data, |platform, bus| {
        let found: Vec<u32> = bus.devices().map(|device| device.id).collect();
        for device in found.into_iter().take(4) {
            if let Ok(mut entropy) = Entropy::open(bus, device, GrantPolicy::Extent, soon(platform)) {
                let _ = entropy.read(&mut [0; 64], soon(platform));
                let _ = entropy.close(bus, soon(platform));
            }
        }
        let _ = bus.find(Class::BLOCK, 0);
    });
}

pub fn block(data: &[u8]) {
    with(vec![Device::disk(0, 1 << 20, 512)], data, |platform, bus| {
        let opened: Result<Block<'_, _, 8, 4>, _> = Block::open(bus, 1, 8, GrantPolicy::Extent, soon(platform));
        let Ok(mut disk) = opened else { return };
        let _ = disk.write(0, &[7; 20 * 512], soon(platform));
        let _ = disk.flush(soon(platform));
        let _ = disk.read(512, &mut [0; 1024], soon(platform));
        let _ = disk.read_serial(soon(platform));
        let _ = disk.discard(0, 4096, soon(platform));
        let _ = disk.refresh(bus);
        let _ = disk.close(bus, soon(platform));
    });
}

pub fn console(data: &[u8]) {
    with(vec![Device::console()], data, |platform, bus| {
        let Ok(mut console) = Console::open(bus, 1, GrantPolicy::WholeRam, soon(platform)) else { return };
        let _ = console.write(&[b'x'; 5000], soon(platform));
        platform.calls.host().type_in(1, b"typed");
        let mut typed = [0; 3];
        let _ = console.read(&mut typed, soon(platform)).map(|count| assert!(count <= 3));
        console.refresh(bus);
        let _ = console.close(bus, soon(platform));
    });
}

/// Frames with any metadata, joined from any pieces.
pub fn net(data: &[u8]) {
    let mut input = Input::new(data);
    let features = NetFeatures::from_bits_truncate(u64::from(input.u16()));
    let frames: Vec<_> =
        (0..input.below(6)).map(|_| (FrameMeta(input.u64()), FrameHash(input.u64()), input.run().to_vec())).collect();
    with(vec![Device::net(1, 1500)], input.rest(), |platform, bus| {
        let options = NetOptions { features, ..NetOptions::default() };
        let opened: Result<Net<'_, _, 8>, _> = Net::open(bus, 1, options, GrantPolicy::Extent, soon(platform));
        let Ok(mut net) = opened else { return };
        let Some(Pair { mut transmit, mut receive }) = net.take_pair(0) else { return };
        let mut room = vec![0; 70_000];
        for (meta, hash, bytes) in &frames {
            platform.calls.host().receive(1, 0, bytes, *meta, *hash);
            if let Ok(Some(frame)) = receive.receive(&mut room) {
                assert!(frame.length <= room.len());
                let end = usize::from(frame.meta.checksum_start()) + usize::from(frame.meta.checksum_offset());
                assert!(end <= frame.length);
            }
            let _ = transmit.send(bytes, *meta);
        }
        let _ = transmit.poll(8);
        let _ = net.refresh(bus);
        let _ = net.close(bus, soon(platform));
        let _ = transmit.follow(&net);
        let _ = receive.follow(&net);
    });
}

pub fn services(data: &[u8]) {
    with(vec![Device::services()], data, |platform, bus| {
        let Ok(mut services) = Services::open(bus, 1, GrantPolicy::Extent, soon(platform)) else { return };
        for _ in 0..4 {
            if let fake::Kind::Services { events, .. } = &mut platform.calls.host().devices[0].kind {
                events.push_back(pvkit_abi::services::ServiceEvent {
                    size: 48,
                    kind: pvkit_abi::services::ServiceKind::FREEZE,
                    sequence: 1,
                    wall_clock_ns: 0,
                    patience_ns: 0,
                    generation: [1; 16],
                });
            }
            platform.calls.host().ring(1);
            if let Ok(event) = services.wait(soon(platform)) {
                assert_ne!(event.sequence, 0);
            }
        }
        services.refresh(bus);
        let _ = services.close(bus, soon(platform));
    });
}

/// A command line is understood, or one word of it is named.
pub fn cmdline(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = unikernel_app::Options::parse(&text);
}
