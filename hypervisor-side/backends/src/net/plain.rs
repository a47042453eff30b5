//! A network without offloads, whatever the one behind it can do: for guests that get them wrong, and to tell whose mistake
//! a wrong checksum is.

use super::{Frame, Network, OFFLOADS};
use pvkit_abi::net::NetFeatures;
use std::sync::Arc;

/// Offers none of the offloads of the network behind it.
pub struct Plain(pub Arc<dyn Network>);

impl Network for Plain {
    fn send(&self, frame: Frame) {
        self.0.send(frame);
    }

    fn features(&self) -> NetFeatures {
        self.0.features().difference(OFFLOADS)
    }

    fn agreed(&self, features: NetFeatures) {
        self.0.agreed(features);
    }
}
