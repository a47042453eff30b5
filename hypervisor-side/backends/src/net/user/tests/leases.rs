//! DHCP: the lease, its options, and requests for what is not to be had.

use super::guest::{ADDRESS, GATEWAY, Guest, MAC, packet};
use super::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::dhcpv4;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetFrame, IpProtocol, Ipv4Packet, UdpPacket, UdpRepr};

#[test]
fn a_guest_gets_its_lease() {
    let mut guest = Guest::without_address(UserOptions::default(), 64);
    let handle = guest.sockets.add(dhcpv4::Socket::new());
    let mut lease = None;
    guest.until("lease", |guest| {
        if let Some(dhcpv4::Event::Configured(config)) = guest.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
            lease = Some((config.address, config.router, config.dns_servers.to_vec()));
        }
        lease.is_some()
    });
    let (address, router, dns) = lease.unwrap();
    assert_eq!((address.address(), address.prefix_len()), (ADDRESS, 24));
    assert_eq!(router, Some(GATEWAY));
    assert_eq!(dns, [Ipv4Addr::new(10, 0, 2, 3)]);
    guest.until("count of an offer and an acknowledgement", |guest| guest.network.counters().leases == 2);
}

/// A message of the guest's.
pub(super) fn message(kind: DhcpMessageType, wanted: Option<Ipv4Addr>, server: Option<Ipv4Addr>) -> DhcpRepr<'static> {
    DhcpRepr {
        message_type: kind,
        transaction_id: 0x1234_5678,
        secs: 0,
        client_hardware_address: MAC,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: wanted,
        client_identifier: Some(MAC),
        server_identifier: server,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    }
}

fn send(guest: &Guest, message: &DhcpRepr<'_>) {
    let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let ports = UdpRepr { src_port: 68, dst_port: 67 };
    let length = message.buffer_len();
    guest.network.send(packet(from, to, IpProtocol::Udp, 8 + length, |bytes| {
        let fill = |into: &mut [u8]| message.emit(&mut DhcpPacket::new_unchecked(into)).unwrap();
        let packet = &mut UdpPacket::new_unchecked(bytes);
        ports.emit(packet, &from.into(), &to.into(), length, fill, &ChecksumCapabilities::default());
    }));
}

/// The DHCP message in a frame.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    let datagram = UdpPacket::new_checked(packet.payload()).ok().filter(|datagram| datagram.dst_port() == 68)?;
    Some(datagram.payload().to_vec())
}

#[test]
fn an_offer_names_the_mtu_and_no_search_domain() {
    let mut guest = Guest::without_address(UserOptions { mtu: 9000, ..UserOptions::default() }, 64);
    send(&guest, &message(DhcpMessageType::Discover, None, None));
    let bytes = guest.frame(answer);
    let offer = DhcpPacket::new_checked(&bytes[..]).unwrap();
    let option = |kind| offer.options().find(|option| option.kind == kind).map(|option| option.data.to_vec());
    assert_eq!(option(26), Some(9000_u16.to_be_bytes().to_vec()));
    assert_eq!((option(15), option(119)), (None, None));
    assert_eq!(offer.your_ip(), ADDRESS);
}

#[test]
fn another_address_is_refused_and_another_server_left_alone() {
    let mut guest = Guest::without_address(UserOptions::default(), 64);
    let other = Ipv4Addr::new(10, 0, 2, 77);
    send(&guest, &message(DhcpMessageType::Request, Some(ADDRESS), Some(other)));
    send(&guest, &message(DhcpMessageType::Request, Some(other), Some(GATEWAY)));
    let bytes = guest.frame(answer);
    let packet = DhcpPacket::new_checked(&bytes[..]).unwrap();
    let reply = DhcpRepr::parse(&packet).unwrap();
    assert_eq!(reply.message_type, DhcpMessageType::Nak, "the first message was for another server");
    assert_eq!((reply.your_ip, reply.lease_duration), (Ipv4Addr::UNSPECIFIED, None));
}
