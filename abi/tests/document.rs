//! The tables of `abi/README.md` against the crate: every number that the document must name, under its right name.

use bitflags::Flags;
use pvkit_abi::block::BlockOp;
use pvkit_abi::bus::{DeviceState, Kind};
use pvkit_abi::console::ConsoleOp;
use pvkit_abi::entropy::EntropyOp;
use pvkit_abi::hypercall::Call;
use pvkit_abi::net::{FrameFlags, HashKind, LinkFlags, NetControl, NetFeatures, NetOp, ReceiveMode, Segmentation};
use pvkit_abi::services::{ServiceKind, ServiceOp, ServiceReport};
use pvkit_abi::status::{CallError, Status};
use pvkit_abi::version::Group;

const DOCUMENT: &str = include_str!("../README.md");

/// Every number up to `last` that has a name, and is not said by a line that `line` makes.
fn unsaid<'a>(
    last: u32,
    name: impl Fn(u32) -> Option<&'static str> + 'a,
    line: impl Fn(u32, &str) -> String + 'a,
) -> Vec<String> {
    let named = (0..=last).filter_map(|number| name(number).map(|name| line(number, name)));
    named.filter(|line| !DOCUMENT.contains(line)).collect()
}

const NOTHING: [String; 0] = [];

#[test]
fn every_hypercall_has_a_row() {
    assert_eq!(unsaid(0xffff, |n| Call(n).name(), |n, name| format!("| 0x{n:03x} | `{name}` |")), NOTHING);
}

#[test]
fn every_error_and_status_has_a_row() {
    assert_eq!(unsaid(0xffff, |n| CallError(n).name(), |n, name| format!("\n| {n} | `{name}` |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| Status(n as u8).name(), |n, name| format!("\n| {n} | `{name}` |")), NOTHING);
}

#[test]
fn every_message_and_operation_has_a_row() {
    assert_eq!(unsaid(0xff, |n| Kind(n as u8).name(), |n, name| format!("\n| `{name}` 0x{n:02x} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| BlockOp(n as u8).name(), |n, name| format!("\n| `{name}` {n} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| ConsoleOp(n as u8).name(), |n, name| format!("\n| `{name}` {n} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| NetOp(n as u8).name(), |n, name| format!("\n| `{name}` {n} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| NetControl(n as u16).name(), |n, name| format!("\n| `{name}` {n} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| ServiceOp(n as u8).name(), |n, name| format!("\n| `{name}` {n} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| EntropyOp(n as u8).name(), |n, name| format!("\n| `{name}` {n} |")), NOTHING);
}

#[test]
fn every_kind_of_event_report_segmentation_and_hash_is_named() {
    assert_eq!(unsaid(0xff, |n| ServiceKind(n).name(), |n, name| format!("\n| `{name}` | {n} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| ServiceReport(n as u16).name(), |n, name| format!("\n| `{name}` | {n} |")), NOTHING);
    assert_eq!(unsaid(0xff, |n| Segmentation(n as u8).name(), |n, name| format!("\n| `{name}` | {n} |")), NOTHING);
    let hash = |n| HashKind(n as u8).name().filter(|_| n != 0);
    assert_eq!(unsaid(0xff, hash, |n, name| format!("`{name}` {n}")), NOTHING);
}

/// Every flag of a set that is not said by a line that `line` makes.
fn unsaid_flags<F: Flags<Bits: Into<u64>>>(line: impl Fn(u64, &str) -> String) -> Vec<String> {
    let lines = F::FLAGS.iter().map(|flag| line(flag.value().bits().into(), flag.name()));
    lines.filter(|line| !DOCUMENT.contains(line)).collect()
}

#[test]
fn every_network_flag_is_said() {
    assert_eq!(unsaid_flags::<NetFeatures>(|n, name| format!("\n| `{name}` | {n} |")), NOTHING);
    assert_eq!(unsaid_flags::<FrameFlags>(|n, name| format!("\n| `{name}` | {n} |")), NOTHING);
    assert_eq!(unsaid_flags::<LinkFlags>(|n, name| format!("`{name}` {n}")), NOTHING);
    assert_eq!(unsaid_flags::<ReceiveMode>(|n, name| format!("`{name}` {n}")), NOTHING);
}

#[test]
fn every_group_and_device_state_is_named() {
    assert_eq!(unsaid(0xffff, |n| Group(n as u16).name(), |n, name| format!("`{name}` {n}")), NOTHING);
    assert_eq!(unsaid(0xffff, |n| DeviceState(n as u16).name(), |_, name| format!("| `{name}`")), NOTHING);
}
