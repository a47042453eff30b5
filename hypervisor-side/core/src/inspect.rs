//! The bus and the ports as text, for a human.

use crate::bus::Bus;
use crate::device::{Device, Queue};
use crate::events::Ports;
use core::fmt::{self, Write};

/// A line for the bus, each device, each queue and grant, and each port.
pub(crate) fn inspect(bus: &Bus, ports: &Ports) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_bus(&mut text, bus).and_then(|()| write_ports(&mut text, ports));
    text
}

fn write_bus(text: &mut String, bus: &Bus) -> fmt::Result {
    match &bus.link {
        None => writeln!(text, "bus not set up")?,
        Some(link) => writeln!(
            text,
            "bus epoch {} port {:?}{} requests {} messages {} waiting {} unanswered {}",
            bus.epoch,
            bus.port,
            if link.is_latched() { " LATCHED" } else { "" },
            link.requests_in_flight(),
            link.messages_in_flight(),
            bus.backlog.len(),
            bus.pending.len(),
        )?,
    }
    (1_u32..).zip(&bus.devices).try_for_each(|(number, device)| write_device(text, number, device))
}

fn write_device(text: &mut String, number: u32, device: &Device) -> fmt::Result {
    let Device { offer, state, epoch, .. } = device;
    writeln!(text, "device {number} {:?}.{} {state:?} epoch {epoch}", offer.class, offer.instance)?;
    if let Some(sealed) = device.sealed(number) {
        writeln!(text, "  sealed: {sealed}")?;
    }
    for queue in &device.queues {
        let state = if queue.open { "open" } else { "opening" };
        let Queue { number, depth, completion_bytes, port, .. } = queue;
        writeln!(text, "  queue {number} {state} depth {depth} completions of {completion_bytes} bytes port {port:?}")?;
    }
    for (grant, extent) in device.grants.iter() {
        writeln!(text, "  grant {:#x} {:#x}+{:#x} {:?}", grant.0, extent.base.0, extent.length, extent.access)?;
    }
    Ok(())
}

fn write_ports(text: &mut String, ports: &Ports) -> fmt::Result {
    ports.iter().try_for_each(|(number, vcpu, status)| writeln!(text, "port {number} vcpu {vcpu} {status:?}"))
}
