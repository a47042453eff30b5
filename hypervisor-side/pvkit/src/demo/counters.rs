//! Shows what a run came to: what was negotiated, and the counters, each per request too.

use super::say::say;
use super::workshop::RunFile;
use serde_json::Value;
use std::io::{self, Read, Seek, SeekFrom};

/// Reads the counters that the last guest left, and empties the file for the next one.
///
/// # Errors
/// The file cannot be read, or holds no counters.
pub fn take(stats: &mut RunFile) -> io::Result<Value> {
    let mut text = String::new();
    stats.file.seek(SeekFrom::Start(0))?;
    stats.file.read_to_string(&mut text)?;
    stats.file.set_len(0)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}

/// Prints a run's counters.
pub fn show(title: &str, stats: &Value) {
    for line in lines(title, stats) {
        say(format_args!("{line}"));
    }
}

fn lines(title: &str, stats: &Value) -> Vec<String> {
    let mut lines = vec![format!("{title}: negotiated")];
    lines.extend(items(&stats["negotiated"]).filter_map(Value::as_str).map(|line| format!("  {line}")));
    lines.push(format!("{title}: counters"));
    lines.extend(items(&stats["queues"]).map(queue_line));
    let requests = items(&stats["queues"]).map(|queue| number(&queue["requests"])).sum::<u64>();
    let exits = number(&stats["exits_total"]);
    lines.push(format!(
        "  exits to user space: {exits} ({}): {}",
        per(exits, requests),
        by_name(&stats["exits"], requests)
    ));
    lines.push(format!("  hypercalls: {}", by_name(&stats["hypercalls"], requests)));
    if stats["kvm"].as_object().is_some_and(|kvm| !kvm.is_empty()) {
        lines.push(format!("  counted by KVM itself: {}", by_name(&stats["kvm"], requests)));
    }
    lines.push(format!("  events {}, upcalls {}", number(&stats["events"]), number(&stats["upcalls"])));
    lines
}

fn queue_line(queue: &Value) -> String {
    let requests = number(&queue["requests"]);
    let mut line = format!(
        "  {} queue {}: {requests} requests, {} bytes read, {} bytes written",
        queue["device"].as_str().unwrap_or("?"),
        number(&queue["queue"]),
        number(&queue["bytes_read"]),
        number(&queue["bytes_written"]),
    );
    for name in ["doorbells", "interrupts", "sleeps"] {
        let count = number(&queue[name]);
        line.push_str(&format!(", {count} {name} ({})", per(count, requests)));
    }
    for name in ["errors", "faults", "late"] {
        if number(&queue[name]) > 0 {
            line.push_str(&format!(", {} {name}", number(&queue[name])));
        }
    }
    line
}

fn by_name(counts: &Value, requests: u64) -> String {
    let named = counts.as_object().into_iter().flatten();
    let words: Vec<String> =
        named.map(|(name, count)| format!("{name} {} ({})", number(count), per(number(count), requests))).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

fn per(count: u64, requests: u64) -> String {
    if requests == 0 {
        return "no requests".into();
    }
    format!("{:.2} per request", count as f64 / requests as f64)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_count_is_shown_per_request() {
        let stats = json!({
            "negotiated": ["event 0.1"],
            "queues": [{ "device": "disk", "queue": 0, "requests": 4, "doorbells": 2, "interrupts": 1, "late": 3 }],
            "exits": { "hypercall": 8 }, "exits_total": 8, "hypercalls": { "BUS_KICK": 2 },
        });
        let text = lines("files", &stats).join("\n");
        for part in ["event 0.1", "4 requests", "2 doorbells (0.50", "hypercall 8 (2.00", "BUS_KICK 2 (0.50", "3 late"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_run_without_requests_divides_by_nothing() {
        assert!(lines("x", &json!({})).join("\n").contains("no requests"));
    }
}
