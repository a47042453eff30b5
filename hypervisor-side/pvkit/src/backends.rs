//! Backends in other processes, as `--disk backend=SOCKET,id=NAME` names them.

use crate::failure::Failure;
use pvkit_abi::bus::Class;
use pvkit_driver_domain::client::{Backend, BackendError, Wanted};
use pvkit_driver_domain::protocol::{Attach, padded};
use pvkit_machine::Device;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// The backends of a guest. All are one: a guest has one window, and one process is given it.
pub struct Backends {
    name: String,
    only: Option<Arc<Backend>>,
}

impl Backends {
    /// None yet; `name` is what they call the guest.
    #[must_use]
    pub const fn new(name: String) -> Self {
        Self { name, only: None }
    }

    /// A disk of the backend at `socket`.
    ///
    /// # Errors
    /// Nobody is there, it has no such disk, or the guest has another backend already.
    pub fn disk(&mut self, socket: &Path, id: &str) -> Result<Device, Failure> {
        let wanted = Wanted { attach: asked(Class::BLOCK, id), tap: None };
        self.attach(socket, id, wanted)
    }

    /// A network of the backend at `socket`; a TAP is lent to it.
    ///
    /// # Errors
    /// As for `disk`; or the TAP cannot be had.
    pub fn net(&mut self, socket: &Path, id: &str, port: Port) -> Result<Device, Failure> {
        let Port { mac, mtu, pairs, tap } = port;
        let attach = Attach { mac, mtu, pairs, ..asked(Class::NET, id) };
        self.attach(socket, id, Wanted { attach, tap })
    }

    fn attach(&mut self, socket: &Path, id: &str, wanted: Wanted) -> Result<Device, Failure> {
        let backend = self.at(socket)?;
        let (number, offer) = backend.attach(wanted).map_err(|error| told(socket, Some(id), error))?;
        Ok(Device::Remote { backend, number, offer, label: id.to_owned() })
    }

    fn at(&mut self, socket: &Path) -> Result<Arc<Backend>, Failure> {
        match &self.only {
            Some(backend) if backend.path() == socket => Ok(Arc::clone(backend)),
            Some(backend) => Err(Failure::user(format!(
                "backend={} and backend={}: a guest has one window of memory, and gives it to one backend; have one of them \
                 serve both disks",
                backend.path().display(),
                socket.display()
            ))),
            None => {
                let backend = Backend::connect(socket, &self.name).map_err(|error| told(socket, None, error))?;
                self.only = Some(Arc::clone(&backend));
                Ok(backend)
            }
        }
    }
}

/// What a network port needs.
pub struct Port {
    /// The guest's address.
    pub mac: [u8; 6],
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Pairs of queues.
    pub pairs: u16,
    /// The interface.
    pub tap: Option<OwnedFd>,
}

fn asked(class: Class, id: &str) -> Attach {
    Attach { device: 0, class, instance: 0, mac: [0; 6], mtu: 0, pairs: 0, reserved: [0; 6], id: padded(id) }
}

fn told(socket: &Path, id: Option<&str>, error: BackendError) -> Failure {
    let what = match id {
        Some(id) => format!("backend={},id={id}", socket.display()),
        None => format!("backend={}", socket.display()),
    };
    let failure = match error {
        BackendError::NoDaemon(_) | BackendError::Version | BackendError::Refused(_) | BackendError::Quota(_) => {
            Failure::user(error)
        }
        BackendError::Busy | BackendError::Lie(_) | BackendError::Socket(_) => Failure::run(error),
    };
    failure.while_doing(what)
}
