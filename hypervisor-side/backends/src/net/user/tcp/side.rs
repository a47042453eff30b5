//! The guest's side of one connection: a TCP socket that plays the remote host.
//!
//! Each connection has an interface of its own with the remote host's address and one socket. The table finds the
//! connection by its key, so a packet costs the same however many connections there are.

use super::segment::Key;
use crate::net::user::hub::Hub;
use crate::net::user::link::Link;
use pvkit_abi::net::ETHERNET_HEADER;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::collections::VecDeque;

/// The guest's side of one connection.
pub(super) struct Side {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
}

/// Why there is no guest's side.
#[derive(Debug)]
pub(super) struct Unusable;

impl Side {
    /// A side that waits for the guest's SYN.
    pub(super) fn listening(hub: &mut Hub, key: Key) -> Result<Self, Unusable> {
        let mut side = Self::new(hub, key);
        side.socket().listen(key.remote).map_err(|_| Unusable)?;
        Ok(side)
    }

    /// A side that asks the guest for a connection.
    pub(super) fn connecting(hub: &mut Hub, key: Key) -> Result<Self, Unusable> {
        let mut side = Self::new(hub, key);
        let guest = (hub.options.guest, key.guest_port);
        let Self { interface, sockets, handle } = &mut side;
        let socket = sockets.get_mut::<tcp::Socket>(*handle);
        socket.connect(interface.context(), guest, key.remote).map_err(|_| Unusable)?;
        Ok(side)
    }

    fn new(hub: &mut Hub, key: Key) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = hub.random();
        let now = hub.tcp_now();
        let mut wire = Wire { link: &mut hub.link, arrived: &mut VecDeque::new(), blocked: false };
        let mut interface = Interface::new(config, &mut wire, now);
        interface.update_ip_addrs(|addresses| {
            // An interface without addresses has room for one.
            let _ = addresses.push(IpCidr::new((*key.remote.ip()).into(), 32));
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; hub.options.limits.buffer]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { interface, sockets, handle }
    }

    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Takes what arrived and sends what is due. True if the guest has no room for all of it.
    pub(super) fn poll(&mut self, hub: &mut Hub, arrived: &mut VecDeque<Vec<u8>>) -> bool {
        let now = hub.tcp_now();
        let mut wire = Wire { link: &mut hub.link, arrived, blocked: false };
        self.interface.poll(now, &mut wire, &mut self.sockets);
        wire.blocked
    }

    /// Time until the socket must be polled again even if nothing arrives.
    pub(super) fn delay(&mut self, now: Instant) -> Option<smoltcp::time::Duration> {
        self.interface.poll_delay(now, &self.sockets)
    }
}

/// The wire as one connection sees it: frames that arrived for it, and the way to the guest.
struct Wire<'a> {
    link: &'a mut Link,
    arrived: &'a mut VecDeque<Vec<u8>>,
    blocked: bool,
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Arrived
    where
        Self: 'b;
    type TxToken<'b>
        = Departing<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Departing<'_>)> {
        let frame = self.arrived.pop_front()?;
        // Without room an answer may be lost; what it answers is then sent again.
        Some((Arrived(frame), Departing(self.link)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Departing<'_>> {
        self.blocked = !self.link.room();
        (!self.blocked).then_some(Departing(self.link))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.link.mtu();
        // Verified at the intake, which knows which checksums are partial.
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities
    }
}

/// A frame of the guest.
struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0.get(ETHERNET_HEADER..).unwrap_or_default())
    }
}

/// The right to send one packet.
struct Departing<'a>(&'a mut Link);

impl TxToken for Departing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        self.0.packet(length, f)
    }
}
