//! A pair of queues as a device of `smoltcp`.
//!
//! *Checksums.* With [`NetFeatures::TX_CHECKSUM`] the stack leaves those of TCP and UDP over IPv4 to the host: here they are
//! begun, and the metadata say where the host finishes them. With [`NetFeatures::RX_CHECKSUM`] the stack verifies none: a
//! frame that the host did not vouch for, and that did not stay within it, is verified here, in the private copy. Without
//! these features the stack does all of it.

mod checksum;

use super::{FRAME_PAGES, Pair};
use crate::platform::Platform;
use pvkit_abi::net::ETHERNET_HEADER;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// A pair with the caller's private memory for one frame each way: `mtu` and 18 bytes, or `MAX_FRAME` with the features
/// for uncut frames.
#[derive(Debug)]
pub struct NetPhy<'p, 'b, P: Platform, const N: usize = 32, const PAGES: usize = FRAME_PAGES> {
    /// The queues: to wait on, to follow the device, to look at counters.
    pub pair: Pair<'p, P, N, PAGES>,
    inward: &'b mut [u8],
    outward: &'b mut [u8],
    /// Frames of the stack that could not be sent.
    dropped: u64,
    /// Received frames with a wrong checksum.
    spoilt: u64,
}

impl<'p, 'b, P: Platform, const N: usize, const PAGES: usize> NetPhy<'p, 'b, P, N, PAGES> {
    /// A device over `pair`.
    #[must_use]
    pub const fn new(pair: Pair<'p, P, N, PAGES>, inward: &'b mut [u8], outward: &'b mut [u8]) -> Self {
        Self { pair, inward, outward, dropped: 0, spoilt: 0 }
    }

    /// Frames of the stack that could not be sent: too long for the room, or the queue failed.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Received frames that were dropped for a wrong checksum; without `RX_CHECKSUM` the stack drops them itself.
    #[must_use]
    pub const fn spoilt(&self) -> u64 {
        self.spoilt
    }
}

impl<'p, P: Platform, const N: usize, const PAGES: usize> Device for NetPhy<'p, '_, P, N, PAGES> {
    type RxToken<'a>
        = PhyReceived<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = PhyTransmit<'a, 'p, P, N, PAGES>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(PhyReceived<'_>, PhyTransmit<'_, 'p, P, N, PAGES>)> {
        // A frame may have to be answered.
        if !self.pair.transmit.has_room().unwrap_or(false) {
            return None;
        }
        let (mut length, sealed) = (None, self.pair.transmit.features());
        let polled = self.pair.receive.poll(1, self.inward, |frame, bytes| {
            length = Some((frame.length, checksum::is_good(&frame, bytes, sealed)));
        });
        polled.ok()?;
        let (length, is_good) = length?;
        // The stack is given something that it ignores, so that it goes on with the next frame.
        let length = if is_good { length } else { 0 };
        self.spoilt += u64::from(!is_good);
        let bytes = self.inward.get_mut(..length)?;
        let transmit = PhyTransmit { pair: &mut self.pair, room: self.outward, dropped: &mut self.dropped };
        Some((PhyReceived { bytes }, transmit))
    }

    fn transmit(&mut self, _: Instant) -> Option<PhyTransmit<'_, 'p, P, N, PAGES>> {
        let room = self.pair.transmit.has_room().unwrap_or(false);
        room.then_some(PhyTransmit { pair: &mut self.pair, room: self.outward, dropped: &mut self.dropped })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit =
            self.outward.len().min(usize::from(self.pair.transmit.mtu()) + ETHERNET_HEADER);
        let sealed = self.pair.transmit.features();
        capabilities.checksum = checksum::left_to_the_stack(sealed);
        capabilities.max_burst_size = Some(self.pair.transmit.sealed().depth as usize);
        capabilities
    }
}

/// A received frame, in private memory.
#[derive(Debug)]
pub struct PhyReceived<'a> {
    bytes: &'a mut [u8],
}

impl RxToken for PhyReceived<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.bytes)
    }
}

/// Room for a frame to send.
#[derive(Debug)]
pub struct PhyTransmit<'a, 'p, P: Platform, const N: usize, const PAGES: usize> {
    pair: &'a mut Pair<'p, P, N, PAGES>,
    room: &'a mut [u8],
    dropped: &'a mut u64,
}

impl<P: Platform, const N: usize, const PAGES: usize> TxToken for PhyTransmit<'_, '_, P, N, PAGES> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        // The stack keeps to `max_transmission_unit`, which is within the room.
        let bytes = self.room.get_mut(..length).unwrap_or(&mut []);
        let result = f(bytes);
        let meta = checksum::begin(bytes, self.pair.transmit.features());
        if self.pair.transmit.send(bytes, meta).is_err() {
            *self.dropped += 1;
        }
        result
    }
}
