//! The server on a link: address, sockets, and the connections on them.
//!
//! *Purpose.* [`Server::poll`] does a bounded piece of work and says when to come again. It knows neither clock nor
//! device: the caller gives both, so the tests run it on a simulated link.
//!
//! *Owners.* Sockets and connections are made once: no client makes the server allocate more than its bounds.

use super::connection::{Connection, Counters, PATIENCE_NS, Shared};
use super::files::Files;
use super::log::Records;
use alloc::vec;
use alloc::vec::Vec;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::{dhcpv4, tcp};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};

/// Connections at once.
pub(super) const CONNECTIONS: usize = 16;
/// Bytes on their way in, per connection.
const RECEIVE_BYTES: usize = 8 * 1024;
/// Bytes on their way out, per connection.
const SEND_BYTES: usize = 64 * 1024;
/// Frames taken from the device before anything else gets its turn.
const FRAMES: usize = 64;

/// What became of the server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It has one.
    Ready(Ipv4Address),
    /// It has none any more.
    Lost,
}

/// A web server.
pub(super) struct Server<T> {
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    connections: Vec<(SocketHandle, Connection<T>)>,
    pub(super) counters: Counters,
}

impl<T> Server<T> {
    /// A server that asks for its address. `seed` keeps its sequence numbers from being guessed.
    pub(super) fn new<D: Device + ?Sized>(device: &mut D, mac: [u8; 6], seed: u64, now: u64) -> Self {
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = seed;
        let interface = Interface::new(config, device, instant(now));
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let connections = (0..CONNECTIONS).map(|_| (sockets.add(socket()), Connection::new())).collect();
        Self { interface, sockets, dhcp, connections, counters: Counters::default() }
    }

    /// Serves frames and connections once. When to come again if no frame comes before, and what became of the address.
    pub(super) fn poll<D, F, R>(
        &mut self,
        device: &mut D,
        now: u64,
        files: &mut F,
        records: &mut R,
    ) -> (u64, Option<Event>)
    where
        D: Device + ?Sized,
        F: Files<File = T>,
        R: Records,
    {
        let busy = self.receive(device, now);
        let event = self.configure();
        let mut shared = Shared { files, records, counters: &mut self.counters };
        let mut served = false;
        for (handle, connection) in &mut self.connections {
            served |= connection.serve(self.sockets.get_mut(*handle), now, &mut shared);
        }
        self.interface.poll_egress(instant(now), device, &mut self.sockets);
        let again = if busy || served || event.is_some() { now } else { self.deadline(now) };
        (again, event)
    }

    /// True if more frames may be there.
    fn receive<D: Device + ?Sized>(&mut self, device: &mut D, now: u64) -> bool {
        let at = instant(now);
        self.interface.poll_maintenance(at);
        (0..FRAMES).all(|_| {
            let result = self.interface.poll_ingress_single(at, device, &mut self.sockets);
            !matches!(result, PollIngressSingleResult::None)
        })
    }

    fn configure(&mut self) -> Option<Event> {
        match self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).poll()? {
            dhcpv4::Event::Configured(config) => {
                let (address, router) = (config.address, config.router);
                self.set_address(address, router);
                Some(Event::Ready(address.address()))
            }
            dhcpv4::Event::Deconfigured => {
                let had = self.interface.ipv4_addr().is_some();
                self.interface.update_ip_addrs(|addresses| addresses.clear());
                self.interface.routes_mut().remove_default_ipv4_route();
                had.then_some(Event::Lost)
            }
        }
    }

    pub(super) fn set_address(&mut self, address: Ipv4Cidr, router: Option<Ipv4Address>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            // The list has room for more than one.
            let _ = addresses.push(IpCidr::Ipv4(address));
        });
        self.interface.routes_mut().remove_default_ipv4_route();
        if let Some(router) = router {
            // The table, just emptied, has room.
            let _ = self.interface.routes_mut().add_default_ipv4_route(router);
        }
    }

    fn deadline(&mut self, now: u64) -> u64 {
        let stack = self.interface.poll_at(instant(now), &self.sockets);
        let stack = stack.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        self.connections.iter().map(|(_, connection)| connection.deadline()).fold(stack, u64::min)
    }
}

fn socket() -> tcp::Socket<'static> {
    let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
    let mut socket = tcp::Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
    // A client that vanished answers no retransmission.
    socket.set_timeout(Some(Duration::from_micros(PATIENCE_NS / 1000)));
    socket.set_nagle_enabled(false);
    socket
}

fn instant(now: u64) -> Instant {
    Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}
