//! Network cards: frames in and out, blocking with a deadline, or polled with a deadline that is over.

use crate::edge;
use crate::error::{Error, status};
use crate::slots::Slots;
use crate::start::{Machine, with_bus};
use core::ffi::c_void;
use pvkit_abi::bus::Class;
use pvkit_abi::net::{FrameMeta, NetFeatures};
use pvkit_guest_drivers::error::{HostFault, Misuse, RequestError};
use pvkit_guest_drivers::net::{NetOptions, Pair};
use pvkit_guest_drivers::{GrantPolicy, Net};

/// Frames that may be in flight each way.
const SLOTS: usize = 32;
/// Pages of the longest frame to be sent: an MTU of 9000.
const PAGES: usize = 3;
/// Frames of the host that make no sense and are passed over in one call.
const PATIENCE: usize = 64;

/// A card with its one pair of queues.
struct Card {
    net: Net<'static, Machine, SLOTS, 1, PAGES>,
    pair: Pair<'static, Machine, SLOTS, PAGES>,
}

static CARDS: Slots<Card, 4> = Slots::new();

/// A network card's properties.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetFacts {
    /// Its address.
    pub mac: [u8; 6],
    /// Longest IP packet in bytes. A frame is at most this and 18 bytes long.
    pub mtu: u16,
    /// 1 if frames can pass, else 0.
    pub link_up: u32,
    /// Zero.
    pub reserved: u32,
}

/// Opens the card that stands at place `instance` (from 0) of the host's network cards. A handle, or an error. At most
/// four cards are open at a time; one takes up to 140 pages of the pool.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_net_open(instance: u16, deadline: u64) -> i32 {
    let opened = CARDS.open(|| {
        with_bus(|bus| {
            let device = bus.find(Class::NET, instance).ok_or(Error::NotFound)?;
            // Nothing is left undone in a frame: C need not know what a partial checksum is.
            let features = NetFeatures::MERGEABLE | NetFeatures::INDIRECT;
            let options = NetOptions { pairs: 1, depth: SLOTS as u32, features };
            let mut net = Net::open(bus, device, options, GrantPolicy::Extent, deadline)?;
            let pair = net.take_pair(0).ok_or(Error::NotFound)?;
            Ok(Card { net, pair })
        })
    });
    opened.unwrap_or_else(|error| error as i32)
}

/// Tells a card's properties. A link that went up or down shows here.
///
/// # Safety
/// `into` points to room for the struct, or is null, which is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_net_facts(net: i32, into: *mut NetFacts) -> i32 {
    let told = CARDS.with(net, |card| {
        with_bus(|bus| Ok(card.net.refresh(bus)?))?;
        card.pair.follow(&card.net)?;
        let link = card.net.link();
        Ok(NetFacts { mac: link.mac, mtu: link.mtu, link_up: link.up.into(), reserved: 0 })
    });
    // SAFETY: as this function's caller vouches.
    status(told.and_then(|facts| unsafe { edge::put(into, facts) }))
}

/// Sends one frame: an Ethernet header and what follows, without the frame check sequence; checksums are complete. Waits
/// while the host has not taken the frames before. A frame that was sent may be lost on its way, as on a wire.
///
/// # Safety
/// `frame` is readable for `length` bytes, and nobody writes to them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_net_send(net: i32, frame: *const c_void, length: usize, deadline: u64) -> i32 {
    // SAFETY: as this function's caller vouches.
    let frame = unsafe { edge::readable(frame, length) };
    status(frame.and_then(|frame| CARDS.with(net, |card| send(card, frame, deadline))))
}

fn send(card: &mut Card, frame: &[u8], deadline: u64) -> Result<(), Error> {
    if frame.len() > longest(card) {
        return Err(Error::TooLong);
    }
    card.pair.transmit.wait(deadline)?;
    Ok(card.pair.transmit.send(frame, FrameMeta(0))?)
}

/// Receives one frame: its length in bytes, or an error. `PVKIT_ERROR_TIMED_OUT` says that none came;
/// `PVKIT_ERROR_TOO_LONG` that one did not fit and was dropped: room for the MTU and 18 bytes is always enough.
///
/// # Safety
/// `into` is writable for `room` bytes, and nobody else touches them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_net_receive(net: i32, into: *mut c_void, room: usize, deadline: u64) -> i32 {
    // SAFETY: as this function's caller vouches.
    let into = unsafe { edge::writable(into, room) };
    let received = into.and_then(|into| CARDS.with(net, |card| receive(card, into, deadline)));
    received.unwrap_or_else(|error| error as i32)
}

fn receive(card: &mut Card, into: &mut [u8], deadline: u64) -> Result<i32, Error> {
    for _ in 0..PATIENCE {
        match card.pair.receive.receive(into) {
            Ok(Some(frame)) => return i32::try_from(frame.length).map_err(|_| Error::TooLong),
            Ok(None) => card.pair.receive.wait(deadline)?,
            // Dropped and counted; the queue goes on.
            Err(RequestError::PeerFault(HostFault::Frame { .. } | HostFault::Length { .. })) => {}
            Err(RequestError::Misuse(Misuse::BufferLength { .. })) => return Err(Error::TooLong),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::TimedOut)
}

/// Bytes of a frame with a tag.
fn longest(card: &Card) -> usize {
    usize::from(card.net.link().mtu) + 18
}

/// Has the host drain and detach the card. On an error it stays open. Frames on their way may be lost.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_net_close(net: i32, deadline: u64) -> i32 {
    let closed = CARDS.close(net, |card| {
        with_bus(|bus| Ok(card.net.close(bus, deadline)?))?;
        Ok(card.pair.follow(&card.net)?)
    });
    status(closed)
}
