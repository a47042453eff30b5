//! `--stats`: what a run came to, for people or as JSON.

use crate::cli::StatsFormat;
use pvkit_driver_domain::client::BackendCounters;
use pvkit_machine::{BackendReport, Counters, QueueReport, Report};
use serde_json::{Value, json};
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
        "exits": counters.exits,
        "exits_total": counters.total_exits(),
        "hypercalls": counters.hypercalls,
        "events": counters.events,
        "upcalls": counters.upcalls,
        "kvm": counters.kvm,
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
    let counters = &queue.counters;
    json!({
        "device": queue.device,
        "queue": queue.queue,
        "requests": counters.requests,
        "completions": counters.completions,
        "in_flight": counters.requests.saturating_sub(counters.completions),
        "errors": counters.errors,
        "doorbells": counters.doorbells,
        "interrupts": counters.interrupts,
        "suppressed": counters.suppressed(),
        "faults": counters.faults,
        "bytes_read": counters.bytes_read,
        "bytes_written": counters.bytes_written,
        "sleeps": counters.sleeps,
        "late": counters.late,
    })
}
