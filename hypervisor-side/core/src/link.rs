//! The bus's two queues and their buffers, as bytes in guest memory: who wrote what, copied out once.
//!
//! The guest's requests come by a ring of which this is the backend, the host's messages leave by one of which this is
//! the frontend. What a message means is not known here.

use crate::messages::NOTHING;
use crate::{GuestAddr, GuestMemory};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{
    BusSetup, COMPLETION_AREA, DEPTH, MESSAGE_BYTES, Message, REPLIES_OFFSET, REPLY_BYTES, REQUEST_AREA, Reply,
};
use pvkit_abi::ring::{RequestFlags, RequestWord};
use pvkit_abi::status::{CallError, CompletionResult, Status};
use pvkit_ring::{Backend, Frontend, Notify, Park, PeerFault, RingSize};
use pvkit_shared_memory::SharedBytes;
use zerocopy::{FromBytes, IntoBytes};

/// A request of the guest: its slot's first word and its message, both copied, neither judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    pub(crate) word: RequestWord,
    pub(crate) message: Message,
}

/// Both queues of one epoch of the bus.
#[derive(Debug)]
pub(crate) struct Link {
    requests: Backend<SharedBytes>,
    messages: Frontend<SharedBytes, { DEPTH as usize }>,
    guest_buffers: SharedBytes,
    host_buffers: SharedBytes,
    notify: Notify,
    latched: bool,
}

/// Names for the four pages: the guest's two, then the host's two.
pub(crate) type Pages = [SharedBytes; 4];

/// Checks the pages that a guest named: aligned, distinct, in memory.
///
/// # Errors
/// `INVALID` or `FAULT`.
pub(crate) fn check_pages(setup: &BusSetup, memory: &dyn GuestMemory) -> Result<[GuestAddr; 4], CallError> {
    let ([a, b], [c, d]) = (setup.guest_pages, setup.host_pages);
    let pages = [a, b, c, d].map(GuestAddr);
    check_page_list(&pages, memory)?;
    Ok(pages)
}

/// Checks any list of pages that a guest named: aligned, distinct, in memory.
///
/// # Errors
/// `INVALID` or `FAULT`.
pub(crate) fn check_page_list(pages: &[GuestAddr], memory: &dyn GuestMemory) -> Result<(), CallError> {
    let mut sorted = pages.to_vec();
    sorted.sort_unstable();
    if pages.iter().any(|page| !page.is_page_aligned()) || sorted.iter().zip(sorted.iter().skip(1)).any(|(a, b)| a == b)
    {
        return Err(CallError::INVALID);
    }
    pages.iter().try_for_each(|page| memory.shared(*page, PAGE_SIZE as u64).map(drop)).map_err(|_| CallError::FAULT)
}

impl Link {
    /// Fresh queues for `epoch`: zeroes the host's pages.
    ///
    /// # Errors
    /// `FAULT` if a page is shorter than a page.
    pub(crate) fn new(pages: Pages, epoch: u64) -> Result<Self, CallError> {
        let [guest_rings, guest_buffers, host_rings, host_buffers] = pages;
        let size = RingSize::new(DEPTH).ok_or(CallError::INVALID)?;
        let part = |page: &SharedBytes, offset| page.part(offset, COMPLETION_AREA).map_err(|_| CallError::FAULT);
        for page in [host_rings, host_buffers] {
            page.zero(0, PAGE_SIZE).map_err(|_| CallError::FAULT)?;
        }
        let requests =
            Backend::new(part(&host_rings, COMPLETION_AREA)?, part(&guest_rings, REQUEST_AREA)?, size, epoch);
        let messages =
            Frontend::new(part(&host_rings, REQUEST_AREA)?, part(&guest_rings, COMPLETION_AREA)?, size, epoch);
        Ok(Self {
            requests: requests.map_err(|_| CallError::FAULT)?,
            messages: messages.map_err(|_| CallError::FAULT)?,
            guest_buffers,
            host_buffers,
            notify: Notify::NotNeeded,
            latched: false,
        })
    }

    /// Whether the guest broke the protocol of a ring in this epoch.
    pub(crate) fn is_latched(&self) -> bool {
        self.latched
    }

