//! What is known of a running guest, as JSON and, from that JSON, as text: so both say the same.

use super::server::Subject;
use crate::stats;
use pvkit_core::{DeviceInspection, Inspection as Core};
use pvkit_machine::Inspection;
use serde_json::{Value, json};
use std::fmt::Write;

/// Everything as one object.
#[must_use]
pub fn to_json(inspection: &Inspection, subject: &Subject) -> Value {
    let Core { bus, devices, ports } = &inspection.core;
    let label = |number: u32| inspection.labels.get(number as usize - 1).map_or("", String::as_str);
    json!({
        "uptime_seconds": subject.start.elapsed().as_secs_f64(),
        "negotiated": inspection.negotiated,
        "services": { "ready": subject.services.is_ready(), "stray_reports": subject.services.stray_reports() },
        "bus": bus.map(|bus| json!({
            "epoch": bus.epoch, "port": bus.port, "latched": bus.latched, "requests": bus.requests,
            "messages": bus.messages, "waiting": bus.waiting, "unanswered": bus.unanswered,
        })),
        "devices": devices.iter().map(|state| device(state, label(state.number), inspection.remotes.contains(&state.number)))
            .collect::<Vec<_>>(),
        "ports": ports.iter().map(|port| json!({
            "number": port.number, "vcpu": port.vcpu, "status": format!("{:?}", port.status),
        })).collect::<Vec<_>>(),
        "counters": stats::counters_to_json(&inspection.counters),
    })
}

fn device(state: &DeviceInspection, label: &str, is_remote: bool) -> Value {
    json!({
        "number": state.number, "class": format!("{:?}", state.class), "instance": state.instance, "label": label,
        "state": format!("{:?}", state.state), "epoch": state.epoch, "sealed": state.sealed, "memory": memory(state),
        "backend": if is_remote { "in another process, which maps the window alone" } else { "in this process" },
        "queues": state.queues.iter().map(|queue| json!({
            "number": queue.number, "open": queue.open, "depth": queue.depth,
            "completion_bytes": queue.completion_bytes, "port": queue.port,
        })).collect::<Vec<_>>(),
        "grants": state.grants.iter().map(|grant| json!({
            "grant": grant.grant, "base": grant.base, "length": grant.length, "access": format!("{:?}", grant.access),
        })).collect::<Vec<_>>(),
    })
}

/// How much of the guest's memory the device's backend may reach.
fn memory(state: &DeviceInspection) -> String {
    let bytes: u64 = state.grants.iter().map(|grant| grant.length).sum();
    match state.grants.len() {
        0 => "none".into(),
        count => format!("{count} extents, {} KiB", bytes >> 10),
    }
}

/// The object for people.
#[must_use]
pub fn to_text(all: &Value) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut text, all);
    text
}

fn write_text(text: &mut String, all: &Value) -> std::fmt::Result {
    let ready = if all["services"]["ready"] == true { "ready" } else { "not running" };
    writeln!(text, "up {:.1} s, services {ready}", all["uptime_seconds"].as_f64().unwrap_or(0.0))?;
    match &all["bus"] {
        Value::Null => writeln!(text, "bus: the guest has not set it up")?,
        bus => writeln!(
            text,
            "bus: epoch {}, port {}, requests {}, messages {}, waiting {}{}",
            bus["epoch"],
            bus["port"],
            bus["requests"],
            bus["messages"],
            bus["waiting"],
            if bus["latched"] == true { ", LATCHED" } else { "" }
        )?,
    }
    for device in items(&all["devices"]) {
        write_device(text, device, all)?;
    }
    for line in items(&all["negotiated"]).filter_map(Value::as_str) {
        writeln!(text, "agreed: {line}")?;
    }
    let counters = &all["counters"];
    for backend in items(&counters["backends"]) {
        writeln!(
            text,
            "backend {}: interrupts {}, lost {}, back {}, held back {}",
            word(&backend["path"]),
            backend["interrupts"],
            backend["losses"],
            backend["returns"],
            backend["throttled"]
        )?;
    }
    writeln!(text, "on the bus so far: {}", by_name(&counters["bus"]))?;
    writeln!(text, "ports: {}", items(&all["ports"]).count())?;
    writeln!(text, "events {}, upcalls {}", counters["events"], counters["upcalls"])?;
    writeln!(text, "exits to user space {}: {}", counters["exits_total"], by_name(&counters["exits"]))?;
    writeln!(text, "hypercalls: {}", by_name(&counters["hypercalls"]))
}

fn write_device(text: &mut String, device: &Value, all: &Value) -> std::fmt::Result {
    writeln!(
        text,
        "device {} {}.{} ({}): {}, epoch {}, backend {} reaches {}",
        device["number"],
        word(&device["class"]),
        device["instance"],
        word(&device["label"]),
        word(&device["state"]),
        device["epoch"],
        word(&device["backend"]),
        word(&device["memory"])
    )?;
    for queue in items(&device["queues"]) {
        let counted = items(&all["counters"]["queues"])
            .find(|counted| counted["device"] == device["label"] && counted["queue"] == queue["number"]);
        write!(text, "  queue {}: depth {}, port {}", queue["number"], queue["depth"], queue["port"])?;
        if let Some(counted) = counted {
            write_counted(text, counted)?;
        }
        writeln!(text)?;
    }
    Ok(())
}

/// A queue's numbers, each behind its name.
pub fn write_counted(text: &mut String, counted: &Value) -> std::fmt::Result {
    let happened = stats::IF_ANY.iter().filter(|name| counted[**name] != 0);
    for name in stats::ALWAYS.iter().chain(happened) {
        write!(text, ", {name} {}", counted[*name])?;
    }
    Ok(())
}

fn by_name(counts: &Value) -> String {
    let words: Vec<_> =
        counts.as_object().into_iter().flatten().map(|(name, count)| format!("{name} {count}")).collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
