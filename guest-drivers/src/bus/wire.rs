//! The four pages of the bus, as messages and replies.
//!
//! *Invariants.* What the host wrote is copied out once, then checked; the copy alone is used.

use crate::error::{BusError, HostFault};
use crate::platform::{NoMemory, Page, Platform};
use pvkit_abi::bus::{
    BODY_BYTES, BusSetup, COMPLETION_AREA, DEPTH, Kind, MESSAGE_BYTES, Message, REPLIES_OFFSET, REPLY_BYTES,
    REQUEST_AREA, Reply,
};
use pvkit_abi::status::CallError;
use pvkit_abi::version::RefusalReason;
use pvkit_ring::{Backend, Cursor, Frontend, RingSize};
use pvkit_shared_memory::{OutOfRange, SharedBytes};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Bytes from the request area to the completion area, and what is kept for each.
const AREA_BYTES: usize = COMPLETION_AREA - REQUEST_AREA;

/// The guest's pages and the host's.
#[derive(Debug)]
pub(super) struct Pages {
    guest: [Page; 2],
    host: [Page; 2],
}

/// The two queues: the guest asks in the first, the host in the second.
pub(super) type Requests = Frontend<SharedBytes, { DEPTH as usize }>;
pub(super) type Messages = Backend<SharedBytes>;

impl Pages {
    /// Four zeroed pages, or none.
    pub(super) fn allocate(platform: &impl Platform) -> Result<Self, NoMemory> {
        match core::array::from_fn(|_| platform.allocate()) {
            [Ok(a), Ok(b), Ok(c), Ok(d)] => Ok(Self { guest: [a, b], host: [c, d] }),
            some => {
                some.into_iter().flatten().for_each(|page| platform.free(page));
                Err(NoMemory)
            }
        }
    }

    pub(super) fn setup(&self, event_port: u32) -> BusSetup {
        let ([a, b], [c, d]) = (&self.guest, &self.host);
        BusSetup {
            size: size_of::<BusSetup>() as u32,
            event_port,
            guest_pages: [a.address, b.address],
            host_pages: [c.address, d.address],
        }
    }

    /// Both halves, at the beginning of zeroed rings. The guest's pages are zero since their allocation.
    pub(super) fn halves(&self) -> Result<(Requests, Messages), BusError> {
        let size = RingSize::new(DEPTH).ok_or(pvkit_ring::Misuse::DepthTooLarge)?;
        let area = |page: &Page, offset| page.bytes.part(offset, AREA_BYTES).map_err(outside);
        let ([own, _], [peer, _]) = (&self.guest, &self.host);
        let requests = Frontend::resume(area(own, REQUEST_AREA)?, area(peer, COMPLETION_AREA)?, size, Cursor::START)?;
        let messages = Backend::resume(area(own, COMPLETION_AREA)?, area(peer, REQUEST_AREA)?, size, Cursor::START)?;
        Ok((requests, messages))
    }

    /// Stores the message of the guest's request `id`.
    pub(super) fn store_message(&self, id: u16, message: &Message) -> Result<(), BusError> {
        let [_, page] = &self.guest;
        page.bytes.write(usize::from(id) * MESSAGE_BYTES, message.as_bytes()).map_err(outside)
    }

    /// Copies out the host's reply to request `id`.
    pub(super) fn load_reply(&self, id: u16) -> Result<Reply, BusError> {
        let mut reply = Reply::new_zeroed();
        let [_, page] = &self.host;
        page.bytes.read(REPLIES_OFFSET + usize::from(id) * REPLY_BYTES, reply.as_mut_bytes()).map_err(outside)?;
        Ok(reply)
    }

    /// Copies out the message of the host's request `id`.
    pub(super) fn load_message(&self, id: u16) -> Result<Message, BusError> {
        let mut message = Message::new_zeroed();
        let [_, page] = &self.host;
        page.bytes.read(usize::from(id) * MESSAGE_BYTES, message.as_mut_bytes()).map_err(outside)?;
        Ok(message)
    }

    /// Stores the reply to the host's request `id`.
    pub(super) fn store_reply(&self, id: u16, reply: &Reply) -> Result<(), BusError> {
        let [_, page] = &self.guest;
        page.bytes.write(REPLIES_OFFSET + usize::from(id) * REPLY_BYTES, reply.as_bytes()).map_err(outside)
    }
}

/// An id at or above the depth cannot get here: the ring refuses it.
fn outside(_: OutOfRange) -> BusError {
    BusError::Misuse(crate::error::Misuse::Ring(pvkit_ring::Misuse::AreaTooSmall))
}

/// A message with `body` in it; a body that does not fit is cut, which no caller's type allows.
pub(crate) fn message(kind: Kind, device: u32, epoch: u64, body: &[u8]) -> Message {
    let mut bytes = [0; BODY_BYTES];
    for (to, from) in bytes.iter_mut().zip(body) {
        *to = *from;
    }
    Message { size: body.len().min(BODY_BYTES) as u16, kind, reserved: 0, device, epoch, body: bytes }
}

/// The body as a `T`: a shorter one is extended with zeros, a longer one must have a tail of zeros.
pub(super) fn body<T: FromBytes + IntoBytes>(message: &Message) -> Option<T> {
    let sent = message.body.get(..usize::from(message.size))?;
    let mut body = T::new_zeroed();
    for (to, from) in body.as_mut_bytes().iter_mut().zip(sent) {
        *to = *from;
    }
    let tail = sent.get(size_of::<T>()..).unwrap_or(&[]);
    tail.iter().all(|byte| *byte == 0).then_some(body)
}

/// Splits a reply into yes and no.
///
/// # Errors
/// A reply that is about another device, or whose status is no status.
pub(super) fn judge(reply: Reply, device: u32) -> Result<Result<Reply, Refusal>, HostFault> {
    if reply.device != device {
        return Err(HostFault::Reply { field: "device", value: reply.device.into() });
    }
    match CallError::from_result(reply.status.into()) {
        Ok(0) => Ok(Ok(reply)),
        Ok(value) => Err(HostFault::Reply { field: "status", value }),
        Err(error) => {
            let [reason, features, ..] = reply.values;
            let reason = RefusalReason(u16::try_from(reason).unwrap_or(u16::MAX));
            Ok(Err(Refusal { error, reason, features }))
        }
    }
}

/// A "no" of the host. Reason and features are meant only with [`CallError::REFUSED`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(super) error: CallError,
    reason: RefusalReason,
    features: u64,
}

impl From<Refusal> for BusError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal { error: CallError::REFUSED, reason, features } => Self::Declined { reason, features },
            Refusal { error, .. } => Self::Refused(error),
        }
    }
}
