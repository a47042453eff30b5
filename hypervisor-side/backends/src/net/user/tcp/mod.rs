//! TCP: connections of the guest to hosts, and of the host's clients to the guest.
//!
//! The guest's SYN waits until the host's network has taken the connection, so that the guest is refused what the host
//! is refused. From then on a [`Side`] plays the remote host towards the guest.
//!
//! *Bounds.* Connections, those in TIME-WAIT, the frames and the bytes that wait for each. A full table ends the oldest
//! that only waits, or else one that was idle for long, or else refuses.

mod flow;
mod segment;
mod side;

pub(super) use segment::Segment;

use super::hub::Hub;
use super::route::{Route, route};
use super::slots::Slots;
use super::source::Source;
use flow::{Fate, Flow, Opening, reset};
use mio::net::TcpStream;
use segment::Key;
use side::Side;
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

/// Least and longest time until a full guest is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(250));
/// First of the ports that published connections come from: the dynamic ones (RFC 6335).
const FIRST_PORT: u16 = 49152;

/// All connections.
pub(super) struct TcpTable {
    flows: Slots<Key, Flow>,
    /// Those that get a turn.
    ready: VecDeque<usize>,
    /// Those that have more for the guest than it has room for.
    blocked: VecDeque<usize>,
    /// Those in TIME-WAIT, oldest first, with their births; some may be gone.
    waiting: VecDeque<(usize, u64)>,
    /// The deadline after which the blocked ones are tried again, and how far away the last one was.
    retry: Option<Instant>,
    pause: Duration,
    next_port: u16,
}

impl TcpTable {
    pub(super) fn new(hub: &mut Hub) -> Self {
        // A random start makes ports hard to guess, and rarely those of the run before.
        let next_port = FIRST_PORT | hub.random() as u16;
        Self {
            flows: Slots::new(hub.options.limits.connections),
            ready: VecDeque::new(),
            blocked: VecDeque::new(),
            waiting: VecDeque::new(),
            retry: None,
            pause: RETRY.0,
            next_port,
        }
    }

    /// Takes a segment of the guest, with the frame that it came in.
    pub(super) fn take(&mut self, hub: &mut Hub, segment: Segment, frame: Vec<u8>) {
        if let Some(number) = self.flows.find(&segment.key) {
            let Some(flow) = self.flows.get_mut(number) else { return };
            if flow.is_connecting() {
                // A SYN that is repeated needs no second answer.
                if segment.reset {
                    self.remove(hub, number, Fate::Broken);
                }
                return;
            }
            if !(segment.opens && flow.waits()) {
                if !flow.push(frame, hub.now) {
                    hub.counters.dropped_frames.one();
                }
                self.queue(number);
                return;
            }
            // The guest uses the ports of a connection that is over again.
            self.remove(hub, number, Fate::Over);
        }
        if !segment.opens {
            segment.refuse(hub);
        } else if self.open(hub, segment, frame).is_none() {
            hub.counters.refused_connections.one();
            segment.refuse(hub);
        }
    }

    /// Asks the host's network for a connection. `None` if it must be refused.
    fn open(&mut self, hub: &mut Hub, segment: Segment, frame: Vec<u8>) -> Option<()> {
        let target = match route(&hub.options, segment.key.remote) {
            Route::Host(address) => address,
            Route::Resolvers(list) => list.first().copied()?,
            Route::Closed => return None,
        };
        self.make_room(hub)?;
        let mut stream = TcpStream::connect(target).ok()?;
        // Small writes of the guest are passed on as they come.
        let _ = stream.set_nodelay(true);
        hub.watch(&mut stream, Source::Tcp(self.flows.next())).ok()?;
        let flow = Flow::outbound(stream, Opening { segment, frame }, hub.now);
        self.flows.insert(segment.key, flow).map(|number| self.queue(number))
    }

    /// Takes a client of the host that wants a port of the guest.
    pub(super) fn accept(&mut self, hub: &mut Hub, mut stream: TcpStream, guest_port: u16) {
        let _ = stream.set_nodelay(true);
        if self.admit(hub, &mut stream, guest_port).is_some_and(|side| self.add(hub, stream, side)) {
            hub.counters.connections.one();
        } else {
            hub.counters.refused_connections.one();
        }
    }

    fn admit(&mut self, hub: &mut Hub, stream: &mut TcpStream, guest_port: u16) -> Option<(Key, Side)> {
        reset(stream, true);
        self.make_room(hub)?;
        let key = self.free_key(hub, guest_port)?;
        let side = Side::connecting(hub, key).ok()?;
        hub.watch(stream, Source::Tcp(self.flows.next())).ok()?;
        reset(stream, false);
        Some((key, side))
    }

    fn add(&mut self, hub: &Hub, stream: TcpStream, (key, side): (Key, Side)) -> bool {
        self.flows.insert(key, Flow::inbound(stream, side, hub.now)).map(|number| self.queue(number)).is_some()
    }

    /// A port of the gateway's that is free towards a port of the guest.
    fn free_key(&mut self, hub: &Hub, guest_port: u16) -> Option<Key> {
        // One more than the table holds is enough to find a free one.
        (0..=hub.options.limits.connections).find_map(|_| {
            let key = Key { remote: SocketAddrV4::new(hub.options.gateway, self.next_port), guest_port };
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
            self.flows.find(&key).is_none().then_some(key)
        })
    }

