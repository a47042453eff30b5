//! Networks: where the frames of a guest's port go, and where those for it come from.

mod frame;
mod inbox;

pub use frame::Frame;
pub use inbox::Inbox;

use pvkit_abi::net::NetFeatures;

/// One end of a network that a guest's port is plugged into. Shared by the port's transmit queues.
///
/// Frames for the guest are pushed by the network into the [`Inbox`]es that it was given when it was made, one a pair.
pub trait Network: Send + Sync {
    /// Takes a frame that the guest sent. Never blocks; a network that cannot take it drops and counts it.
    fn send(&self, frame: Frame);

    /// Offloads that this network takes from, or gives to, a guest that agrees to them.
    fn features(&self) -> NetFeatures;

    /// Tells which of the features the guest sealed. Frames for the guest must not need others.
    fn agreed(&self, features: NetFeatures);
}
