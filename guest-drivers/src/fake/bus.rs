//! The fake host's end of the bus.

use super::{Host, Stored};
use crate::platform::test::TestMemory;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{
    Accept, BODY_BYTES, BusSetup, COMPLETION_AREA, ConfigChanged, Control, DEPTH, DeviceState, DoorbellKind, Kind,
    MESSAGE_BYTES, Message, OpenQueue, REPLIES_OFFSET, REPLY_BYTES, Reply, ShareGrant, StateChanged,
};
use pvkit_abi::ring::RequestFlags;
use pvkit_abi::status::{CallError, CompletionResult, Status};
use pvkit_ring::{Backend, Frontend, Park, RingSize};
use pvkit_shared_memory::SharedBytes;
use std::vec::Vec;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Both queues and the buffers.
pub(crate) struct FakeBus {
    requests: Backend<SharedBytes>,
    messages: Frontend<SharedBytes, { DEPTH as usize }>,
    guest: SharedBytes,
    host: SharedBytes,
    /// What the guest answered to the host's messages.
    pub(crate) answers: Vec<i32>,
}

impl FakeBus {
    pub(crate) fn new(memory: &TestMemory, setup: &BusSetup) -> Option<Self> {
        let page = |address| memory.host(address, PAGE_SIZE);
        let ([rings, guest], [own, host]) = (setup.guest_pages.map(page), setup.host_pages.map(page));
        let (rings, guest, own, host) = (rings?, guest?, own?, host?);
        let size = RingSize::new(DEPTH)?;
        let half = |page: &SharedBytes, offset| page.part(offset, COMPLETION_AREA).ok();
        own.zero(0, PAGE_SIZE).ok()?;
        host.zero(0, PAGE_SIZE).ok()?;
        let requests = Backend::new(half(&own, COMPLETION_AREA)?, half(&rings, 0)?, size, 1).ok()?;
        let messages = Frontend::new(half(&own, 0)?, half(&rings, COMPLETION_AREA)?, size, 1).ok()?;
        Some(Self { requests, messages, guest, host, answers: Vec::new() })
    }

    /// Sends a message if there is room.
    fn send(&mut self, message: &Message, notify: &mut bool) -> bool {
        let mut batch = self.messages.batch();
        let Ok(ticket) = batch.reserve(message.kind.0, RequestFlags::empty(), 0, [0; 3]) else { return false };
        let _ = self.host.write(usize::from(ticket.id()) * MESSAGE_BYTES, message.as_bytes());
        *notify |= batch.commit().is_needed();
        true
    }

    fn take_answers(&mut self) {
        while let Ok(Some(ended)) = self.messages.take() {
            let mut reply = Reply::new_zeroed();
            let _ = self.guest.read(REPLIES_OFFSET + usize::from(ended.id) * REPLY_BYTES, reply.as_mut_bytes());
            self.answers.push(reply.status);
        }
    }
}

impl Host {
    /// What the guest answered to the messages so far: 0 or a negated error each.
    #[must_use]
    pub fn answers(&self) -> Vec<i32> {
        self.bus.as_ref().map_or_else(Vec::new, |bus| bus.answers.clone())
    }

    /// Queues a message of any kind.
    pub fn message(&mut self, kind: Kind, device: u32, epoch: u64, body: &[u8]) {
        let mut bytes = [0; BODY_BYTES];
        for (to, from) in bytes.iter_mut().zip(body) {
            *to = *from;
        }
        let size = body.len().min(BODY_BYTES) as u16;
        self.queued.push_back(Message { size, kind, reserved: 0, device, epoch, body: bytes });
    }

    /// Offers every device.
    pub(crate) fn offer_all(&mut self) {
        for id in 1..=self.devices.len() as u32 {
            let epoch = self.epoch();
            if let Some(device) = self.devices.get_mut(id as usize - 1) {
                device.epoch = epoch;
                let offer = device.offer;
                self.message(Kind::OFFER, id, epoch, offer.as_bytes());
            }
        }
    }

    /// Changes a device's configuration and tells the guest.
    pub fn change_config(&mut self, device: u32, config: [u8; pvkit_abi::bus::CONFIG_BYTES]) {
        let epoch = self.device(device).map_or(0, |device| device.epoch);
        self.message(Kind::CONFIG_CHANGED, device, epoch, ConfigChanged { config }.as_bytes());
        self.deliver();
    }

    /// The backend goes: a new epoch, everything of the old one is forgotten.
    pub fn disconnect(&mut self, id: u32) {
        let epoch = self.epoch();
        if let Some(device) = self.device(id) {
            device.epoch = epoch;
            device.queue = None;
            device.forget();
        }
        let body = StateChanged { state: DeviceState::DISCONNECTED, reserved: [0; 3] };
        self.message(Kind::STATE_CHANGED, id, epoch, body.as_bytes());
        self.deliver();
    }

    /// The backend is back: the device is offered under a new epoch.
    pub fn reconnect(&mut self, id: u32) {
        let epoch = self.epoch();
        let Some(device) = self.device(id) else { return };
        device.epoch = epoch;
        let offer = device.offer;
        self.message(Kind::OFFER, id, epoch, offer.as_bytes());
        self.deliver();
    }

