//! A sequenced-packet socket: packets with descriptors, and who sent them.
//!
//! *Invariants.* A packet has at most [`MAX_MESSAGE`] bytes and [`MAX_DESCRIPTORS`] descriptors; one that has more is an
//! error, and what came with it is closed. Received descriptors are closed on exec.

use crate::protocol::MAX_MESSAGE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, UCred,
};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Most descriptors of a packet.
pub const MAX_DESCRIPTORS: usize = 2;

/// Why a socket could not send or receive.
#[derive(Debug)]
pub enum SocketError {
    /// The other end is gone.
    Closed,
    /// It did not take or send anything in time.
    TimedOut,
    /// A packet that is too long or has too many descriptors.
    TooMuch,
    /// What the system says.
    System(Errno),
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the other end is gone"),
            Self::TimedOut => f.write_str("the other end does not answer in time"),
            Self::TooMuch => f.write_str("the other end sends more than a message may have"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SocketError {}

impl From<Errno> for SocketError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::System(other),
        }
    }
}

/// One packet.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
    /// Who sent it, as the kernel says; only where credentials were asked for.
    pub sender: Option<UCred>,
}

/// A connected socket. Several threads may send, one receives.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Connects to the socket at `path`; the sender of each packet will be known.
    ///
    /// # Errors
    /// What the system says: nobody listens there, or there is no such socket.
    pub fn connect(path: &Path) -> Result<Self, Errno> {
        let fd = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::sockopt::set_socket_passcred(&fd, true)?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Self(fd))
    }

    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen(path: &Path) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&fd, 64)?;
        Ok(fd)
    }

    /// The next connection of a listening socket, which is readable.
    ///
    /// # Errors
    /// What the system says; `AGAIN` if it was taken by someone else.
    pub fn accept(listener: impl AsFd) -> Result<Self, Errno> {
        rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map(Self)
    }

    /// The process that connected; none if the kernel does not name it.
    #[must_use]
    pub fn process(&self) -> Option<i32> {
        let pid = rustix::net::sockopt::socket_peercred(&self.0).ok()?.pid.as_raw_nonzero().get();
        (pid > 0).then_some(pid)
    }

    /// Both ends of a connection, for tests.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::sockopt::set_socket_passcred(&a, true)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends a packet, waiting for room for at most `patience`.
    ///
    /// # Errors
    /// The other end is gone or takes nothing.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>], patience: Duration) -> Result<(), SocketError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(SocketError::TooMuch);
        }
        loop {
            match rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, patience)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next packet, waited for at most `patience`.
    ///
    /// # Errors
    /// The other end is gone, sends nothing, or sends too much.
    pub fn receive(&self, patience: Duration) -> Result<Packet, SocketError> {
        loop {
            match self.take() {
                Err(SocketError::TimedOut) => self.wait(PollFlags::IN, patience)?,
                other => return other,
            }
        }
    }

    /// The next packet, if it is there.
    ///
    /// # Errors
    /// As for `receive`; `TimedOut` if there is none.
    pub fn take(&self) -> Result<Packet, SocketError> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(SocketError::TimedOut),
                other => break other?,
            }
        };
        let (mut descriptors, mut sender) = (Vec::new(), None);
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(list) => descriptors.extend(list),
                RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
                _ => {}
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || descriptors.len() > MAX_DESCRIPTORS {
            return Err(SocketError::TooMuch);
        }
        if received.bytes == 0 {
            return Err(SocketError::Closed);
        }
        bytes.truncate(received.bytes);
        Ok(Packet { bytes, descriptors, sender })
    }

    /// Ends the connection for both sides; whoever waits for it is woken.
    pub fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }

    fn wait(&self, what: PollFlags, patience: Duration) -> Result<(), SocketError> {
        let mut fds = [PollFd::new(&self.0, what)];
        let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => Err(SocketError::TimedOut),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[test]
    fn packets_keep_their_ends_and_their_descriptors() {
        let (a, b) = PacketSocket::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        b.send(b"one", &[file.as_fd()], SOON).unwrap();
        b.send(b"two", &[], SOON).unwrap();
        let first = a.receive(SOON).unwrap();
        assert_eq!((first.bytes.as_slice(), first.descriptors.len()), (&b"one"[..], 1));
        assert_eq!(first.sender.unwrap().pid, rustix::process::getpid());
        let second = a.receive(SOON).unwrap();
        assert_eq!((second.bytes.as_slice(), second.descriptors.len()), (&b"two"[..], 0));
        assert!(matches!(a.receive(SOON), Err(SocketError::TimedOut)));
        drop(b);
        assert!(matches!(a.receive(SOON), Err(SocketError::Closed)));
    }

    #[test]
    fn what_is_too_long_is_refused_and_what_came_with_it_is_closed() {
        let (a, b) = PacketSocket::pair().unwrap();
        b.send(&[1; MAX_MESSAGE + 1], &[], SOON).unwrap();
        assert!(matches!(a.receive(SOON), Err(SocketError::TooMuch)));
        b.send(&[1; MAX_MESSAGE], &[], SOON).unwrap();
        assert_eq!(a.receive(SOON).unwrap().bytes.len(), MAX_MESSAGE);
    }

    #[test]
    fn an_end_that_takes_nothing_costs_a_deadline() {
        let (a, _b) = PacketSocket::pair().unwrap();
        let full = (0..10_000).find_map(|_| a.send(&[0; MAX_MESSAGE], &[], SOON).err());
        assert!(matches!(full, Some(SocketError::TimedOut)), "{full:?}");
    }
}
