//! The DHCP server: one lease, for whoever asks.
//!
//! There is one guest behind the wire, so there is nothing to remember: every offer and every acknowledgement names the
//! same address, and a request for another one is refused.

use super::hub::Hub;
use super::options::UserOptions;
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress,
};
use std::net::{Ipv4Addr, SocketAddrV4};

pub(super) const SERVER_PORT: u16 = DHCP_SERVER_PORT;
/// Seconds of a lease.
const LEASE: u32 = 24 * 60 * 60;
/// Option "domain name server" (RFC 2132).
const OPTION_DNS: u8 = 6;
/// Option "interface MTU" (RFC 2132).
const OPTION_MTU: u8 = 26;

/// Answers a message of the guest. A malformed one, or one that needs no answer, gets none.
pub(super) fn answer(hub: &mut Hub, message: &[u8]) {
    let request = DhcpPacket::new_checked(message).ok().filter(|packet| packet.magic_number() == MAGIC);
    let Some(request) = request.as_ref().and_then(|packet| DhcpRepr::parse(packet).ok()) else {
        hub.counters.refused_frames.one();
        return;
    };
    let Some(kind) = judge(&hub.options, &request) else { return };
    let (dns, mtu) = (hub.options.dns.octets(), hub.options.mtu.to_be_bytes());
    let network_options = [DhcpOption { kind: OPTION_DNS, data: &dns }, DhcpOption { kind: OPTION_MTU, data: &mtu }];
    let reply = compose(&hub.options, &request, kind, &network_options);
    let mut bytes = vec![0; reply.buffer_len()];
    if reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..])).is_err() {
        return;
    }
    let (mac, address) = addressee(&request, &reply);
    let server = SocketAddrV4::new(hub.options.gateway, DHCP_SERVER_PORT);
    if hub.link.datagram(Some(mac), (server, SocketAddrV4::new(address, DHCP_CLIENT_PORT)), &bytes) {
        hub.counters.leases.one();
    }
}

/// What tells DHCP from BOOTP (RFC 2132).
const MAGIC: u32 = 0x6382_5363;

/// The kind of the answer. `None` if there is none: the message is for another server, or none is due.
fn judge(options: &UserOptions, request: &DhcpRepr<'_>) -> Option<DhcpMessageType> {
    if request.server_identifier.is_some_and(|server| server != options.gateway) {
        return None;
    }
    match request.message_type {
        DhcpMessageType::Discover => Some(DhcpMessageType::Offer),
        DhcpMessageType::Inform => Some(DhcpMessageType::Ack),
        DhcpMessageType::Request => {
            let wanted = request.requested_ip.unwrap_or(request.client_ip);
            Some(if wanted == options.guest { DhcpMessageType::Ack } else { DhcpMessageType::Nak })
        }
        _ => None,
    }
}

fn compose<'a>(
    options: &UserOptions,
    request: &DhcpRepr<'_>,
    kind: DhcpMessageType,
    network_options: &'a [DhcpOption<'a>],
) -> DhcpRepr<'a> {
    let refused = kind == DhcpMessageType::Nak;
    let leases = !refused && request.message_type != DhcpMessageType::Inform;
    DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: if refused { Ipv4Addr::UNSPECIFIED } else { request.client_ip },
        your_ip: if leases { options.guest } else { Ipv4Addr::UNSPECIFIED },
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: (!refused).then_some(options.gateway),
        subnet_mask: (!refused).then(|| options.mask()),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(options.gateway),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: leases.then_some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if refused { &[] } else { network_options },
    }
}

/// Where the answer goes: RFC 2131, section 4.1.
fn addressee(request: &DhcpRepr<'_>, reply: &DhcpRepr<'_>) -> (EthernetAddress, Ipv4Addr) {
    let client = request.client_hardware_address;
    if reply.message_type == DhcpMessageType::Nak || !client.is_unicast() {
        (EthernetAddress::BROADCAST, Ipv4Addr::BROADCAST)
    } else if request.client_ip != Ipv4Addr::UNSPECIFIED {
        (client, request.client_ip)
    } else if request.broadcast || reply.your_ip == Ipv4Addr::UNSPECIFIED {
        (EthernetAddress::BROADCAST, Ipv4Addr::BROADCAST)
    } else {
        (client, reply.your_ip)
    }
}
