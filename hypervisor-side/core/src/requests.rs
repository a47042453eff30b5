//! What the guest asks by bus messages: judged here, carried out by the machine or at once.
//!
//! Order of judgement, the same for every kind: is it well formed, does the device exist, is the epoch the present one,
//! does the device's state allow it, do the numbers fit. The first "no" is the answer, and nothing has changed by then.

use crate::bus::Bus;
use crate::context::Context;
use crate::device::{Queue, Refusal, port_of};
use crate::grants::Extent;
use crate::link::{Incoming, check_page_list};
use crate::messages::{self, body, check};
use crate::pending::{Asked, Work};
use crate::{Effect, GuestAddr, Token};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{Accept, Control, DeviceState, Kind, Message, NameGrant, OpenQueue, Reply, ShareGrant};
use pvkit_abi::grant::{Access, MAX_GRANTS};
use pvkit_abi::ring::{REQUEST_BYTES, area_pages};
use pvkit_abi::status::CallError;

/// What a guest may ask of a device.
const SERVED: [Kind; 7] = [
    Kind::ACCEPT,
    Kind::OPEN_QUEUE,
    Kind::CLOSE,
    Kind::GRANT_SHARE,
    Kind::GRANT_REVOKE,
    Kind::GRANT_QUERY,
    Kind::CONTROL,
];

/// What a reply carries beside the status.
pub(crate) type Values = [u64; 6];

/// When the request is answered.
enum Answer {
    Now(Values),
    /// By `finish`.
    Later,
}

impl Bus {
    /// Serves one request: it is answered, or a token stands for it.
    pub(crate) fn serve(&mut self, incoming: &Incoming, cx: &mut Context<'_>) {
        cx.counters.guest_messages = cx.counters.guest_messages.saturating_add(1);
        let request = incoming.word.id();
        let device = incoming.message.device;
        let answer =
            check(incoming.word, &incoming.message).map_err(Refusal::from).and_then(|()| self.judge(incoming, cx));
        match answer {
            Ok(Answer::Later) => {}
            Ok(Answer::Now(values)) => self.reply(request, device, Ok(values), cx),
            Err(refusal) => self.reply(request, device, Err(refusal), cx),
        }
    }

    /// Answers a request.
    pub(crate) fn reply(&mut self, request: u16, device: u32, answer: Result<Values, Refusal>, cx: &mut Context<'_>) {
        let epoch = if device == 0 { self.epoch } else { self.device_mut(device).map_or(0, |device| device.epoch) };
        let (status, values) = match answer {
            Ok(values) => (0, values),
            Err(refusal) => {
                cx.counters.guest_message_errors = cx.counters.guest_message_errors.saturating_add(1);
                let status = i32::try_from(refusal.error.to_result()).unwrap_or(i32::MIN);
                (status, [u64::from(refusal.reason.0), refusal.features, 0, 0, 0, 0])
            }
        };
        if let Some(link) = &mut self.link {
            link.reply(request, &Reply { status, device, epoch, values });
        }
    }

    fn judge(&mut self, incoming: &Incoming, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        let message = &incoming.message;
        if message.kind == Kind::RESCAN {
            return self.rescan(message, cx);
        }
        if !SERVED.contains(&message.kind) {
            return Err(CallError::UNKNOWN.into());
        }
        let device = self.device_mut(message.device).filter(|device| device.state != DeviceState::ABSENT);
        if device.ok_or(CallError::NOT_FOUND)?.epoch != message.epoch {
            return Err(CallError::STALE.into());
        }
        let request = incoming.word.id();
        match message.kind {
            Kind::ACCEPT => self.accept(message),
            Kind::OPEN_QUEUE => self.open_queue(message, request, cx).map_err(Refusal::from),
            Kind::CLOSE => self.close(message, request, cx).map_err(Refusal::from),
            Kind::CONTROL => self.control(message, request, cx).map_err(Refusal::from),
            _ if !cx.grants_negotiated => Err(CallError::NOT_NEGOTIATED.into()),
            Kind::GRANT_SHARE => self.share(message, request, cx).map_err(Refusal::from),
            Kind::GRANT_REVOKE => self.revoke(message, request, cx).map_err(Refusal::from),
            _ => self.query(message).map_err(Refusal::from),
        }
    }

