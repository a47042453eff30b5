//! A guest: a TCP/IP stack at the other end of the two inboxes.

use crate::net::user::{UserNetwork, UserOptions};
use crate::net::{Frame, Inbox, Network, Steering};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::socket::udp;
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Packet, Icmpv4Repr, IpCidr, IpProtocol, Ipv4Packet,
    Ipv4Repr,
};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub(super) const MAC: EthernetAddress = EthernetAddress([0x52, 0x54, 0, 1, 2, 3]);
/// Nothing in these tests takes this long.
const PATIENCE: Duration = Duration::from_secs(240);

pub(super) struct Guest {
    pub(super) network: Arc<UserNetwork>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    wire: Wire,
    poll: Poll,
    birth: Instant,
    next_port: u16,
}

impl Guest {
    /// A guest with a fixed address.
    pub(super) fn new(options: UserOptions) -> Self {
        Self::with_inbox(options, 4096)
    }

    /// A guest whose inbox takes so many frames.
    pub(super) fn with_inbox(options: UserOptions, frames: usize) -> Self {
        let mut guest = Self::without_address(options, frames);
        guest.interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(ADDRESS.into(), 24)).unwrap());
        guest.interface.routes_mut().add_default_ipv4_route(GATEWAY).unwrap();
        guest
    }

    pub(super) fn without_address(options: UserOptions, frames: usize) -> Self {
        let mtu = options.mtu;
        let inbox = Inbox::new(frames).unwrap();
        let network = UserNetwork::start(options, plugged(&inbox)).unwrap();
        let mut wire = Wire { network: Arc::clone(&network), inbox: Arc::clone(&inbox), mtu: mtu.into(), garble: None };
        let mut config = Config::new(MAC.into());
        config.random_seed = 7;
        let interface = Interface::new(config, &mut wire, StackTime::ZERO);
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut SourceFd(&inbox.wake_fd().as_raw_fd()), Token(0), Interest::READABLE).unwrap();
        let sockets = SocketSet::new(Vec::new());
        Self { network, inbox, interface, sockets, wire, poll, birth: Instant::now(), next_port: 40000 }
    }

    /// From now on frames are what `garble` makes of them.
    pub(super) fn garble(&mut self, garble: Option<Garble>) {
        self.wire.garble = garble;
    }

    fn now(&self) -> StackTime {
        StackTime::from_micros(self.birth.elapsed().as_micros() as i64)
    }

    /// Moves frames both ways once.
    pub(super) fn step(&mut self) {
        let now = self.now();
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// Waits for a frame, not longer than the stack's next deadline or so long.
    pub(super) fn sleep(&mut self, most: Duration) {
        let now = self.now();
        let delay = self.interface.poll_delay(now, &self.sockets).map_or(most, |delay| most.min(delay.into()));
        if self.inbox.is_empty() {
            self.poll.poll(&mut Events::with_capacity(1), Some(delay)).unwrap();
        }
        let _ = self.inbox.wake_fd().read();
    }

    /// Runs until something holds.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.step();
            if holds(self) {
                return self.step();
            }
            assert!(Instant::now() < deadline, "still no {what}: {:?}", self.network.counters());
            self.sleep(Duration::from_millis(20));
        }
    }

    /// Runs until nothing moves for a while.
    pub(super) fn settle(&mut self) {
        let mut last = (self.network.counters().wakes, 0);
        while last.1 < 10 {
            self.step();
            self.sleep(Duration::from_millis(20));
            let wakes = self.network.counters().wakes;
            last = (wakes, if wakes == last.0 { last.1 + 1 } else { 0 });
        }
    }

    pub(super) fn add_tcp(&mut self, buffer: usize) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        self.sockets.add(socket)
    }

    pub(super) fn add_udp(&mut self, port: u16) -> SocketHandle {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65536]);
        let handle = self.sockets.add(udp::Socket::new(buffer(), buffer()));
        self.udp(handle).bind(port).unwrap();
        handle
    }

    pub(super) fn connect(&mut self, address: Ipv4Addr, port: u16) -> SocketHandle {
        let handle = self.add_tcp(65536);
        self.dial(handle, address, port);
        handle
    }

    /// A connection to a listener on loopback, with the listener's end of it.
    pub(super) fn connected(&mut self, listener: &TcpListener) -> (SocketHandle, TcpStream) {
        let socket = self.connect(GATEWAY, listener.local_addr().unwrap().port());
        self.until("connection", |guest| guest.state(socket) == State::Established);
        (socket, listener.accept().unwrap().0)
    }

    /// Connects a socket from a port that was not used yet.
    pub(super) fn dial(&mut self, handle: SocketHandle, address: Ipv4Addr, port: u16) {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40000);
        let socket = self.sockets.get_mut::<Socket>(handle);
        socket.connect(self.interface.context(), (address, port), self.next_port).unwrap();
    }

    pub(super) fn tcp(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(super) fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(super) fn state(&mut self, handle: SocketHandle) -> State {
        self.tcp(handle).state()
    }

    /// Sends a datagram and gives the answer.
    pub(super) fn ask(&mut self, handle: SocketHandle, to: SocketAddrV4, question: &[u8]) -> Vec<u8> {
        self.udp(handle).send_slice(question, to).unwrap();
        let mut answer = Vec::new();
        self.until("answer", |guest| match guest.udp(handle).recv() {
            Ok((bytes, from)) => {
                assert_eq!(from.endpoint, to.into());
                answer = bytes.to_vec();
                true
            }
            Err(_) => false,
        });
        answer
    }

    /// Pings an address and gives what came back.
    pub(super) fn ping(&mut self, address: Ipv4Addr) -> Vec<u8> {
        let request = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 2, data: b"are you there?" };
        let packet = packet(ADDRESS, address, IpProtocol::Icmp, request.buffer_len(), |bytes| {
            request.emit(&mut Icmpv4Packet::new_unchecked(bytes), &phy::ChecksumCapabilities::default());
        });
        self.network.send(packet);
        let reply = self.frame(|bytes| {
            let reply = icmp(bytes)?;
            matches!(Icmpv4Packet::new_checked(&reply[..]).ok()?.msg_type(), smoltcp::wire::Icmpv4Message::EchoReply)
                .then_some(reply)
        });
        Icmpv4Packet::new_checked(&reply[..]).unwrap().data().to_vec()
    }

    /// Waits for a frame that is wanted; the others are dropped.
    pub(super) fn frame<R>(&mut self, mut wanted: impl FnMut(&[u8]) -> Option<R>) -> R {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(frame) = self.inbox.pop() {
                if let Some(found) = wanted(&frame.bytes) {
                    return found;
                }
            }
            assert!(Instant::now() < deadline, "no such frame");
            self.sleep(Duration::from_millis(20));
        }
    }
}

