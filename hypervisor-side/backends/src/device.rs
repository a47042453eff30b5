//! One device: what it works on, and the engine of each of its queues.

use crate::block::{BlockLimits, BlockQueue};
use crate::console::{ConsoleInput, ConsoleOutput, ConsoleQueue};
use crate::counters::QueueCounters;
use crate::disk::Disk;
use crate::engine::{Interrupt, QueueEngine, QueueLog, QueueSetup};
use crate::entropy::EntropyQueue;
use crate::grants::GrantTable;
use crate::net::{Network, PortControl, RECEIVE_WORDS, ReceiveQueue, Steering, TransmitQueue};
use crate::services::{Services, ServicesQueue};
use pvkit_abi::block::BlockFeatures;
use pvkit_abi::bus::Offer;
use pvkit_abi::net::NetFeatures;
use pvkit_abi::status::CallError;
use pvkit_ring::{RingSize, WideBackend};
use pvkit_shared_memory::SharedPages;
use std::sync::Arc;

/// What a device works on.
pub enum Backing {
    /// A disk.
    Block(Arc<dyn Disk>),
    /// A console.
    Console(ConsoleOutput, Arc<ConsoleInput>),
    /// A network port.
    Net(NetPort),
    /// The services channel.
    Services(Arc<Services>),
    /// The host's random generator.
    Entropy,
}

/// A network port.
pub struct NetPort {
    /// What it is plugged into.
    pub network: Arc<dyn Network>,
    /// The way of frames into the guest.
    pub steering: Arc<Steering>,
    /// What the guest sets.
    pub control: PortControl,
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

/// Asks for one queue, on rings that are in reach.
pub struct QueueOrder {
    /// Which queue of the device.
    pub queue: u16,
    /// Slots.
    pub depth: u32,
    /// Bytes of a completion.
    pub completion_bytes: u16,
    /// Epoch of the rings.
    pub epoch: u64,
    /// Sealed features.
    pub features: u64,
    /// The completion area, which the engine writes.
    pub own: SharedPages,
    /// The request area, which the guest writes.
    pub peer: SharedPages,
}

/// An engine's ways to the rest of the host.
pub struct QueueLines {
    /// The device's grants.
    pub grants: Arc<GrantTable>,
    /// How to reach the guest.
    pub interrupt: Interrupt,
    /// Where to count.
    pub counters: Arc<QueueCounters>,
    /// Where to tell of lies.
    pub log: QueueLog,
}

impl Backing {
    /// The engine of a queue of a device that was offered as `offer`, on fresh rings.
    ///
    /// # Errors
    /// `INVALID`, `UNSUPPORTED` or `NOT_FOUND` for an order that does not fit the device, `STALE` for rings of another
    /// epoch, or that were never made ready.
    pub fn engine(
        &self,
        offer: &Offer,
        order: QueueOrder,
        lines: QueueLines,
    ) -> Result<Box<dyn QueueEngine>, CallError> {
        Ok(match self {
            Self::Block(disk) => {
                let features = BlockFeatures::from_bits_truncate(order.features);
                let setup = setup::<1>(order, lines)?;
                Box::new(BlockQueue::new(setup, disk.clone(), BlockLimits::of(offer), features))
            }
            Self::Console(output, input) => {
                Box::new(ConsoleQueue::new(setup::<1>(order, lines)?, output.clone(), input.clone()))
            }
            Self::Services(services) => Box::new(ServicesQueue::new(setup::<1>(order, lines)?, services.clone())),
            Self::Entropy => Box::new(EntropyQueue::new(setup::<1>(order, lines)?)),
            Self::Net(port) => {
                let features = port.control.opened(order.epoch, NetFeatures::from_bits_truncate(order.features));
                let pair = usize::from(order.queue / 2);
                if order.queue.is_multiple_of(2) {
                    let setup = setup::<RECEIVE_WORDS>(order, lines)?;
                    let queue = ReceiveQueue::new(setup, port.steering.clone(), pair, features, port.mtu);
                    Box::new(queue.ok_or(CallError::NOT_FOUND)?)
                } else {
                    let setup = setup::<1>(order, lines)?;
                    Box::new(TransmitQueue::new(setup, port.network.clone(), features, port.mtu))
                }
            }
        })
    }

    /// Its queues are closed.
    pub fn closed(&self) {
        if let Self::Net(port) = self {
            port.control.closed();
        }
    }

    /// Sets something. Only networks have anything to set.
    ///
    /// # Errors
    /// `UNSUPPORTED`, or what the network says.
    pub fn control(&self, operation: u16, data: &[u8]) -> Result<(), CallError> {
        match self {
            Self::Net(port) => port.control.control(operation, data),
            _ => Err(CallError::UNSUPPORTED),
        }
    }
}

/// What an engine needs: its half of the ring, with completions of `C` words, and its ways to the guest.
fn setup<const C: usize>(order: QueueOrder, lines: QueueLines) -> Result<QueueSetup<C>, CallError> {
    if usize::from(order.completion_bytes) != C * 8 {
        return Err(CallError::UNSUPPORTED);
    }
    let size = RingSize::new(order.depth).ok_or(CallError::INVALID)?;
    let ring = WideBackend::new(order.own, order.peer, size, order.epoch).map_err(|_| CallError::INVALID)?;
    if ring.peer_epoch() != order.epoch {
        // Rings of an older life of the device, or never made ready.
        return Err(CallError::STALE);
    }
    let QueueLines { grants, interrupt, counters, log } = lines;
    Ok(QueueSetup { ring, grants, interrupt, counters, log })
}
