//! Hostile monitors at a daemon: two at a time, whose messages it reads from real sockets.

use super::descriptors::{Bundle, WINDOW, What};
use super::known::{Monitor, Verdict};
use crate::input::Input;
use pvkit_abi::bus::{CONTROL_BYTES, Class};
use pvkit_abi::grant::GrantRef;
use pvkit_abi::ring::EPOCH_WORD;
use pvkit_backends::{Disk, RamDisk};
use pvkit_driver_domain::daemon::{Daemon, Export, ExportKind};
use pvkit_driver_domain::fuzzing::Served;
use pvkit_driver_domain::protocol::*;
use pvkit_driver_domain::{PacketSocket, SocketError};
use std::collections::BTreeMap;
use std::sync::Arc;
use zerocopy::{FromBytes, FromZeros};

/// Messages in one input.
const MOST: usize = 48;
const IDS: [&str; 4] = ["shared", "alone", "tap", "nothing"];

/// One connection, both ends, and what is known of it.
struct Line {
    socket: PacketSocket,
    served: Option<Served>,
    known: Monitor,
}

/// Each message is granted if and only if it may be, answered once, or costs its sender the connection and nobody else anything;
/// descriptors of no use are closed, and in the end everything is there for the next one.
pub fn hostile_monitor(data: &[u8]) {
    let mut input = Input::new(data);
    let daemon = daemon();
    let mut lines = [line(&daemon), line(&daemon)];
    let ready = input.byte();
    for at in 0..2 {
        if ready >> at & 1 == 0 {
            say(&mut lines, at, 1, &hello(0), Bundle::default());
            let mut memory = Bundle::default();
            memory.push(What::Window);
            say(&mut lines, at, 2, &Message::Window(WindowBody { length: WINDOW }), memory);
        }
    }
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let at = usize::from(input.below(8) == 7);
        step(&mut input, &mut lines, at);
    }
    drop(lines);
    let mut lines = [line(&daemon), line(&daemon)];
    say(&mut lines, 0, 1, &hello(0), Bundle::default());
    say(&mut lines, 0, 2, &Message::Attach(attach(1, "alone")), Bundle::default());
    assert!(lines[0].known.devices.contains_key(&1), "an honest monitor gets what the others had");
}

fn step(input: &mut Input<'_>, lines: &mut [Line; 2], at: usize) {
    let last = lines[at].known.last;
    let (message, fitting): (Message, &[What]) = match input.below(15) {
        0 => (hello(input.below(4)), &[]),
        1 => (Message::Window(WindowBody { length: length(input) }), &[What::Window]),
        2 | 3 => {
            let mut asked = attach(number(input), IDS[usize::from(input.below(4))]);
            if input.below(8) == 7 {
                (asked.class, asked.mtu, asked.pairs) = (Class::NET, 1500, u16::from(input.byte()));
            }
            (Message::Attach(asked), &[])
        }
        4 | 5 => (Message::OpenQueue(queue(input, &lines[at].known)), &[What::Bell; 2]),
        6 => (Message::Close(of(input)), &[]),
        7 => (Message::Share(share(input)), &[]),
        8 => (Message::Revoke(share(input)), &[]),
        9 => (Message::Refresh(of(input)), &[]),
        10 => (Message::Counters(of(input)), &[]),
        11 => (Message::Inspect(Inspect { place: u32::from(input.below(6)), reserved: 0 }), &[]),
        12 => {
            let mut control = Control {
                device: number(input),
                operation: input.u16(),
                length: input.u16(),
                data: [0; CONTROL_BYTES],
            };
            control.length %= CONTROL_BYTES as u16 + 8;
            (Message::Control(control), &[])
        }
        13 => match input.below(3) {
            0 => (Message::Goodbye, &[]),
            1 => (Message::Log(Log { line: padded("from the wrong side") }), &[]),
            _ => (Message::Reply(Kind(input.u16()), Ok(input.bytes(16).to_vec())), &[]),
        },
        _ => return misshapen(input, lines, at),
    };
    let sequence = if input.below(16) == 15 { input.u64() } else { last.saturating_add(1) };
    let bundle = Bundle::any(input, fitting);
    say(lines, at, sequence, &message, bundle);
}

