//! Volume through the user network's published ports, from programs of the host to a real guest and back.

use pvkit_backends::net::user::{Publish, UserNetwork, UserOptions};
use pvkit_backends::net::{Inbox, Steering};
use pvkit_machine::{Control, Device, Program};
use pvkit_tests::flow::{self, Volume};
use pvkit_tests::{Guest, unikernel, unless_kvm};
use std::time::Duration;

const MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];

fn streams_and_connections(what: &str, program: Program) {
    let inbox = Inbox::new(1024).unwrap_or_else(|error| panic!("{error}"));
    let steering = Steering::new(MAC, vec![inbox]);
    let publish = vec![Publish::tcp(0, 7000), Publish::tcp(0, 7001)];
    let options = UserOptions { publish, ..UserOptions::default() };
    let network = UserNetwork::start(options, steering.clone()).unwrap_or_else(|error| panic!("{error}"));
    let (sink, source) = (network.published()[0], network.published()[1]);
    let guest = Guest::new(program, "app=flow").console().deadline(Duration::from_secs(1200));
    let guest = guest.device(Device::Net { network, steering, mtu: 1500, label: "net".into() });
    let (console, control) = (guest.sink(), Control::new());
    let operator = control.clone();
    let what = format!("{what}, user network");
    let client = std::thread::spawn(move || {
        let flown = std::panic::catch_unwind(|| {
            console.wait_for("flow address");
            flow::all(&what, sink, source, Volume::asked());
        });
        operator.stop();
        flown
    });
    let ran = guest.try_run_with(&control).unwrap_or_else(|error| panic!("{error}"));
    let flown = client.join().unwrap_or_else(|_| panic!("the client panicked"));
    assert!(flown.is_ok(), "console:\n{}\nhost:\n{}\n{}", ran.console, ran.early, ran.report);
    assert_eq!(ran.report.counters.queues.iter().map(|queue| queue.counters.errors).sum::<u64>(), 0, "{}", ran.report);
}

#[test]
fn streams_and_connections_through_the_user_network_on_kvm() {
    if unless_kvm() {
        streams_and_connections("KVM", Program::Image(unikernel()));
    }
}

#[test]
fn streams_and_connections_through_the_user_network_in_this_process() {
    streams_and_connections("in process", Program::InProcess(unikernel_hosted::main));
}
