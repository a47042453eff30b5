//! The relay of names, against resolvers on loopback.

use super::guest::Guest;
use super::*;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, UdpSocket};

const NAMES: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 3), 53);
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01";

/// A resolver that gives back each of so many queries behind a mark.
fn resolver(queries: usize) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        for _ in 0..queries {
            let (length, from) = socket.recv_from(&mut query).unwrap();
            socket.send_to(&[b"answer:", &query[..length]].concat(), from).unwrap();
        }
    });
    address
}

fn guest(resolvers: Vec<SocketAddr>) -> Guest {
    Guest::new(UserOptions { resolvers: Resolvers::Fixed(resolvers), ..UserOptions::default() })
}

fn expected() -> Vec<u8> {
    [b"answer:", QUERY].concat()
}

#[test]
fn a_query_reaches_the_hosts_resolver() {
    let mut guest = guest(vec![resolver(2)]);
    let socket = guest.add_udp(5000);
    assert_eq!(guest.ask(socket, NAMES, QUERY), expected());
    assert_eq!(guest.ask(socket, NAMES, QUERY), expected());
    assert_eq!(guest.network.counters().conversations, 1);
}

#[test]
fn a_resolver_that_does_not_listen_is_passed_over() {
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut guest = guest(vec![dead, resolver(1)]);
    let socket = guest.add_udp(5000);
    assert_eq!(guest.ask(socket, NAMES, QUERY), expected(), "the guest asked once");
}

#[test]
fn a_resolver_that_is_silent_is_passed_over_when_the_guest_asks_again() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut guest = guest(vec![silent.local_addr().unwrap(), resolver(1)]);
    let socket = guest.add_udp(5000);
    guest.udp(socket).send_slice(QUERY, NAMES).unwrap();
    guest.settle();
    assert_eq!(guest.ask(socket, NAMES, QUERY), expected());
}

#[test]
fn without_resolvers_the_guest_hears_of_failure() {
    let mut guest = guest(Vec::new());
    let socket = guest.add_udp(5000);
    let answer = guest.ask(socket, NAMES, QUERY);
    assert_eq!(answer[2] & 0x80, 0x80, "an answer");
    assert_eq!(answer[3] & 0x0f, 2, "server failure");
}

#[test]
fn names_are_relayed_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut guest = guest(vec![listener.local_addr().unwrap()]);
    let socket = guest.connect(*NAMES.ip(), NAMES.port());
    guest.until("the connection", |guest| guest.tcp(socket).send_slice(QUERY).is_ok());
    let (mut stream, _) = listener.accept().unwrap();
    let mut query = [0; QUERY.len()];
    stream.read_exact(&mut query).unwrap();
    stream.write_all(b"answer").unwrap();
    guest.until("the answer", |guest| guest.tcp(socket).recv_queue() == 6);
}