    /// Sends what is queued, as between two exits of the guest.
    pub fn deliver(&mut self) {
        let Some(mut bus) = self.bus.take() else { return };
        let notify = self.send_queued(&mut bus);
        self.bus = Some(bus);
        if notify {
            self.interrupt();
        }
    }

    /// Looks at the bus as if the guest had kicked.
    pub fn kick(&mut self) {
        self.serve_bus();
    }

    /// One kick: everything that is there, until both sides are quiet.
    pub(crate) fn serve_bus(&mut self) {
        if self.answers_left == 0 {
            return;
        }
        let Some(mut bus) = self.bus.take() else { return };
        let mut notify = false;
        loop {
            bus.take_answers();
            while self.answers_left > 0
                && let Ok(Some(request)) = bus.requests.take()
            {
                self.answers_left -= 1;
                let id = request.word.id();
                let mut message = Message::new_zeroed();
                let _ = bus.guest.read(usize::from(id) * MESSAGE_BYTES, message.as_mut_bytes());
                let mut reply = self.answer(&message);
                (self.tamper)(Stored::Reply, reply.as_mut_bytes());
                let _ = bus.host.write(REPLIES_OFFSET + usize::from(id) * REPLY_BYTES, reply.as_bytes());
                let mut result = CompletionResult::new(Status::OK, 0).0;
                (self.tamper)(Stored::Completion, result.as_mut_bytes());
                if let Ok(needed) = bus.requests.complete(id, CompletionResult(result)) {
                    notify |= needed.is_needed();
                }
            }
            notify |= bus.requests.flush().is_needed();
            notify |= self.send_queued(&mut bus);
            if self.answers_left == 0 {
                break;
            }
            let (needed, requests) = bus.requests.park();
            notify |= needed.is_needed();
            if requests == Park::Armed && bus.messages.park() == Park::Armed {
                break;
            }
            // A guest that broke the ring is not listened to any more.
            if bus.requests.is_latched() || bus.messages.is_latched() {
                break;
            }
        }
        self.bus = Some(bus);
        if notify {
            self.interrupt();
        }
    }

    fn send_queued(&mut self, bus: &mut FakeBus) -> bool {
        let mut notify = false;
        while let Some(mut message) = self.queued.front().copied() {
            (self.tamper)(Stored::Message, message.as_mut_bytes());
            if !bus.send(&message, &mut notify) {
                break;
            }
            self.queued.pop_front();
        }
        notify
    }

    fn answer(&mut self, message: &Message) -> Reply {
        let done = self.carry_out(message);
        let epoch = self.device(message.device).map_or(0, |device| device.epoch);
        let (status, values) = match done {
            Ok(values) => (0, values),
            Err(error) => (error.to_result() as i32, [0; 6]),
        };
        Reply { status, device: message.device, epoch, values }
    }

    fn carry_out(&mut self, message: &Message) -> Result<[u64; 6], CallError> {
        if message.kind == Kind::RESCAN {
            self.offer_again();
            return Ok([0; 6]);
        }
        let epoch = self.device(message.device).ok_or(CallError::NOT_FOUND)?.epoch;
        if message.epoch != epoch {
            return Err(CallError::STALE);
        }
        match message.kind {
            Kind::ACCEPT => {
                let accept: Accept = body(message)?;
                let epoch = self.epoch();
                self.device(message.device).ok_or(CallError::NOT_FOUND)?.accept(&accept, epoch)
            }
            Kind::GRANT_SHARE => {
                let share: ShareGrant = body(message)?;
                self.device(message.device).ok_or(CallError::NOT_FOUND)?.share(&share)
            }
            Kind::OPEN_QUEUE => {
                let open: OpenQueue = body(message)?;
                let memory = self.memory.clone();
                self.device(message.device).ok_or(CallError::NOT_FOUND)?.open(&open, &memory)?;
                Ok([DoorbellKind::TOKEN.0.into(), message.device.into(), 0, 0, 0, 0])
            }
            Kind::CONTROL => {
                let control: Control = body(message)?;
                self.device(message.device).ok_or(CallError::NOT_FOUND)?.control(&control)
            }
            Kind::CLOSE => {
                let epoch = self.epoch();
                self.device(message.device).ok_or(CallError::NOT_FOUND)?.close(epoch);
                Ok([0; 6])
            }
            _ => Err(CallError::UNKNOWN),
        }
    }

    /// Every device in its present state, under its present epoch.
    fn offer_again(&mut self) {
        let offers: Vec<_> = self.devices.iter().map(|device| (device.epoch, device.offer)).collect();
        for (id, (epoch, offer)) in (1..).zip(offers) {
            self.message(Kind::OFFER, id, epoch, offer.as_bytes());
        }
    }
}

fn body<T: FromBytes>(message: &Message) -> Result<T, CallError> {
    T::read_from_prefix(&message.body).map(|(body, _)| body).map_err(|_| CallError::INVALID)
}
