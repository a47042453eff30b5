//! Random requests of 4 KiB with a fixed number in flight, by submit and poll: what a request costs.

use crate::session::Session;
use crate::{Failure, Options};
use alloc::vec::Vec;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::ring::MIN_DEPTH;
use pvkit_guest_drivers::block::Request;
use pvkit_guest_drivers::platform::Platform;
use pvkit_guest_drivers::{Block, Buffer};

/// Most requests in flight.
const MAX_DEPTH: usize = 128;
/// Completions taken at once.
const BUDGET: u32 = MAX_DEPTH as u32;

type Disk<'p, P> = Block<'p, P, MAX_DEPTH, 1>;
type Page<'p, P> = Buffer<'p, P, 1>;

pub(crate) fn run<P: Platform>(session: &mut Session<'_, P>, options: &Options) -> Result<(), Failure> {
    let mut disk: Disk<'_, P> = session.disk(options.disk, options.depth.max(MIN_DEPTH))?;
    session.terminal.flush()?;
    let pages = disk.geometry().capacity / PAGE_SIZE as u64;
    if pages == 0 {
        return Err(Failure::Wrong("the disk is smaller than a page"));
    }
    let depth = u64::from(disk.sealed().depth.min(options.depth)).min(options.requests.max(1));
    let mut idle = Vec::new();
    for _ in 0..depth {
        idle.push(Page::allocate(session.platform, PAGE_SIZE).map_err(|_| Failure::Wrong("no memory for buffers"))?);
    }
    let mut random = Random::new(session.platform);
    let (mut left, mut done) = (options.requests, 0u64);
    let mut ended = Vec::new();
    let start = session.platform.now();
    while done < options.requests {
        submit(&mut disk, &mut idle, &mut left, || random.next() % pages, options.write)?;
        disk.poll(BUDGET, |completed| ended.push(completed))?;
        if ended.is_empty() {
            ended.push(disk.wait(session.deadline())?);
        }
        for completed in ended.drain(..) {
            completed.result?;
            idle.extend(completed.buffer);
            done += 1;
        }
    }
    let ns = session.platform.now().saturating_sub(start);
    let counters = disk.counters();
    session.terminal.line(format_args!(
        "bench requests={} doorbells={} waits={} lost={} ns={ns}",
        counters.requests, counters.doorbells, counters.waits, counters.lost_wakeups
    ));
    Ok(session.terminal.flush()?)
}

/// Sends every idle buffer out again, with one doorbell.
fn submit<'p, P: Platform>(
    disk: &mut Disk<'p, P>,
    idle: &mut Vec<Page<'p, P>>,
    left: &mut u64,
    mut page: impl FnMut() -> u64,
    write: bool,
) -> Result<(), Failure> {
    let count = idle.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= count as u64;
    let requests = idle.drain(..count).map(|buffer| {
        let position = page() * PAGE_SIZE as u64;
        let request = if write { Request::write } else { Request::read };
        request(position, PAGE_SIZE as u32, buffer)
    });
    disk.submit_batch(requests, |_| {}).map_err(|rejected| Failure::Request(rejected.error))
}

/// A small generator; positions need no more.
struct Random(u64);

impl Random {
    fn new<P: Platform>(platform: &P) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = platform.boot_info().seed;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
