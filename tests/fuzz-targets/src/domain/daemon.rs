//! A hostile daemon at a monitor's client: what it says comes over a real socket.

use super::descriptors::{Bundle, Pipes, WINDOW, What, memory};
use super::owner::{Ear, Told};
use crate::input::Input;
use pvkit_abi::bus::{CONFIG_BYTES, Class, Offer};
use pvkit_abi::grant::GrantRef;
use pvkit_abi::status::CallError;
use pvkit_backends::Bell;
use pvkit_driver_domain::PacketSocket;
use pvkit_driver_domain::client::{Backend, BackendError, Owner, QueueWires, Wanted};
use pvkit_driver_domain::fuzzing::{Answers, backend, greet};
use pvkit_driver_domain::protocol::*;
use rustix::fs::SealFlags;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::{FromZeros, IntoBytes};

/// Steps in one input.
const MOST: usize = 48;
/// Where nobody listens.
const NOWHERE: &str = "/nowhere/backend";
/// Lines of a daemon that are shown.
const LINES: usize = 64;
const SOON: Duration = Duration::from_secs(20);

/// Answers are taken as they are said or the connection ends; each request is answered once, with what belongs to it or with
/// the daemon's end; each device is lost once; interrupts lead to their own ports.
pub fn hostile_daemon(data: &[u8]) {
    let mut input = Input::new(data);
    let (theirs, socket) = PacketSocket::pair().unwrap();
    let mut liar = Liar { socket, pipes: Vec::new(), sequence: 0 };
    let reply = HelloReply { magic: MAGIC, version: VERSION, reserved: 0, incarnation: 1, max_window: WINDOW };
    let greeted = liar.prepare(&mut input, Kind::HELLO, reply.as_bytes(), &[]);
    let answers = greet(theirs);
    assert_eq!(answers.is_ok(), greeted, "a greeting: {:?}", answers.err());
    let Ok(answers) = answers else { return };
    if input.below(8) == 7 {
        inspect(&mut input, &mut liar, answers);
    } else {
        run(&mut input, &mut liar, answers);
    }
    drop(liar.socket);
    assert!(liar.pipes.iter().all(Pipes::are_closed), "a descriptor that nobody asked for is kept");
}

struct Liar {
    socket: PacketSocket,
    pipes: Vec<Pipes>,
    /// Of the client's last request.
    sequence: u64,
}

impl Liar {
    fn send(&mut self, bytes: &[u8], what: &[What]) {
        let mut bundle = Bundle::default();
        what.iter().for_each(|what| bundle.push(*what));
        self.pipes.push(bundle.send(&self.socket, bytes));
    }

    /// Lays an answer ready for the client's next request; whether it is a good one.
    fn prepare(&mut self, input: &mut Input<'_>, kind: Kind, body: &[u8], what: &[What]) -> bool {
        self.sequence += 1;
        let good = Message::Reply(kind, Ok(body.to_vec()));
        let (bytes, is_good) = match input.below(16) {
            0 => (good.emit(self.sequence + 1), false),
            1 => (Message::Reply(Kind(kind.0 ^ 1), Ok(body.to_vec())).emit(self.sequence), false),
            2 => (Message::Reply(kind, Ok([body, &[0]].concat())).emit(self.sequence), body.is_empty()),
            3 => (Message::Reply(kind, Err(CallError(u32::from(input.byte()).max(1)))).emit(self.sequence), false),
            4 => (Message::Goodbye.emit(0), false),
            5 => (misshapen(input), false),
            6 => {
                self.send(&Message::Log(Log { line: [input.byte(); 256] }).emit(0), &[]);
                (good.emit(self.sequence), true)
            }
            7 if !body.is_empty() => {
                // Magic, version; class, instance.
                let mut body = body.to_vec();
                body[usize::from(input.below(3))] ^= 1 | input.byte();
                (Message::Reply(kind, Ok(body)).emit(self.sequence), false)
            }
            _ => (good.emit(self.sequence), true),
        };
        self.send(&bytes, what);
        is_good
    }
}