    fn rescan(&mut self, message: &Message, cx: &mut Context<'_>) -> Result<Answer, Refusal> {
        if message.device != 0 {
            return Err(CallError::NOT_FOUND.into());
        }
        if message.epoch != self.epoch {
            return Err(CallError::STALE.into());
        }
        self.backlog.clear();
        for number in self.numbers() {
            let all = self.device_mut(number).map(|device| messages::announcement(number, device));
            self.tell_all(all.unwrap_or_default(), cx);
        }
        Ok(Answer::Now([0; 6]))
    }

    fn accept(&mut self, message: &Message) -> Result<Answer, Refusal> {
        let accept: Accept = body(message)?;
        let device = self.device_mut(message.device).ok_or(CallError::NOT_FOUND)?;
        device.judge_accept(&accept)?;
        let epoch = self.epochs.next();
        if let Some(device) = self.device_mut(message.device) {
            device.seal = Some(accept);
            device.state = DeviceState::ACCEPTED;
            device.epoch = epoch;
        }
        Ok(Answer::Now([0; 6]))
    }

    fn open_queue(&mut self, message: &Message, request: u16, cx: &mut Context<'_>) -> Result<Answer, CallError> {
        let open: OpenQueue = body(message)?;
        self.device_mut(message.device).ok_or(CallError::NOT_FOUND)?.judge_open(&open)?;
        let (request_pages, completion_pages) = self.ring_pages(&open, cx)?;
        let port = port_of(open.event_port);
        if let Some(port) = port {
            cx.ports.acquire(port)?;
        }
        let pages: Vec<GuestAddr> = request_pages.iter().chain(&completion_pages).copied().collect();
        self.pages.extend(&pages);
        let token = self.ask(message.device, request, Work::Open { queue: open.queue });
        let device = self.device_mut(message.device).ok_or(CallError::NOT_FOUND)?;
        device.queues.push(Queue {
            number: open.queue,
            depth: open.depth,
            completion_bytes: open.completion_bytes,
            port,
            pages,
            open: false,
        });
        cx.effects.push(Effect::OpenQueue {
            token,
            device: message.device,
            queue: open.queue,
            depth: open.depth,
            completion_bytes: open.completion_bytes,
            epoch: device.epoch,
            features: device.seal.map_or(0, |seal| seal.features),
            request_pages,
            completion_pages,
            port,
        });
        Ok(Answer::Later)
    }

    /// Copies the page list once and judges the copy: aligned, distinct, in memory, in no other ring.
    fn ring_pages(&self, open: &OpenQueue, cx: &Context<'_>) -> Result<(Vec<GuestAddr>, Vec<GuestAddr>), CallError> {
        if !GuestAddr(open.page_list).is_page_aligned() {
            return Err(CallError::INVALID);
        }
        let requests = area_pages(open.depth, REQUEST_BYTES);
        let count = requests.saturating_add(area_pages(open.depth, usize::from(open.completion_bytes)));
        let mut copy = [0; PAGE_SIZE];
        let list = copy.get_mut(..count.saturating_mul(size_of::<u64>())).ok_or(CallError::INVALID)?;
        cx.memory.read(GuestAddr(open.page_list), list).map_err(|_| CallError::FAULT)?;
        let (words, _) = list.as_chunks();
        let mut pages: Vec<GuestAddr> = words.iter().map(|word| GuestAddr(u64::from_le_bytes(*word))).collect();
        check_page_list(&pages, cx.memory)?;
        if pages.iter().any(|page| self.pages.contains(page)) {
            return Err(CallError::INVALID);
        }
        let completions = pages.split_off(requests);
        Ok((pages, completions))
    }