/// Sends a message of good form and compares its fate with what it should be.
fn say(lines: &mut [Line; 2], at: usize, sequence: u64, message: &Message, bundle: Bundle) {
    let taken = lines.iter().any(|line| line.known.devices.values().any(|device| device.id == "alone"));
    let mut verdict = lines[at].known.judge(sequence, message, &bundle.what, taken);
    if let (Message::Inspect(asked), Verdict::Refused) = (message, verdict) {
        verdict = inspected(lines, at, asked.place as usize);
    }
    let memory = bundle.memory();
    let line = &mut lines[at];
    if line.served.is_none() {
        return;
    }
    let Some(answer) = line.deliver(&message.emit(sequence), bundle) else {
        assert_eq!(verdict, Verdict::Cut, "{message:?} cost the connection");
        return;
    };
    let (answered, answer) = match Message::parse(&answer) {
        Ok((answered, Message::Reply(kind, answer))) if kind == message.kind() => (answered, answer),
        other => panic!("{message:?} is answered by {other:?}"),
    };
    assert_eq!(answered, sequence);
    line.known.last = sequence;
    match (verdict, &answer) {
        (Verdict::Granted | Verdict::Either, Ok(_)) => line.known.note(message, memory),
        (Verdict::Refused | Verdict::Either, Err(_)) => {}
        _ => panic!("{message:?} should be {verdict:?}: {answer:?}"),
    }
    if let (Message::Inspect(asked), Ok(bytes)) = (message, &answer) {
        let seen = Inspected::read_from_bytes(bytes).unwrap();
        let known = lines
            .iter()
            .flat_map(|line| line.known.devices.iter().map(|(number, device)| (&line.known, *number, device)));
        let (owner, number, device) = known.into_iter().nth(asked.place as usize).expect("a place that is taken");
        let window = owner.window.as_ref().map_or(0, |(_, length)| *length);
        assert_eq!((seen.device, usize::from(seen.open), seen.window), (number, device.queues.len(), window));
        assert_eq!(text(&seen.id), device.id);
    }
}

/// Whether there is a device at this place, for one who has nothing.
fn inspected(lines: &[Line; 2], at: usize, place: usize) -> Verdict {
    let known = &lines[at].known;
    let devices: usize = lines.iter().map(|line| line.known.devices.len()).sum();
    if known.window.is_none() && known.devices.is_empty() && place < devices {
        Verdict::Granted
    } else {
        Verdict::Refused
    }
}

/// Bytes that are no message, or hardly one: never answered.
fn misshapen(input: &mut Input<'_>, lines: &mut [Line; 2], at: usize) {
    let line = &mut lines[at];
    let mut bytes = Message::Close(of(input)).emit(line.known.last.saturating_add(1));
    match input.below(4) {
        // A size, a kind, a reserved field, and one behind the header.
        0 => bytes[0] ^= 1 | input.byte(),
        1 => bytes[5] = 0x40 | input.byte(),
        2 => bytes[6 + usize::from(input.below(2))] ^= 1 | input.byte(),
        _ => bytes[20 + usize::from(input.below(4))] ^= 1 | input.byte(),
    }
    if input.below(4) == 0 {
        bytes = input.run().to_vec();
        if Message::parse(&bytes).is_ok() {
            return;
        }
    }
    let bundle = Bundle::any(input, &[]);
    if line.served.is_some() {
        assert_eq!(line.deliver(&bytes, bundle), None, "{bytes:x?} is answered");
    }
}

impl Line {
    /// The answer; `None` if the connection was cut.
    fn deliver(&mut self, bytes: &[u8], bundle: Bundle) -> Option<Vec<u8>> {
        let pipes = bundle.send(&self.socket, bytes);
        let ended = self.served.as_mut().is_none_or(|served| served.step().is_err());
        assert!(pipes.are_closed(), "a pipe is kept");
        if ended {
            (self.served, self.known) = (None, Monitor::default());
            assert!(matches!(self.socket.take(), Err(SocketError::Closed)), "what is cut off is not answered");
            return None;
        }
        let mut answer = self.socket.take().expect("an answer").bytes;
        // A quota that was reached is named before.
        if matches!(Message::parse(&answer), Ok((0, Message::Log(_)))) {
            answer = self.socket.take().expect("an answer behind the line").bytes;
        }
        assert!(matches!(self.socket.take(), Err(SocketError::TimedOut)), "one answer");
        Some(answer)
    }
}

