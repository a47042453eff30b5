//! A guest whose other vCPU rewrites memory while the core looks at it. It runs before each access to guest memory.

use super::{accepted, list, open_queue, share_one, status};
use crate::fake::{FakeMemory, message, with_body};
use crate::{Effect, Fault, GuestAddr, GuestMemory, Outcome};
use pvkit_abi::bus::{Kind, ShareGrant};
use pvkit_abi::event::NO_PORT;
use pvkit_abi::hypercall::Call;
use pvkit_shared_memory::SharedBytes;
use std::cell::{Cell, RefCell};

struct Racing<'m> {
    memory: &'m FakeMemory,
    other: RefCell<Box<dyn FnMut() + 'm>>,
}

impl<'m> Racing<'m> {
    fn new(memory: &'m FakeMemory, other: impl FnMut() + 'm) -> Self {
        Self { memory, other: RefCell::new(Box::new(other)) }
    }

    fn interfere(&self) {
        (self.other.borrow_mut())();
    }
}

impl GuestMemory for Racing<'_> {
    fn read(&self, at: GuestAddr, into: &mut [u8]) -> Result<(), Fault> {
        self.interfere();
        self.memory.read(at, into)
    }

    fn write(&self, at: GuestAddr, from: &[u8]) -> Result<(), Fault> {
        self.interfere();
        self.memory.write(at, from)
    }

    fn shared(&self, at: GuestAddr, length: u64) -> Result<SharedBytes, Fault> {
        self.interfere();
        self.memory.shared(at, length)
    }
}

#[test]
fn page_list_that_changes_after_it_was_read_changes_nothing() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let open = open_queue(&mut guest, 0, 64, NO_PORT);
    let honest: u64 = guest.load(open.page_list);
    guest.post(&with_body(Kind::OPEN_QUEUE, 1, epoch, &open)).unwrap();
    let accesses = Cell::new(0);
    let racing = Racing::new(&memory, || {
        accesses.set(accesses.get() + 1);
        if accesses.get() == 2 {
            memory.name(open.page_list, 8).unwrap().write(0, &[0xff; 8]).unwrap();
        }
    });
    let mut effects = Vec::new();
    machine.domain.hypercall(0, 0, Call::BUS_KICK, [0; 5], &racing, &mut effects);
    assert!(accesses.get() >= 2, "the list was rewritten before the pages were checked");
    let Effect::OpenQueue { request_pages, .. } = &effects[0] else { panic!("{effects:?}") };
    assert_eq!(request_pages, &[GuestAddr(honest)]);
}

#[test]
fn size_that_changes_after_it_was_read_changes_nothing() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, _) = accepted(&memory);
    let start = pvkit_abi::hypercall::VcpuStart { size: 32, vcpu: 1, entry: 2, stack_top: 3, argument: 4 };
    let at = guest.store(&start);
    let accesses = Cell::new(0);
    let racing = Racing::new(&memory, || {
        accesses.set(accesses.get() + 1);
        if accesses.get() == 2 {
            memory.name(at, 4).unwrap().write(0, &[0xff; 4]).unwrap();
        }
    });
    let mut effects = Vec::new();
    let outcome = machine.domain.hypercall(0, 0, Call::VCPU_START, [at, 0, 0, 0, 0], &racing, &mut effects);
    assert_eq!(outcome, Outcome::Return(0));
    assert_eq!(accesses.get(), 2);
}

#[test]
fn requests_beyond_one_kick_are_served_by_the_next_hypercall_of_any_kind() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let share = share_one(&mut guest);
    let nonsense = message(Kind(0xee), 1, epoch);
    for _ in 0..15 {
        guest.post(&nonsense).unwrap();
    }
    guest.post(&with_body(Kind::GRANT_SHARE, 1, epoch, &share)).unwrap();
    // While the share, the last of 16, is looked at, the other vCPU takes the answers so far and asks for more.
    let guest = RefCell::new(guest);
    let mut extra = 0;
    let racing = Racing::new(&memory, || {
        let mut guest = guest.borrow_mut();
        guest.replies();
        while guest.post(&nonsense).is_some() {
            extra += 1;
        }
    });
    let mut effects = Vec::new();
    let before = machine.domain.counters().guest_messages;
    machine.domain.hypercall(0, 0, Call::BUS_KICK, [0; 5], &racing, &mut effects);
    drop(racing);
    assert_eq!(machine.domain.counters().guest_messages - before, 16, "one kick is bounded");
    assert_eq!(extra, 12);
    machine.outcome(0, 0, Call::SCHED_BLOCK, [0; 5]);
    assert_eq!(machine.domain.counters().guest_messages - before, 16 + extra);
    assert_eq!(guest.borrow_mut().replies().len() as u64, 3 + extra);
}

#[test]
fn message_that_changes_while_its_memory_is_checked_changes_nothing() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let share = share_one(&mut guest);
    let id = guest.post(&with_body(Kind::GRANT_SHARE, 1, epoch, &share)).unwrap();
    let lie = ShareGrant { base: 0, length: u64::MAX, access: 3, reserved: 0 };
    let buffer = guest.bus_pages[1] + u64::from(id) * 128 + 16;
    let racing = Racing::new(&memory, || {
        memory.name(buffer, 24).unwrap().write(0, zerocopy::IntoBytes::as_bytes(&lie)).unwrap();
    });
    let mut effects = Vec::new();
    machine.domain.hypercall(0, 0, Call::BUS_KICK, [0; 5], &racing, &mut effects);
    let Effect::ShareGrant { base, length, .. } = effects[0] else { panic!("{effects:?}") };
    assert_eq!((base, length), (GuestAddr(share.base), share.length));
}

#[test]
fn memory_that_fails_now_and_then_gives_errors_and_leaves_no_page_taken() {
    let memory = FakeMemory::new(64);
    let (mut machine, mut guest, epoch) = accepted(&memory);
    let pages = [guest.page(), guest.page()];
    let page_list = list(&mut guest, &pages);
    let open = pvkit_abi::bus::OpenQueue { page_list, ..open_queue(&mut guest, 0, 64, NO_PORT) };
    let request = with_body(Kind::OPEN_QUEUE, 1, epoch, &open);
    memory.fail(1, 0);
    assert!(status(&guest.request(&mut machine, &request)).is_err());
    memory.fail(0, 0);
    assert_eq!(status(&guest.request(&mut machine, &request)), Ok(()));
}
