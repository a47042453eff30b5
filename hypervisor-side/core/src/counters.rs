//! What happened, in numbers. For reports and for tests that count exits.

use std::collections::BTreeMap;

/// Counts since the domain was made. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Hypercalls by number, those that the ABI knows.
    pub hypercalls: BTreeMap<u32, u64>,
    /// Hypercalls with a number that the ABI does not know.
    pub unknown_hypercalls: u64,
    /// Hypercalls that ended with an error.
    pub hypercall_errors: u64,
    /// Accesses that were not in guest memory.
    pub faults: u64,
    /// Requests taken from the guest.
    pub guest_messages: u64,
    /// Of these, answered with an error.
    pub guest_message_errors: u64,
    /// Messages sent to the guest.
    pub host_messages: u64,
    /// Of these, answered by the guest with an error.
    pub host_message_errors: u64,
    /// Messages dropped because the guest did not take them; the guest was told to rescan.
    pub dropped_messages: u64,
    /// Calls and requests that were refused because of a quota.
    pub over_quota: u64,
    /// Times the bus was latched.
    pub latches: u64,
    /// Events raised.
    pub raised: u64,
    /// Events held back by a mask.
    pub latched_events: u64,
    /// Answers of the machine that came after their epoch.
    pub late_answers: u64,
}

impl Counters {
    /// Messages on the bus, either way.
    #[must_use]
    pub const fn messages(&self) -> u64 {
        self.guest_messages.saturating_add(self.host_messages)
    }

    /// All hypercalls.
    #[must_use]
    pub fn total_hypercalls(&self) -> u64 {
        self.hypercalls.values().sum::<u64>().saturating_add(self.unknown_hypercalls)
    }
}
