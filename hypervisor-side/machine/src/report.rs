//! What a run came to.

use pvkit_backends::QueueSnapshot;
use pvkit_driver_domain::client::BackendCounters;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It powered off.
    PowerOff {
        /// Its exit status.
        code: u8,
    },
    /// It asked to be started again.
    Reboot,
    /// It crashed.
    Crash {
        /// Its last words, or what the processor reported.
        message: String,
        /// Registers as text.
        registers: String,
    },
    /// It was stopped from outside.
    Stopped,
}

/// A guest's text as an operator's terminal may see it: control characters other than newline and tab are replaced, so
/// that a guest cannot command the terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c };
    String::from_utf8_lossy(bytes).chars().map(plain).collect()
}

/// Exits to user space, counted where they are handled.
#[derive(Debug, Default)]
pub(crate) struct ExitCounts {
    pub hypercall: AtomicU64,
    /// Ports and memory of emulated devices.
    pub device: AtomicU64,
    pub stray: AtomicU64,
    pub halt: AtomicU64,
    pub kick: AtomicU64,
    /// Re-entries that only complete a pending instruction.
    pub settle: AtomicU64,
    pub other: AtomicU64,
    /// Not exits: upcalls delivered.
    pub upcalls: AtomicU64,
    /// Not exits: upcalls that had no stack to go to.
    pub lost_upcalls: AtomicU64,
}

impl ExitCounts {
    pub(crate) fn by_reason(&self) -> BTreeMap<String, u64> {
        let all = [
            ("hypercall", &self.hypercall),
            ("device access", &self.device),
            ("stray access", &self.stray),
            ("halt", &self.halt),
            ("kick", &self.kick),
            ("completion", &self.settle),
            ("other", &self.other),
        ];
        let loaded = all.map(|(name, count)| (name.to_string(), count.load(Ordering::Relaxed)));
        loaded.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// One queue's numbers.
#[derive(Clone, Debug)]
pub struct QueueReport {
    /// The device's name.
    pub device: String,
    /// The queue's number.
    pub queue: u16,
    /// What it did.
    pub counters: QueueSnapshot,
}

/// A backend in another process.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// Where it listens.
    pub path: PathBuf,
    /// What happened to the connection.
    pub counters: BackendCounters,
}

impl fmt::Display for BackendReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackendCounters { losses, returns, interrupts, throttled, last_gap_ns } = self.counters;
        let path = self.path.display();
        write!(f, "backend {path}: {interrupts} interrupts, lost {losses} times, back {returns} times")?;
        if returns > 0 {
            write!(f, ", the last time after {:.1} ms", last_gap_ns as f64 / 1e6)?;
        }
        if throttled > 0 {
            write!(f, ", {throttled} times held back")?;
        }
        Ok(())
    }
}

/// The bus of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BusReport {
    /// Requests of the guest.
    pub requests: u64,
    /// Of these, answered with an error.
    pub request_errors: u64,
    /// Messages to the guest.
    pub messages: u64,
    /// Messages that were dropped because the guest did not take them.
    pub dropped: u64,
    /// Times that the guest broke its protocol.
    pub latches: u64,
    /// Requests and calls that were refused because of a quota of the guest's.
    pub over_quota: u64,
    /// Calls after which a vCPU had to wait because the guest says too much.
    pub held_back: u64,
    /// Lines about the guest that were not told because there were too many.
    pub withheld: u64,
}

impl BusReport {
    /// As the core counted.
    pub(crate) const fn of(counters: &pvkit_core::Counters) -> Self {
        Self {
            requests: counters.guest_messages,
            request_errors: counters.guest_message_errors,
            messages: counters.host_messages,
            dropped: counters.dropped_messages,
            latches: counters.latches,
            over_quota: counters.over_quota,
            held_back: 0,
            withheld: 0,
        }
    }
}

impl fmt::Display for BusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, request_errors, messages, .. } = self;
        write!(f, "bus: {requests} requests ({request_errors} refused), {messages} messages")?;
        let rest = [
            (self.dropped, "messages dropped"),
            (self.latches, "times latched"),
            (self.over_quota, "refused by quota"),
            (self.held_back, "times held back"),
            (self.withheld, "lines withheld"),
        ];
        rest.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

/// All numbers of a run.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Each queue that was opened.
    pub queues: Vec<QueueReport>,
    /// Each backend in another process.
    pub backends: Vec<BackendReport>,
    /// The bus.
    pub bus: BusReport,
    /// Returns of `KVM_RUN` to user space, by reason. Doorbells are not among them: KVM handles those itself.
    pub exits: BTreeMap<String, u64>,
    /// Hypercalls by name.
    pub hypercalls: BTreeMap<String, u64>,
    /// Events made pending.
    pub events: u64,
    /// Upcalls delivered.
    pub upcalls: u64,
    /// KVM's own statistics, summed over the vCPUs; empty where the kernel has none.
    pub kvm: BTreeMap<String, u64>,
}

impl Counters {
    /// All returns to user space.
    #[must_use]
    pub fn total_exits(&self) -> u64 {
        self.exits.values().sum()
    }
}

/// A running guest, seen from outside. A copy: the guest goes on.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Bus, devices, ports.
    pub core: pvkit_core::Inspection,
    /// Names of the devices, in the order of their numbers.
    pub labels: Vec<String>,
    /// What was agreed, a line each.
    pub negotiated: Vec<String>,
    /// Devices whose backend is in another process.
    pub remotes: Vec<u32>,
    /// Numbers.
    pub counters: Counters,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// Which machine it ran on.
    pub machine: &'static str,
    /// Which boot of the run this is, from 1; set by who boots a guest again.
    pub boots: u64,
    /// What was agreed between guest and host, a line each.
    pub negotiated: Vec<String>,
    /// Numbers.
    pub counters: Counters,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine: {}", self.machine)?;
        if self.boots > 1 {
            writeln!(f, "boots: {}; the numbers are the last one's", self.boots)?;
        }
        for line in &self.negotiated {
            writeln!(f, "negotiated: {line}")?;
        }
        for queue in &self.counters.queues {
            writeln!(f, "queue {} of {}: {}", queue.queue, queue.device, queue.counters)?;
        }
        for backend in &self.counters.backends {
            writeln!(f, "{backend}")?;
        }
        writeln!(f, "{}", self.counters.bus)?;
        let list = |map: &BTreeMap<String, u64>| {
            let parts: Vec<_> = map.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if parts.is_empty() { "none".to_string() } else { parts.join(", ") }
        };
        writeln!(f, "exits to user space: {} ({})", self.counters.total_exits(), list(&self.counters.exits))?;
        writeln!(f, "hypercalls: {}", list(&self.counters.hypercalls))?;
        writeln!(f, "events: {}, upcalls: {}", self.counters.events, self.counters.upcalls)?;
        if !self.counters.kvm.is_empty() {
            writeln!(f, "KVM statistics: {}", list(&self.counters.kvm))?;
        }
        Ok(())
    }
}
