//! A pair of queues as a device of `smoltcp`.
//!
//! *Checksums.* With [`NetFeatures::RX_CHECKSUM`] a frame may come with a partial checksum; it is finished here, in the
//! private copy, so that the stack can verify every frame alike. On transmit the stack computes its own.

use super::{FRAME_PAGES, Pair, Received};
use crate::platform::Platform;
use pvkit_abi::net::{ETHERNET_HEADER, FrameFlags, FrameMeta};
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
}

impl<'p, 'b, P: Platform, const N: usize, const PAGES: usize> NetPhy<'p, 'b, P, N, PAGES> {
    /// A device over `pair`.
    #[must_use]
    pub const fn new(pair: Pair<'p, P, N, PAGES>, inward: &'b mut [u8], outward: &'b mut [u8]) -> Self {
        Self { pair, inward, outward, dropped: 0 }
    }

    /// Frames of the stack that could not be sent: too long for the room, or the queue failed.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
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
        let mut length = None;
        let polled = self.pair.receive.poll(1, self.inward, |frame, bytes| {
            finish_checksum(&frame, bytes);
            length = Some(frame.length);
        });
        polled.ok()?;
        let bytes = self.inward.get_mut(..length?)?;
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
        if self.pair.transmit.send(bytes, FrameMeta(0)).is_err() {
            *self.dropped += 1;
        }
        result
    }
}

/// Stores the checksum that the host left undone. The driver has judged that its place is inside the frame.
fn finish_checksum(frame: &Received, bytes: &mut [u8]) {
    if frame.meta.flags() & FrameFlags::NEEDS_CHECKSUM.bits() == 0 {
        return;
    }
    let start = usize::from(frame.meta.checksum_start());
    let Some(covered) = bytes.get_mut(start..) else { return };
    let sum = covered.chunks(2).fold(0u64, |sum, pair| match *pair {
        [high, low] => sum + u64::from(u16::from_be_bytes([high, low])),
        [high] => sum + u64::from(u16::from_be_bytes([high, 0])),
        _ => sum,
    });
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    let checksum = match !(folded as u16) {
        // Zero would say that there is none (UDP); both are the same number to every receiver.
        0 => u16::MAX,
        other => other,
    };
    let place = usize::from(frame.meta.checksum_offset());
    if let Some(field) = covered.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
        *field = checksum.to_be_bytes();
    }
}
