//! Either side says anything: the other one answers, or cuts the connection, and goes on with everyone else.

mod scene;

use proptest::prelude::*;
use pvkit_abi::bus::{CONFIG_BYTES, Class};
use pvkit_abi::grant::GrantRef;
use pvkit_abi::status::CallError;
use pvkit_backends::{Disk, RamDisk};
use pvkit_driver_domain::client::{Backend, BackendError, Owner, Wanted};
use pvkit_driver_domain::daemon::{Daemon, Export, ExportKind, MAX_MONITORS, Quotas};
use pvkit_driver_domain::protocol::*;
use pvkit_driver_domain::{PacketSocket, SocketError};
use scene::{Monitor, SOON, attach, eventfd, hello, queue, serve, serve_with, window};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

#[test]
fn what_cannot_be_is_answered_with_an_error() {
    let served = serve();
    let mut monitor = Monitor::greeted(&served);
    let of = |device| OfDevice { device, reserved: 0 };
    let (memory, bell) = (window(1 << 20), eventfd());
    let share = |offset, length, access| {
        Message::Share(Share { device: 1, grant: GrantRef(1 << 16), offset, length, access, reserved: 0 })
    };
    let no_fds: &[BorrowedFd<'_>] = &[];
    let mut refused = |message: Message, fds: &[BorrowedFd<'_>], error| {
        assert_eq!(monitor.ask(&message, fds).unwrap(), Err(error), "{message:?}");
    };
    refused(Message::Attach(attach(1, "nothing")), no_fds, CallError::NOT_FOUND);
    refused(Message::Attach(attach(0, "alone")), no_fds, CallError::BUSY);
    refused(Message::Attach(Attach { class: Class::NET, ..attach(1, "alone") }), no_fds, CallError::INVALID);
    refused(Message::Close(of(1)), no_fds, CallError::NOT_FOUND);
    refused(share(0, 4096, 3), no_fds, CallError::FAULT);
    let two = [bell.as_fd(), bell.as_fd()];
    refused(Message::OpenQueue(queue(1)), &two, CallError::FAULT);
    let plain = OwnedFd::from(tempfile::tempfile().unwrap());
    refused(Message::Window(WindowBody { length: 4096 }), &[plain.as_fd()], CallError::INVALID);
    refused(Message::Window(WindowBody { length: 2 << 20 }), &[memory.as_fd()], CallError::INVALID);

    monitor.ask(&Message::Window(WindowBody { length: 1 << 20 }), &[memory.as_fd()]).unwrap().unwrap();
    let offered = monitor.ask(&Message::Attach(attach(1, "alone")), &[]).unwrap().unwrap();
    assert_eq!(Attached::read_from_bytes(&offered).unwrap().offer.class, Class::BLOCK);
    let mut refused = |message: Message, fds: &[BorrowedFd<'_>], error| {
        assert_eq!(monitor.ask(&message, fds).unwrap(), Err(error), "{message:?}");
    };
    refused(Message::Attach(attach(1, "shared")), no_fds, CallError::BUSY);
    for (offset, length, access, error) in [
        (0, 1 << 21, 3, CallError::FAULT),
        (1 << 20, 1, 3, CallError::FAULT),
        (u64::MAX, 2, 3, CallError::FAULT),
        (0, u64::MAX, 3, CallError::FAULT),
        (0, 4096, 8, CallError::INVALID),
    ] {
        refused(share(offset, length, access), no_fds, error);
    }
    let control =
        Message::Control(Control { device: 1, operation: 1, length: u16::MAX, data: FromZeros::new_zeroed() });
    refused(control, no_fds, CallError::INVALID);
    type Change = fn(&mut OpenQueue);
    let changes: [(Change, CallError); 9] = [
        (|queue| queue.device = 9, CallError::NOT_FOUND),
        (|queue| queue.queue = 99, CallError::NOT_FOUND),
        (|queue| queue.depth = 3, CallError::INVALID),
        (|queue| queue.depth = 1 << 20, CallError::INVALID),
        (|queue| queue.completion_bytes = 7, CallError::UNSUPPORTED),
        (|queue| queue.request_pages = u16::MAX, CallError::INVALID),
        (|queue| queue.pages[0] = 1, CallError::INVALID),
        (|queue| queue.pages[3] = 1 << 20, CallError::FAULT),
        (|queue| queue.epoch = 2, CallError::STALE),
    ];
    for (change, error) in changes {
        let mut asked = queue(1);
        change(&mut asked);
        refused(Message::OpenQueue(asked), &two, error);
    }
    // A file is no eventfd: reading it might take for ever.
    refused(Message::OpenQueue(queue(1)), &[plain.as_fd(), bell.as_fd()], CallError::INVALID);
    // An epoll has no file type either, and stays readable.
    let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
    refused(Message::OpenQueue(queue(1)), &[epoll.as_fd(), bell.as_fd()], CallError::INVALID);
}

#[test]
fn a_monitor_that_breaks_the_protocol_is_cut_off_and_another_one_is_not() {
    let served = serve();
    let mut good = Monitor::greeted(&served);
    let bell = eventfd();
    let one = [bell.as_fd()];
    type Lie<'a> = (&'a str, Vec<Vec<u8>>, &'a [BorrowedFd<'a>]);
    let close = Message::Close(OfDevice { device: 1, reserved: 0 });
    let lies: Vec<Lie<'_>> = vec![
        ("no greeting", vec![close.emit(1)], &[]),
        ("two greetings", vec![hello().emit(1), hello().emit(2)], &[]),
        ("the same sequence twice", vec![hello().emit(1), close.emit(1)], &[]),
        ("sequence 0", vec![hello().emit(0)], &[]),
        ("a message of the daemon's", vec![hello().emit(1), Message::Goodbye.emit(2)], &[]),
        ("nonsense", vec![hello().emit(1), vec![7; 100]], &[]),
        ("too long", vec![hello().emit(1), vec![7; 1 << 16]], &[]),
        ("descriptors of no use", vec![hello().emit(1)], &one),
    ];
    for (what, packets, fds) in lies {
        let mut liar = Monitor::connect(&served);
        let last = packets.into_iter().map(|packet| liar.say(&packet, fds).map(|_| ())).last().unwrap();
        assert!(matches!(last, Err(SocketError::Closed)), "{what}: {last:?}");
        good.ask(&close, &[]).unwrap().unwrap_err();
    }
    let other =
        Hello { magic: MAGIC, version: pvkit_abi::version::Version { major: 9, minor: 0 }, reserved: 0, name: [0; 64] };
    assert_eq!(Monitor::connect(&served).ask(&Message::Hello(other), &[]).unwrap(), Err(CallError::REFUSED));
}