    /// Makes room for one connection more.
    fn make_room(&mut self, hub: &mut Hub) -> Option<()> {
        if self.flows.is_full() {
            // Some may be over without having had the turn that finds out.
            self.turns(hub);
        }
        if !self.flows.is_full() {
            return Some(());
        }
        while let Some((number, birth)) = self.waiting.pop_front() {
            if self.flows.birth(number) == Some(birth) {
                hub.counters.shortened_waits.one();
                self.remove(hub, number, Fate::Over);
                return Some(());
            }
        }
        let (number, heard) =
            self.flows.iter().map(|(number, flow)| (number, flow.heard)).min_by_key(|&(_, heard)| heard)?;
        if hub.now.saturating_duration_since(heard) < hub.options.limits.idle {
            return None;
        }
        self.remove(hub, number, Fate::Broken);
        Some(())
    }

    /// Notes an event of a connection's host socket.
    pub(super) fn event(&mut self, number: usize, readable: bool, writable: bool) {
        if let Some(flow) = self.flows.get_mut(number) {
            flow.ready(readable, writable);
            self.queue(number);
        }
    }

    /// A connection's deadline has passed.
    pub(super) fn timer(&mut self, number: usize) {
        if let Some(flow) = self.flows.get_mut(number) {
            flow.due = None;
            self.queue(number);
        }
    }

    /// The deadline of the blocked connections has passed.
    pub(super) fn retry_timer(&mut self) {
        self.retry = None;
        while let Some(number) = self.blocked.pop_front() {
            self.queue(number);
        }
    }

    fn queue(&mut self, number: usize) {
        if let Some(flow) = self.flows.get_mut(number)
            && !flow.queued
        {
            flow.queued = true;
            self.ready.push_back(number);
        }
    }

    /// Gives each connection that is ready one turn.
    pub(super) fn run(&mut self, hub: &mut Hub) {
        if hub.link.room() {
            self.pause = RETRY.0;
            while let Some(number) = self.blocked.pop_front() {
                self.queue(number);
            }
        }
        self.turns(hub);
        if self.blocked.is_empty() {
            hub.timers.arm(Source::Inbox, &mut self.retry, None);
        } else if self.retry.is_none() {
            hub.link.ask(hub.now, hub.options.gateway, hub.options.guest);
            hub.timers.arm(Source::Inbox, &mut self.retry, hub.now.checked_add(self.pause));
            self.pause = self.pause.saturating_mul(2).min(RETRY.1);
        }
    }

    fn turns(&mut self, hub: &mut Hub) {
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else { break };
            self.turn(hub, number);
        }
    }

    fn turn(&mut self, hub: &mut Hub, number: usize) {
        let Some(flow) = self.flows.get_mut(number) else { return };
        flow.queued = false;
        let fate = if flow.is_connecting() { connect(hub, flow) } else { flow.turn(hub) };
        match fate {
            Fate::Stays => {}
            Fate::Blocked => self.blocked.push_back(number),
            Fate::Waits => self.waits(hub, number),
            Fate::Over | Fate::Broken | Fate::Refused => return self.remove(hub, number, fate),
        }
        if let Some(flow) = self.flows.get_mut(number) {
            let due = flow.next_turn(hub, fate == Fate::Blocked);
            hub.timers.arm(Source::Tcp(number), &mut flow.due, due);
        }
    }

    /// Bounds the connections in TIME-WAIT.
    fn waits(&mut self, hub: &mut Hub, number: usize) {
        let Some(birth) = self.flows.birth(number) else { return };
        if self.waiting.contains(&(number, birth)) {
            return;
        }
        self.waiting.push_back((number, birth));
        if self.waiting.len() > hub.options.limits.time_wait
            && let Some((oldest, birth)) = self.waiting.pop_front()
            && self.flows.birth(oldest) == Some(birth)
        {
            hub.counters.shortened_waits.one();
            self.remove(hub, oldest, Fate::Over);
        }
    }

    fn remove(&mut self, hub: &mut Hub, number: usize, fate: Fate) {
        let Some(mut flow) = self.flows.remove(number) else { return };
        hub.timers.arm(Source::Tcp(number), &mut flow.due, None);
        self.ready.retain(|&other| other != number);
        self.blocked.retain(|&other| other != number);
        match fate {
            Fate::Broken => {
                hub.counters.broken_connections.one();
                flow.abort(hub);
            }
            Fate::Refused => {
                hub.counters.refused_connections.one();
                if let Some(opening) = flow.opening() {
                    opening.segment.refuse(hub);
                }
            }
            _ => {}
        }
    }
}

/// Looks whether the host's network has taken a connection, and if so lets the guest in.
fn connect(hub: &mut Hub, flow: &mut Flow) -> Fate {
    match flow.connected(hub) {
        Ok(false) => return Fate::Stays,
        Ok(true) => {}
        Err(_) => return Fate::Refused,
    }
    let Some(opening) = flow.opening() else { return Fate::Broken };
    match Side::listening(hub, opening.segment.key) {
        Ok(side) => flow.established(side, opening.frame),
        Err(_) => return Fate::Broken,
    }
    hub.counters.connections.one();
    flow.turn(hub)
}
