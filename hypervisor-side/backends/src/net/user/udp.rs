//! UDP: conversations of the guest with hosts, and of the host's clients with the guest.
//!
//! A conversation is one port of the guest and one remote endpoint. Towards a host it has a connected socket of its own,
//! so that nobody else's datagrams reach the guest; from a published port it shares the listening socket, and the client
//! is told apart by a port of the gateway.
//!
//! *Bounds.* Conversations (the one that was silent for longest makes room), datagrams for a turn. Nothing waits: a
//! datagram without room is dropped.

use super::dns::{self, Asking};
use super::hub::Hub;
use super::intake::unreachable;
use super::route::{Route, route};
use super::slots::Slots;
use super::source::Source;
use mio::net::UdpSocket;
use smoltcp::wire::{IpProtocol, Ipv4Repr};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

/// Datagrams that one socket gives in a turn.
const TURN: usize = 64;
/// Most bytes of a datagram, and one to notice that there are more.
const SCRATCH: usize = 65536;
/// First of the ports that clients of published ports are shown as: the dynamic ones (RFC 6335).
const FIRST_PORT: u16 = 49152;

/// A datagram of the guest.
pub(super) struct Datagram<'a> {
    pub(super) remote: SocketAddrV4,
    pub(super) guest_port: u16,
    pub(super) payload: &'a [u8],
}

/// The guest is to be told that its datagram went nowhere.
#[derive(Debug)]
pub(super) struct Unreachable;

/// What tells conversations apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    remote: SocketAddrV4,
    guest_port: u16,
}

/// The host's end of a conversation.
enum End {
    /// A connected socket.
    Host(UdpSocket),
    /// A socket connected to a resolver.
    Resolver(UdpSocket, Asking),
    /// A client of a published port.
    Client { listener: usize, peer: SocketAddr },
}

/// One conversation.
struct Conversation {
    key: Key,
    end: End,
    used: Instant,
    due: Option<Instant>,
}

/// A published port.
struct Published {
    socket: UdpSocket,
    guest_port: u16,
}

/// All conversations.
pub(super) struct UdpTable {
    conversations: Slots<Key, Conversation>,
    clients: HashMap<(usize, SocketAddr), usize>,
    published: Vec<Published>,
    /// Sockets that had more than a turn's datagrams.
    ready: VecDeque<Source>,
    next_port: u16,
    scratch: Vec<u8>,
}

impl UdpTable {
    pub(super) fn new(hub: &mut Hub) -> Self {
        Self {
            conversations: Slots::new(hub.options.limits.conversations),
            clients: HashMap::new(),
            published: Vec::new(),
            ready: VecDeque::new(),
            next_port: FIRST_PORT | hub.random() as u16,
            scratch: vec![0; SCRATCH],
        }
    }

    /// Adds a published port.
    pub(super) fn publish(&mut self, hub: &Hub, mut socket: UdpSocket, guest_port: u16) -> io::Result<()> {
        hub.watch(&mut socket, Source::UdpListener(self.published.len()))?;
        self.published.push(Published { socket, guest_port });
        Ok(())
    }