#[test]
fn more_monitors_than_there_may_be_are_turned_away() {
    let served = serve_with(Quotas { of_process: usize::MAX, ..Quotas::default() });
    let held: Vec<Monitor> = (0..MAX_MONITORS).map(|_| Monitor::greeted(&served)).collect();
    let mut late = Monitor::connect(&served);
    assert!(late.told().contains("quota: connections"));
    assert!(matches!(late.ask(&hello(), &[]), Err(SocketError::Closed)));
    drop(held);
    let deadline = Instant::now() + SOON;
    while Monitor::connect(&served).ask(&hello(), &[]).is_err() {
        assert!(Instant::now() < deadline, "no place became free");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_of_any_bytes_cost_the_connection_at_most(
        packets in prop::collection::vec((0_u16..13, prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 1..20),
    ) {
        let served = serve();
        let mut monitor = Monitor::greeted(&served);
        for (kind, body, framed) in packets {
            monitor.sequence += 1;
            let header = Header {
                size: (size_of::<Header>() + body.len()) as u32,
                kind: Kind(kind),
                reserved: 0,
                sequence: monitor.sequence,
            };
            let bytes = if framed { [header.as_bytes(), &body].concat() } else { body };
            if bytes.is_empty() || monitor.say(&bytes, &[]).is_err() {
                monitor = Monitor::greeted(&served);
            }
        }
        Monitor::greeted(&served);
    }
}

/// What an owner heard.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn wait_for(&self, what: &str) {
        let deadline = Instant::now() + SOON;
        while !self.0.lock().unwrap().iter().any(|line| line.contains(what)) {
            assert!(Instant::now() < deadline, "{what} in {:?}", self.0.lock().unwrap());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Owner for Heard {
    fn interrupt(&self, port: u32) {
        self.note(format!("interrupt {port}"));
    }

    fn lost(&self, device: u32) {
        self.note(format!("lost {device}"));
    }

    fn back(&self, device: u32, _: [u8; CONFIG_BYTES]) {
        self.note(format!("back {device}"));
    }

    fn failed(&self, device: u32) {
        self.note(format!("failed {device}"));
    }

    fn log(&self, line: String) {
        self.note(line);
    }
}

/// A daemon that greets and gives a disk as it should, then does what `rest` says with the connection.
fn liar(rest: impl FnOnce(PacketSocket) + Send + 'static) -> (tempfile::TempDir, PathBuf, JoinHandle<()>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = PacketSocket::listen(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let deadline = Instant::now() + SOON;
        let socket = loop {
            match PacketSocket::accept(&listener) {
                Ok(socket) => break socket,
                Err(_) => assert!(Instant::now() < deadline),
            }
        };
        for _ in 0..3 {
            let packet = socket.receive(SOON).unwrap();
            let (sequence, message) = Message::parse(&packet.bytes).unwrap();
            let answer = match &message {
                Message::Hello(_) => {
                    let reply =
                        HelloReply { magic: MAGIC, version: VERSION, reserved: 0, incarnation: 1, max_window: 1 << 30 };
                    reply.as_bytes().to_vec()
                }
                Message::Attach(_) => {
                    let disk = RamDisk::new(1 << 20).unwrap();
                    let limits = pvkit_backends::BlockLimits::default();
                    pvkit_backends::block::offer(&disk, 0, limits, 1, 64).as_bytes().to_vec()
                }
                _ => Vec::new(),
            };
            socket.send(&Message::Reply(message.kind(), Ok(answer)).emit(sequence), &[], SOON).unwrap();
        }
        rest(socket);
    });
    (folder, path, thread)
}

fn wanted() -> Wanted {
    Wanted { attach: attach(0, "alone"), tap: None }
}

#[test]
fn a_daemon_that_lies_is_cut_off_and_its_devices_are_lost() {
    type Lie = fn(&PacketSocket);
    let lies: [(&str, Lie); 5] = [
        ("nonsense", |socket| socket.send(&[3; 64], &[], SOON).unwrap()),
        ("an answer to nothing", |socket| {
            socket.send(&Message::Reply(Kind::CLOSE, Ok(Vec::new())).emit(77), &[], SOON).unwrap();
        }),
        ("a message of the monitor's", |socket| socket.send(&hello().emit(1), &[], SOON).unwrap()),
        ("too long a message", |socket| socket.send(&vec![1; 1 << 15], &[], SOON).unwrap()),
        ("its end", PacketSocket::shut_down),
    ];
    for (what, lie) in lies {
        let (_folder, path, thread) = liar(move |socket| {
            lie(&socket);
            // Held until the other side lets go.
            while socket.receive(SOON).is_ok() {}
        });
        let backend = Backend::connect(&path, "test").unwrap();
        backend.attach(wanted()).unwrap();
        let heard = Arc::new(Heard::default());
        let owner: Arc<dyn Owner> = heard.clone();
        backend.start(window(1 << 20), 1 << 20, owner).unwrap();
        heard.wait_for("lost 1");
        backend.stop();
        thread.join().unwrap();
        assert!(!heard.0.lock().unwrap().iter().any(|line| line.starts_with("back ")), "{what}");
    }
}

#[test]
fn a_request_that_is_never_answered_is_answered_with_the_daemons_end() {
    let (_folder, path, thread) = liar(|socket| {
        socket.receive(SOON).unwrap();
    });
    let backend = Backend::connect(&path, "test").unwrap();
    backend.attach(wanted()).unwrap();
    let heard = Arc::new(Heard::default());
    let owner: Arc<dyn Owner> = heard.clone();
    backend.start(window(1 << 20), 1 << 20, owner).unwrap();
    let share = Share { device: 1, grant: GrantRef(1 << 16), offset: 0, length: 4096, access: 3, reserved: 0 };
    let note = heard.clone();
    backend.ask(&Message::Share(share), Box::new(move |answer| note.note(format!("shared {answer:?}"))));
    heard.wait_for("shared Err(BACKEND)");
    heard.wait_for("lost 1");
    assert!(backend.close_and_wait(1, SOON), "what is dead is closed");
    backend.stop();
    thread.join().unwrap();
}

#[test]
fn a_backend_that_comes_back_is_found_and_one_that_is_less_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let start = |bytes: u64| {
        let disk: Arc<dyn Disk> = Arc::new(RamDisk::new(bytes).unwrap());
        let export = Export::new(ExportKind::Disk { disk, witness: None, shared: false });
        let daemon =
            Daemon::new(BTreeMap::from([("alone".to_owned(), export)]), Box::new(|_| {}), Arc::new(|_| true)).unwrap();
        let listener = PacketSocket::listen(&path).unwrap();
        let server = Arc::clone(&daemon);
        (daemon, std::thread::spawn(move || server.serve(&listener).unwrap()))
    };
    let (daemon, thread) = start(1 << 20);
    let backend = Backend::connect(&path, "test").unwrap();
    backend.attach(wanted()).unwrap();
    let heard = Arc::new(Heard::default());
    let owner: Arc<dyn Owner> = heard.clone();
    backend.start(window(1 << 20), 1 << 20, owner).unwrap();
    daemon.stop();
    heard.wait_for("lost 1");
    thread.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    let (daemon, thread) = start(2 << 20);
    heard.wait_for("back 1");
    let counters = backend.counters();
    assert_eq!((counters.losses, counters.returns), (1, 1));
    assert!(backend.close_and_wait(1, SOON), "the new one answers");
    backend.stop();
    daemon.stop();
    thread.join().unwrap();
}

