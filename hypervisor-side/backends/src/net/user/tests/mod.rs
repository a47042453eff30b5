//! The network against a guest made of a TCP/IP stack of its own, servers on loopback, and frames that lie.

mod guest;
mod hostile;
mod leases;
mod limits;
mod names;
mod offload;
mod publish;
mod streams;
mod udp;

use super::*;
use guest::{GATEWAY, Guest, plugged};
use smoltcp::socket::tcp::State;
use std::net::{Ipv4Addr, TcpListener};

/// Whether the long forms of the tests are wanted: 10^4 connections, 1 GiB.
fn long() -> bool {
    std::env::var_os("PVKIT_LONG").is_some_and(|value| value != "0")
}

/// Options under which the gateway leads to servers of the test.
fn open_loopback() -> UserOptions {
    UserOptions { allow_loopback: true, resolvers: Resolvers::Fixed(Vec::new()), ..UserOptions::default() }
}

#[test]
fn the_gateway_answers_ping() {
    let mut guest = Guest::new(UserOptions::default());
    assert_eq!(guest.ping(GATEWAY), b"are you there?");
    assert_eq!(guest.ping(Ipv4Addr::new(10, 0, 2, 3)), b"are you there?");
}

#[test]
fn the_hosts_loopback_is_refused_by_default() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let port = server.local_addr().unwrap().port();
    let mut guest = Guest::new(UserOptions::default());
    for address in [GATEWAY, Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(127, 1, 2, 3)] {
        if address.is_unspecified() {
            continue;
        }
        let socket = guest.connect(address, port);
        guest.until("the refusal", |guest| guest.state(socket) == State::Closed);
    }
    assert!(server.accept().is_err(), "nobody came");
    assert_eq!(guest.network.counters().connections, 0);
}

#[test]
fn an_idle_network_does_not_wake_up() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut guest = Guest::new(open_loopback());
    let _held = guest.connected(&server);
    guest.settle();
    let before = guest.network.counters().wakes;
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(guest.network.counters().wakes - before, 0, "an open connection that is silent costs nothing");
}

#[test]
fn nonsense_is_refused_with_its_name() {
    let refused =
        |options: UserOptions| UserNetwork::start(options, plugged(&Inbox::new(8).unwrap())).unwrap_err().to_string();
    let base = UserOptions::default;
    assert!(refused(UserOptions { mtu: 100, ..base() }).contains("MTU 100 is out of range"));
    assert!(refused(UserOptions { mtu: 9001, ..base() }).contains("MTU 9001 is out of range"));
    assert!(refused(UserOptions { prefix: 31, ..base() }).contains("10.0.2.0/31 is no subnet"));
    assert!(refused(UserOptions { prefix: 16, ..base() }).contains("10.0.2.0/16 is no subnet"));
    assert!(refused(UserOptions { publish: vec![Publish::tcp(0, 0)], ..base() }).contains("port 0 of the guest"));
    for guest in [[10, 0, 2, 255], [10, 0, 3, 1], [10, 0, 2, 2]] {
        let guest = Ipv4Addr::from(guest);
        assert!(refused(UserOptions { guest, ..base() }).contains(&guest.to_string()));
    }
}
