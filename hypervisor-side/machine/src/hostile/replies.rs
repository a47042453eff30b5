//! Lies in replies on the bus: they lie in the host's pages when a call has made them, and the guest has not gone on yet.
//! With one vCPU nobody else looks meanwhile.

use super::state::state;
use crate::host::Host;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::bus::{BusSetup, COMPLETION_AREA, DEPTH, REPLIES_OFFSET, REPLY_BYTES, Reply};
use pvkit_abi::hypercall::Call;
use pvkit_abi::ring::{CompletionWord, HEADER_BYTES, next_tag};
use pvkit_core::{GuestAddr, GuestMemory};
use pvkit_shared_memory::SharedBytes;
use std::collections::VecDeque;
use zerocopy::{FromBytes, IntoBytes};

/// Slots of the ring.
const SLOTS: usize = DEPTH as usize;

/// One way to lie in a reply.
#[derive(Clone, Copy, Debug)]
pub enum ReplyLie {
    /// Another status.
    Status(i32),
    /// Another device.
    Device(u32),
    /// Another epoch.
    Epoch(u64),
    /// So much later an epoch; a negative number is an earlier one.
    EpochBy(i64),
    /// Another value.
    Value(usize, u64),
    /// A completion with a tag out of turn.
    Tag,
    /// A completion of another request.
    Id(u16),
    /// The completion twice.
    Twice,
    /// No completion.
    Never,
    /// The truth, to let one reply pass.
    Truth,
}

/// What must be known of the bus.
pub struct Bus {
    /// The host's two pages, once the guest has named them.
    pages: Option<[u64; 2]>,
    /// The ring's slots after the last call.
    seen: [u64; SLOTS],
    /// What is told next, and how often.
    pub lies: VecDeque<(ReplyLie, u32)>,
}

impl Bus {
    pub const fn new() -> Self {
        Self { pages: None, seen: [0; SLOTS], lies: VecDeque::new() }
    }

    fn next(&mut self) -> Option<ReplyLie> {
        let (lie, count) = self.lies.front_mut()?;
        let lie = *lie;
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.lies.pop_front();
        }
        Some(lie)
    }
}

/// After a call: finds what is new on the ring, and changes it.
pub fn answered(host: &Host, call: Call, args: &[u64; 5]) {
    let mut state = state();
    if state.host.upgrade().is_none() {
        state.host = host.weak();
    }
    let bus = &mut state.bus;
    if call == Call::BUS_SETUP {
        let mut copy = [0; size_of::<BusSetup>()];
        let read = host.ram.read(GuestAddr(args[0]), &mut copy);
        bus.pages = read.ok().and_then(|()| BusSetup::read_from_bytes(&copy).ok()).map(|setup| setup.host_pages);
        bus.seen = [0; SLOTS];
    }
    let Some([rings, buffers]) = bus.pages else { return };
    let page = |at| host.ram.shared(GuestAddr(at), PAGE_SIZE as u64).ok();
    let (Some(rings), Some(buffers)) = (page(rings), page(buffers)) else { return };
    for index in 0..SLOTS {
        let word = slot(&rings, index);
        if word != bus.seen[index] {
            let before = std::mem::replace(&mut bus.seen[index], word);
            if let Some(lie) = bus.next() {
                tell(lie, index, before, word, &rings, &buffers);
            }
        }
    }
}

fn tell(lie: ReplyLie, index: usize, before: u64, word: u64, rings: &SharedBytes, buffers: &SharedBytes) {
    let completion = CompletionWord(word);
    let at = REPLIES_OFFSET + usize::from(completion.id()) % SLOTS * REPLY_BYTES;
    let change = |work: &dyn Fn(&mut Reply)| {
        let mut copy = [0; REPLY_BYTES];
        let _ = buffers.read(at, &mut copy);
        if let Ok(mut reply) = Reply::read_from_bytes(&copy) {
            work(&mut reply);
            let _ = buffers.write(at, reply.as_bytes());
        }
    };
    match lie {
        ReplyLie::Status(status) => change(&|reply| reply.status = status),
        ReplyLie::Device(device) => change(&|reply| reply.device = device),
        ReplyLie::Epoch(epoch) => change(&|reply| reply.epoch = epoch),
        ReplyLie::EpochBy(by) => change(&|reply| reply.epoch = reply.epoch.wrapping_add_signed(by)),
        ReplyLie::Value(which, value) => change(&|reply| {
            if let Some(old) = reply.values.get_mut(which) {
                *old = value;
            }
        }),
        ReplyLie::Tag => put(rings, index, completion.with_tag(completion.tag() ^ 0x5a5a).0),
        ReplyLie::Id(id) => put(rings, index, word & !(0xffff << 32) | u64::from(id) << 32),
        ReplyLie::Twice if index + 1 < SLOTS => put(rings, index + 1, word),
        // The first slot of the next lap.
        ReplyLie::Twice => put(rings, 0, completion.with_tag(next_tag(completion.tag())).0),
        ReplyLie::Never => put(rings, index, before),
        ReplyLie::Truth => {}
    }
}

const fn offset(index: usize) -> usize {
    COMPLETION_AREA + HEADER_BYTES + index * 8
}

fn slot(rings: &SharedBytes, index: usize) -> u64 {
    let mut bytes = [0; 8];
    let _ = rings.read(offset(index), &mut bytes);
    u64::from_le_bytes(bytes)
}

fn put(rings: &SharedBytes, index: usize, word: u64) {
    let _ = rings.write(offset(index), &word.to_le_bytes());
}
