//! An eventfd, our own or one that another process gave us: doorbell one way, interrupt the other.
//!
//! *Who else has it.* The other holders may read it, fill it up, or make it block. So it is only ever read or written after
//! `poll` said that this would not wait; a holder who takes it away in between costs its own queue's thread, no other's.

use nix::sys::eventfd::EfdFlags;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// An eventfd.
#[derive(Debug)]
pub enum Bell {
    /// Made by the KVM crates' type.
    Own(EventFd),
    /// Any descriptor of one.
    Given(File),
}

impl Bell {
    /// A new one, which does not block.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let fd = OwnedFd::from(nix::sys::eventfd::EventFd::from_value_and_flags(0, flags)?);
        Ok(Self::from(fd))
    }

    /// Its descriptor, to be lent; none for one of the KVM crates' type, which does not lend.
    #[must_use]
    pub fn as_given(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Own(_) => None,
            Self::Given(file) => Some(file.as_fd()),
        }
    }

    /// Whether it rings; it goes on ringing.
    #[must_use]
    pub fn is_rung(&self) -> bool {
        crate::sys::wait_readable([self.as_raw_fd()], Duration::ZERO).is_ok_and(|ready| ready != 0)
    }

    /// A second descriptor of the same.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Own(fd) => fd.try_clone().map(Self::Own),
            Self::Given(file) => file.try_clone().map(Self::Given),
        }
    }

    /// Rings. One that is full is ringing anyway.
    ///
    /// # Errors
    /// It is no eventfd.
    pub fn ring(&self) -> io::Result<()> {
        let rung = match self {
            Self::Own(fd) => fd.write(1),
            Self::Given(file) => (&*file).write(&1_u64.to_ne_bytes()).map(|_| ()),
        };
        match rung {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the rings since the last time.
    ///
    /// # Errors
    /// There were none, or it is no eventfd.
    pub fn take(&self) -> io::Result<u64> {
        match self {
            Self::Own(fd) => fd.read(),
            Self::Given(file) => {
                let mut count = [0; 8];
                (&*file).read_exact(&mut count)?;
                Ok(u64::from_ne_bytes(count))
            }
        }
    }
}

impl From<EventFd> for Bell {
    fn from(fd: EventFd) -> Self {
        Self::Own(fd)
    }
}

impl From<OwnedFd> for Bell {
    fn from(fd: OwnedFd) -> Self {
        Self::Given(fd.into())
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Own(fd) => fd.as_raw_fd(),
            Self::Given(file) => file.as_raw_fd(),
        }
    }
}
