//! The device bus of one guest: set up by the guest, kicked by the guest, fed by the host.
//!
//! *Owners.* The host's two pages are written here and nowhere else; of the guest's two pages only copies are judged.
//!
//! *Invariants.* One kick takes at most a ring's depth of requests and of answers. A request is answered once, now or by
//! [`Bus::finish`]. A link whose rings the guest corrupted stays latched until the next `BUS_SETUP`; queues that are open
//! go on. After a `BUS_SETUP` no token, port, page or grant of the time before has any effect.
//!
//! *Not here.* What a request means is in `requests.rs`; what the machine and the operator do to devices in
//! `lifecycle.rs`.

use crate::backlog::Backlog;
use crate::context::Context;
use crate::device::{Device, Queue, port_of};
use crate::epoch::Epochs;
use crate::link::{Link, check_pages};
use crate::messages;
use crate::pending::Pending;
use crate::{Effect, GuestAddr, params};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{BusSetup, DEPTH, DeviceState, Message};
use pvkit_abi::status::CallError;
use pvkit_ring::{Park, PeerFault};
use std::collections::BTreeSet;

/// Messages that wait for a slow guest, beside two for each device.
const BACKLOG: usize = 64;

/// The bus.
#[derive(Debug)]
pub(crate) struct Bus {
    /// By number, from 1.
    pub(crate) devices: Vec<Device>,
    pub(crate) epochs: Epochs,
    /// The bus's own; 0 before the first `BUS_SETUP`.
    pub(crate) epoch: u64,
    pub(crate) link: Option<Link>,
    pub(crate) port: Option<u32>,
    /// The bus's pages and the ring pages of every queue.
    pub(crate) pages: BTreeSet<GuestAddr>,
    pub(crate) pending: Pending,
    pub(crate) backlog: Backlog,
    /// A kick ended with more to do.
    behind: bool,
}

impl Bus {
    pub(crate) fn new(devices: Vec<Device>, epochs: Epochs) -> Self {
        let limit = devices.len().saturating_mul(2).saturating_add(BACKLOG);
        Self {
            devices,
            epochs,
            epoch: 0,
            link: None,
            port: None,
            pages: BTreeSet::new(),
            pending: Pending::default(),
            backlog: Backlog::new(limit),
            behind: false,
        }
    }

    /// `BUS_SETUP`: ends everything older and offers every device. A setup that is refused changes nothing.
    ///
    /// # Errors
    /// `NOT_FOUND` for the port; `INVALID` or `FAULT` for the parameters or the pages.
    pub(crate) fn setup(&mut self, at: u64, cx: &mut Context<'_>) -> Result<u64, CallError> {
        let setup: BusSetup = params::read(cx.memory, at)?;
        let port = port_of(setup.event_port);
        if port.is_some_and(|port| !cx.ports.exists(port)) {
            return Err(CallError::NOT_FOUND);
        }
        let addresses = check_pages(&setup, cx.memory)?;
        let shared = |page| cx.memory.shared(page, PAGE_SIZE as u64).map_err(|_| CallError::FAULT);
        let [a, b, c, d] = addresses;
        let pages = [shared(a)?, shared(b)?, shared(c)?, shared(d)?];

        self.end_all(cx);
        self.epoch = self.epochs.next();
        self.link = Some(Link::new(pages, self.epoch)?);
        self.pages.extend(addresses);
        self.port = port.filter(|port| cx.ports.acquire(*port).is_ok());
        for number in self.numbers() {
            let device = self.device_mut(number).filter(|device| device.state != DeviceState::ABSENT);
            let all = device.map(|device| messages::introduction(number, device));
            self.tell_all(all.unwrap_or_default(), cx);
        }
        self.settle(cx);
        Ok(self.epoch)
    }

    /// `BUS_KICK`: serves what the guest published, at most a ring's depth of each kind.
    ///
    /// # Errors
    /// `BUSY` without a setup or on a latched bus; `INVALID` for what latches it.
    pub(crate) fn kick(&mut self, cx: &mut Context<'_>) -> Result<(), CallError> {
        if self.link.as_ref().is_none_or(Link::is_latched) {
            return Err(CallError::BUSY);
        }
        let served = self.take_answers(cx).and_then(|()| self.take_requests(cx));
        let served = served.map_err(|fault| self.latched(fault, cx));
        self.settle(cx);
        served
    }

