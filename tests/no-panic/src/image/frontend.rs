//! The frontend's half, with completions of one word and of two, on pages and on one run of bytes.

use super::kept;
use pvkit_abi::ring::RequestFlags;
use pvkit_ring::{
    Batch, Completed, Cursor, Full, Memory, Misuse, Notify, Park, PeerFault, RingSize, Ticket, WideFrontend,
};
use pvkit_shared_memory::{SharedBytes, SharedPages};

const DEPTH: usize = 256;

macro_rules! half {
    ($module:ident, $memory:ty, $words:expr) => {
        mod $module {
            use super::*;

            type Half = WideFrontend<$memory, DEPTH, $words>;

            kept! {
                fn new(own: $memory, peer: $memory, size: RingSize, epoch: u64) -> Result<Half, Misuse> {
                    Half::new(own, peer, size, epoch)
                }
                fn resume(own: $memory, peer: $memory, size: RingSize, cursor: Cursor) -> Result<Half, Misuse> {
                    Half::resume(own, peer, size, cursor)
                }
                fn peer_epoch(half: &Half) -> u64 { half.peer_epoch() }
                fn depth(half: &Half) -> u32 { half.depth() }
                fn room(half: &Half) -> usize { half.room() }
                fn is_latched(half: &Half) -> bool { half.is_latched() }
                fn in_flight(half: &Half) -> usize { half.in_flight() }
                fn in_flight_ids(half: &Half) -> usize { half.in_flight_ids().map(usize::from).fold(0, usize::wrapping_add) }
                fn lead_with(half: &mut Half, ids: &[u16]) -> bool { half.lead_with(ids.iter().copied()) }
                fn take(half: &mut Half) -> Result<Option<Completed>, PeerFault> { half.take() }
                fn take_wide(half: &mut Half) -> Result<Option<(Completed, [u64; $words])>, PeerFault> { half.take_wide() }
                fn park(half: &mut Half) -> Park { half.park() }
                fn batch(half: &mut Half, requests: &[[u64; 3]], op: u8, flags: RequestFlags, aux: u16) -> Notify {
                    let mut batch = half.batch();
                    for words in requests {
                        let _ = batch.reserve(op, flags, aux, *words);
                    }
                    batch.commit()
                }
                fn reserve(batch: &mut Batch<'_, $memory, DEPTH, $words>, words: [u64; 3]) -> Result<Ticket, Full> {
                    batch.reserve(1, RequestFlags::empty(), 0, words)
                }
                fn len(batch: &Batch<'_, $memory, DEPTH, $words>) -> usize { batch.len() }
                fn is_empty(batch: &Batch<'_, $memory, DEPTH, $words>) -> bool { batch.is_empty() }
                fn commit(batch: Batch<'_, $memory, DEPTH, $words>) -> Notify { batch.commit() }
                fn revert(batch: Batch<'_, $memory, DEPTH, $words>) { batch.revert() }
            }
        }
    };
}

half!(pages, SharedPages, 1);
half!(wide, SharedPages, 2);
half!(bytes, SharedBytes, 1);
half!(lent, &'static SharedPages, 1);

kept! {
    fn id(ticket: &Ticket) -> u16 { ticket.id() }
    fn bytes_of(pages: &SharedPages, bytes: &SharedBytes) -> usize { Memory::bytes(pages) ^ Memory::bytes(bytes) }
}
