//! Published ports: clients of the host come to the guest.

use super::guest::{GATEWAY, Guest, plugged};
use super::*;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};

fn publishing(publish: Vec<Publish>) -> UserOptions {
    UserOptions { publish, ..UserOptions::default() }
}

#[test]
fn a_client_of_the_host_reaches_the_guest() {
    let mut guest = Guest::new(publishing(vec![Publish::tcp(0, 80)]));
    let address = guest.network.published()[0];
    assert!(address.ip().is_loopback() && address.port() != 0);
    let socket = guest.add_tcp(4096);
    guest.tcp(socket).listen(80).unwrap();
    // The guest was never heard before: it is asked for its address.
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET").unwrap();
    guest.until("the request", |guest| guest.tcp(socket).recv_queue() == 3);
    assert_eq!(guest.tcp(socket).remote_endpoint().unwrap().addr, GATEWAY.into());
    guest.tcp(socket).send_slice(b"200").unwrap();
    guest.tcp(socket).close();
    guest.until("the end", |guest| {
        guest.tcp(socket).recv(|bytes| (bytes.len(), ())).ok();
        matches!(guest.state(socket), State::FinWait2 | State::TimeWait)
    });
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "200");
}

#[test]
fn a_port_that_the_guest_does_not_serve_resets_its_client() {
    let mut guest = Guest::new(publishing(vec![Publish::tcp(0, 81)]));
    let mut client = TcpStream::connect(guest.network.published()[0]).unwrap();
    guest.until("the refusal", |guest| guest.network.counters().broken_connections == 1);
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn datagrams_reach_the_guest_and_answers_their_sender() {
    let mut guest = Guest::new(publishing(vec![Publish::udp(0, 53)]));
    guest.ping(GATEWAY);
    let address = guest.network.published()[0];
    let socket = guest.add_udp(53);
    let clients = [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
    for (client, name) in clients.iter().zip([b"one", b"two"]) {
        client.send_to(name, address).unwrap();
    }
    let mut answered = 0;
    guest.until("both datagrams", |guest| {
        while let Ok((bytes, from)) = guest.udp(socket).recv().map(|(bytes, from)| (bytes.to_vec(), from)) {
            assert_eq!(from.endpoint.addr, GATEWAY.into());
            guest.udp(socket).send_slice(&bytes, from.endpoint).unwrap();
            answered += 1;
        }
        answered == 2
    });
    guest.until("both answers", |guest| guest.network.counters().datagrams == 4);
    for (client, name) in clients.iter().zip([b"one", b"two"]) {
        let mut answer = [0; 8];
        let (length, from) = client.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..length], from), (&name[..], address));
    }
}

#[test]
fn a_taken_port_is_named_with_its_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error =
        UserNetwork::start(publishing(vec![Publish::tcp(port, 80)]), plugged(&Inbox::new(8).unwrap())).unwrap_err();
    assert!(matches!(error, UserError::PortTaken { host, protocol: Protocol::Tcp } if host.port() == port));
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("port 0"), "{text}");
}

#[test]
fn the_end_of_the_network_frees_its_ports() {
    let guest = Guest::new(publishing(vec![Publish::tcp(0, 80), Publish::udp(0, 80)]));
    let published = guest.network.published();
    assert!(TcpListener::bind(published[0]).is_err());
    assert!(UdpSocket::bind(published[1]).is_err());
    drop(guest);
    TcpListener::bind(published[0]).unwrap();
    UdpSocket::bind(published[1]).unwrap();
}
