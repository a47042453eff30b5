//! The client's end over one end of a pair, whose other end says anything.

use super::backend::Backend;
use super::inspect::{Inspection, all};
use super::link::{BackendError, Link, Wanted};
use crate::socket::PacketSocket;
use pvkit_abi::bus::Offer;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

pub use super::covers::check as covers;

/// A connection on which each answer is waited for.
pub struct Answers(Link);

/// Greets over a connected socket.
///
/// # Errors
/// It is someone else.
pub fn greet(socket: PacketSocket) -> Result<Answers, BackendError> {
    Link::greet(socket, "fuzz").map(Answers)
}

impl Answers {
    /// Hands the window over.
    ///
    /// # Errors
    /// The daemon does not take it.
    pub fn window(&mut self, file: BorrowedFd<'_>, length: u64) -> Result<(), BackendError> {
        self.0.window(file, length)
    }

    /// Asks for a device.
    ///
    /// # Errors
    /// The daemon does not give it.
    pub fn attach(&mut self, wanted: &Wanted) -> Result<(Offer, Option<File>), BackendError> {
        self.0.attach(wanted)
    }

    /// What the daemon's monitors have of it.
    ///
    /// # Errors
    /// It answers what cannot be.
    pub fn inspect(&mut self) -> Result<Inspection, BackendError> {
        all(&mut self.0)
    }
}

/// A backend over a connection; once that is lost, nobody is found at `path`.
///
/// # Errors
/// No descriptors are to be had.
pub fn backend(answers: Answers, path: &Path) -> Result<Arc<Backend>, BackendError> {
    Backend::over(answers.0, path, "fuzz")
}
