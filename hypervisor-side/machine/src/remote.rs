//! A device whose backend is another process: effects become messages, answers come later.
//!
//! *Owners.* Doorbells and interrupts are ours, and the backend has a second descriptor of each. The window is the only part
//! of the guest's memory that it can name.
//!
//! *Order.* Messages go out in the order of the effects; answers come back by the backend's keeper, which holds no lock of
//! ours. Nobody waits for a backend but who must: a guest that sets up its bus anew, and the end of a run.

use crate::carrier::{Carrier, DoorbellAddress};
use crate::host::Host;
use crate::memory::GuestRam;
use crate::slot::{Order, lock};
use pvkit_abi::bus::CONTROL_BYTES;
use pvkit_abi::grant::{Access, GrantRef};
use pvkit_abi::status::CallError;
use pvkit_backends::Bell;
use pvkit_core::{Finished, GuestAddr, Token};
use pvkit_driver_domain::client::{Backend, Done, Owner, QueueWires};
use pvkit_driver_domain::protocol::{Control, MAX_QUEUE_PAGES, Message, OfDevice, OpenQueue, Share};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// How long a guest that starts its bus anew waits for a backend to let go.
const LET_GO: Duration = Duration::from_secs(10);

/// A device of a backend.
pub struct Remote {
    pub backend: Arc<Backend>,
    /// Its number there.
    pub number: u32,
    /// Doorbells that the guest can ring.
    open: Mutex<BTreeMap<u16, (Arc<Bell>, DoorbellAddress)>>,
}

/// Who is told how an effect ended.
pub struct Asker {
    pub host: Weak<Host>,
    pub token: Token,
}

impl Asker {
    /// Tells the core; to be called from a thread that holds no lock.
    fn finish(&self, result: Result<Finished, CallError>) {
        if let Some(host) = self.host.upgrade() {
            host.finish(self.token, result);
        }
    }

    fn done(self) -> Done {
        Box::new(move |answer| self.finish(answer.map(|_| Finished::Done)))
    }
}

impl Remote {
    pub fn new(backend: Arc<Backend>, number: u32) -> Self {
        Self { backend, number, open: Mutex::default() }
    }

    /// Asks for a queue. `Err`: it need not be asked.
    pub fn open(
        self: &Arc<Self>,
        order: &Order,
        ram: &GuestRam,
        carrier: &Arc<dyn Carrier>,
        asker: Asker,
    ) -> Result<(), CallError> {
        let asked = self.message(order, ram)?;
        let backend = |_| CallError::BACKEND;
        let doorbell = Arc::new(Bell::new().map_err(backend)?);
        let interrupt = Arc::new(Bell::new().map_err(backend)?);
        let given = doorbell.as_given().and_then(|fd| fd.try_clone_to_owned().ok()).ok_or(CallError::BACKEND)?;
        let at = carrier.attach(&doorbell).map_err(|_| CallError::LIMIT)?;
        if let Some((old, address)) = lock(&self.open).insert(order.queue, (doorbell, at)) {
            // The core does not open a queue twice.
            carrier.detach(&old, address);
        }
        let (this, queue, carrier) = (Arc::clone(self), order.queue, Arc::downgrade(carrier));
        let done: Done = Box::new(move |answer| {
            if answer.is_err()
                && let (Some(carrier), Some((bell, at))) = (carrier.upgrade(), lock(&this.open).remove(&queue))
            {
                carrier.detach(&bell, at);
            }
            asker.finish(answer.map(|_| Finished::Queue { kind: at.kind, address: at.address }));
        });
        self.backend.open(asked, &QueueWires { doorbell: given, interrupt, port: order.port }, done);
        Ok(())
    }

    fn message(&self, order: &Order, ram: &GuestRam) -> Result<Box<OpenQueue>, CallError> {
        let mut pages = [0; MAX_QUEUE_PAGES];
        let named = order.request_pages.iter().chain(&order.completion_pages);
        if order.request_pages.len() + order.completion_pages.len() > pages.len() {
            return Err(CallError::LIMIT);
        }
        for (slot, page) in pages.iter_mut().zip(named) {
            *slot = offset(ram, *page, pvkit_abi::PAGE_SIZE as u64)?;
        }
        Ok(Box::new(OpenQueue {
            device: self.number,
            queue: order.queue,
            completion_bytes: order.completion_bytes,
            depth: order.depth,
            request_pages: order.request_pages.len() as u16,
            completion_pages: order.completion_pages.len() as u16,
            epoch: order.epoch,
            features: order.features,
            pages,
        }))
    }