#[test]
fn what_a_daemon_offers_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Backend::connect(&folder.path().join("s"), "test");
    assert!(matches!(nowhere, Err(BackendError::NoDaemon(_))));
    let served = serve();
    let backend = Backend::connect(&served.path, "test").unwrap();
    let missing = Wanted { attach: attach(0, "missing"), tap: None };
    assert!(matches!(backend.attach(missing), Err(BackendError::Refused(CallError::NOT_FOUND))));
    backend.attach(wanted()).unwrap();
    assert!(matches!(backend.attach(wanted()), Err(BackendError::Refused(CallError::BUSY))));
}

#[test]
fn a_monitor_is_not_told_of_others_and_an_operator_is() {
    let served = serve();
    let mut monitor = Monitor::greeted(&served);
    monitor.ask(&Message::Attach(attach(3, "alone")), &[]).unwrap().unwrap();
    let inspect = |place| Message::Inspect(Inspect { place, reserved: 0 });
    assert_eq!(monitor.ask(&inspect(0), &[]).unwrap(), Err(CallError::DENIED));
    let mut operator = Monitor::greeted(&served);
    let seen = Inspected::read_from_bytes(&operator.ask(&inspect(0), &[]).unwrap().unwrap()).unwrap();
    assert_eq!((seen.device, seen.class, seen.open, seen.window), (3, Class::BLOCK, 0, 0));
    assert_eq!((text(&seen.monitor), text(&seen.id)), ("test".into(), "alone".into()));
    for place in [1, u32::MAX] {
        assert_eq!(operator.ask(&inspect(place), &[]).unwrap(), Err(CallError::NOT_FOUND));
    }
}
