//! The network's thread: it sleeps until a socket, the guest or a deadline wants something, and gives each its turn.
//!
//! *Invariants.* It sleeps without a time limit unless a deadline is armed, so an idle network costs no wake-ups. A turn
//! is bounded; whoever has more comes again after the others.

use super::counters::Counters;
use super::hub::Hub;
use super::intake;
use super::link::Link;
use super::options::UserOptions;
use super::publish::{Bound, Listener};
use super::source::Source;
use super::tcp::TcpTable;
use super::udp::UdpTable;
use crate::net::{Inbox, Steering};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Frames of the guest that are taken in a turn.
const TURN: usize = 256;
/// Events taken at once.
const EVENTS: usize = 256;

/// What the thread shares with the network's owner.
#[derive(Debug)]
pub(super) struct Shared {
    /// Frames of the guest.
    pub(super) inbox: Arc<Inbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: AtomicBool,
}

/// All that runs on the network's thread.
pub(super) struct Engine {
    poll: Poll,
    shared: Arc<Shared>,
    hub: Hub,
    tcp: TcpTable,
    udp: UdpTable,
    listeners: Vec<Listener>,
}

impl Engine {
    pub(super) fn new(
        options: UserOptions,
        shared: Arc<Shared>,
        guest: Arc<Steering>,
        bound: Vec<Bound>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let wake = shared.inbox.wake_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&wake), Source::Inbox.token(), Interest::READABLE)?;
        let link = Link::new(guest, options.mtu);
        let mut hub = Hub::new(options, Arc::clone(&shared.counters), link, poll.registry().try_clone()?);
        let tcp = TcpTable::new(&mut hub);
        let mut udp = UdpTable::new(&mut hub);
        let mut listeners = Vec::new();
        for bound in bound {
            match bound {
                Bound::Tcp(socket, port) => listeners.push(Listener::new(&hub, socket, port, listeners.len())?),
                Bound::Udp(socket, port) => udp.publish(&hub, socket, port)?,
            }
        }
        Ok(Self { poll, shared, hub, tcp, udp, listeners })
    }

    /// Runs until the network's owner wants it to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut more = false;
        // ORDER: pairs with user::UserNetwork::drop, which stores it before it writes the eventfd that wakes us.
        while !self.shared.stop.load(Ordering::Acquire) {
            let patience = if more { Some(Duration::ZERO) } else { self.patience() };
            match self.poll.poll(&mut events, patience) {
                Ok(()) => {}
                Err(problem) if problem.kind() == ErrorKind::Interrupted => events.clear(),
                // Only a programming error gets here; without the poller there is no network.
                Err(_) => return,
            }
            self.hub.counters.wakes.one();
            self.hub.now = Instant::now();
            for event in &events {
                self.event(event);
            }
            self.deadlines();
            more = self.turn();
        }
    }

    fn patience(&self) -> Option<Duration> {
        self.hub.timers.earliest().map(|due| due.saturating_duration_since(Instant::now()))
    }

    fn event(&mut self, event: &mio::event::Event) {
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        let writable = event.is_writable() || event.is_write_closed() || event.is_error();
        match Source::of(event.token()) {
            Some(Source::Inbox) => {
                // The frames are looked for after any event; the count only has to be cleared.
                let _ = self.shared.inbox.wake_fd().read();
            }
            Some(Source::Listener(number)) => {
                if let Some(listener) = self.listeners.get_mut(number) {
                    listener.event();
                }
            }
            Some(Source::Tcp(number)) => self.tcp.event(number, readable, writable),
            Some(source @ (Source::Udp(_) | Source::UdpListener(_))) if readable => self.udp.event(source),
            _ => {}
        }
    }

    fn deadlines(&mut self) {
        while let Some(source) = self.hub.timers.pop(self.hub.now) {
            match source {
                Source::Inbox => self.tcp.retry_timer(),
                Source::Listener(number) => {
                    if let Some(listener) = self.listeners.get_mut(number) {
                        listener.timer();
                    }
                }
                Source::Tcp(number) => self.tcp.timer(number),
                Source::Udp(number) => self.udp.timer(&mut self.hub, number),
                Source::UdpListener(_) => {}
            }
        }
    }

    /// One turn for everyone. True if somebody has more.
    fn turn(&mut self) -> bool {
        let mut more = true;
        for _ in 0..TURN {
            let Some(frame) = self.shared.inbox.pop() else {
                more = false;
                break;
            };
            intake::take(&mut self.hub, &mut self.tcp, &mut self.udp, frame);
        }
        for listener in &mut self.listeners {
            more |= listener.run(&mut self.hub, &mut self.tcp);
        }
        more |= self.udp.run(&mut self.hub);
        self.tcp.run(&mut self.hub);
        more
    }
}