    /// Asks for an extent to be reachable.
    pub fn share(
        &self,
        grant: GrantRef,
        ram: &GuestRam,
        (base, length, access): (GuestAddr, u64, Access),
        asker: Asker,
    ) -> Result<(), CallError> {
        let offset = offset(ram, base, length)?;
        let access = access.bits();
        let share = Share { device: self.number, grant, offset, length, access, reserved: 0 };
        self.backend.ask(&Message::Share(share), asker.done());
        Ok(())
    }

    /// Asks for the end of that.
    pub fn revoke(&self, grant: GrantRef, asker: Asker) {
        let share = Share { device: self.number, grant, offset: 0, length: 0, access: 0, reserved: 0 };
        self.backend.ask(&Message::Revoke(share), asker.done());
    }

    /// Asks for something to be set.
    pub fn control(&self, operation: u16, data: &[u8], asker: Asker) -> Result<(), CallError> {
        let mut bytes = [0; CONTROL_BYTES];
        bytes.get_mut(..data.len()).ok_or(CallError::INVALID)?.copy_from_slice(data);
        let control = Control { device: self.number, operation, length: data.len() as u16, data: bytes };
        self.backend.ask(&Message::Control(control), asker.done());
        Ok(())
    }

    /// The guest can ring no more.
    pub fn detach(&self, carrier: &dyn Carrier) {
        let open = std::mem::take(&mut *lock(&self.open));
        open.into_values().for_each(|(bell, at)| carrier.detach(&bell, at));
    }

    /// Asks for all queues to be drained.
    pub fn close(self: &Arc<Self>, carrier: &dyn Carrier, asker: Asker) {
        self.detach(carrier);
        let this = Arc::clone(self);
        let done: Done = Box::new(move |answer| {
            this.backend.forget_wires(this.number);
            asker.finish(answer.map(|_| Finished::Done));
        });
        self.backend.ask(&Message::Close(OfDevice { device: self.number, reserved: 0 }), done);
    }

    /// The same, waited for. A backend that does not let go is told by its keeper.
    pub fn close_now(&self, carrier: &dyn Carrier) {
        self.detach(carrier);
        self.backend.close_and_wait(self.number, LET_GO);
    }
}

fn offset(ram: &GuestRam, at: GuestAddr, length: u64) -> Result<u64, CallError> {
    // Known memory, but not what this backend may see: the guest is to use the window.
    ram.window_offset(at, length).ok_or(CallError::DENIED)
}

/// What a backend's keeper tells of its devices, told to the guest.
struct Guest {
    host: Weak<Host>,
    /// From the backend's numbers to the bus's.
    numbers: BTreeMap<u32, u32>,
}

impl Guest {
    fn with(&self, number: u32, tell: impl FnOnce(&Host, u32)) {
        if let (Some(host), Some(device)) = (self.host.upgrade(), self.numbers.get(&number)) {
            tell(&host, *device);
        }
    }
}

impl Owner for Guest {
    fn interrupt(&self, port: u32) {
        if let Some(host) = self.host.upgrade() {
            host.raise(port);
        }
    }

    fn lost(&self, device: u32) {
        self.with(device, Host::backend_lost);
    }

    fn back(&self, device: u32, config: [u8; pvkit_abi::bus::CONFIG_BYTES]) {
        self.with(device, |host, device| host.backend_back(device, config));
    }

    fn failed(&self, device: u32) {
        self.with(device, Host::backend_failed);
    }

    fn log(&self, line: String) {
        if let Some(host) = self.host.upgrade() {
            host.log(line);
        }
    }
}

/// Backends of a guest, while it runs; dropping it lets them go.
pub struct Attached(Vec<Arc<Backend>>);

impl Attached {
    /// Hands the window to every backend.
    ///
    /// # Errors
    /// No threads or descriptors are to be had.
    pub fn start(host: &Arc<Host>) -> std::io::Result<Self> {
        let mut started = Self(Vec::new());
        for (backend, numbers) in host.remotes() {
            let file = host.ram.window_file()?;
            let length = host.ram.window().map_or(0, |(_, length)| length);
            let guest = Guest { host: Arc::downgrade(host), numbers };
            backend.start(OwnedFd::from(file), length, Arc::new(guest))?;
            started.0.push(backend);
        }
        Ok(started)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.iter().for_each(|backend| backend.stop());
    }
}
