//! A daemon on a thread, and a monitor that says what it is told to say.
#![allow(dead_code, reason = "each test program uses some of it")]

pub mod guest;

use pvkit_abi::bus::Class;
use pvkit_abi::status::CallError;
use pvkit_backends::{Disk, RamDisk};
use pvkit_driver_domain::daemon::{Daemon, Export, ExportKind, Quotas};
use pvkit_driver_domain::protocol::*;
use pvkit_driver_domain::{PacketSocket, SocketError};
use rustix::fs::{MemfdFlags, SealFlags};
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use zerocopy::FromZeros;

pub const SOON: Duration = Duration::from_secs(20);

/// A daemon on a thread, with a disk that one monitor may have and one that all may.
pub struct Served {
    pub daemon: Arc<Daemon>,
    thread: Option<JoinHandle<()>>,
    pub path: PathBuf,
    /// What the operator was told.
    pub lines: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

pub fn serve() -> Served {
    serve_with(Quotas::default())
}

/// The same with other limits.
pub fn serve_with(quotas: Quotas) -> Served {
    serve_disk(Arc::new(RamDisk::new(1 << 20).unwrap()), quotas)
}

/// The same with a disk of the caller's for all.
pub fn serve_disk(shared: Arc<dyn Disk>, quotas: Quotas) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let export = |disk, shared| Export::new(ExportKind::Disk { disk, witness: None, shared });
    let alone: Arc<dyn Disk> = Arc::new(RamDisk::new(1 << 20).unwrap());
    let exports = BTreeMap::from([("alone".to_owned(), export(alone, false)), ("shared".into(), export(shared, true))]);
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let told = Arc::clone(&lines);
    let log = Box::new(move |line: &str| told.lock().unwrap().push(line.to_owned()));
    let daemon = Daemon::with_quotas(exports, log, Arc::new(|_| true), quotas).unwrap();
    let listener = PacketSocket::listen(&path).unwrap();
    let server = Arc::clone(&daemon);
    let thread = std::thread::spawn(move || server.serve(&listener).unwrap());
    Served { daemon, thread: Some(thread), path, lines, _folder: folder }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.daemon.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A monitor that says what it is told to say.
pub struct Monitor {
    pub socket: PacketSocket,
    pub sequence: u64,
}

impl Monitor {
    pub fn connect(served: &Served) -> Self {
        Self::connect_to(&served.path)
    }

    fn connect_to(path: &Path) -> Self {
        Self { socket: PacketSocket::connect(path).unwrap(), sequence: 0 }
    }

    /// At any daemon.
    pub fn greeted_at(path: &Path) -> Self {
        let mut monitor = Self::connect_to(path);
        monitor.ask(&hello(), &[]).unwrap().unwrap();
        monitor
    }

    pub fn greeted(served: &Served) -> Self {
        Self::greeted_at(&served.path)
    }

    /// The answer; `Err` if the connection was cut.
    pub fn ask(
        &mut self,
        message: &Message,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Result<Vec<u8>, CallError>, SocketError> {
        self.sequence += 1;
        self.say(&message.emit(self.sequence), fds)
    }

    pub fn say(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Result<Vec<u8>, CallError>, SocketError> {
        self.socket.send(bytes, fds, SOON)?;
        loop {
            let packet = self.socket.receive(SOON)?;
            match Message::parse(&packet.bytes).unwrap() {
                (_, Message::Reply(_, answer)) => return Ok(answer),
                (_, Message::Log(_)) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
    }

    /// A line that comes before anything else.
    pub fn told(&self) -> String {
        match Message::parse(&self.socket.receive(SOON).unwrap().bytes).unwrap() {
            (0, Message::Log(log)) => text(&log.line),
            other => panic!("{other:?}"),
        }
    }
}

pub fn hello() -> Message {
    Message::Hello(Hello { magic: MAGIC, version: VERSION, reserved: 0, name: padded("test") })
}

pub fn attach(device: u32, id: &str) -> Attach {
    Attach { device, class: Class::BLOCK, instance: 0, mac: [0; 6], mtu: 0, pairs: 0, reserved: [0; 6], id: padded(id) }
}

pub fn window(length: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("w", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&fd, length).unwrap();
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    fd
}

pub fn queue(device: u32) -> Box<OpenQueue> {
    let mut queue = Box::new(OpenQueue::new_zeroed());
    queue.device = device;
    (queue.completion_bytes, queue.depth, queue.epoch) = (8, 8, 1);
    (queue.request_pages, queue.completion_pages) = (2, 2);
    queue.pages[..4].copy_from_slice(&[0, 4096, 8192, 12288]);
    queue
}

pub fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
}
