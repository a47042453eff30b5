//! What a user-mode network did, and what it refused.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Counters of one network. Written by its thread, read by anyone.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
        }

        /// What a user-mode network did so far.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct UserSnapshot {
            $($(#[$doc])* pub $name: u64,)+
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> UserSnapshot {
                UserSnapshot { $($name: self.$name.get(),)+ }
            }
        }
    };
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, more: u64) {
        // ORDER: a statistic; it makes nothing else visible.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Times that the thread woke up.
    wakes,
    /// Frames taken from the guest.
    frames,
    /// Frames of the guest that are malformed, or of a protocol or an address that is not served.
    refused_frames,
    /// Frames of the guest that never got into the inbox because it was full.
    dropped_frames,
    /// TCP connections opened, both ways.
    connections,
    /// TCP connections that were refused: by policy, by a full table, or by the host's network.
    refused_connections,
    /// TCP connections that broke or were ended to make room.
    broken_connections,
    /// TCP connections that waited for late segments for a shorter time than is usual, because too many did.
    shortened_waits,
    /// Bytes carried from the guest over TCP.
    bytes_out,
    /// Bytes carried to the guest over TCP.
    bytes_in,
    /// UDP conversations opened, both ways.
    conversations,
    /// UDP conversations ended to make room.
    evicted_conversations,
    /// Datagrams carried, both ways.
    datagrams,
    /// Datagrams that were too long, had no room, or went where they must not.
    refused_datagrams,
    /// Answers of the DHCP server.
    leases,
    /// Queries handed to a resolver.
    queries,
}
