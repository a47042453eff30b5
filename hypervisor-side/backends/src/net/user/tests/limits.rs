//! Bounds of the connections.

use super::guest::{GATEWAY, Guest};
use super::*;

fn limited(limits: UserLimits) -> Guest {
    Guest::new(UserOptions { limits, ..open_loopback() })
}

#[test]
fn a_full_table_refuses_and_recovers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = limited(UserLimits { connections: 2, ..UserLimits::default() });
    let first = guest.connect(GATEWAY, port);
    let second = guest.connect(GATEWAY, port);
    guest.until("two connections", |guest| {
        guest.state(first) == State::Established && guest.state(second) == State::Established
    });
    let third = guest.connect(GATEWAY, port);
    guest.until("the refusal", |guest| guest.state(third) == State::Closed);
    assert_eq!(guest.network.counters().refused_connections, 1);
    guest.tcp(first).abort();
    guest.step();
    let fourth = guest.connect(GATEWAY, port);
    guest.until("the connection", |guest| guest.state(fourth) == State::Established);
}

#[test]
fn a_connection_that_was_idle_for_long_makes_room() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let idle = std::time::Duration::ZERO;
    let mut guest = limited(UserLimits { connections: 1, idle, ..UserLimits::default() });
    let first = guest.connect(GATEWAY, port);
    guest.until("the connection", |guest| guest.state(first) == State::Established);
    let second = guest.connect(GATEWAY, port);
    guest.until("the exchange", |guest| {
        guest.state(first) == State::Closed && guest.state(second) == State::Established
    });
}

#[test]
fn connections_that_are_over_leave_the_table() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The table has room for all of them, the wait for late segments for three.
    let mut guest = limited(UserLimits { connections: 64, time_wait: 3, ..UserLimits::default() });
    for _ in 0..20 {
        let (socket, stream) = guest.connected(&listener);
        drop(stream);
        guest.until("the server's end", |guest| guest.state(socket) == State::CloseWait);
        guest.tcp(socket).close();
        guest.until("the end", |guest| guest.state(socket) == State::Closed);
    }
    let counters = guest.network.counters();
    assert_eq!((counters.connections, counters.refused_connections, counters.broken_connections), (20, 0, 0));
    guest.until("end of all waits but three", |guest| guest.network.counters().shortened_waits == 17);
}

#[test]
fn a_guest_that_falls_silent_loses_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let patience = std::time::Duration::from_millis(300);
    let mut guest = limited(UserLimits { patience, ..UserLimits::default() });
    let (_, mut stream) = guest.connected(&listener);
    // From here on the guest takes nothing.
    std::io::Write::write_all(&mut stream, b"anyone?").unwrap();
    let end = std::io::Read::read(&mut stream, &mut [0; 1]);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(guest.network.counters().broken_connections, 1);
}