    /// The guest's next request.
    ///
    /// # Errors
    /// The ring's fault; the link is latched.
    pub(crate) fn take(&mut self) -> Result<Option<Incoming>, PeerFault> {
        let taken = self.requests.take();
        let Some(request) = self.latch_on_fault(taken)? else { return Ok(None) };
        let mut copy = [0; MESSAGE_BYTES];
        let offset = usize::from(request.word.id()).saturating_mul(MESSAGE_BYTES);
        // The ring checked that the id is below the depth, so the buffer is inside the page; zeros would be refused.
        let _ = self.guest_buffers.read(offset, &mut copy);
        let message = Message::read_from_bytes(&copy).unwrap_or(NOTHING);
        Ok(Some(Incoming { word: request.word, message }))
    }

    /// Answers a request: the reply first, its completion behind it. Nothing happens on a latched link.
    pub(crate) fn reply(&mut self, id: u16, reply: &Reply) {
        if self.latched {
            return;
        }
        // In the page, as above.
        let _ = self.host_buffers.write(reply_offset(id), reply.as_bytes());
        let notify = self.requests.complete(id, result_of(reply));
        self.notify = self.notify.or(notify.unwrap_or(Notify::NotNeeded));
    }

    /// Whether a message can be sent now.
    pub(crate) fn has_room(&self) -> bool {
        !self.latched && self.messages.room() > 0
    }

    /// Sends a message; nothing happens without room.
    pub(crate) fn send(&mut self, message: &Message) {
        let mut batch = self.messages.batch();
        if let Ok(ticket) = batch.reserve(message.kind.0, RequestFlags::empty(), 0, [0; 3]) {
            // An id is below the depth, so the buffer is inside the page.
            let offset = usize::from(ticket.id()).saturating_mul(MESSAGE_BYTES);
            let _ = self.host_buffers.write(offset, message.as_bytes());
            self.notify = self.notify.or(batch.commit());
        }
    }

    /// The guest's next answer to a message: the status in its reply, which may be anything.
    ///
    /// # Errors
    /// The ring's fault; the link is latched.
    pub(crate) fn take_answer(&mut self) -> Result<Option<i32>, PeerFault> {
        let taken = self.messages.take();
        let Some(completed) = self.latch_on_fault(taken)? else { return Ok(None) };
        let mut status = [0; size_of::<i32>()];
        // In the page, as above.
        let _ = self.guest_buffers.read(reply_offset(completed.id), &mut status);
        Ok(Some(i32::from_le_bytes(status)))
    }

    /// The end of a call: publishes what is held back, and asks the guest for a kick at its next publication on either
    /// ring. Says whether the guest sleeps and must be told, and whether something is there by now.
    pub(crate) fn park(&mut self) -> (Notify, Park) {
        if self.latched {
            return (Notify::NotNeeded, Park::Armed);
        }
        let (notify, requests) = self.requests.park();
        let notify = core::mem::replace(&mut self.notify, Notify::NotNeeded).or(notify);
        match (requests, self.messages.park()) {
            (Park::Armed, Park::Armed) => (notify, Park::Armed),
            _ => (notify, Park::Ready),
        }
    }

    /// Requests of the guest without an answer.
    pub(crate) fn requests_in_flight(&self) -> u32 {
        self.requests.in_flight()
    }

    /// Messages without an answer of the guest.
    pub(crate) fn messages_in_flight(&self) -> usize {
        self.messages.in_flight()
    }

    fn latch_on_fault<T>(&mut self, taken: Result<T, PeerFault>) -> Result<T, PeerFault> {
        self.latched |= taken.is_err();
        taken
    }
}

fn reply_offset(id: u16) -> usize {
    usize::from(id).saturating_mul(REPLY_BYTES).saturating_add(REPLIES_OFFSET)
}

/// The completion of a request carries no more than whether it went well; the reply says the rest.
fn result_of(reply: &Reply) -> CompletionResult {
    match reply.status {
        0 => CompletionResult::new(Status::OK, 0),
        error => CompletionResult::new(Status::INVALID, error.unsigned_abs()),
    }
}
