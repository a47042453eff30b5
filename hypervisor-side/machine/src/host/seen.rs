//! A guest as it is seen from outside: a copy, while it goes on.

use super::Host;
use crate::report::{BusReport, Counters, Inspection};
use pvkit_abi::hypercall::Call;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

impl Host {
    /// Everything that can be said of the guest while it runs. The core's lock is held for a copy.
    pub fn inspect(&self) -> Inspection {
        let core = self.domain().inspect();
        let remotes = self.remotes().into_iter().flat_map(|(_, numbers)| numbers.into_values()).collect();
        let (labels, negotiated) = (self.devices.labels(), self.negotiated());
        Inspection { core, labels, negotiated, remotes, counters: self.counters() }
    }

    /// All numbers but KVM's own.
    pub fn counters(&self) -> Counters {
        // Before the core's lock is taken: a backend in another process is asked, and its interrupts need the lock.
        let (queues, backends) = (self.devices.reports(), self.devices.backends());
        let domain = self.domain();
        let counts = &domain.counters().hypercalls;
        let name = |number: &u32| Call(*number).name().map_or_else(|| format!("{number:#x}"), str::to_lowercase);
        let mut hypercalls: BTreeMap<_, _> = counts.iter().map(|(number, count)| (name(number), *count)).collect();
        if domain.counters().unknown_hypercalls > 0 {
            hypercalls.insert("unknown".into(), domain.counters().unknown_hypercalls);
        }
        let bus = BusReport {
            held_back: self.spending.held_back(),
            withheld: self.spending.withheld(),
            ..BusReport::of(domain.counters())
        };
        Counters {
            queues,
            backends,
            bus,
            exits: self.exits.by_reason(),
            hypercalls,
            events: self
                .gates
                .iter()
                .map(|gate| &gate.raised)
                .chain([&self.signals])
                .map(|n| n.load(Ordering::Relaxed))
                .sum(),
            upcalls: self.exits.upcalls.load(Ordering::Relaxed),
            kvm: Default::default(),
        }
    }
}
