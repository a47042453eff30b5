//! Requests of a guest to the engines of its devices.

use crate::input::Input;
use pvkit_abi::block::BlockFeatures;
use pvkit_abi::grant::GrantRef;
use pvkit_abi::net::NetFeatures;
use pvkit_abi::ring::{HEADER_BYTES, REQUEST_BYTES};
use pvkit_abi::status::Status;
use pvkit_backends::entropy::EntropyQueue;
use pvkit_backends::fuzzing::{ALL, Ask, Guest, READ_ONLY, WRITE_ONLY, connect, place};
use pvkit_backends::net::{Frame, Inbox, Network, OFFLOADS, PortControl, Steering, TransmitQueue};
use pvkit_backends::services::{Services, ServicesQueue};
use pvkit_backends::{BlockLimits, BlockQueue, ConsoleInput, ConsoleQueue, Disk, Pass, QueueEngine, RamDisk};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Requests in one input.
const MOST: usize = 24;
const DEPTH: u32 = 8;
const DISK: usize = 64 << 10;

/// A request of any form, mostly one that names memory of the guest's.
fn ask(input: &mut Input<'_>) -> Ask {
    let op = input.below(8);
    let flags = if input.below(8) == 0 { input.byte() } else { input.below(2) };
    let aux = if input.below(4) == 0 { input.u16() } else { u16::from(input.below(5)) };
    let grant = match input.below(5) {
        0 => READ_ONLY,
        1 => WRITE_ONLY,
        2 => GrantRef(input.u32()),
        _ => ALL,
    };
    let place = place(grant, input.number() as u32);
    Ask { op, flags, aux, words: [input.number(), place, input.number()] }
}

/// Carries out every request, up to a batch at a time; each is completed once by the time the queue is closed.
fn serve(input: &mut Input<'_>, guest: &mut Guest, queue: &mut dyn QueueEngine) {
    let (mut asked, mut completed) = (0, 0);
    while !input.is_empty() && asked < MOST {
        // Lists, and data.
        let at = usize::from(input.below(60)) * 4096 + usize::from(input.below(16)) * 16;
        guest.fill(at, input.run());
        let room = DEPTH as usize - (asked - completed);
        let asks: Vec<_> = (0..=input.below(4)).take(room).map(|_| ask(input)).collect();
        asked += guest.submit(&asks).len();
        assert_ne!(queue.pass(64), Pass::Latched);
        queue.flush();
        completed += guest.completions().len();
        if completed == asked {
            continue;
        }
        // Some wait for what may never come.
        if asked - completed == DEPTH as usize {
            break;
        }
    }
    queue.close();
    completed += guest.completions().len();
    assert_eq!(asked, completed);
}

/// The disk keeps its size; a read-only grant is not written to.
pub fn block(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut guest, setup) = connect(DEPTH);
    let disk = Arc::new(RamDisk::with_content(vec![0x5a; DISK]));
    let features = BlockFeatures::from_bits_truncate(u64::from(input.byte()));
    let mut queue = BlockQueue::new(setup, disk.clone(), BlockLimits::default(), features);
    serve(&mut input, &mut guest, &mut queue);
    assert_eq!((disk.content().len(), disk.config().capacity), (DISK, DISK as u64));
}

/// Words written straight into the ring are answered or latch the queue.
pub fn block_ring(data: &[u8]) {
    let mut input = Input::new(data);
    let (guest, setup) = connect(DEPTH);
    let disk = Arc::new(RamDisk::with_content(vec![0x5a; DISK]));
    let mut queue = BlockQueue::new(setup, disk, BlockLimits::default(), BlockFeatures::all());
    let mut latched = false;
    while !input.is_empty() {
        let at = HEADER_BYTES + usize::from(input.below(8)) * REQUEST_BYTES + usize::from(input.below(4)) * 8;
        let word = match input.below(2) {
            0 => input.u64(),
            _ => u64::from(input.below(8)) | u64::from(input.below(9)) << 16 | u64::from(input.below(3)) << 48,
        };
        guest.requests.word(at).unwrap().store(word, Ordering::SeqCst);
        match queue.pass(8) {
            Pass::Latched => latched = true,
            Pass::Worked(served) => assert!(!latched && served <= 8),
            Pass::Idle => assert!(!latched, "a latched queue stays latched"),
        }
        let counted = guest.counters.snapshot();
        assert_eq!(counted.requests, counted.completions);
    }
    queue.close();
}

/// No more is delivered than was typed.
pub fn console(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut guest, setup) = connect(DEPTH);
    let typing = ConsoleInput::new(64).unwrap();
    let typed = input.bytes(32);
    typing.push(typed);
    if input.below(2) == 1 {
        typing.end();
    }
    let mut queue = ConsoleQueue::new(setup, Arc::new(Mutex::new(std::io::sink())), typing);
    serve(&mut input, &mut guest, &mut queue);
    assert!(guest.counters.snapshot().bytes_read <= typed.len() as u64);
}

/// Reports that nobody waits for are counted.
pub fn services(data: &[u8]) {
    let (mut guest, setup) = connect(DEPTH);
    let services = Services::new([7; 16]).unwrap();
    let mut queue = ServicesQueue::new(setup, services.clone());
    serve(&mut Input::new(data), &mut guest, &mut queue);
    assert!(services.stray_reports() <= MOST as u64);
}

pub fn entropy(data: &[u8]) {
    let (mut guest, setup) = connect(DEPTH);
    serve(&mut Input::new(data), &mut guest, &mut EntropyQueue::new(setup));
}

/// Where frames go that were sent.
#[derive(Default)]
struct Wire(Mutex<usize>);

impl Network for Wire {
    fn send(&self, frame: Frame) {
        assert!(frame.bytes.len() >= 14, "a frame has at least its header");
        *self.0.lock().unwrap() += 1;
    }

    fn features(&self) -> NetFeatures {
        OFFLOADS
    }

    fn agreed(&self, _: NetFeatures) {}
}

/// A frame is sent for each request that went well, and for no other.
pub fn net_transmit(data: &[u8]) {
    let mut input = Input::new(data);
    let features = NetFeatures::from_bits_truncate(u64::from(input.u16()));
    let (mut guest, setup) = connect(DEPTH);
    let wire = Arc::new(Wire::default());
    let mut queue = TransmitQueue::new(setup, wire.clone(), features, 1500);
    let mut good = 0;
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        guest.fill(usize::from(input.below(8)) * 4096, input.run());
        let ask = Ask { op: 1, ..ask(&mut input) };
        good += usize::from(guest.ask(&mut queue, ask).status() == Status::OK);
    }
    assert_eq!(*wire.0.lock().unwrap(), good);
}

/// A control is answered, and frames are still steered.
pub fn net_control(data: &[u8]) {
    let mut input = Input::new(data);
    let inboxes = (0..2).map(|_| Inbox::new(4).unwrap()).collect();
    let steering = Steering::new([2, 0, 0, 0, 0, 1], inboxes);
    let control = PortControl::new(Arc::new(Wire::default()), steering.clone());
    control.opened(1, NetFeatures::from_bits_truncate(u64::from(input.u16())));
    while !input.is_empty() {
        let operation = u16::from(input.below(6));
        let length = usize::from(input.below(112));
        let _ = control.control(operation, input.bytes(length));
        let frame = Frame::finished(input.bytes(64).to_vec());
        let before = steering.room();
        let taken = steering.deliver(frame);
        assert!(!taken || steering.room() + 1 == before || before == 0);
    }
}
