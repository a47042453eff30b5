//! `pvkit inspect` of a daemon: whom it serves, and what it did for them.

use super::show::write_counted;
use crate::failure::Failure;
use crate::stats;
use pvkit_backends::QueueSnapshot;
use pvkit_driver_domain::client::{self, Inspection, Served};
use pvkit_driver_domain::protocol::{Spent, Totals};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Asks the daemon at `socket`.
///
/// # Errors
/// Nobody is there, or it does not answer.
pub fn inspect(socket: &Path) -> Result<Inspection, Failure> {
    client::inspect(socket)
        .map_err(|error| Failure::user(error).while_doing(format!("{} cannot be inspected", socket.display())))
}

/// Everything as one object.
#[must_use]
pub fn to_json(all: &Inspection) -> Value {
    let Totals { open, connections, late, turned_away, spent: all_spent } = all.totals;
    json!({
        "connections": { "open": open, "served": connections, "late": late, "turned_away": turned_away },
        "monitors": spent(&all_spent),
        "devices": all.devices.iter().map(device).collect::<Vec<_>>(),
    })
}

fn spent(all: &Spent) -> Value {
    let Spent { messages, held_back, refused, lines, withheld } = *all;
    json!({
        "messages": messages, "held_back": held_back, "refused_by_quota": refused, "lines": lines,
        "lines_withheld": withheld,
    })
}

fn device(served: &Served) -> Value {
    let queue = |(number, seen): &(u32, QueueSnapshot)| {
        let mut all = stats::queue_to_json(seen);
        all["queue"] = json!(number);
        all
    };
    json!({
        "monitor": served.monitor, "window_bytes": served.window, "id": served.id, "device": served.device,
        "class": format!("{:?}", served.class), "open_queues": served.open, "monitor_spent": spent(&served.spent),
        "queues": served.queues.iter().map(queue).collect::<Vec<_>>(),
    })
}

/// The same for people.
#[must_use]
pub fn to_text(all: &Inspection) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut text, all);
    text
}

fn write_text(text: &mut String, all: &Inspection) -> std::fmt::Result {
    if all.devices.is_empty() {
        writeln!(text, "nobody has a device")?;
    }
    for served in &all.devices {
        write!(
            text,
            "{} {:?} of {}, device {}: {} queues open, window {} KiB",
            served.id,
            served.class,
            served.monitor,
            served.device,
            served.open,
            served.window >> 10
        )?;
        write_spent(text, &served.spent)?;
        for (number, seen) in &served.queues {
            write!(text, "  queue {number}")?;
            write_counted(text, &stats::queue_to_json(seen))?;
            writeln!(text)?;
        }
    }
    let Totals { open, connections, late, turned_away, spent } = &all.totals;
    write!(
        text,
        "connections: open {open}, served {connections}, late {late}, turned away {turned_away}; all monitors"
    )?;
    write_spent(text, spent)
}

fn write_spent(text: &mut String, spent: &Spent) -> std::fmt::Result {
    write!(text, "; messages {}, lines {}", spent.messages, spent.lines)?;
    let rest =
        [("held back", spent.held_back), ("refused by quota", spent.refused), ("lines withheld", spent.withheld)];
    for (name, count) in rest.iter().filter(|(_, count)| *count != 0) {
        write!(text, ", {name} {count}")?;
    }
    writeln!(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pvkit_abi::bus::Class;

    #[test]
    fn both_forms_say_whose_device_it_is_and_what_it_did() {
        let seen = QueueSnapshot { requests: 7, errors: 2, ..QueueSnapshot::default() };
        let served = Served {
            monitor: "guest (process 1)".into(),
            window: 64 << 20,
            id: "root".into(),
            device: 1,
            class: Class::BLOCK,
            open: 1,
            spent: Spent { messages: 9, refused: 3, ..Spent::default() },
            queues: vec![(0, seen)],
        };
        let totals = Totals { open: 2, turned_away: 5, ..Totals::default() };
        let all = Inspection { totals, devices: vec![served] };
        let text = to_text(&all);
        assert!(text.contains("root BLOCK of guest (process 1), device 1: 1 queues open, window 65536 KiB"), "{text}");
        assert!(text.contains("requests 7") && text.contains("errors 2") && !text.contains("faults"), "{text}");
        assert!(text.contains("; messages 9, lines 0, refused by quota 3\n"), "{text}");
        assert!(text.contains("connections: open 2, served 0, late 0, turned away 5"), "{text}");
        let json = to_json(&all);
        assert_eq!(json["devices"][0]["queues"][0]["requests"], 7);
        assert_eq!(json["devices"][0]["monitor_spent"]["refused_by_quota"], 3);
        assert_eq!(json["connections"]["turned_away"], 5);
        assert!(to_text(&Inspection { devices: Vec::new(), ..all }).starts_with("nobody has a device\n"));
    }
}