    /// Serves what an earlier kick left behind, if any. A guest that waits for an answer blocks sooner or later, so
    /// that call finds the rest and nothing is lost by the bound on one kick.
    pub(crate) fn catch_up(&mut self, cx: &mut Context<'_>) {
        if self.behind {
            // The guest did not ask, so there is nobody to hear of an error; a latched bus says so at the next kick.
            let _ = self.kick(cx);
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>) -> Result<(), PeerFault> {
        for _ in 0..DEPTH {
            let Some(link) = &mut self.link else { return Ok(()) };
            let Some(status) = link.take_answer()? else { return Ok(()) };
            if status != 0 {
                cx.counters.host_message_errors = cx.counters.host_message_errors.saturating_add(1);
            }
        }
        Ok(())
    }

    fn take_requests(&mut self, cx: &mut Context<'_>) -> Result<(), PeerFault> {
        for _ in 0..DEPTH {
            let Some(link) = &mut self.link else { return Ok(()) };
            let Some(incoming) = link.take()? else { return Ok(()) };
            self.serve(&incoming, cx);
        }
        Ok(())
    }

    fn latched(&mut self, fault: PeerFault, cx: &mut Context<'_>) -> CallError {
        cx.counters.latches = cx.counters.latches.saturating_add(1);
        cx.lie(format_args!("bus latched until the guest sets it up again: {fault}"));
        self.backlog.clear();
        CallError::INVALID
    }

    /// Puts messages into the backlog, if there is a bus to send them by.
    pub(crate) fn tell_all(&mut self, all: Vec<Message>, cx: &mut Context<'_>) {
        for message in all {
            self.tell(message, cx);
        }
    }

    /// Puts a message into the backlog, if there is a bus to send it by.
    pub(crate) fn tell(&mut self, message: Message, cx: &mut Context<'_>) {
        if self.link.as_ref().is_some_and(|link| !link.is_latched()) {
            let dropped = self.backlog.push(message);
            cx.counters.dropped_messages = cx.counters.dropped_messages.saturating_add(dropped);
        }
    }

    /// The end of every call: sends what there is room for, publishes, arms the event words, tells the guest.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) {
        let Some(link) = &mut self.link else { return };
        while link.has_room() {
            let Some(message) = self.backlog.pop(self.epoch) else { break };
            link.send(&message);
            cx.counters.host_messages = cx.counters.host_messages.saturating_add(1);
        }
        let (notify, park) = link.park();
        self.behind = park == Park::Ready;
        if notify.is_needed()
            && let Some(port) = self.port
        {
            cx.raise(port);
        }
    }

    /// As before the first `BUS_SETUP`, under new epochs.
    pub(crate) fn reset(&mut self, cx: &mut Context<'_>) {
        self.end_all(cx);
        (self.epoch, self.behind) = (0, false);
    }

    /// Ends the epoch of the bus and of every device.
    fn end_all(&mut self, cx: &mut Context<'_>) {
        self.link = None;
        self.pending.clear();
        self.backlog.clear();
        for number in self.numbers() {
            self.end(number, cx);
            if let Some(device) = self.device_mut(number) {
                device.seal = None;
            }
        }
        self.pages.clear();
        if let Some(port) = self.port.take() {
            cx.ports.release(port);
        }
    }

    /// Ends the device's epoch at once; the machine is told to detach it if something may be attached.
    pub(crate) fn end(&mut self, number: u32, cx: &mut Context<'_>) {
        if self.device_mut(number).is_some_and(|device| device.is_taken()) {
            cx.effects.push(Effect::CloseDevice { token: None, device: number });
        }
        self.release(number, cx);
    }

    /// Puts the device to rest under a new epoch. Nothing of it may be attached by now.
    pub(crate) fn release(&mut self, number: u32, cx: &mut Context<'_>) {
        let epoch = self.epochs.next();
        let queues = self.device_mut(number).map(|device| device.end(epoch)).unwrap_or_default();
        for queue in queues {
            self.release_queue(&queue, cx);
        }
    }

    /// Gives back what a queue held.
    pub(crate) fn release_queue(&mut self, queue: &Queue, cx: &mut Context<'_>) {
        for page in &queue.pages {
            self.pages.remove(page);
        }
        if let Some(port) = queue.port {
            cx.ports.release(port);
        }
    }

    /// Numbers of the devices.
    pub(crate) fn numbers(&self) -> core::ops::RangeInclusive<u32> {
        1..=u32::try_from(self.devices.len()).unwrap_or(u32::MAX)
    }

    /// The number may be anything.
    pub(crate) fn device_mut(&mut self, number: u32) -> Option<&mut Device> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.devices.get_mut(index)
    }
}
