//! Volume through a TAP, between the host's own network stack and a real guest; and what the frames on it look like.

use pvkit_backends::net::{Inbox, Network, Plain, Steering, Tap, TapOptions};
use pvkit_machine::{Control, Device, Program};
use pvkit_tests::capture::{Capture, Judged};
use pvkit_tests::flow::{self, Volume};
use pvkit_tests::own_network::{in_own_network, ip};
use pvkit_tests::{Guest, unikernel, unless_kvm};
use std::sync::Arc;
use std::time::Duration;

const MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];

/// Lets a guest and the host's stack talk over a TAP of this process's own network, with what the guest's frames looked like.
fn talk(what: &str, program: Program, mtu: u16, guest_offloads: bool, host_offloads: bool, volume: Volume) -> Judged {
    let inbox = Inbox::new(1024).unwrap_or_else(|error| panic!("{error}"));
    let steering = Steering::new(MAC, vec![inbox]);
    ip("tuntap add dev pv0 mode tap");
    ip(&format!("link set pv0 mtu {mtu} up"));
    ip("addr add 10.8.0.1/24 dev pv0");
    let options = TapOptions { name: Some("pv0".into()), fd: None, mtu };
    let tap = Tap::open(options, steering.clone()).unwrap_or_else(|error| panic!("{error}"));
    let network: Arc<dyn Network> = if host_offloads { tap } else { Arc::new(Plain(tap)) };
    let offload = if guest_offloads { "on" } else { "off" };
    let guest = Guest::new(program, &format!("app=flow address=10.8.0.2/24 offload={offload}")).console();
    let guest = guest.deadline(Duration::from_secs(1200));
    let guest = guest.device(Device::Net { network, steering, mtu, label: "net".into() });
    let (console, control) = (guest.sink(), Control::new());
    let operator = control.clone();
    let what = format!("{what}, TAP, MTU {mtu}");
    let client = std::thread::spawn(move || {
        let flown = std::panic::catch_unwind(|| {
            console.wait_for("flow ready");
            let capture = Capture::start(MAC);
            let at = |port| std::net::SocketAddr::from(([10, 8, 0, 2], port));
            flow::all(&what, at(7000), at(7001), volume);
            capture.end()
        });
        operator.stop();
        flown
    });
    let ran = guest.try_run_with(&control).unwrap_or_else(|error| panic!("{error}"));
    let flown = client.join().unwrap_or_else(|_| panic!("the client panicked"));
    ip("link del pv0");
    assert_eq!(ran.report.counters.queues.iter().map(|queue| queue.counters.errors).sum::<u64>(), 0, "{}", ran.report);
    flown.unwrap_or_else(|_| panic!("console:\n{}\nhost:\n{}\n{}", ran.console, ran.early, ran.report))
}

fn hosted() -> Program {
    Program::InProcess(unikernel_hosted::main)
}

#[test]
fn streams_and_connections_through_a_tap_on_kvm() {
    if unless_kvm() {
        in_own_network("streams_and_connections_through_a_tap_on_kvm", || {
            talk("KVM", Program::Image(unikernel()), 1500, true, true, Volume::asked());
        });
    }
}

#[test]
fn streams_with_frames_of_9000_bytes() {
    in_own_network("streams_with_frames_of_9000_bytes", || {
        let volume = Volume { bytes: 8 << 20, connections: 10 };
        talk("in process", hosted(), 9000, true, true, volume);
    });
}

#[test]
fn checksums_are_right_with_offloads_off_on_either_side() {
    in_own_network("checksums_are_right_with_offloads_off_on_either_side", || {
        let volume = Volume { bytes: 2 << 20, connections: 20 };
        for (guest, host) in [(false, true), (true, false), (false, false), (true, true)] {
            let what = format!("in process, offloads {guest} {host}");
            let judged = talk(&what, hosted(), 1500, guest, host, volume);
            assert_eq!(judged.wrong, 0, "guest {guest}, host {host}: {judged:?}");
            if guest && host {
                assert!(judged.begun > 100, "with offloads on both sides checksums are left to the host: {judged:?}");
            } else {
                assert!(judged.right > 100 && judged.begun == 0, "guest {guest}, host {host}: {judged:?}");
            }
        }
    });
}
