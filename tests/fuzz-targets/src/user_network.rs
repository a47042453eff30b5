//! The network of the host's own: frames of its guest, none of which leads out of the machine.

use crate::input::Input;
use crate::reference::{folded, is_sealed};
use pvkit_abi::net::{FrameFlags, FrameMeta, MAX_FRAME, Segmentation};
use pvkit_backends::fuzzing::open_steering;
use pvkit_backends::net::user::{Resolvers, UserNetwork, UserOptions};
use pvkit_backends::net::{Frame, Inbox, Network};
use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST: [u8; 4] = [10, 0, 2, 15];
const LARGEST: usize = 1514;
/// How long the network may take; it needs microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A network and its guest.
struct Wire {
    network: Arc<UserNetwork>,
    inbox: Arc<Inbox>,
    questions: u32,
}

thread_local! {
    /// One for all inputs of a thread: it has a thread and sockets of its own.
    static WIRE: RefCell<Wire> = RefCell::new(Wire::new());
}

impl Wire {
    fn new() -> Self {
        let inbox = Inbox::new(64).expect("an inbox");
        let steering = open_steering(MAC, vec![inbox.clone()]);
        // It knows nobody whom it could ask for names.
        let options = UserOptions { resolvers: Resolvers::Fixed(Vec::new()), ..UserOptions::default() };
        Self { network: UserNetwork::start(options, steering).expect("a network"), inbox, questions: 0 }
    }

    /// Gives a frame to the network, and an honest question after it: once that is answered, the frame was dealt with.
    fn send(&mut self, frame: Frame) {
        self.questions += 1;
        let asker = self.questions.to_be_bytes();
        let before = self.network.counters();
        self.network.send(frame);
        self.network.send(Frame::finished(question(asker)));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.inbox.pop() {
                Some(answer) if is_answer(&answer.bytes, asker) => break,
                Some(answer) => check(&answer),
                None => thread::yield_now(),
            }
            if Instant::now() >= deadline {
                *self = Self::new();
                panic!("the network does not answer an honest guest any more");
            }
        }
        let now = self.network.counters();
        assert_eq!(now.frames, before.frames + 2, "each frame is counted once");
        assert!(now.refused_frames <= before.refused_frames + 1, "the honest one is not refused");
        let opened = (now.connections, now.conversations, now.queries);
        assert_eq!(opened, (0, 0, 0), "nothing leaves the machine");
    }
}

/// ARP: who has the gateway's address?
fn question(asker: [u8; 4]) -> Vec<u8> {
    [&[0xff; 6][..], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &MAC, &asker, &[0; 6], &[10, 0, 2, 2]].concat()
}

fn is_answer(bytes: &[u8], asker: [u8; 4]) -> bool {
    bytes.len() == 42 && bytes[12..14] == [8, 6] && bytes[38..42] == asker
}

/// Whatever the network sends to its guest is small enough, and whole.
fn check(frame: &Frame) {
    let bytes = &frame.bytes;
    assert!(bytes.len() <= LARGEST && frame.meta == FrameMeta::default());
    match bytes[12..14] {
        [8, 0] => assert!(is_sealed(bytes), "{bytes:02x?}"),
        [8, 6] => assert_eq!(bytes.len(), 42),
        _ => panic!("neither IPv4 nor ARP: {bytes:02x?}"),
    }
}

fn send(bytes: Vec<u8>, meta: FrameMeta) {
    WIRE.with_borrow_mut(|wire| wire.send(Frame { bytes, meta }));
}

/// From the guest, to the gateway or the name server; and so that its sums are no reason to refuse it.
fn mend(packet: &mut [u8]) {
    if packet.len() < 20 {
        return;
    }
    packet[12..16].copy_from_slice(&GUEST);
    packet[8] |= 1;
    let header = usize::from(packet[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if header < 20 || total < header || total > packet.len() {
        return;
    }
    match (packet[9], total - header) {
        (1, 4..) => seal(packet, header + 2, header..total),
        // A datagram need not have a sum.
        (17, 8..) => packet[header + 6..header + 8].fill(0),
        _ => {}
    }
    seal(packet, 10, 0..header);
}

/// Puts the sum over `covered` at `place` in it.
fn seal(packet: &mut [u8], place: usize, covered: Range<usize>) {
    packet[place..place + 2].fill(0);
    let sum = (!folded([&packet[covered]])).to_be_bytes();
    packet[place..place + 2].copy_from_slice(&sum);
}

/// Any frame, mostly one that looks like the guest's.
pub fn any(data: &[u8]) {
    let mut input = Input::new(data);
    let said = input.below(3);
    let look = input.below(4);
    let mut packet = input.rest().to_vec();
    packet.truncate(MAX_FRAME - 14);
    if look != 0 && packet.len() >= 20 {
        // 10.0.2.2 or 10.0.2.3.
        packet[16..19].copy_from_slice(&[10, 0, 2]);
        packet[19] = 2 | packet[19] & 1;
        if look != 3 {
            mend(&mut packet);
        }
    }
    let meta = match said {
        0 => FrameMeta(0),
        1 => FrameMeta::new(FrameFlags::NEEDS_CHECKSUM, 34, 16, Segmentation::NONE, 0),
        _ => FrameMeta(packet.iter().rev().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))),
    };
    let kind = if look == 0 { [8, 6] } else { [8, 0] };
    send([&[0xff; 6][..], &MAC, &kind, &packet].concat(), meta);
}

/// A DHCP message: its bytes behind headers that are right.
pub fn dhcp(data: &[u8]) {
    let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
    message.extend(data.iter().take(1400));
    if message.len() >= 240 {
        message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    }
    let length = (28 + message.len()) as u16;
    let mut ip =
        vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    let checksum = (!folded([&ip[..]])).to_be_bytes();
    ip[10..12].copy_from_slice(&checksum);
    let udp = length - 20;
    let ports = [0, 68, 0, 67, (udp >> 8) as u8, udp as u8, 0, 0];
    send([&[0xff; 6][..], &MAC, &[8, 0], &ip, &ports, &message].concat(), FrameMeta(0));
}