    /// Takes a datagram of the guest.
    ///
    /// # Errors
    /// It went nowhere, and the guest should know.
    pub(super) fn take(&mut self, hub: &mut Hub, datagram: &Datagram<'_>) -> Result<(), Unreachable> {
        let key = Key { remote: datagram.remote, guest_port: datagram.guest_port };
        let number = match self.conversations.find(&key) {
            Some(number) => number,
            None => match self.open(hub, key)? {
                Some(number) => number,
                None => return no_resolver(hub, datagram),
            },
        };
        let Some(conversation) = self.conversations.get_mut(number) else { return Err(Unreachable) };
        conversation.used = hub.now;
        hub.counters.datagrams.one();
        let sent = match &mut conversation.end {
            End::Host(socket) => socket.send(datagram.payload),
            End::Resolver(socket, asking) => ask(hub, number, socket, asking, datagram.payload),
            End::Client { listener, peer } => match self.published.get(*listener) {
                Some(published) => published.socket.send_to(datagram.payload, *peer),
                None => return Err(Unreachable),
            },
        };
        match sent {
            // An error that an earlier datagram met: the guest hears of it as of this one.
            Err(problem) if problem.kind() == ErrorKind::ConnectionRefused => Err(Unreachable),
            Err(_) => {
                hub.counters.refused_datagrams.one();
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Opens a conversation. `None` if there is no resolver for it.
    fn open(&mut self, hub: &mut Hub, key: Key) -> Result<Option<usize>, Unreachable> {
        let (target, resolvers) = match route(&hub.options, key.remote) {
            Route::Host(address) => (address, None),
            Route::Resolvers(list) => match list.first() {
                Some(&first) => (first, Some(list)),
                None => return Ok(None),
            },
            Route::Closed => return Err(Unreachable),
        };
        self.make_room(hub);
        let socket = connected(hub, target, self.conversations.next()).map_err(|_| Unreachable)?;
        let end = match resolvers {
            Some(list) => End::Resolver(socket, Asking::new(list)),
            None => End::Host(socket),
        };
        self.insert(hub, key, end).map(Some).ok_or(Unreachable)
    }

    fn insert(&mut self, hub: &mut Hub, key: Key, end: End) -> Option<usize> {
        let number = self.conversations.insert(key, Conversation { key, end, used: hub.now, due: None })?;
        hub.counters.conversations.one();
        self.arm(hub, number);
        Some(number)
    }

    /// Arms the deadline of a conversation, by its last use.
    fn arm(&mut self, hub: &mut Hub, number: usize) {
        if let Some(conversation) = self.conversations.get_mut(number) {
            let due = conversation.used.checked_add(hub.options.limits.silence);
            hub.timers.arm(Source::Udp(number), &mut conversation.due, due);
        }
    }

    fn make_room(&mut self, hub: &mut Hub) {
        if !self.conversations.is_full() {
            return;
        }
        let oldest = self.conversations.iter().min_by_key(|(_, conversation)| conversation.used);
        if let Some(number) = oldest.map(|(number, _)| number) {
            hub.counters.evicted_conversations.one();
            self.remove(hub, number);
        }
    }

    fn remove(&mut self, hub: &mut Hub, number: usize) {
        let Some(mut conversation) = self.conversations.remove(number) else { return };
        hub.timers.arm(Source::Udp(number), &mut conversation.due, None);
        if let End::Client { listener, peer } = conversation.end {
            self.clients.remove(&(listener, peer));
        }
    }

    /// A conversation's deadline has passed: it ends if it was silent since.
    pub(super) fn timer(&mut self, hub: &mut Hub, number: usize) {
        let Some(conversation) = self.conversations.get_mut(number) else { return };
        conversation.due = None;
        if hub.now.saturating_duration_since(conversation.used) >= hub.options.limits.silence {
            self.remove(hub, number);
        } else {
            self.arm(hub, number);
        }
    }

    /// A socket may have datagrams.
    pub(super) fn event(&mut self, source: Source) {
        if !self.ready.contains(&source) {
            self.ready.push_back(source);
        }
    }

    /// Gives each socket that is ready one turn. True if some have more.
    pub(super) fn run(&mut self, hub: &mut Hub) -> bool {
        for _ in 0..self.ready.len() {
            let Some(source) = self.ready.pop_front() else { break };
            let mut scratch = std::mem::take(&mut self.scratch);
            let more = match source {
                Source::Udp(number) => self.answers(hub, number, &mut scratch),
                Source::UdpListener(listener) => self.calls(hub, listener, &mut scratch),
                _ => false,
            };
            self.scratch = scratch;
            if more {
                self.ready.push_back(source);
            }
        }
        !self.ready.is_empty()
    }

    /// Passes on what a host answered.
    fn answers(&mut self, hub: &mut Hub, number: usize, scratch: &mut [u8]) -> bool {
        let Some(conversation) = self.conversations.get_mut(number) else { return false };
        let key = conversation.key;
        let addresses = (key.remote, SocketAddrV4::new(hub.options.guest, key.guest_port));
        for _ in 0..TURN {
            let (End::Host(socket) | End::Resolver(socket, _)) = &mut conversation.end else { return false };
            match socket.recv(scratch) {
                Ok(length) => {
                    conversation.used = hub.now;
                    deliver(hub, addresses, scratch.get(..length).unwrap_or_default());
                }
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => return false,
                Err(problem) if problem.kind() == ErrorKind::ConnectionRefused => {
                    refused(hub, number, conversation);
                }
                // An error of an earlier datagram, such as an unreachable network.
                Err(_) => {}
            }
        }
        true
    }

    /// Passes on what clients sent to a published port.
    fn calls(&mut self, hub: &mut Hub, listener: usize, scratch: &mut [u8]) -> bool {
        for _ in 0..TURN {
            let Some(published) = self.published.get(listener) else { return false };
            let guest = SocketAddrV4::new(hub.options.guest, published.guest_port);
            match published.socket.recv_from(scratch) {
                Ok((length, peer)) => {
                    hub.link.ask(hub.now, hub.options.gateway, hub.options.guest);
                    if let Some(gateway) = self.client(hub, listener, peer, guest.port()) {
                        deliver(hub, (gateway, guest), scratch.get(..length).unwrap_or_default());
                    }
                }
                Err(problem) if problem.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => {}
            }
        }
        true
    }

    /// The endpoint of the gateway that a client is shown as.
    fn client(&mut self, hub: &mut Hub, listener: usize, peer: SocketAddr, guest_port: u16) -> Option<SocketAddrV4> {
        if let Some(&number) = self.clients.get(&(listener, peer)) {
            let conversation = self.conversations.get_mut(number)?;
            conversation.used = hub.now;
            return Some(conversation.key.remote);
        }
        self.make_room(hub);
        let key = (0..=hub.options.limits.conversations).find_map(|_| {
            let key = Key { remote: SocketAddrV4::new(hub.options.gateway, self.next_port), guest_port };
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            self.conversations.find(&key).is_none().then_some(key)
        })?;
        let number = self.insert(hub, key, End::Client { listener, peer })?;
        self.clients.insert((listener, peer), number);
        Some(key.remote)
    }
}

/// A socket that hears `target` alone.
fn connected(hub: &Hub, target: SocketAddr, number: usize) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let mut socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    hub.watch(&mut socket, Source::Udp(number))?;
    Ok(socket)
}

fn deliver(hub: &mut Hub, addresses: (SocketAddrV4, SocketAddrV4), payload: &[u8]) {
    let fits = payload.len() <= hub.link.most_datagram();
    if fits && hub.link.datagram(None, addresses, payload) {
        hub.counters.datagrams.one();
    } else {
        hub.counters.refused_datagrams.one();
    }
}

/// Hands a query to a resolver; to the next one if it is repeated.
fn ask(hub: &mut Hub, number: usize, socket: &mut UdpSocket, asking: &mut Asking, query: &[u8]) -> io::Result<usize> {
    hub.counters.queries.one();
    if asking.note(query)
        && let Some(resolver) = asking.resolver()
    {
        *socket = connected(hub, resolver, number)?;
    }
    match socket.send(query) {
        // The refusal of an earlier query: the resolver is gone, which the answer's path deals with.
        Err(problem) if problem.kind() == ErrorKind::ConnectionRefused => socket.send(query),
        sent => sent,
    }
}

/// Nobody listens where a conversation leads: another resolver is asked, or the guest is told.
fn refused(hub: &mut Hub, number: usize, conversation: &mut Conversation) {
    let Key { remote, guest_port } = conversation.key;
    if let End::Resolver(socket, asking) = &mut conversation.end {
        while let Some(query) = asking.give_up_on_resolver().map(<[u8]>::to_vec) {
            let Some(resolver) = asking.resolver() else { break };
            if let Ok(next) = connected(hub, resolver, number)
                && next.send(&query).is_ok()
            {
                *socket = next;
                return;
            }
        }
        if let Some(answer) = asking.failure() {
            deliver(hub, (remote, SocketAddrV4::new(hub.options.guest, guest_port)), &answer);
        }
        return;
    }
    let header = Ipv4Repr {
        src_addr: hub.options.guest,
        dst_addr: *remote.ip(),
        next_header: IpProtocol::Udp,
        payload_len: QUOTE,
        hop_limit: 64,
    };
    let mut quoted = [0; QUOTE];
    let (ports, _) = quoted.split_at_mut(4);
    ports.copy_from_slice(&(u32::from(guest_port) << 16 | u32::from(remote.port())).to_be_bytes());
    unreachable(hub, &header, &quoted);
}

/// Bytes of a UDP header, which is what is quoted of a datagram that is gone.
const QUOTE: usize = 8;

/// The host has no resolver: queries are answered with a failure, so that the guest need not wait.
fn no_resolver(hub: &mut Hub, datagram: &Datagram<'_>) -> Result<(), Unreachable> {
    let answer = dns::failure(datagram.payload).ok_or(Unreachable)?;
    deliver(hub, (datagram.remote, SocketAddrV4::new(hub.options.guest, datagram.guest_port)), &answer);
    Ok(())
}
