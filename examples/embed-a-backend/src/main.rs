//! The block backend inside somebody else's virtual machine monitor.
//!
//! This toy monitor has guest memory and a scripted guest, and takes from pvkit the ring, the disk, the queue's logic and
//! its thread; neither bus nor core nor KVM. A real one would put its own memory, ioeventfd and irqfd in their places.
#![forbid(unsafe_code)]

use pvkit_abi::block::{BlockFeatures, BlockOp};
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::ring::{COMPLETION_BYTES, REQUEST_BYTES, RequestFlags, area_pages};
use pvkit_abi::status::Status;
use pvkit_backends::{BlockLimits, BlockQueue, GrantTable, QueueCounters, QueueSetup, QueueThread, RamDisk};
use pvkit_ring::{Backend, Frontend, RingSize};
use pvkit_shared_memory::{HeapPages, SharedPages};
use std::error::Error;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

const DEPTH: u32 = 8;
const SECTOR: u32 = 512;
/// The guest's one grant: page 0 of its data memory, for both directions.
const GRANT: GrantRef = GrantRef::new(0, 1);
/// Longer than any request of this program takes.
const PATIENCE: Duration = Duration::from_secs(20);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What the guest of a real monitor would be: it fills slots, rings, sleeps until the interrupt, takes completions.
struct ScriptedGuest {
    queue: Frontend<SharedPages, { DEPTH as usize }>,
    data: HeapPages,
    doorbell: EventFd,
    interrupts: mpsc::Receiver<()>,
}

impl ScriptedGuest {
    /// One request on the sector at `position`, start to end.
    fn request(&mut self, op: BlockOp, position: u64) -> Result<Status> {
        let segment = if op == BlockOp::FLUSH { 0 } else { u64::from(GRANT.0) | u64::from(SECTOR) << 32 };
        let mut batch = self.queue.batch();
        batch.reserve(op.0, RequestFlags::empty(), 0, [position, segment, 0]).map_err(|error| format!("{error:?}"))?;
        if batch.commit().is_needed() {
            self.doorbell.write(1)?;
        }
        loop {
            if let Some(completed) = self.queue.take().map_err(|fault| fault.to_string())? {
                return Ok(completed.result.status());
            }
            // Armed means that the backend will interrupt; otherwise a completion came meanwhile.
            if self.queue.park() == pvkit_ring::Park::Armed {
                self.interrupts.recv_timeout(PATIENCE)?;
            }
        }
    }
}

/// Runs the script; what the disk holds at its end.
fn run() -> Result<Vec<u8>> {
    // Guest memory: two ring areas, each written by one side, and a page of data.
    let (requests, completions) = (area_pages(DEPTH, REQUEST_BYTES), area_pages(DEPTH, COMPLETION_BYTES));
    let (requests, completions, data) = (HeapPages::new(requests), HeapPages::new(completions), HeapPages::new(1));
    let (requests, completions) = (requests.pages()?, completions.pages()?);
    let size = RingSize::new(DEPTH).ok_or("not a ring size")?;
    let queue = Frontend::new(requests, completions, size, 1)?;

    // The host's half: disk, grants, interrupt, queue, thread.
    let disk = Arc::new(RamDisk::new(64 * u64::from(SECTOR))?);
    let grants = Arc::new(GrantTable::new());
    grants.insert(GRANT, data.bytes(), Access::READ | Access::WRITE)?;
    let (raise, interrupts) = mpsc::channel();
    let counters = Arc::new(QueueCounters::default());
    let setup = QueueSetup {
        ring: Backend::new(completions, requests, size, 1)?,
        grants,
        // A guest that is gone needs no interrupt.
        interrupt: Arc::new(move || {
            let _ = raise.send(());
        }),
        counters: counters.clone(),
        log: Arc::new(|line| eprintln!("embed-a-backend: {line}")),
    };
    let engine = BlockQueue::new(setup, disk.clone(), BlockLimits::default(), BlockFeatures::FLUSH);
    let doorbell = EventFd::new(0)?;
    let thread = QueueThread::spawn("embedded disk", Box::new(engine), doorbell.try_clone()?, 0)?;

    // The script: write, make durable, forget, read back; and one mistake.
    let mut guest = ScriptedGuest { queue, data, doorbell, interrupts };
    let text = b"written through an embedded backend";
    guest.data.bytes().write(0, text)?;
    assert_eq!(guest.request(BlockOp::WRITE, SECTOR.into())?, Status::OK);
    assert_eq!(guest.request(BlockOp::FLUSH, 0)?, Status::OK);
    guest.data.bytes().zero(0, SECTOR as usize)?;
    assert_eq!(guest.request(BlockOp::READ, SECTOR.into())?, Status::OK);
    let mut read = [0; 35];
    guest.data.bytes().read(0, &mut read)?;
    assert_eq!(&read, text);
    assert_eq!(guest.request(BlockOp::READ, 1 << 40)?, Status::OUT_OF_RANGE);

    thread.stop();
    println!("embed-a-backend: ok, {:?}", counters.snapshot());
    Ok(disk.content())
}

fn main() -> Result<()> {
    run().map(drop)
}

#[test]
fn what_the_guest_wrote_is_on_the_disk_and_nothing_else() {
    let content = run().unwrap_or_else(|error| panic!("{error}"));
    assert!(content[512..].starts_with(b"written through an embedded backend"));
    assert!(content[..512].iter().chain(&content[1024..]).all(|byte| *byte == 0));
}
