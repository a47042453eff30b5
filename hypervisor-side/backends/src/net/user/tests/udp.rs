//! UDP from the guest.

use super::guest::{ADDRESS, GATEWAY, Guest, icmp, packet};
use super::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, IpProtocol, UdpPacket, UdpRepr};
use std::net::{SocketAddrV4, UdpSocket};

/// A server on loopback that gives back so many datagrams.
fn echo(count: usize) -> SocketAddrV4 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut datagram = [0; 65536];
        for _ in 0..count {
            let (length, from) = socket.recv_from(&mut datagram).unwrap();
            socket.send_to(&datagram[..length], from).unwrap();
        }
    });
    SocketAddrV4::new(GATEWAY, port)
}

#[test]
fn a_datagram_comes_back() {
    let mut guest = Guest::new(open_loopback());
    let server = echo(3);
    let socket = guest.add_udp(5000);
    for question in [&b"hello"[..], b"", &[9; 1472]] {
        assert_eq!(guest.ask(socket, server, question), question);
    }
    assert_eq!(guest.network.counters().conversations, 1);
}

/// Waits for the message "port unreachable" about `port`.
fn wait_for_refusal(guest: &mut Guest, port: u16) {
    guest.frame(|bytes| {
        let message = icmp(bytes)?;
        let packet = Icmpv4Packet::new_checked(&message[..]).ok()?;
        assert_eq!(packet.msg_type(), Icmpv4Message::DstUnreachable);
        assert_eq!(Icmpv4DstUnreachable::from(packet.msg_code()), Icmpv4DstUnreachable::PortUnreachable);
        // The IP header of what was refused, then its UDP header.
        let quoted = packet.data().to_vec();
        (quoted[22..24] == port.to_be_bytes()).then_some(())
    });
}

#[test]
fn a_port_that_nobody_listens_on_is_unreachable() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut guest = Guest::new(open_loopback());
    guest.ping(GATEWAY);
    let ports = UdpRepr { src_port: 5000, dst_port: port };
    guest.network.send(packet(ADDRESS, GATEWAY, IpProtocol::Udp, 8, |bytes| {
        let packet = &mut UdpPacket::new_unchecked(bytes);
        ports.emit(packet, &ADDRESS.into(), &GATEWAY.into(), 0, |_| (), &ChecksumCapabilities::default());
    }));
    wait_for_refusal(&mut guest, port);
}

#[test]
fn the_hosts_loopback_is_unreachable_by_default() {
    let server = echo(1);
    let mut guest = Guest::new(UserOptions::default());
    let socket = guest.add_udp(5000);
    guest.udp(socket).send_slice(b"hello?", server).unwrap();
    guest.until("the refusal", |guest| guest.network.counters().refused_datagrams == 1);
    assert_eq!(guest.network.counters().conversations, 0);
}

#[test]
fn the_conversation_idle_for_longest_makes_room() {
    let limits = UserLimits { conversations: 3, ..UserLimits::default() };
    let mut guest = Guest::new(UserOptions { limits, ..open_loopback() });
    let server = echo(6);
    let sockets: Vec<_> = (0..4).map(|number| guest.add_udp(5000 + number)).collect();
    for &socket in &sockets[..3] {
        guest.ask(socket, server, b"one of three");
    }
    guest.ask(sockets[0], server, b"not idle");
    guest.ask(sockets[3], server, b"one too many");
    assert_eq!(guest.network.counters().evicted_conversations, 1);
    guest.ask(sockets[0], server, b"still there");
    assert_eq!(guest.network.counters().conversations, 4, "another one was evicted");
}
