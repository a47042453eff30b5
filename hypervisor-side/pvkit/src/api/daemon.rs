//! `pvkit inspect` of a daemon: whom it serves, and what it did for them.

use crate::failure::Failure;
use pvkit_driver_domain::client::{self, Served};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Asks the daemon at `socket`.
///
/// # Errors
/// Nobody is there, or it does not answer.
pub fn inspect(socket: &Path) -> Result<Vec<Served>, Failure> {
    client::inspect(socket)
        .map_err(|error| Failure::user(error).while_doing(format!("{} cannot be inspected", socket.display())))
}

/// Everything as one object.
#[must_use]
pub fn to_json(all: &[Served]) -> Value {
    json!({ "devices": all.iter().map(device).collect::<Vec<_>>() })
}

fn device(served: &Served) -> Value {
    json!({
        "monitor": served.monitor, "window_bytes": served.window, "id": served.id, "device": served.device,
        "class": format!("{:?}", served.class), "open_queues": served.open,
        "queues": served.queues.iter().map(|(number, seen)| json!({
            "queue": number, "requests": seen.requests, "completions": seen.completions, "errors": seen.errors,
            "doorbells": seen.doorbells, "interrupts": seen.interrupts, "faults": seen.faults,
            "bytes_read": seen.bytes_read, "bytes_written": seen.bytes_written, "frames": seen.frames,
            "dropped": seen.dropped, "sleeps": seen.sleeps, "late": seen.late,
        })).collect::<Vec<_>>(),
    })
}

/// The same for people.
#[must_use]
pub fn to_text(all: &[Served]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut text, all);
    text
}

fn write_text(text: &mut String, all: &[Served]) -> std::fmt::Result {
    if all.is_empty() {
        return writeln!(text, "nobody has a device");
    }
    for served in all {
        writeln!(
            text,
            "{} {:?} of {}, device {}: {} queues open, window {} KiB",
            served.id,
            served.class,
            served.monitor,
            served.device,
            served.open,
            served.window >> 10
        )?;
        for (number, seen) in &served.queues {
            write!(
                text,
                "  queue {number}: requests {}, completions {}, doorbells {}, interrupts {}, sleeps {}",
                seen.requests, seen.completions, seen.doorbells, seen.interrupts, seen.sleeps
            )?;
            let rest = [
                ("frames", seen.frames),
                ("errors", seen.errors),
                ("faults", seen.faults),
                ("dropped", seen.dropped),
                ("late", seen.late),
            ];
            for (name, count) in rest.iter().filter(|(_, count)| *count != 0) {
                write!(text, ", {name} {count}")?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pvkit_abi::bus::Class;
    use pvkit_backends::QueueSnapshot;

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
            queues: vec![(0, seen)],
        };
        let text = to_text(std::slice::from_ref(&served));
        assert!(text.contains("root BLOCK of guest (process 1), device 1: 1 queues open, window 65536 KiB"), "{text}");
        assert!(text.contains("requests 7") && text.contains("errors 2") && !text.contains("faults"), "{text}");
        let json = to_json(&[served]);
        assert_eq!(json["devices"][0]["queues"][0]["requests"], 7);
        assert_eq!(to_text(&[]), "nobody has a device\n");
    }
}