/// Never a message of a daemon's.
fn misshapen(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = Message::Reply(Kind::CLOSE, Ok(Vec::new())).emit(1);
    match input.below(6) {
        0 => bytes[0] ^= 1 | input.byte(),
        1 => bytes[5] = 0x40 | input.byte(),
        2 => bytes[6] = 1,
        3 => bytes[22] = 1,
        4 => bytes = Message::Close(OfDevice { device: 1, reserved: 0 }).emit(1),
        // An error that says more; too long a packet.
        _ if input.below(2) == 0 => bytes = vec![1; MAX_MESSAGE + 1],
        _ => {
            bytes = Message::Reply(Kind::CLOSE, Ok(vec![0; 4])).emit(1);
            bytes[16] = 1;
        }
    }
    bytes
}

fn inspect(input: &mut Input<'_>, liar: &mut Liar, mut answers: Answers) {
    let (mut told, mut good) = (0, true);
    for _ in 0..input.below(4) {
        let mut seen = Inspected::new_zeroed();
        let bytes = input.bytes(size_of::<Inspected>());
        seen.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        if good && input.below(4) == 3 {
            liar.sequence += 1;
            liar.send(&Message::Reply(Kind::INSPECT, Ok(seen.as_bytes()[1..].to_vec())).emit(liar.sequence), &[]);
            good = false;
        } else if good {
            liar.sequence += 1;
            liar.send(&Message::Reply(Kind::INSPECT, Ok(seen.as_bytes().to_vec())).emit(liar.sequence), &[]);
            told += 1;
        }
    }
    let end = Message::Reply(Kind::INSPECT, Err(CallError::NOT_FOUND));
    liar.send(&end.emit(liar.sequence + 1), &[]);
    let totals = Totals::new_zeroed();
    let cut = usize::from(input.below(8) == 7);
    good &= cut == 0;
    liar.send(&Message::Reply(Kind::TOTALS, Ok(totals.as_bytes()[cut..].to_vec())).emit(liar.sequence + 2), &[]);
    match answers.inspect() {
        Ok(all) => {
            assert!(good && all.devices.len() == told, "{told} devices");
            for one in all.devices {
                assert!(
                    one.queues.len() <= MAX_COUNTED && is_printable(&one.monitor) && is_printable(&one.id),
                    "{one:?}"
                );
            }
        }
        Err(why) => assert!(!good && matches!(why, BackendError::Lie(_)), "{why}"),
    }
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A backend with devices and a guest, and what is known of it.
struct Life<'a> {
    liar: &'a mut Liar,
    backend: Arc<Backend>,
    ear: Arc<Ear>,
    /// Requests that wait, and their kinds.
    asked: BTreeMap<u64, Kind>,
    answered: Vec<(u64, Result<Vec<u8>, u32>)>,
    /// Everything after this is nothing to anyone.
    cut: bool,
    lines: usize,
    bells: Vec<Arc<Bell>>,
}

fn run(input: &mut Input<'_>, liar: &mut Liar, answers: Answers) {
    let backend = backend(answers, Path::new(NOWHERE)).unwrap();
    let (mut devices, mut failing) = (Vec::new(), Vec::new());
    for _ in 0..=input.below(2) {
        let number = devices.len() as u32 + 1;
        let mut offer = Offer::new_zeroed();
        (offer.class, offer.max_depth) = (Class::BLOCK, u32::from(input.byte()));
        let witness: &[What] = match input.below(6) {
            0 => &[What::Window],
            1 => &[What::Null],
            2 => &[What::Window, What::Pipe],
            _ => &[],
        };
        let good = liar.prepare(input, Kind::ATTACH, offer.as_bytes(), witness);
        let attach = Attach {
            device: 0,
            class: Class::BLOCK,
            instance: 0,
            mac: [0; 6],
            mtu: 0,
            pairs: 0,
            reserved: [0; 6],
            id: padded("d"),
        };
        match backend.attach(Wanted { attach, tap: None }) {
            Ok((given, _)) => assert!(good && given == number, "an offer"),
            Err(why) => {
                assert!(!good, "{why}");
                return;
            }
        }
        devices.push(number);
        if witness.first() == Some(&What::Null) {
            failing.push(number);
        }
    }
    let taken = liar.prepare(input, Kind::WINDOW, &[], &[]);
    let ear = Arc::new(Ear::default());
    let owner: Arc<dyn Owner> = ear.clone();
    let window = memory(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL);
    backend.start(window, WINDOW, owner).unwrap();
    let mut life = Life {
        liar,
        backend,
        ear,
        asked: BTreeMap::new(),
        answered: Vec::new(),
        cut: !taken,
        lines: 0,
        bells: Vec::new(),
    };
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        life.step(input);
    }
    life.end(&devices, &failing);
}

