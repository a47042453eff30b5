//! Descriptors of every kind that a peer may send, and packets with too many of them.

use crate::input::Input;
use pvkit_driver_domain::PacketSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::PipeFlags;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of a memory file that is a window.
pub const WINDOW: u64 = 16 * 4096;
/// One more than a message may have.
const MOST: usize = 3;

/// Longer than a reader takes for what it has.
const SOON: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Bell,
    Window,
    /// A memory file that can still shrink.
    Loose,
    /// The end of a pipe; the other end notices when the last one is closed.
    Pipe,
    Folder,
    Null,
    Socket,
    /// Always readable, and never emptied by reading: what it watches is.
    Epoll,
}

const ALL: [What; 8] =
    [What::Bell, What::Window, What::Loose, What::Pipe, What::Folder, What::Null, What::Socket, What::Epoll];

/// Descriptors for one message.
#[derive(Debug, Default)]
pub struct Bundle {
    pub what: Vec<What>,
    files: Vec<OwnedFd>,
    pipes: Vec<OwnedFd>,
}

impl Bundle {
    /// What belongs to the message, or now and then anything.
    pub fn any(input: &mut Input<'_>, fitting: &[What]) -> Self {
        let mut bundle = Self::default();
        if input.below(8) == 7 {
            let count = input.below(MOST as u8 + 1);
            (0..count).for_each(|_| bundle.push(ALL[usize::from(input.below(ALL.len() as u8))]));
        } else {
            fitting.iter().for_each(|what| bundle.push(*what));
        }
        bundle
    }

    pub fn push(&mut self, what: What) {
        let file = match what {
            What::Bell => bell(),
            What::Window => memory(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL),
            What::Loose => memory(SealFlags::GROW | SealFlags::SEAL),
            What::Pipe => {
                let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
                self.pipes.push(reader);
                writer
            }
            What::Folder => rustix::fs::open("/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap(),
            What::Null => rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap(),
            What::Socket => PacketSocket::pair().unwrap().0.as_fd().try_clone_to_owned().unwrap(),
            What::Epoll => rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap(),
        };
        self.what.push(what);
        self.files.push(file);
    }

    /// The memory file, if it is one alone.
    pub fn memory(&self) -> Option<OwnedFd> {
        self.files.first().filter(|_| self.what == [What::Window]).map(|file| file.try_clone().unwrap())
    }

    /// Sends a packet with all of them, and keeps none; what comes back tells of the pipes.
    pub fn send(self, socket: &PacketSocket, bytes: &[u8]) -> Pipes {
        let files: Vec<BorrowedFd<'_>> = self.files.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(files.is_empty() || control.push(SendAncillaryMessage::ScmRights(&files)), "room for all");
        // A connection that was cut takes nothing more; one whose reader is slow takes it later.
        while rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
            == Err(Errno::AGAIN)
        {
            let ready = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&SOON)).unwrap();
            assert_ne!(ready, 0, "nobody reads");
        }
        Pipes(self.pipes)
    }
}

/// The ends of pipes whose other ends were sent.
pub struct Pipes(Vec<OwnedFd>);

impl Pipes {
    /// Nobody needs a pipe: whoever got one has closed it.
    pub fn are_closed(&self) -> bool {
        self.0.iter().all(|pipe| !matches!(rustix::io::read(pipe, &mut [0; 1]), Err(Errno::AGAIN)))
    }
}

fn bell() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap()
}

pub fn memory(seals: SealFlags) -> OwnedFd {
    let fd = rustix::fs::memfd_create("window", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&fd, WINDOW).unwrap();
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}
