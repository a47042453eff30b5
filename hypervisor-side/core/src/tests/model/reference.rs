//! What the core ought to do, as plainly as it can be said: maps, and no thought for memory or hostile guests.

use super::NET;
use pvkit_abi::bus::DeviceState;
use pvkit_abi::status::CallError;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, Default)]
pub struct Port {
    pub vcpu: u32,
    pub masked: bool,
    pub latched: bool,
    /// Whether it is, or ever was, the bus's: an event of the bus may be latched.
    pub of_bus: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Sharing,
    Live,
    Revoking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Open(u16),
    Close,
    Share(u32),
    Revoke(u32),
    Control,
}

/// A request of the guest, or the host's own wish to drain.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub device: usize,
    pub request: Option<u16>,
    pub work: Work,
}

#[derive(Debug)]
pub struct Device {
    pub state: DeviceState,
    pub backend: bool,
    pub rescinded: bool,
    /// Queues that were accepted.
    pub seal: Option<u16>,
    /// Port of each queue that is open or opening.
    pub queues: BTreeMap<u16, Option<u32>>,
    pub grants: BTreeMap<u32, Phase>,
    /// Every grant that was ever named: none may come again.
    pub named: BTreeSet<u32>,
    /// A close that waits for answers.
    pub drain: Option<Option<u16>>,
}

#[derive(Debug)]
pub struct Reference {
    pub ports: BTreeMap<u32, Port>,
    /// The bus and its port.
    pub bus: Option<Option<u32>>,
    pub devices: Vec<Device>,
    /// What the machine has not answered, oldest first.
    pub asked: Vec<Asked>,
}

/// Whether completions of the queue are wide: network receive queues have the even numbers.
pub const fn is_wide(device: usize, queue: u16) -> bool {
    device == NET && queue.is_multiple_of(2)
}

/// What is to come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Now(Result<(), CallError>),
    Later,
}

impl From<CallError> for Verdict {
    fn from(error: CallError) -> Self {
        Self::Now(Err(error))
    }
}

impl Reference {
    pub fn new(devices: usize) -> Self {
        let device = |_| Device {
            state: DeviceState::OFFERED,
            backend: true,
            rescinded: false,
            seal: None,
            queues: BTreeMap::new(),
            grants: BTreeMap::new(),
            named: BTreeSet::new(),
            drain: None,
        };
        Self { ports: BTreeMap::new(), bus: None, devices: (0..devices).map(device).collect(), asked: Vec::new() }
    }

    pub fn port_in_use(&self, port: u32) -> bool {
        let used = |by: &Option<u32>| *by == Some(port);
        self.bus.as_ref().is_some_and(used) || self.devices.iter().any(|device| device.queues.values().any(used))
    }

    /// Devices that a `BUS_SETUP` resets.
    pub fn set_up(&mut self, port: Option<u32>) -> Vec<usize> {
        let taken = (0..self.devices.len()).filter(|device| self.is_taken(*device)).collect();
        for device in 0..self.devices.len() {
            self.end(device);
            self.devices[device].seal = None;
        }
        self.asked.clear();
        self.bus = Some(port);
        if let Some(port) = port.and_then(|port| self.ports.get_mut(&port)) {
            port.of_bus = true;
        }
        taken
    }

    pub fn is_taken(&self, device: usize) -> bool {
        let taken = [DeviceState::ACCEPTED, DeviceState::CONNECTED, DeviceState::CLOSING];
        taken.contains(&self.devices[device].state)
    }

    pub fn accept(&mut self, number: usize, queues: u16) -> Verdict {
        let device = &mut self.devices[number];
        match device.state {
            DeviceState::OFFERED if number == NET && !queues.is_multiple_of(2) => CallError::INVALID.into(),
            DeviceState::OFFERED if device.seal.is_none_or(|seal| seal == queues) => {
                device.seal = Some(queues);
                device.state = DeviceState::ACCEPTED;
                Verdict::Now(Ok(()))
            }
            DeviceState::DISCONNECTED => CallError::BACKEND.into(),
            DeviceState::CLOSING => CallError::BUSY.into(),
            _ => CallError::SEALED.into(),
        }
    }

    fn require_taken(&self, device: usize) -> Result<(), CallError> {
        match self.devices[device].state {
            DeviceState::ACCEPTED | DeviceState::CONNECTED => Ok(()),
            DeviceState::DISCONNECTED => Err(CallError::BACKEND),
            _ => Err(CallError::BUSY),
        }
    }

    pub fn open(&mut self, device: usize, queue: u16, wide: bool, port: Option<u32>, request: u16) -> Verdict {
        if let Err(error) = self.require_taken(device) {
            return error.into();
        }
        let it = &mut self.devices[device];
        if queue >= it.seal.unwrap() {
            return CallError::NOT_FOUND.into();
        }
        if it.queues.contains_key(&queue) {
            return CallError::BUSY.into();
        }
        if wide != is_wide(device, queue) {
            return CallError::INVALID.into();
        }
        if port.is_some_and(|port| !self.ports.contains_key(&port)) {
            return CallError::NOT_FOUND.into();
        }
        it.queues.insert(queue, port);
        self.ask(device, request, Work::Open(queue))
    }

