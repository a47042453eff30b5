//! Questions on the network: who has an address, by ARP, one after the other.

use super::executor::Timer;
use crate::Failure;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;
use pvkit_abi::net::FrameMeta;
use pvkit_guest_drivers::error::RequestError;
use pvkit_guest_drivers::net::{AsyncRx, AsyncTx, Net};
use pvkit_guest_drivers::platform::Platform;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Ipv4Address,
};

/// The shortest frame, and the longest that is answered.
const FRAME: usize = 60;
/// Bytes of a frame that is of no interest here but fits the network.
const ROOM: usize = 1518;
/// How long an answer may take before the question is asked again.
const PATIENCE_NS: u64 = 500_000_000;

/// Who asks whom, over what.
pub(super) struct Wire<'i, 'p, P: Platform> {
    /// Whose queues these are.
    pub(super) net: &'i RefCell<Net<'p, P>>,
    pub(super) transmit: AsyncTx<'i, 'p, P>,
    pub(super) receive: AsyncRx<'i, 'p, P>,
    pub(super) mac: [u8; 6],
    pub(super) own: Ipv4Address,
    pub(super) other: Ipv4Address,
}

/// The task that asks.
pub(super) struct Questions<'t, 'i, 'p, P: Platform> {
    pub(super) platform: &'p P,
    pub(super) timer: &'t Timer,
    pub(super) wire: &'t mut Wire<'i, 'p, P>,
    pub(super) answers: &'t Cell<u64>,
}

impl<P: Platform> Questions<'_, '_, '_, P> {
    /// Asks `count` times, each at most `tries` times.
    pub(super) async fn run(mut self, count: u64, tries: u64) -> Result<(), Failure> {
        for _ in 0..count {
            let mut left = tries;
            while !self.ask_or_resume().await? {
                left = left.checked_sub(1).filter(|left| *left > 0).ok_or(Failure::Wrong("nobody answers"))?;
            }
            self.answers.set(self.answers.get() + 1);
        }
        Ok(())
    }

    /// A question to a network that is gone for now is one without an answer.
    async fn ask_or_resume(&mut self) -> Result<bool, Failure> {
        match self.ask().await {
            Err(Failure::Request(RequestError::Disconnected)) => {
                let deadline = self.platform.now().saturating_add(PATIENCE_NS);
                let passed = poll_fn(|_| if self.platform.now() < deadline { Poll::Pending } else { Poll::Ready(()) });
                self.timer.by(deadline, passed).await;
                let net = &mut self.wire.net.borrow_mut();
                self.wire.transmit.queue().resume(net).map_err(RequestError::from)?;
                self.wire.receive.queue().resume(net)?;
                Ok(false)
            }
            ended => ended,
        }
    }

    async fn ask(&mut self) -> Result<bool, Failure> {
        let deadline = self.platform.now().saturating_add(PATIENCE_NS);
        let question = self.question();
        self.timer.by(deadline, self.wire.transmit.send(&question, FrameMeta(0), deadline)).await?;
        let mut room = [0; ROOM];
        loop {
            match self.timer.by(deadline, self.wire.receive.receive(&mut room, deadline)).await {
                Ok(frame) if room.get(..frame.length).is_some_and(|frame| self.is_answer(frame)) => return Ok(true),
                Ok(_) => {}
                Err(RequestError::TimedOut) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn question(&self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        let (src_addr, dst_addr) = (EthernetAddress(self.wire.mac), EthernetAddress::BROADCAST);
        let mut frame = EthernetFrame::new_unchecked(&mut bytes[..]);
        EthernetRepr { src_addr, dst_addr, ethertype: EthernetProtocol::Arp }.emit(&mut frame);
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: src_addr,
            source_protocol_addr: self.wire.own,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: self.wire.other,
        };
        question.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        bytes
    }

    fn is_answer(&self, bytes: &[u8]) -> bool {
        let arp = EthernetFrame::new_checked(bytes)
            .ok()
            .filter(|frame| frame.ethertype() == EthernetProtocol::Arp)
            .and_then(|frame| ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).ok()?).ok());
        matches!(arp, Some(ArpRepr::EthernetIpv4 { operation: ArpOperation::Reply, source_protocol_addr, .. })
            if source_protocol_addr == self.wire.other)
    }
}
