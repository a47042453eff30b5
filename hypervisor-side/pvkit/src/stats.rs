//! `--stats`: what a run came to, for people or as JSON.

use crate::cli::StatsFormat;
use pvkit_backends::QueueSnapshot;
use pvkit_driver_domain::client::BackendCounters;
use pvkit_machine::{BackendReport, BusReport, Counters, QueueReport, Report};
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::path::Path;

/// Writes the report to `path`, or to standard error.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &Report, format: StatsFormat, path: Option<&Path>) -> io::Result<()> {
    let text = match format {
        StatsFormat::Text => report.to_string(),
        StatsFormat::Json => format!("{}\n", to_json(report)),
    };
    match path {
        Some(path) => std::fs::write(path, text),
        None => io::stderr().write_all(text.as_bytes()),
    }
}

/// The report as one object.
#[must_use]
pub fn to_json(report: &Report) -> Value {
    let mut all = counters_to_json(&report.counters);
    all["machine"] = report.machine.into();
    all["boots"] = report.boots.into();
    all["negotiated"] = json!(report.negotiated);
    all
}

/// The counters alone.
#[must_use]
pub fn counters_to_json(counters: &Counters) -> Value {
    json!({
        "queues": counters.queues.iter().map(queue).collect::<Vec<_>>(),
        "backends": counters.backends.iter().map(backend).collect::<Vec<_>>(),
        "bus": bus(&counters.bus),
        "exits": counters.exits,
        "exits_total": counters.total_exits(),
        "hypercalls": counters.hypercalls,
        "events": counters.events,
        "upcalls": counters.upcalls,
        "kvm": counters.kvm,
    })
}

fn bus(bus: &BusReport) -> Value {
    let BusReport { requests, request_errors, messages, dropped, latches, over_quota, held_back, withheld } = *bus;
    json!({
        "requests": requests,
        "request_errors": request_errors,
        "messages": messages,
        "dropped": dropped,
        "latches": latches,
        "refused_by_quota": over_quota,
        "held_back": held_back,
        "lines_withheld": withheld,
    })
}

fn backend(backend: &BackendReport) -> Value {
    let BackendCounters { losses, returns, interrupts, throttled, last_gap_ns } = backend.counters;
    json!({
        "path": backend.path.display().to_string(),
        "losses": losses,
        "returns": returns,
        "interrupts": interrupts,
        "throttled": throttled,
        "last_gap_ns": last_gap_ns,
    })
}

fn queue(queue: &QueueReport) -> Value {
    let mut all = queue_to_json(&queue.counters);
    (all["device"], all["queue"]) = (json!(queue.device), json!(queue.queue));
    all
}

/// One queue's numbers, each by its name, and what follows from them.
#[must_use]
pub fn queue_to_json(seen: &QueueSnapshot) -> Value {
    let mut all: Map<String, Value> = seen.named().map(|(name, count)| (name.to_owned(), json!(count))).collect();
    all.insert("in_flight".into(), json!(seen.requests.saturating_sub(seen.completions)));
    all.insert("suppressed".into(), json!(seen.suppressed()));
    all.insert("doorbells_suppressed".into(), json!(seen.quiet()));
    Value::Object(all)
}

/// Of one queue what is always told to people, then what is told if it happened.
pub const ALWAYS: [&str; 8] =
    ["requests", "completions", "in_flight", "doorbells", "doorbells_suppressed", "interrupts", "suppressed", "sleeps"];
/// See [`ALWAYS`].
pub const IF_ANY: [&str; 10] =
    ["frames", "dropped", "errors", "lost", "faults", "late", "full", "aborted", "spurious", "throttled"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_queue_has_its_name() {
        let numbers = std::array::from_fn(|index| index as u64 + 100);
        let seen = QueueSnapshot::from_numbers(numbers);
        let all = queue_to_json(&seen);
        for (name, number) in QueueSnapshot::NAMES.into_iter().zip(numbers) {
            assert_eq!(all[name], number, "{name}");
        }
        assert!(ALWAYS.iter().chain(&IF_ANY).all(|name| all[*name].is_u64()), "{all}");
    }
}