/// The way into a guest that takes frames from `inbox`.
pub(super) fn plugged(inbox: &Arc<Inbox>) -> Arc<Steering> {
    let steering = Steering::new(MAC.0, vec![Arc::clone(inbox)]);
    steering.set_open(0, true);
    steering
}

/// The control message in a frame.
pub(super) fn icmp(frame: &[u8]) -> Option<Vec<u8>> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
    (frame.ethertype() == EthernetProtocol::Ipv4 && packet.next_header() == IpProtocol::Icmp)
        .then(|| packet.payload().to_vec())
}

/// A frame from the guest to the gateway with an IP packet.
pub(super) fn packet(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Frame {
    let header = Ipv4Repr { src_addr: from, dst_addr: to, next_header: protocol, payload_len: length, hop_limit: 64 };
    let mut frame = EthernetFrame::new_unchecked(vec![0; 14 + header.buffer_len() + length]);
    frame.set_src_addr(MAC);
    frame.set_dst_addr(EthernetAddress::BROADCAST);
    frame.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    header.emit(&mut packet, &phy::ChecksumCapabilities::default());
    fill(packet.payload_mut());
    Frame::finished(frame.into_inner())
}

struct Wire {
    network: Arc<UserNetwork>,
    inbox: Arc<Inbox>,
    mtu: usize,
    garble: Option<Garble>,
}

/// What happens to frames of the guest before they are sent.
type Garble = Box<dyn FnMut(Frame) -> Vec<Frame>>;

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Departing<'a>;

    fn receive(&mut self, _: StackTime) -> Option<(Arrived, Departing<'_>)> {
        let frame = self.inbox.pop()?;
        Some((Arrived(frame), Departing(&self.network, self.garble.as_mut())))
    }

    fn transmit(&mut self, _: StackTime) -> Option<Departing<'_>> {
        Some(Departing(&self.network, self.garble.as_mut()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

struct Arrived(Frame);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0.bytes)
    }
}

struct Departing<'a>(&'a UserNetwork, Option<&'a mut Garble>);

impl phy::TxToken for Departing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut bytes = vec![0; length];
        let result = f(&mut bytes);
        let frame = Frame::finished(bytes);
        match self.1 {
            Some(garble) => garble(frame).into_iter().for_each(|frame| self.0.send(frame)),
            None => self.0.send(frame),
        }
        result
    }
}
