//! A scripted guest: it does what a test tells it, right or wrong.

use super::{FakeMachine, FakeMemory};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{
    BODY_BYTES, BusSetup, COMPLETION_AREA, DEPTH, Kind, MESSAGE_BYTES, Message, REPLIES_OFFSET, REPLY_BYTES,
    REQUEST_AREA, Reply,
};
use pvkit_abi::hypercall::Call;
use pvkit_abi::ring::RequestFlags;
use pvkit_abi::status::{CallError, CompletionResult, Status};
use pvkit_abi::version::{CURRENT, Group, GroupChoice, MAX_GROUPS, Negotiate, NegotiateReply};
use pvkit_ring::{Backend, Frontend, PeerFault, RingSize};
use pvkit_shared_memory::SharedBytes;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// A message without a body.
#[must_use]
pub const fn message(kind: Kind, device: u32, epoch: u64) -> Message {
    Message { size: 0, kind, reserved: 0, device, epoch, body: [0; BODY_BYTES] }
}

/// A message with a body.
#[must_use]
pub fn with_body(kind: Kind, device: u32, epoch: u64, body: &(impl IntoBytes + Immutable)) -> Message {
    let bytes = body.as_bytes();
    let mut message = message(kind, device, epoch);
    message.body[..bytes.len()].copy_from_slice(bytes);
    message.size = bytes.len() as u16;
    message
}

/// The guest's end of the bus, once it is set up.
#[derive(Debug)]
struct Rings {
    requests: Frontend<SharedBytes, { DEPTH as usize }>,
    messages: Backend<SharedBytes>,
    guest: SharedBytes,
    host: SharedBytes,
}

/// The guest. Its pages come one after another and are not given back before [`FakeGuest::reset`].
#[derive(Debug)]
pub struct FakeGuest<'m> {
    memory: &'m FakeMemory,
    next_page: u64,
    rings: Option<Rings>,
    /// Epoch of the bus.
    pub epoch: u64,
    /// Addresses of the bus pages: the guest's two, the host's two.
    pub bus_pages: [u64; 4],
}

impl<'m> FakeGuest<'m> {
    /// A guest that has done nothing.
    #[must_use]
    pub const fn new(memory: &'m FakeMemory) -> Self {
        Self { memory, next_page: 0, rings: None, epoch: 0, bus_pages: [0; 4] }
    }

    /// A zeroed page.
    pub fn page(&mut self) -> u64 {
        assert!(self.next_page < self.memory.page_count(), "the test's guest has too little memory");
        let address = self.memory.page(self.next_page);
        self.next_page += 1;
        self.bytes(address, PAGE_SIZE).zero(0, PAGE_SIZE).unwrap();
        address
    }

    /// Starts over with all pages.
    pub fn reset(&mut self) {
        self.next_page = 0;
        self.rings = None;
    }

    /// Stores a struct on a page of its own; its address.
    pub fn store(&mut self, value: &(impl IntoBytes + Immutable)) -> u64 {
        let address = self.page();
        self.write(address, value.as_bytes());
        address
    }

