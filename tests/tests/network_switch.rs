//! Two guests on one switch: they ping each other and stream to each other at once, on KVM and in this process.

use pvkit_backends::net::{Frame, Inbox, Network, PortOptions, Steering, Switch, SwitchLimits};
use pvkit_machine::{Device, Program};
use pvkit_tests::{Guest, Ran, unikernel, unless_kvm};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Bytes that each guest streams to the other.
const BYTES: u64 = 32 << 20;

fn steering(last: u8) -> Arc<Steering> {
    let inbox = Inbox::new(1024).unwrap_or_else(|error| panic!("{error}"));
    Steering::new([2, 0, 0, 0, 1, last], vec![inbox])
}

fn port(switch: &Arc<Switch>, last: u8, isolated: bool) -> Device {
    let steering = steering(last);
    let port = switch.port(PortOptions { isolated, ..PortOptions::new(steering.clone()) });
    let network = port.unwrap_or_else(|error| panic!("{error}"));
    Device::Net { network, steering, mtu: 1500, label: format!("port{last}") }
}

/// The guest 10.7.0.`last`, which has to do with 10.7.0.`other`.
fn guest(program: Program, port: Device, last: u8, other: u8, more: &str) -> Guest {
    let cmdline = format!("app=flow address=10.7.0.{last}/24 other=10.7.0.{other} count=20 {more}");
    Guest::new(program, &cmdline).console().device(port)
}

fn both(one: Guest, two: Guest) -> (Ran, Ran) {
    let two = thread::spawn(move || two.run());
    let one = one.run();
    (one, two.join().unwrap_or_else(|_| panic!("the second guest's test thread panicked")))
}

fn expect_flow(ran: &Ran) {
    ran.expect_success();
    assert_eq!(
        (ran.number("flow pings", "answered"), ran.number("flow pings", "bytes")),
        (20, BYTES),
        "{}",
        ran.console
    );
    assert_eq!(ran.number("flow ends", "spoilt"), 0, "{}", ran.console);
}

fn two_guests_ping_and_stream(program: fn() -> Program) {
    for offload in ["on", "off"] {
        let switch = Switch::new(SwitchLimits::default());
        let more = format!("bytes={BYTES} offload={offload}");
        let one = guest(program(), port(&switch, 1, false), 1, 2, &more);
        let two = guest(program(), port(&switch, 2, false), 2, 1, &more);
        let (one, two) = both(one, two);
        expect_flow(&one);
        expect_flow(&two);
    }
}

#[test]
fn two_guests_on_kvm_ping_and_stream_to_each_other() {
    if unless_kvm() {
        two_guests_ping_and_stream(|| Program::Image(unikernel()));
    }
}

#[test]
fn two_guests_in_this_process_ping_and_stream_to_each_other() {
    two_guests_ping_and_stream(|| Program::InProcess(unikernel_hosted::main));
}

#[test]
fn isolated_guests_do_not_reach_each_other() {
    let switch = Switch::new(SwitchLimits::default());
    let program = || Program::InProcess(unikernel_hosted::main);
    let one = guest(program(), port(&switch, 1, true), 1, 2, "tries=3");
    let two = guest(program(), port(&switch, 2, true), 2, 1, "tries=3");
    let (one, two) = both(one, two);
    for ran in [one, two] {
        assert!(ran.console.contains("does not answer pings"), "{}", ran.console);
    }
}

#[test]
fn flood_of_addresses_by_a_neighbour_costs_two_guests_nothing() {
    let switch = Switch::new(SwitchLimits::default());
    let flooder = steering(9);
    let options = PortOptions { may_spoof: true, ..PortOptions::new(flooder) };
    let storming = switch.port(options).unwrap_or_else(|error| panic!("{error}"));
    let flooding = storming.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let until = stop.clone();
    let flood = thread::spawn(move || {
        let mut number = 0_u32;
        while !until.load(Ordering::Relaxed) {
            let [a, b, c, d] = number.to_le_bytes();
            let mut frame = vec![0xff; 6];
            frame.extend([2, 7, a, b, c, d, 0x88, 0xb5]);
            frame.resize(60, 0);
            flooding.send(Frame::finished(frame));
            number += 1;
            if number.is_multiple_of(16) {
                thread::yield_now();
            }
        }
        number
    });
    let program = || Program::InProcess(unikernel_hosted::main);
    let more = format!("bytes={BYTES}");
    let one = guest(program(), port(&switch, 1, false), 1, 2, &more);
    let two = guest(program(), port(&switch, 2, false), 2, 1, &more);
    let (one, two) = both(one, two);
    stop.store(true, Ordering::Relaxed);
    let flooded = flood.join().unwrap_or(0);
    expect_flow(&one);
    expect_flow(&two);
    assert!(flooded > 1000, "{flooded} frames only");
    assert!(storming.counters().storms > 0, "{:?}", storming.counters());
    let limits = SwitchLimits::default();
    // Each port pins its own address besides.
    assert!(switch.learnt() <= limits.addresses_per_port + 3, "{} addresses are kept", switch.learnt());
}
