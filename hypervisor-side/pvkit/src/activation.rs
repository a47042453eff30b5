//! Being started by a service manager: the socket that it made, and the word that we are ready. (systemd's sd_listen_fds(3) and
//! sd_notify(3).)

use crate::failure::Failure;
use crate::nets::inherited;
use rustix::net::{SocketType, sockopt};
use sd_notify::NotifyState;
use std::env;
use std::os::fd::OwnedFd;

/// The first descriptor that a service manager passes.
const FIRST: i32 = 3;

/// The listening socket, if a service manager made one for us.
///
/// # Errors
/// It passed something else.
pub fn listener() -> Result<Option<OwnedFd>, Failure> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    // Variables that were meant for a process that started us are none of our business.
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    if number("LISTEN_FDS") != Some(1) {
        return Err(Failure::user("a service manager passed other than one socket; give the unit exactly one"));
    }
    let fd = inherited(FIRST)?;
    let wrong =
        || Failure::user("the socket of the service manager takes streams; write ListenSequentialPacket= in its unit");
    if sockopt::socket_type(&fd).map_err(|_| wrong())? != SocketType::SEQPACKET {
        return Err(wrong());
    }
    rustix::io::ioctl_fionbio(&fd, true).map_err(|error| Failure::run(std::io::Error::from(error)))?;
    Ok(Some(fd))
}

/// Tells the service manager, if there is one, that connections are taken from now on.
pub fn ready() {
    // Nobody to tell is no error.
    let _ = sd_notify::notify(false, &[NotifyState::Ready]);
}