impl Life<'_> {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=3 => self.ask(input),
            4..=7 => self.answer(input),
            8 => self.open(),
            9 => {
                if let Some(bell) = self.bells.get(usize::from(input.below(4))) {
                    bell.ring().unwrap();
                }
            }
            10 => {
                let mut line = [0; 256];
                let bytes = input.bytes(16);
                line[..bytes.len()].copy_from_slice(bytes);
                for _ in 0..=input.below(40) {
                    self.say(&Message::Log(Log { line }).emit(0), &[]);
                    self.lines += usize::from(!self.cut);
                }
            }
            11 => self.say(&Message::Goodbye.emit(0), &[]),
            12 => self.direct(input),
            13 => {
                // To nothing that will be asked, or to what is answered.
                let past = u64::from(input.byte()) % (self.liar.sequence + 1);
                let sequence = if input.below(2) == 0 { self.liar.sequence + 100 } else { past };
                if !self.asked.contains_key(&sequence) {
                    self.lie(&Message::Reply(Kind(u16::from(input.below(12))), Ok(Vec::new())).emit(sequence));
                }
            }
            14 => self.lie(&misshapen(input)),
            _ => {
                if input.below(4) == 0 {
                    self.liar.socket.shut_down();
                    self.cut = true;
                }
            }
        }
    }

    fn say(&mut self, bytes: &[u8], what: &[What]) {
        if !self.cut {
            self.liar.send(bytes, what);
        }
    }

    fn lie(&mut self, bytes: &[u8]) {
        self.say(bytes, &[What::Pipe]);
        self.cut = true;
    }

    fn note(&mut self, kind: Kind) -> u64 {
        self.liar.sequence += 1;
        self.asked.insert(self.liar.sequence, kind);
        self.liar.sequence
    }

    fn ask(&mut self, input: &mut Input<'_>) {
        let message = match input.below(3) {
            0 => Message::Close(OfDevice { device: 1, reserved: 0 }),
            1 => Message::Refresh(OfDevice { device: 1, reserved: 0 }),
            _ => Message::Share(Share {
                device: 1,
                grant: GrantRef(1 << 16),
                offset: 0,
                length: 4096,
                access: 3,
                reserved: 0,
            }),
        };
        let number = self.note(message.kind());
        let ear = Arc::clone(&self.ear);
        self.backend.ask(
            &message,
            Box::new(move |answer| {
                ear.note(|told| told.answers.push((number, answer.map_err(|error| error.0))));
            }),
        );
    }

    /// Answers one of those that wait, in whatever order, or pretends to.
    fn answer(&mut self, input: &mut Input<'_>) {
        let place = usize::from(input.byte()) % self.asked.len().max(1);
        let Some((sequence, kind)) = self.asked.iter().nth(place).map(|(sequence, kind)| (*sequence, *kind)) else {
            return;
        };
        let body = match input.below(4) {
            0 => Err(u32::from(input.byte()).max(1)),
            _ => Ok(input.bytes(8).to_vec()),
        };
        let said = |kind| Message::Reply(kind, body.clone().map_err(CallError)).emit(sequence);
        match input.below(8) {
            7 => self.lie(&said(Kind(kind.0 ^ 1))),
            6 => self.say(&said(kind), &[What::Pipe, What::Pipe]),
            _ => self.say(&said(kind), &[]),
        }
        if !self.cut {
            self.asked.remove(&sequence);
            self.answered.push((sequence, body));
        }
    }

    fn open(&mut self) {
        let number = self.note(Kind::OPEN_QUEUE);
        let mut asked = Box::new(OpenQueue::new_zeroed());
        asked.device = 1;
        let doorbell: OwnedFd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let interrupt = Arc::new(Bell::new().unwrap());
        let port = self.bells.len() as u32;
        self.bells.push(Arc::clone(&interrupt));
        let ear = Arc::clone(&self.ear);
        let done = Box::new(move |answer: Result<Vec<u8>, CallError>| {
            ear.note(|told| told.answers.push((number, answer.map_err(|error| error.0))));
        });
        self.backend.open(asked, &QueueWires { doorbell, interrupt, port: Some(port) }, done);
    }

    /// A request whose answer is waited for, from a daemon that gives one.
    fn direct(&mut self, input: &mut Input<'_>) {
        if self.cut {
            return;
        }
        self.liar.sequence += 1;
        let (wanted, refresh) = (self.liar.sequence, input.below(2) == 0);
        let mut counters = Counters::new_zeroed();
        counters.count = input.u32();
        let config: [u8; CONFIG_BYTES] = input.array();
        let short = usize::from(input.below(4) == 3);
        let (kind, body) = match refresh {
            true => (Kind::REFRESH, config[short..].to_vec()),
            false => (Kind::COUNTERS, counters.as_bytes()[short..].to_vec()),
        };
        let socket = &self.liar.socket;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while let Ok(packet) = socket.receive(SOON) {
                    if Message::parse(&packet.bytes).is_ok_and(|(sequence, _)| sequence == wanted) {
                        socket.send(&Message::Reply(kind, Ok(body)).emit(wanted), &[], SOON).unwrap();
                        break;
                    }
                }
            });
            if refresh {
                assert_eq!(self.backend.refresh(1, SOON), (short == 0).then_some(config));
            } else {
                let seen = self.backend.queue_counters(1, SOON);
                let count = (counters.count as usize).min(MAX_COUNTED);
                assert_eq!(seen.len(), if short == 0 { count } else { 0 });
            }
        });
    }

    fn end(self, devices: &[u32], failing: &[u32]) {
        self.liar.socket.shut_down();
        let asked = self.answered.len() + self.asked.len();
        let is_told = |told: &Told| [&told.lost, &told.failed].map(Vec::len) == [devices.len(), failing.len()];
        self.ear.wait(|told| is_told(told) && told.answers.len() >= asked);
        // Waits for the last of the threads: nothing is told after it.
        self.backend.stop();
        let Told { interrupts, lost, mut failed, back, lines, answers } = self.ear.take();
        // Media answer when they like.
        failed.sort_unstable();
        assert_eq!((lost.as_slice(), failed.as_slice(), back.as_slice()), (devices, failing, &[][..]));
        let ports = self.bells.len() as u32;
        assert!(interrupts.iter().all(|port| *port < ports), "{interrupts:?}");
        let shown = lines.iter().filter(|line| line.starts_with(&format!("backend {NOWHERE}: "))).count();
        assert_eq!(shown, self.lines.min(LINES), "lines of a daemon");
        assert!(lines.iter().all(|line| is_printable(line)));
        let (said, dead) = answers.split_at(self.answered.len());
        assert_eq!(said, self.answered, "answers, in the order in which they were given");
        let mut dead: Vec<_> = dead.to_vec();
        dead.sort();
        let ended = |(number, kind): (u64, Kind)| match kind {
            Kind::CLOSE => (number, Ok(Vec::new())),
            _ => (number, Err(CallError::BACKEND.0)),
        };
        assert_eq!(dead, self.asked.into_iter().map(ended).collect::<Vec<_>>(), "answered by the daemon's end");
    }
}
