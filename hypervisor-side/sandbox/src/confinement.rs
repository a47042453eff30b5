//! What the caller asks for.

use crate::Mode;
use std::path::PathBuf;

/// What may be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Open for reading. A folder is not listed: what is below it is opened by name.
    Read,
    /// Open for reading and for writing; never make, remove, rename or cut anything. A device also takes `ioctl`.
    ReadWrite,
}

/// A file, a device, or a folder with all below it, that may still be opened by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPath {
    /// It must exist when the sandbox is entered; the rule is about what it names then.
    pub path: PathBuf,
    /// What for.
    pub rights: Rights,
}

/// Whether threads make connections of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNetwork {
    /// No: an empty network namespace, and no TCP port may be bound or connected to. Sockets and TAP interfaces that are open
    /// already, or arrive as descriptors, go on working; so do UNIX sockets with a path that are open.
    None,
    /// Yes, as user-mode networking does: the host's network stays.
    Kept,
}

/// What the process keeps. Everything else is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// How strictly.
    pub mode: Mode,
    /// What may be opened by path. Descriptors that are open stay open, with the rights they have.
    pub paths: Vec<AllowedPath>,
    /// Connections.
    pub network: HostNetwork,
    /// Most open descriptors, if fewer than now (`RLIMIT_NOFILE`).
    pub open_files: u64,
    /// Most bytes of address space (`RLIMIT_AS`); must cover all windows that guests may pass and, for the allocator, 64 MiB a
    /// thread. `None` leaves it as it is.
    pub address_space: Option<u64>,
}

impl Confinement {
    /// No paths, no connections, 1024 descriptors: what a daemon needs whose images are open.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self { mode, paths: Vec::new(), network: HostNetwork::None, open_files: 1024, address_space: None }
    }

    /// One more path.
    #[must_use]
    pub fn allow(mut self, path: impl Into<PathBuf>, rights: Rights) -> Self {
        self.paths.push(AllowedPath { path: path.into(), rights });
        self
    }
}
