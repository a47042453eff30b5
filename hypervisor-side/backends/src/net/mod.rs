//! Networks: where the frames of a guest's port go, and where those for it come from.
//!
//! *Purpose.* A [`TransmitQueue`] copies a guest's frames out of granted memory, judges them, and hands them to a
//! [`Network`]. The network hands frames for the guest to the port's [`Steering`], which filters them and picks an
//! [`Inbox`]; a [`ReceiveQueue`] makes them what the guest takes and puts them into its buffers.
//!
//! *Owners.* A queue's engine owns its half of the ring. A port's steering is shared by its network, its receive queues
//! and its [`PortControl`].
//!
//! *Invariants.* A frame is private memory from the first copy to the last. Every buffer on the way is bounded; a frame
//! that finds no room is dropped and counted, and nobody waits for a slow receiver.

mod control;
mod filter;
mod frame;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod inbox;
mod loopback;
mod offer;
pub mod offload;
mod passt;
mod plain;
mod receive;
mod segments;
mod steering;
mod switch;
mod tap;
mod transmit;
pub mod user;

pub use control::{PortControl, with_needs};
pub use filter::{BROADCAST, Filter, is_group};
pub use frame::Frame;
pub use inbox::Inbox;
pub use loopback::Loopback;
pub use offer::{MAX_SEGMENTS, config_bytes, offer};
pub use passt::{Passt, PasstSnapshot};
pub use plain::Plain;
pub use receive::{RECEIVE_WORDS, ReceiveQueue};
pub use steering::{Steering, SteeringSnapshot};
pub use switch::{PortOptions, PortSnapshot, Switch, SwitchError, SwitchLimits, SwitchPort};
pub use tap::{Tap, TapError, TapOptions, TapSnapshot};
pub use transmit::TransmitQueue;

use pvkit_abi::net::NetFeatures;

/// Every offload: what a network offers that passes frames on with their metadata.
pub const OFFLOADS: NetFeatures = NetFeatures::TX_CHECKSUM
    .union(NetFeatures::TX_TSO4)
    .union(NetFeatures::TX_TSO6)
    .union(NetFeatures::TX_USO)
    .union(NetFeatures::RX_CHECKSUM)
    .union(NetFeatures::RX_TSO4)
    .union(NetFeatures::RX_TSO6)
    .union(NetFeatures::RX_USO);

/// One end of a network that a guest's port is plugged into. Shared by the port's transmit queues.
///
/// Frames for the guest are handed by the network to the [`Steering`] that it was given when it was made.
pub trait Network: Send + Sync {
    /// Takes a frame that the guest sent. Never blocks; a network that cannot take it drops and counts it.
    fn send(&self, frame: Frame);

    /// Offloads that this network takes from, or gives to, a guest that agrees to them.
    fn features(&self) -> NetFeatures;

    /// Tells which of the features the guest sealed. Frames for the guest must not need others.
    fn agreed(&self, features: NetFeatures);
}

#[cfg(test)]
mod tests;
