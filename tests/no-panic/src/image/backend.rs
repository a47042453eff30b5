//! The backend's half, likewise.

use super::kept;
use pvkit_abi::status::CompletionResult;
use pvkit_ring::{Cursor, Misuse, Notify, Park, PeerFault, Request, RingSize, WideBackend};
use pvkit_shared_memory::{SharedBytes, SharedPages};

macro_rules! half {
    ($module:ident, $memory:ty, $words:expr) => {
        mod $module {
            use super::*;

            type Half = WideBackend<$memory, $words>;

            kept! {
                fn new(own: $memory, peer: $memory, size: RingSize, epoch: u64) -> Result<Half, Misuse> {
                    Half::new(own, peer, size, epoch)
                }
                fn resume(own: $memory, peer: $memory, size: RingSize, cursor: Cursor) -> Result<Half, Misuse> {
                    Half::resume(own, peer, size, cursor)
                }
                fn peer_epoch(half: &Half) -> u64 { half.peer_epoch() }
                fn depth(half: &Half) -> u32 { half.depth() }
                fn is_latched(half: &Half) -> bool { half.is_latched() }
                fn is_full(half: &Half) -> bool { half.is_full() }
                fn in_flight(half: &Half) -> u32 { half.in_flight() }
                fn in_flight_ids(half: &Half) -> usize { half.in_flight_ids().map(usize::from).fold(0, usize::wrapping_add) }
                fn take(half: &mut Half) -> Result<Option<Request>, PeerFault> { half.take() }
                fn complete(half: &mut Half, id: u16, result: CompletionResult) -> Result<Notify, Misuse> {
                    half.complete(id, result)
                }
                fn hold(half: &mut Half, id: u16, result: CompletionResult, slot: [u64; $words]) -> Result<(), Misuse> {
                    half.hold(id, result, slot)
                }
                fn flush(half: &mut Half) -> Notify { half.flush() }
                fn park(half: &mut Half) -> (Notify, Park) { half.park() }
            }
        }
    };
}

half!(pages, SharedPages, 1);
half!(wide, SharedPages, 2);
half!(bytes, SharedBytes, 1);
half!(lent, &'static SharedPages, 1);
