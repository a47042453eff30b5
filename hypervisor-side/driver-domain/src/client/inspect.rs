//! What a daemon's monitors have of it and ask of it, for whoever operates it.

use super::link::{BackendError, Link};
use crate::daemon::{MAX_DEVICES, MAX_MONITORS};
use crate::protocol::{Inspect, Inspected, MAX_COUNTED, Message, Spent, Totals, text};
use pvkit_abi::bus::Class;
use pvkit_abi::status::CallError;
use pvkit_backends::QueueSnapshot;
use std::path::Path;
use zerocopy::FromBytes;

/// A daemon.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What all monitors asked for and spent.
    pub totals: Totals,
    /// Their devices.
    pub devices: Vec<Served>,
}

/// One device of one monitor.
#[derive(Clone, Debug)]
pub struct Served {
    /// As the monitor calls itself.
    pub monitor: String,
    /// Bytes of the monitor's memory that the daemon may reach.
    pub window: u64,
    /// The name by which the daemon's operator knows the device.
    pub id: String,
    /// The monitor's number of it.
    pub device: u32,
    /// Its kind.
    pub class: Class,
    /// Queues that are open.
    pub open: u16,
    /// What the monitor asked for and spent, for all of its devices together.
    pub spent: Spent,
    /// What its queues did, by number.
    pub queues: Vec<(u32, QueueSnapshot)>,
}

/// The daemon at `socket` and every device of every monitor, each as it was when it was asked about: monitors come and go meanwhile.
///
/// # Errors
/// Nobody is there, it speaks another protocol, or a monitor is being served for longer than anybody waits.
pub fn inspect(socket: &Path) -> Result<Inspection, BackendError> {
    all(&mut Link::open(socket, &format!("an operator (process {})", std::process::id()))?)
}

/// As the daemon says: [`MAX_MONITORS`] times [`MAX_DEVICES`] at most.
///
/// # Errors
/// As for [`inspect`].
pub(super) fn all(link: &mut Link) -> Result<Inspection, BackendError> {
    let mut all = Vec::new();
    while all.len() < MAX_MONITORS * MAX_DEVICES {
        let message = Message::Inspect(Inspect { place: all.len() as u32, reserved: 0 });
        match link.ask(&message, &[]) {
            Ok((bytes, _)) => all.push(served(&bytes)?),
            Err(BackendError::Refused(CallError::NOT_FOUND)) => break,
            Err(BackendError::Refused(CallError::BUSY)) => return Err(BackendError::Busy),
            Err(error) => return Err(error),
        }
    }
    let (bytes, _) = link.ask(&Message::Totals, &[])?;
    let totals = Totals::read_from_bytes(&bytes).map_err(|_| BackendError::Lie("totals of another size"))?;
    Ok(Inspection { totals, devices: all })
}

fn served(bytes: &[u8]) -> Result<Served, BackendError> {
    let seen = Inspected::read_from_bytes(bytes).map_err(|_| BackendError::Lie("an inspection of another size"))?;
    let count = (seen.counters.count as usize).min(MAX_COUNTED);
    let queues =
        seen.counters.queues.iter().take(count).map(|queue| (queue.queue, QueueSnapshot::from_numbers(queue.numbers)));
    Ok(Served {
        monitor: text(&seen.monitor),
        window: seen.window,
        id: text(&seen.id),
        device: seen.device,
        class: seen.class,
        open: seen.open,
        spent: seen.spent,
        queues: queues.collect(),
    })
}