    pub fn close(&mut self, device: usize, request: u16) -> Verdict {
        if self.devices[device].state == DeviceState::DISCONNECTED {
            self.devices[device].seal = None;
            return Verdict::Now(Ok(()));
        }
        if let Err(error) = self.require_taken(device) {
            return error.into();
        }
        self.devices[device].state = DeviceState::CLOSING;
        self.devices[device].drain = Some(Some(request));
        Verdict::Later
    }

    /// The name is the core's choice; it is judged when it is seen.
    pub fn share(&mut self, device: usize) -> Result<(), CallError> {
        self.require_taken(device)
    }

    pub fn shared(&mut self, device: usize, request: u16, grant: u32) {
        let it = &mut self.devices[device];
        assert!(it.named.insert(grant), "grant {grant:#x} was named before");
        let index = grant & 0xffff;
        assert!(it.grants.keys().all(|live| live & 0xffff != index), "two grants in one slot");
        it.grants.insert(grant, Phase::Sharing);
        self.ask(device, request, Work::Share(grant));
    }

    pub fn revoke(&mut self, device: usize, grant: u32, request: u16) -> Verdict {
        match self.query(device, grant) {
            Ok(()) => {
                self.devices[device].grants.insert(grant, Phase::Revoking);
                self.ask(device, request, Work::Revoke(grant))
            }
            Err(error) => error.into(),
        }
    }

    pub fn query(&self, device: usize, grant: u32) -> Result<(), CallError> {
        self.require_taken(device)?;
        match self.devices[device].grants.get(&grant) {
            Some(Phase::Live) => Ok(()),
            Some(_) => Err(CallError::BUSY),
            None => Err(CallError::NOT_FOUND),
        }
    }

    pub fn control(&mut self, device: usize, is_well_formed: bool, request: u16) -> Verdict {
        match self.require_taken(device) {
            Ok(()) if is_well_formed => self.ask(device, request, Work::Control),
            Ok(()) => CallError::INVALID.into(),
            Err(error) => error.into(),
        }
    }

    fn ask(&mut self, device: usize, request: u16, work: Work) -> Verdict {
        self.asked.push(Asked { device, request: Some(request), work });
        Verdict::Later
    }

    /// The machine's answer takes effect.
    pub fn answered(&mut self, asked: Asked, good: bool) {
        let it = &mut self.devices[asked.device];
        match (asked.work, good) {
            (Work::Open(_), true) if it.state == DeviceState::ACCEPTED => it.state = DeviceState::CONNECTED,
            (Work::Open(_), true) | (Work::Close, false) | (Work::Control, _) => {}
            (Work::Open(queue), false) => drop(it.queues.remove(&queue)),
            (Work::Share(grant), true) | (Work::Revoke(grant), false) => drop(it.grants.insert(grant, Phase::Live)),
            (Work::Share(grant), false) | (Work::Revoke(grant), true) => drop(it.grants.remove(&grant)),
            (Work::Close, true) => {
                it.seal = None;
                self.end(asked.device);
            }
        }
    }

    /// A close that nothing stands in the way of any more: the device to drain.
    pub fn due_drain(&mut self) -> Option<usize> {
        let quiet = |device: &usize| self.asked.iter().all(|asked| asked.device != *device);
        let due = (0..self.devices.len()).filter(quiet).find(|device| self.devices[*device].drain.is_some())?;
        let request = self.devices[due].drain.take().unwrap();
        self.asked.push(Asked { device: due, request, work: Work::Close });
        Some(due)
    }

    /// The requests that end with an error, or nothing if the device stays as it is.
    pub fn backend_gone(&mut self, device: usize) -> Option<Vec<u16>> {
        let it = &mut self.devices[device];
        let was_there = core::mem::replace(&mut it.backend, false);
        let asked = self.asked.iter().filter(|asked| asked.device == device).count();
        let closing = it.state == DeviceState::CLOSING && asked > 0;
        if !was_there || it.state == DeviceState::ABSENT || closing {
            return None;
        }
        let ended = self.asked.extract_if(.., |asked| asked.device == device);
        let ended = ended.filter_map(|asked| asked.request).collect();
        self.end(device);
        Some(ended)
    }

    pub fn backend_back(&mut self, device: usize) {
        self.devices[device].backend = true;
        if self.devices[device].state == DeviceState::DISCONNECTED {
            self.devices[device].state = DeviceState::OFFERED;
        }
    }

    pub fn rescind(&mut self, device: usize) {
        let it = &mut self.devices[device];
        if core::mem::replace(&mut it.rescinded, true) {
            return;
        }
        match it.state {
            DeviceState::CLOSING => {}
            DeviceState::ACCEPTED | DeviceState::CONNECTED => {
                it.state = DeviceState::CLOSING;
                it.drain = Some(None);
            }
            _ => it.state = DeviceState::ABSENT,
        }
    }

    fn end(&mut self, device: usize) {
        let it = &mut self.devices[device];
        it.queues.clear();
        it.grants.clear();
        it.drain = None;
        it.state = match (it.rescinded, it.backend) {
            (true, _) => DeviceState::ABSENT,
            (false, true) => DeviceState::OFFERED,
            (false, false) => DeviceState::DISCONNECTED,
        };
    }
}
