//! Two network cards with a cable between them that may lose frames.

use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

type Frames = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end.
pub struct Card {
    inward: Frames,
    outward: Frames,
    sent: u32,
    /// Every so many frames one is lost; 0: none.
    pub lose_every: u32,
}

/// A cable's two ends.
pub fn pair() -> (Card, Card) {
    let (here, there) = (Frames::default(), Frames::default());
    let card = |inward: &Frames, outward: &Frames| Card {
        inward: inward.clone(),
        outward: outward.clone(),
        sent: 0,
        lose_every: 0,
    };
    (card(&here, &there), card(&there, &here))
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmit<'a>;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn receive(&mut self, _: Instant) -> Option<(Received, Transmit<'_>)> {
        let frame = self.inward.borrow_mut().pop_front()?;
        Some((Received(frame), Transmit(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Transmit<'_>> {
        Some(Transmit(self))
    }
}

pub struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub struct Transmit<'a>(&'a mut Card);

impl phy::TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = std::vec![0; length];
        let result = f(&mut frame);
        self.0.sent += 1;
        if self.0.lose_every == 0 || !self.0.sent.is_multiple_of(self.0.lose_every) {
            self.0.outward.borrow_mut().push_back(frame);
        }
        result
    }
}