    /// `CLOSE`. From now on nothing of the device is served; when what was asked before is answered, it is drained.
    fn close(&mut self, message: &Message, request: u16, cx: &mut Context<'_>) -> Result<Answer, CallError> {
        let number = message.device;
        let device = self.device_mut(number).ok_or(CallError::NOT_FOUND)?;
        if device.state == DeviceState::DISCONNECTED {
            device.seal = None;
            self.release(number, cx);
            return Ok(Answer::Now([0; 6]));
        }
        device.require_taken()?;
        self.begin_closing(number, Some(request), cx);
        Ok(Answer::Later)
    }

    fn share(&mut self, message: &Message, request: u16, cx: &mut Context<'_>) -> Result<Answer, CallError> {
        let share: ShareGrant = body(message)?;
        let device = self.device_mut(message.device).ok_or(CallError::NOT_FOUND)?;
        device.require_taken()?;
        let extent = judge_extent(&share)?;
        cx.memory.shared(extent.base, extent.length).map_err(|_| CallError::FAULT)?;
        let grant = device.grants.share(extent).inspect_err(|_| {
            let device = message.device;
            cx.over_quota(format_args!(
                "grants of a device, {MAX_GRANTS}; the guest has to revoke one of device {device}"
            ));
        })?;
        let token = self.ask(message.device, request, Work::Share(grant));
        let Extent { base, length, access } = extent;
        cx.effects.push(Effect::ShareGrant { token, device: message.device, grant, base, length, access });
        Ok(Answer::Later)
    }

    fn revoke(&mut self, message: &Message, request: u16, cx: &mut Context<'_>) -> Result<Answer, CallError> {
        let grant = named_grant(message)?.grant;
        let device = self.device_mut(message.device).ok_or(CallError::NOT_FOUND)?;
        device.require_taken()?;
        device.grants.revoke(grant)?;
        let token = self.ask(message.device, request, Work::Revoke(grant));
        cx.effects.push(Effect::RevokeGrant { token, device: message.device, grant });
        Ok(Answer::Later)
    }

    fn query(&mut self, message: &Message) -> Result<Answer, CallError> {
        let grant = named_grant(message)?.grant;
        let device = self.device_mut(message.device).ok_or(CallError::NOT_FOUND)?;
        device.require_taken()?;
        let extent = device.grants.query(grant)?;
        Ok(Answer::Now([extent.base.0, extent.length, u64::from(extent.access.bits()), 0, 0, 0]))
    }

    /// `CONTROL`. What operation and data mean is for the backend to judge.
    fn control(&mut self, message: &Message, request: u16, cx: &mut Context<'_>) -> Result<Answer, CallError> {
        let control: Control = body(message)?;
        self.device_mut(message.device).ok_or(CallError::NOT_FOUND)?.require_taken()?;
        let (data, rest) = control.data.split_at_checked(usize::from(control.size)).ok_or(CallError::INVALID)?;
        if control.reserved != 0 || rest.iter().any(|byte| *byte != 0) {
            return Err(CallError::INVALID);
        }
        let token = self.ask(message.device, request, Work::Control);
        let (device, operation, data) = (message.device, control.operation, data.to_vec());
        cx.effects.push(Effect::Control { token, device, operation, data });
        Ok(Answer::Later)
    }

    fn ask(&mut self, device: u32, request: u16, work: Work) -> Token {
        self.pending.insert(Asked { device, request: Some(request), work })
    }
}

fn named_grant(message: &Message) -> Result<NameGrant, CallError> {
    let name: NameGrant = body(message)?;
    if name.reserved == 0 { Ok(name) } else { Err(CallError::INVALID) }
}

/// Whole pages, at least one, that end below 2^64; some access and no unknown one.
fn judge_extent(share: &ShareGrant) -> Result<Extent, CallError> {
    let whole = |bytes: u64| bytes.is_multiple_of(PAGE_SIZE as u64);
    let access = Access::from_bits(share.access).filter(|access| !access.is_empty()).ok_or(CallError::INVALID)?;
    if !whole(share.base) || !whole(share.length) || share.length == 0 || share.reserved != 0 {
        return Err(CallError::INVALID);
    }
    share.base.checked_add(share.length).ok_or(CallError::FAULT)?;
    Ok(Extent { base: GuestAddr(share.base), length: share.length, access })
}
