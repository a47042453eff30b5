//! A network that sends every frame back as it came, for tests and measurements.

use super::{Frame, Network, Steering};
use pvkit_abi::net::NetFeatures;
use std::sync::Arc;

/// A mirror for one guest. The filter does not apply: what comes back is never addressed to its sender.
#[derive(Debug)]
pub struct Loopback {
    steering: Arc<Steering>,
}

impl Loopback {
    /// A mirror before the port that `steering` leads to.
    #[must_use]
    pub const fn new(steering: Arc<Steering>) -> Self {
        Self { steering }
    }
}

impl Network for Loopback {
    fn send(&self, frame: Frame) {
        self.steering.push(frame);
    }

    fn features(&self) -> NetFeatures {
        super::OFFLOADS
    }

    /// The receive queue makes frames fit what was sealed.
    fn agreed(&self, _features: NetFeatures) {}
}
