//! A hostile guest on two vCPUs. The first one uses a disk as a driver does, and takes its grants back under its own requests;
//! the second one writes anything over all memory that they share with the host: bus pages, rings, lists, data. Whatever breaks by
//! that is this guest's. Each round ends with everything set up anew, and at last the disk must work as if nothing had been.

use crate::arch::{BootMemory, boot_memory, call};
use crate::random::step;
use crate::{print, start_vcpu};
use core::sync::atomic::{AtomicU64, Ordering};
use pvkit_abi::bus::{Class, Kind, NameGrant};
use pvkit_abi::grant::GrantRef;
use pvkit_abi::hypercall::Call;
use pvkit_guest_drivers::platform::identity::IdentityPages;
use pvkit_guest_drivers::platform::x86::X86Calls;
use pvkit_guest_drivers::platform::{Composed, Platform};
use pvkit_guest_drivers::{Block, Bus, GrantPolicy, Negotiated};
use pvkit_shared_memory::SharedBytes;
use zerocopy::IntoBytes;

const PAGE: usize = 4096;
/// Memory for all that is shared: so little that the second vCPU soon hits something that matters.
const SHARED: usize = 48 * PAGE;
/// Times that everything is set up, disturbed, and left.
const ROUNDS: u64 = 24;
/// Requests of a round, most of which come to nothing.
const REQUESTS: u64 = 24;
/// How long one is waited for.
const MOMENT_NS: u64 = 2_000_000;
/// What must be right is waited for longer.
const PATIENCE_NS: u64 = 20_000_000_000;
/// A block of the disk that is written at last.
const BLOCK: usize = 512;

/// 0 while the second vCPU is to rest; else the seed of what it writes.
static SEED: AtomicU64 = AtomicU64::new(0);
/// What it writes by now; 0 when it rests.
static SEEN: AtomicU64 = AtomicU64::new(0);

type Disk<'p, P> = Block<'p, P, 8, 2>;

pub fn run(memory: &BootMemory) -> Result<(), &'static str> {
    // Negotiated once; what stands on it begins anew each time.
    let first = platform(memory)?;
    let negotiated = *Bus::connect(&first).map_err(|_| "no bus")?.negotiated();
    start_vcpu(memory, 1, scribbler, 0)?;
    for round in 1..=ROUNDS {
        disturbed(&platform(memory)?, negotiated, round)?;
        set(0);
    }
    orderly(&platform(memory)?, negotiated)?;
    print("tiny: the host stood the second vCPU\n");
    Ok(())
}

fn shared(memory: &BootMemory) -> Result<SharedBytes, &'static str> {
    memory.ram.part(0, SHARED).map_err(|_| "no memory to share")
}

fn platform(memory: &BootMemory) -> Result<Composed<IdentityPages<64>, X86Calls>, &'static str> {
    let calls = X86Calls::new(&memory.info, memory.vcpu_area).map_err(|_| "boot info: no transport, port or clock")?;
    Ok(Composed { pages: IdentityPages::new(shared(memory)?), calls })
}

/// Tells the second vCPU what to write, or to rest, and waits until it does.
fn set(seed: u64) {
    SEED.store(seed, Ordering::Release);
    while SEEN.load(Ordering::Acquire) != seed {
        core::hint::spin_loop();
    }
}

fn open<'p, P: Platform>(
    platform: &'p P,
    negotiated: Negotiated,
) -> Result<(Bus<'p, P>, u32, Disk<'p, P>), &'static str> {
    let mut bus = Bus::set_up_anew(platform, negotiated).map_err(|_| "no bus")?;
    let device = bus.find(Class::BLOCK, 0).ok_or("no disk")?;
    let deadline = platform.now() + PATIENCE_NS;
    let disk = Block::open(&mut bus, device, 8, GrantPolicy::Extent, deadline).map_err(|_| "the disk does not open")?;
    Ok((bus, device, disk))
}

/// One round. An error is of its beginning; what happens afterwards is nobody's fault but our own.
fn disturbed<P: Platform>(platform: &P, negotiated: Negotiated, round: u64) -> Result<(), &'static str> {
    let (mut bus, device, mut disk) = open(platform, negotiated)?;
    let (mut state, mut data) = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15), [0; 2 * PAGE]);
    set(state | 1);
    for _ in 0..REQUESTS {
        let (position, until) = (step(&mut state) % 64 * PAGE as u64, platform.now() + MOMENT_NS);
        let _ = match step(&mut state) % 3 {
            0 => disk.read(position, &mut data, until),
            1 => disk.write(position, &data, until),
            _ => disk.flush(until),
        };
        // Under a request that was given up, and may still be served.
        if step(&mut state).is_multiple_of(4) {
            let grant = GrantRef::new((step(&mut state) % 3) as u16, (1 + step(&mut state) % 3) as u16);
            let body = NameGrant { grant, reserved: 0 };
            let epoch = bus.device(device).map_or(0, |device| device.epoch);
            let _ = bus.ask_anything(Kind::GRANT_REVOKE, device, epoch, body.as_bytes(), platform.now() + MOMENT_NS);
        }
        let _ = disk.refresh(&bus);
    }
    if round.is_multiple_of(2) {
        let _ = disk.close(&mut bus, platform.now() + MOMENT_NS);
    }
    Ok(())
}

/// What any guest does.
fn orderly<P: Platform>(platform: &P, negotiated: Negotiated) -> Result<(), &'static str> {
    let (_bus, _, mut disk) = open(platform, negotiated)?;
    let (mut state, mut written, mut read) = (7, [0_u8; BLOCK], [0_u8; BLOCK]);
    written.iter_mut().for_each(|byte| *byte = step(&mut state) as u8);
    let until = platform.now() + PATIENCE_NS;
    disk.write(0, &written, until).map_err(|_| "the disk does not take a block")?;
    disk.read(0, &mut read, until).map_err(|_| "the disk does not give a block")?;
    if read == written { Ok(()) } else { Err("the disk gives another block") }
}

extern "C" fn scribbler(boot_info: u64, _vcpu: u64, _argument: u64) -> ! {
    let target = boot_memory(boot_info).and_then(|memory| shared(&memory));
    let target = target.unwrap_or_else(|why| crate::arch::crash(why));
    loop {
        let seed = SEED.load(Ordering::Acquire);
        SEEN.store(seed, Ordering::Release);
        let mut state = seed;
        while seed != 0 && SEED.load(Ordering::Relaxed) == seed {
            let at = step(&mut state) as usize % (SHARED / 8) * 8;
            let Ok(word) = target.word(at) else { continue };
            // Anything; or a little more or less than what is there, which more often passes for the truth.
            match step(&mut state) % 4 {
                0 => word.store(step(&mut state), Ordering::Relaxed),
                1 => drop(word.fetch_add(1, Ordering::Relaxed)),
                2 => drop(word.fetch_xor(1 << (step(&mut state) % 64), Ordering::Relaxed)),
                // Time for something to happen in between.
                _ => (0..step(&mut state) % 2048).for_each(|_| core::hint::spin_loop()),
            }
        }
        if seed == 0 {
            call(Call::SCHED_YIELD, [0, 0, 0]);
        }
    }
}