    /// Stores bytes.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        self.bytes(address, bytes.len()).write(0, bytes).unwrap();
    }

    /// Copies a struct out.
    #[must_use]
    pub fn load<T: FromBytes + IntoBytes>(&self, address: u64) -> T {
        let mut value = T::new_zeroed();
        self.bytes(address, size_of::<T>()).read(0, value.as_mut_bytes()).unwrap();
        value
    }

    /// `NEGOTIATE` for groups at today's version without features.
    pub fn negotiate(&mut self, machine: &mut FakeMachine<'_>, groups: &[Group]) -> (i64, NegotiateReply) {
        let choice =
            |group| GroupChoice { group, major: CURRENT.major, minor: CURRENT.minor, reserved: 0, features: 0 };
        let choices: Vec<GroupChoice> = groups.iter().map(|group| choice(*group)).collect();
        self.negotiate_choices(machine, &choices)
    }

    /// `NEGOTIATE` for any choice.
    pub fn negotiate_choices(
        &mut self,
        machine: &mut FakeMachine<'_>,
        choices: &[GroupChoice],
    ) -> (i64, NegotiateReply) {
        let mut request = Negotiate::new_zeroed();
        request.size = size_of::<Negotiate>() as u32;
        request.count = choices.len() as u32;
        request.groups[..choices.len().min(MAX_GROUPS)].copy_from_slice(choices);
        let (input, output) = (self.store(&request), self.page());
        let room = size_of::<NegotiateReply>() as u64;
        let result = machine.call(Call::NEGOTIATE, [input, output, room, 0, 0]);
        (result, self.load(output))
    }

    /// `BUS_SETUP` with fresh pages; the epoch.
    ///
    /// # Errors
    /// What the host answered; the guest keeps the bus it had.
    pub fn bus_setup(&mut self, machine: &mut FakeMachine<'_>, event_port: u32) -> Result<u64, CallError> {
        let pages = [self.page(), self.page(), self.page(), self.page()];
        let [a, b, c, d] = pages;
        let size = size_of::<BusSetup>() as u32;
        let setup = BusSetup { size, event_port, guest_pages: [a, b], host_pages: [c, d] };
        let at = self.store(&setup);
        let epoch = CallError::from_result(machine.call(Call::BUS_SETUP, [at, 0, 0, 0, 0]))?;
        self.connect(pages);
        self.epoch = epoch;
        Ok(epoch)
    }

    fn connect(&mut self, pages: [u64; 4]) {
        let [guest_rings, guest, host_rings, host] = pages.map(|page| self.bytes(page, PAGE_SIZE));
        let area = |page: SharedBytes, offset| page.part(offset, COMPLETION_AREA).unwrap();
        let size = RingSize::new(DEPTH).unwrap();
        let requests = Frontend::new(area(guest_rings, REQUEST_AREA), area(host_rings, COMPLETION_AREA), size, 0);
        let messages = Backend::new(area(guest_rings, COMPLETION_AREA), area(host_rings, REQUEST_AREA), size, 0);
        self.rings = Some(Rings { requests: requests.unwrap(), messages: messages.unwrap(), guest, host });
        self.bus_pages = pages;
    }

    /// Publishes a request without a kick; its id, `None` if 16 are in flight.
    pub fn post(&mut self, message: &Message) -> Option<u16> {
        self.post_as(message.kind.0, message)
    }

    /// As [`FakeGuest::post`], with another `op` in the slot than the message says.
    pub fn post_as(&mut self, op: u8, message: &Message) -> Option<u16> {
        let rings = self.rings.as_mut().expect("the bus is set up");
        let mut batch = rings.requests.batch();
        let ticket = batch.reserve(op, RequestFlags::empty(), 0, [0; 3]).ok()?;
        rings.guest.write(usize::from(ticket.id()) * MESSAGE_BYTES, message.as_bytes()).unwrap();
        let _ = batch.commit();
        Some(ticket.id())
    }

    /// Replies that are there.
    pub fn replies(&mut self) -> Vec<(u16, Reply)> {
        let replies = self.try_replies().expect("the host keeps the protocol");
        for (_, reply) in &replies {
            assert!(reply.status <= 0, "a status is zero or a negated error");
        }
        replies
    }

    /// As [`FakeGuest::replies`], for a guest whose bus pages hold anything.
    ///
    /// # Errors
    /// The ring's.
    pub fn try_replies(&mut self) -> Result<Vec<(u16, Reply)>, PeerFault> {
        let rings = self.rings.as_mut().expect("the bus is set up");
        let mut replies = Vec::new();
        while let Some(completed) = rings.requests.take()? {
            let mut reply = Reply::new_zeroed();
            let offset = REPLIES_OFFSET + usize::from(completed.id) * REPLY_BYTES;
            rings.host.read(offset, reply.as_mut_bytes()).unwrap();
            replies.push((completed.id, reply));
        }
        Ok(replies)
    }

    /// About to sleep: asks for an event at the host's next publication on either ring.
    pub fn park(&mut self) {
        let rings = self.rings.as_mut().expect("the bus is set up");
        let _ = (rings.requests.park(), rings.messages.park());
    }

    /// Requests without a reply.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.rings.as_ref().map_or(0, |rings| rings.requests.in_flight())
    }

    /// Takes and answers the host's messages that are there; a kick is up to the caller.
    pub fn messages(&mut self) -> Vec<Message> {
        self.try_messages().expect("the host keeps the protocol")
    }

    /// As [`FakeGuest::messages`], for a guest whose bus pages hold anything.
    ///
    /// # Errors
    /// The ring's.
    pub fn try_messages(&mut self) -> Result<Vec<Message>, PeerFault> {
        let rings = self.rings.as_mut().expect("the bus is set up");
        let mut messages = Vec::new();
        while let Some(request) = rings.messages.take()? {
            let id = request.word.id();
            let mut message = Message::new_zeroed();
            rings.host.read(usize::from(id) * MESSAGE_BYTES, message.as_mut_bytes()).unwrap();
            messages.push(message);
            let reply = [0; REPLY_BYTES];
            rings.guest.write(REPLIES_OFFSET + usize::from(id) * REPLY_BYTES, &reply).unwrap();
            let _ = rings.messages.complete(id, CompletionResult::new(Status::OK, 0)).unwrap();
        }
        let _ = rings.messages.flush();
        Ok(messages)
    }

    /// Sends one request, kicks, and takes its reply, which must be there: for machines that answer at once.
    pub fn request(&mut self, machine: &mut FakeMachine<'_>, message: &Message) -> Reply {
        let id = self.post(message).expect("room on the bus");
        assert_eq!(machine.call(Call::BUS_KICK, [0; 5]), 0, "the kick is served");
        let replies = self.replies();
        let reply = replies.iter().find(|(answered, _)| *answered == id);
        reply.expect("the request is answered").1
    }

    fn bytes(&self, address: u64, length: usize) -> SharedBytes {
        self.memory.name(address, length).expect("the guest stays in its memory")
    }
}
