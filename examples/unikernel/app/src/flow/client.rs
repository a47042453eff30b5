//! The part that reaches out: pings, then a stream whose digest comes back.

use super::pattern::Pattern;
use super::server::{SINK, socket};
use crate::terminal::Terminal;
use crate::{Failure, Options};
use alloc::vec;
use pvkit_guest_drivers::platform::Platform;
use sha2::{Digest, Sha256};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{icmp, tcp};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpAddress, Ipv4Address};

/// What tells our pings from others.
const IDENT: u16 = 0x7076;
/// How long an answer may take before the same ping is sent again.
const AGAIN_NS: u64 = 200_000_000;
/// Our end of the stream.
const PORT: u16 = 49_152;

/// What is done, and what is next.
enum Step {
    Ping,
    Connect,
    Send,
    Digest,
    Done,
    /// The other end does not answer pings: nothing more is tried.
    Unreachable,
}

/// Pings and a stream.
pub(super) struct Client {
    other: Ipv4Address,
    step: Step,
    icmp: SocketHandle,
    tcp: SocketHandle,
    pings: u64,
    answered: u64,
    sent_at: Option<u64>,
    tries: u64,
    bytes: u64,
    left: u64,
    pattern: Pattern,
    hash: Sha256,
    digest: vec::Vec<u8>,
    most_tries: u64,
}

impl Client {
    pub(super) fn new(sockets: &mut SocketSet<'static>, other: Ipv4Address, options: &Options) -> Self {
        let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
        let icmp = sockets.add(icmp::Socket::new(buffer(), buffer()));
        let tcp = sockets.add(socket());
        let [.., last] = other.octets();
        Self {
            other,
            step: Step::Ping,
            icmp,
            tcp,
            pings: options.count,
            answered: 0,
            sent_at: None,
            tries: 0,
            bytes: options.bytes,
            left: options.bytes,
            pattern: Pattern::new(last.into()),
            hash: Sha256::new(),
            digest: vec![],
            most_tries: options.tries,
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.step, Step::Done | Step::Unreachable)
    }

    /// When to look again even though nothing comes.
    pub(super) fn deadline(&self, now: u64) -> u64 {
        match (&self.step, self.sent_at) {
            (Step::Ping, Some(at)) => at.saturating_add(AGAIN_NS),
            _ => now.saturating_add(super::PATIENCE_NS),
        }
    }

    pub(super) fn report<P: Platform>(&self, terminal: &mut Terminal<'_, P>) {
        terminal.line(format_args!("flow pings={} answered={} bytes={}", self.pings, self.answered, self.bytes));
    }

    /// Does what can be done now; whether that was anything.
    pub(super) fn work(
        &mut self,
        interface: &mut Interface,
        sockets: &mut SocketSet<'_>,
        now: u64,
    ) -> Result<bool, Failure> {
        match self.step {
            Step::Ping => self.ping(sockets.get_mut(self.icmp), now),
            Step::Connect => {
                let socket = sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
                let started = socket.connect(interface.context(), (self.other, SINK), PORT);
                started.map_err(|_| Failure::Wrong("no connection can be begun"))?;
                self.step = Step::Send;
                Ok(true)
            }
            Step::Send => self.send(sockets.get_mut(self.tcp)),
            Step::Digest => self.take_digest(sockets.get_mut(self.tcp)),
            Step::Done => Ok(false),
            Step::Unreachable => Err(Failure::Wrong("the other guest does not answer pings")),
        }
    }

    fn ping(&mut self, socket: &mut icmp::Socket<'_>, now: u64) -> Result<bool, Failure> {
        if !socket.is_open() {
            socket.bind(icmp::Endpoint::Ident(IDENT)).map_err(|_| Failure::Wrong("no socket for pings"))?;
        }
        let checksums = ChecksumCapabilities::default();
        while let Ok((packet, from)) = socket.recv() {
            let echo = Icmpv4Packet::new_checked(packet).ok();
            let echo = echo.and_then(|packet| Icmpv4Repr::parse(&packet, &checksums).ok());
            if let Some(Icmpv4Repr::EchoReply { ident: IDENT, seq_no, .. }) = echo
                && u64::from(seq_no) == self.answered
                && from == IpAddress::Ipv4(self.other)
            {
                (self.answered, self.sent_at, self.tries) = (self.answered + 1, None, 0);
            }
        }
        if self.answered >= self.pings {
            self.step = if self.bytes > 0 { Step::Connect } else { Step::Done };
            return Ok(true);
        }
        if self.sent_at.is_some_and(|at| now < at.saturating_add(AGAIN_NS)) {
            return Ok(false);
        }
        if self.tries >= self.most_tries {
            self.step = Step::Unreachable;
            return Ok(true);
        }
        let echo = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: self.answered as u16, data: b"pvkit" };
        if let Ok(room) = socket.send(echo.buffer_len(), IpAddress::Ipv4(self.other)) {
            echo.emit(&mut Icmpv4Packet::new_unchecked(room), &checksums);
            (self.sent_at, self.tries) = (Some(now), self.tries + 1);
        }
        Ok(true)
    }

    fn send(&mut self, socket: &mut tcp::Socket<'_>) -> Result<bool, Failure> {
        if socket.state() == tcp::State::Closed {
            return Err(Failure::Wrong("the stream broke off"));
        }
        let mut moved = false;
        while self.left > 0 && socket.can_send() {
            let sent = socket.send(|space| {
                let length = space.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let part = space.get_mut(..length).unwrap_or(&mut []);
                self.pattern.fill(part);
                self.hash.update(&*part);
                (part.len(), part.len())
            });
            let sent = sent.unwrap_or(0);
            if sent == 0 {
                break;
            }
            self.left -= sent as u64;
            moved = true;
        }
        if self.left == 0 && socket.may_send() {
            socket.close();
            self.step = Step::Digest;
            moved = true;
        }
        Ok(moved)
    }

    fn take_digest(&mut self, socket: &mut tcp::Socket<'_>) -> Result<bool, Failure> {
        let mut moved = false;
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                self.digest.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            moved |= taken.is_ok_and(|count| count > 0);
        }
        if socket.may_recv() && self.digest.len() < 32 {
            return Ok(moved);
        }
        if self.digest != self.hash.finalize_reset().as_slice() {
            return Err(Failure::Wrong("the other guest received other bytes"));
        }
        self.step = Step::Done;
        Ok(true)
    }
}