fn daemon() -> Arc<Daemon> {
    let disk = |shared| {
        let disk: Arc<dyn Disk> = Arc::new(RamDisk::with_content(vec![0; 8192]));
        Export::new(ExportKind::Disk { disk, witness: None, shared })
    };
    let exports = [("alone", disk(false)), ("shared", disk(true)), ("tap", Export::new(ExportKind::Tap))];
    let exports: BTreeMap<_, _> = exports.into_iter().map(|(id, export)| (id.to_owned(), export)).collect();
    Daemon::new(exports, Box::new(|_| {}), Arc::new(|_| true)).unwrap()
}

fn line(daemon: &Arc<Daemon>) -> Line {
    let (theirs, socket) = PacketSocket::pair().unwrap();
    Line { socket, served: Some(Served::new(daemon, theirs)), known: Monitor::default() }
}

fn hello(kind: u8) -> Message {
    let (mut magic, mut version) = (MAGIC, VERSION);
    match kind {
        1 => magic ^= 1,
        2 => version.major += 1,
        3 => version.minor = u16::MAX,
        _ => {}
    }
    Message::Hello(Hello { magic, version, reserved: 0, name: padded("fuzz") })
}

fn attach(device: u32, id: &str) -> Attach {
    Attach { device, class: Class::BLOCK, instance: 0, mac: [2; 6], mtu: 0, pairs: 0, reserved: [0; 6], id: padded(id) }
}

/// Mostly one of a few numbers.
fn number(input: &mut Input<'_>) -> u32 {
    match input.below(8) {
        7 => u32::from(input.byte()),
        few => u32::from(few % 4),
    }
}

fn of(input: &mut Input<'_>) -> OfDevice {
    OfDevice { device: number(input), reserved: 0 }
}

/// Whole pages inside the window, or anything.
fn length(input: &mut Input<'_>) -> u64 {
    match input.below(8) {
        7 => input.number(),
        pages => u64::from(pages + 10) * 4096,
    }
}

fn share(input: &mut Input<'_>) -> Share {
    let device = number(input);
    let grant = match input.below(8) {
        7 => GrantRef(input.u32()),
        few => GrantRef::new(u16::from(few % 4), u16::from(few / 4) + 1),
    };
    let (offset, length) = match input.below(4) {
        0 => (input.number(), input.number()),
        pages => (u64::from(pages) * 4096, 8192),
    };
    let access = if input.below(16) == 15 { input.u32() } else { 3 };
    Share { device, grant, offset, length, access, reserved: 0 }
}

/// Rings in the window, made ready as a guest does it, and now and then something else.
fn queue(input: &mut Input<'_>, known: &Monitor) -> Box<OpenQueue> {
    let mut asked = Box::new(OpenQueue::new_zeroed());
    asked.device = number(input);
    (asked.queue, asked.depth, asked.completion_bytes) = (u16::from(input.below(5)), 8, 8);
    (asked.request_pages, asked.completion_pages, asked.epoch) = (1, 1, 1 + u64::from(input.below(2)));
    let first = u64::from(input.below(8)) * 2;
    (asked.pages[0], asked.pages[1]) = (first * 4096, (first + 1) * 4096);
    if let Some((memory, _)) = &known.window {
        let epoch = asked.epoch ^ u64::from(input.below(16) == 15);
        let _ = rustix::io::pwrite(memory, &epoch.to_le_bytes(), asked.pages[0] + EPOCH_WORD as u64);
    }
    match input.below(12) {
        0 => asked.depth = 1 << input.below(32),
        1 => asked.depth = input.u32(),
        2 => asked.completion_bytes = u16::from(input.byte()),
        3 => asked.request_pages = input.u16(),
        4 => asked.completion_pages = input.u16() % 64,
        5 => asked.pages[usize::from(input.below(2))] = input.number(),
        6 => asked.queue = input.u16(),
        7 => asked.features = input.u64(),
        _ => {}
    }
    asked
}
