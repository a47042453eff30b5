//! What every call of the core has at hand, beside the state machine that it is about.

use crate::events::{Delivery, Ports};
use crate::{Counters, Effect, GuestMemory};
use core::fmt;
use pvkit_abi::status::CallError;

/// For the length of one call.
pub(crate) struct Context<'a> {
    pub(crate) memory: &'a dyn GuestMemory,
    pub(crate) ports: &'a mut Ports,
    pub(crate) counters: &'a mut Counters,
    pub(crate) effects: &'a mut Vec<Effect>,
    pub(crate) lies: &'a mut Lies,
    /// Whether the group of grants was negotiated.
    pub(crate) grants_negotiated: bool,
}

impl Context<'_> {
    /// An event at `port`; nothing happens if there is no such port.
    pub(crate) fn raise(&mut self, port: u32) {
        // A queue's port exists while the queue does; a late interrupt may come behind its end.
        let _ = raise(self.ports, u64::from(port), self.counters, self.effects);
    }

    /// The guest wants more than it may have of something.
    pub(crate) fn over_quota(&mut self, what: fmt::Arguments<'_>) {
        over_quota(what, self.counters, self.effects);
    }

    /// The guest lied.
    pub(crate) fn lie(&mut self, what: fmt::Arguments<'_>) {
        self.lies.tell(what, self.effects);
    }
}

/// An event at a port that a peer named.
///
/// # Errors
/// `NOT_FOUND`.
pub(crate) fn raise(
    ports: &mut Ports,
    port: u64,
    counters: &mut Counters,
    effects: &mut Vec<Effect>,
) -> Result<(), CallError> {
    match ports.signal(port)? {
        Delivery::To(vcpu) => deliver(vcpu, port, counters, effects),
        Delivery::Held => counters.latched_events = counters.latched_events.saturating_add(1),
    }
    Ok(())
}

/// What a guest asked beyond a quota: counted, and told as rarely as a lie.
pub(crate) fn over_quota(what: fmt::Arguments<'_>, counters: &mut Counters, effects: &mut Vec<Effect>) {
    counters.over_quota = counters.over_quota.saturating_add(1);
    if counters.over_quota.is_power_of_two() {
        effects.push(Effect::Log(format!("quota: {what} ({} refusals so far)", counters.over_quota)));
    }
}

/// An event that nothing holds back.
pub(crate) fn deliver(vcpu: u32, port: u64, counters: &mut Counters, effects: &mut Vec<Effect>) {
    if let Ok(port) = u32::try_from(port) {
        counters.raised = counters.raised.saturating_add(1);
        effects.push(Effect::Raise { vcpu, port });
    }
}

/// How often the guest lied. The first, second, fourth, eighth ... lie is told, so the log grows by the logarithm.
#[derive(Debug, Default)]
pub(crate) struct Lies {
    count: u64,
}

impl Lies {
    pub(crate) fn tell(&mut self, what: fmt::Arguments<'_>, effects: &mut Vec<Effect>) {
        self.count = self.count.saturating_add(1);
        if self.count.is_power_of_two() {
            effects.push(Effect::Log(format!("{what} (number {} of this guest's faults)", self.count)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn million_lies_make_twenty_lines() {
        let (mut lies, mut effects) = (Lies::default(), Vec::new());
        for _ in 0..1_000_000 {
            lies.tell(format_args!("nonsense"), &mut effects);
        }
        assert_eq!(effects.len(), 20);
        assert_eq!(effects[19], Effect::Log("nonsense (number 524288 of this guest's faults)".into()));
    }
}
