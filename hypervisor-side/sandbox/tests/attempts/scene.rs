//! The two processes of an attempt, and what lies around for the backend to reach for.

use crate::Case;
use pvkit_sandbox::{Confinement, Filters, HostNetwork, Mode, Rights, Role, lock_down};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;

/// What the parent has in its memory, and the file outside in it.
pub const SECRET: &[u8] = b"what no backend may read";
/// Bytes of each image.
pub const IMAGE: u64 = 1 << 20;

/// What the backend knows and has opened before it was locked down.
pub struct Scene {
    /// The folder of all files: `image.raw` and `readonly.raw` are on the list, `folder` for reading, `secret` is not.
    pub folder: PathBuf,
    /// The parent's process.
    pub parent: i32,
    /// Where [`SECRET`] is in the parent's memory.
    pub address: usize,
    /// The parent's TCP port on 127.0.0.1.
    pub port: u16,
    /// The image, open for reading and writing.
    pub image: File,
    /// A window that arrived as a descriptor.
    pub window: Option<File>,
    /// A queue's doorbell.
    pub doorbell: OwnedFd,
    /// A listener of our own with a client that waits.
    pub listener: UnixListener,
    /// That client.
    pub client: UnixStream,
    /// A connection to the parent's port.
    pub stream: TcpStream,
    /// Our end of a connection on which a descriptor waits.
    pub channel: UnixStream,
}

/// The monitor's part: has what must not be reached, starts the backend, tells how it ended.
pub fn parent(case: &str, mode: &str) -> ExitCode {
    // A change of users on the way to here forbids looks into this process; the attempts need not fail for that.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable).unwrap();
    let secret: &'static [u8] = SECRET.to_vec().leak();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind("parent.sock").unwrap();
    let hidden = SocketAddr::from_abstract_name(format!("pvkit-sandbox-{}", std::process::id())).unwrap();
    let hidden = UnixListener::bind_addr(&hidden).unwrap();
    let port = tcp.local_addr().unwrap().port();
    // It ends with the connection, which ends with the backend.
    thread::spawn(move || look(&tcp));
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["backend", case, mode, &(secret.as_ptr() as usize).to_string(), &port.to_string()])
        .status()
        .unwrap();
    drop((unix, hidden));
    match (status.code(), status.signal()) {
        (_, Some(signal)) => println!("ended: signal {signal}"),
        (code, _) => println!("ended: exit {}", code.unwrap_or(-1)),
    }
    ExitCode::SUCCESS
}

/// Looks into the backend as it asks, and tells it the error.
fn look(tcp: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = tcp.accept()?;
    let (mut word, mut process) = ([0; 6], [0; 4]);
    stream.read_exact(&mut word)?;
    stream.read_exact(&mut process)?;
    let process = u32::from_ne_bytes(process);
    let found = match &word {
        b"memory" => File::open(format!("/proc/{process}/mem")).map(drop),
        b"rights" => has_rights(process),
        _ => return Ok(()),
    };
    let error = found.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
    stream.write_all(&error.to_ne_bytes())
}

/// `EPERM` unless the process has a capability in some set, may gain one, or has no filter.
fn has_rights(process: u32) -> io::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let value =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].map(value);
    println!("seen: {sets:?} {:?} {:?} {:?}", value("CapBnd:"), value("NoNewPrivs:"), value("Seccomp:"));
    let nothing = sets.iter().all(|set| set.as_deref() == Some("0000000000000000"))
        && value("NoNewPrivs:").as_deref() == Some("1")
        && value("Seccomp:").as_deref() == Some("2");
    if nothing { Err(io::Error::from_raw_os_error(libc::EPERM)) } else { Ok(()) }
}

/// The backend's part: gives everything up, and tries.
pub fn backend(case: Case, mode: Mode, rest: &[&str]) -> ExitCode {
    let mut scene = Scene::new(rest[0].parse().unwrap(), rest[1].parse().unwrap()).unwrap();
    let workers: &[Role] = match case.network {
        HostNetwork::Kept => &[Role::Block, Role::UserNet],
        HostNetwork::None => &[Role::Block, Role::Net],
    };
    let filters = Filters::new(mode, workers).unwrap();
    let mut confinement = Confinement::new(mode)
        .allow(scene.folder.join("image.raw"), Rights::ReadWrite)
        .allow(scene.folder.join("readonly.raw"), Rights::Read)
        .allow(scene.folder.join("folder"), Rights::Read);
    confinement.network = case.network;
    let mut report = lock_down(&confinement).unwrap();
    report.push(filters.enter(Role::Control).unwrap());
    let tried = if case.role == Role::Control {
        (case.act)(&mut scene)
    } else {
        let worker = thread::Builder::new().name("worker".into()).spawn(move || {
            let part = filters.enter(case.role).unwrap();
            println!("part: {}: {}", part.name, part.outcome);
            (case.act)(&mut scene)
        });
        worker.unwrap().join().unwrap()
    };
    println!("{report}");
    match tried.map_err(|error| (error.raw_os_error(), error)) {
        Ok(()) => println!("tried: done"),
        Err((Some(number), error)) => println!("tried: errno {number} {error}"),
        Err((None, error)) => println!("tried: wrong {error}"),
    }
    ExitCode::SUCCESS
}

impl Scene {
    fn new(address: usize, port: u16) -> io::Result<Self> {
        let folder = std::env::current_dir()?;
        let image = OpenOptions::new().read(true).write(true).open("image.raw")?;
        let window = File::from(rustix::fs::memfd_create("window", rustix::fs::MemfdFlags::CLOEXEC)?);
        window.set_len(1 << 16)?;
        let listener = UnixListener::bind("backend.sock")?;
        let client = UnixStream::connect("backend.sock")?;
        let (channel, sender) = UnixStream::pair()?;
        let passed = File::open("readonly.raw")?;
        let passed = [passed.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        assert!(rights.push(SendAncillaryMessage::ScmRights(&passed)), "room for one");
        sendmsg(&sender, &[IoSlice::new(b"window")], &mut rights, SendFlags::empty())?;
        let doorbell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        let parent = nix::unistd::getppid().as_raw();
        Ok(Self {
            folder,
            parent,
            address,
            port,
            image,
            window: Some(window),
            doorbell,
            listener,
            client,
            stream,
            channel,
        })
    }
}
