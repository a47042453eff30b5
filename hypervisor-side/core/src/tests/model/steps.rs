//! What can happen in a walk, and how often.

use super::DEVICES;
use super::reference::is_wide;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub enum Step {
    Allocate(u32),
    Bind(u32, u32),
    ClosePort(u32),
    Mask(u32, bool),
    Signal(u32),
    SetUp(Option<u32>),
    Accept { device: usize, queues: u16, stale: bool },
    Open { device: usize, queue: u16, wide: bool, port: Option<u32> },
    Close { device: usize, stale: bool },
    Share { device: usize },
    Revoke { device: usize, nth: usize },
    Query { device: usize, nth: usize },
    Control { device: usize, size: u16, spoilt: bool },
    Rescan,
    Unknown(u8),
    Answer { nth: usize, good: bool },
    Gone(usize),
    Back(usize),
    Rescind(usize),
    TakeMessages,
}

impl Step {
    /// Whether the guest must know the present epoch for it.
    pub const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Accept { .. }
                | Self::Open { .. }
                | Self::Close { .. }
                | Self::Share { .. }
                | Self::Revoke { .. }
                | Self::Query { .. }
                | Self::Control { .. }
                | Self::Rescan
        )
    }
}

/// Any step; the weights keep devices connected long enough for something to happen to them.
pub fn step() -> impl Strategy<Value = Step> {
    let device = || 0..DEVICES;
    let port = || 0_u32..4;
    let maybe_port = || prop_oneof![Just(None), port().prop_map(Some)];
    prop_oneof![
        3 => (0_u32..5).prop_map(Step::Allocate),
        1 => (port(), 0_u32..5).prop_map(|(port, vcpu)| Step::Bind(port, vcpu)),
        2 => port().prop_map(Step::ClosePort),
        1 => (port(), any::<bool>()).prop_map(|(port, masked)| Step::Mask(port, masked)),
        1 => port().prop_map(Step::Signal),
        1 => maybe_port().prop_map(Step::SetUp),
        8 => (device(), 1_u16..3, prop::bool::weighted(0.1))
            .prop_map(|(device, queues, stale)| Step::Accept { device, queues, stale }),
        8 => (device(), 0_u16..3, prop::bool::weighted(0.2), maybe_port())
            .prop_map(|(device, queue, odd, port)| Step::Open { device, queue, wide: is_wide(device, queue) != odd, port }),
        3 => (device(), prop::bool::weighted(0.1)).prop_map(|(device, stale)| Step::Close { device, stale }),
        6 => device().prop_map(|device| Step::Share { device }),
        4 => (device(), 0_usize..5).prop_map(|(device, nth)| Step::Revoke { device, nth }),
        3 => (device(), 0_usize..5).prop_map(|(device, nth)| Step::Query { device, nth }),
        5 => (device(), 0_u16..108, prop::bool::weighted(0.1))
            .prop_map(|(device, size, spoilt)| Step::Control { device, size, spoilt }),
        1 => Just(Step::Rescan),
        1 => any::<u8>().prop_map(Step::Unknown),
        16 => (0_usize..8, prop::bool::weighted(0.85)).prop_map(|(nth, good)| Step::Answer { nth, good }),
        2 => device().prop_map(Step::Gone),
        3 => device().prop_map(Step::Back),
        1 => device().prop_map(Step::Rescind),
        4 => Just(Step::TakeMessages),
    ]
}
