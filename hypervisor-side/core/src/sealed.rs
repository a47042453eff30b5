//! What guest and host agreed upon, for reports.

use core::fmt;
use pvkit_abi::bus::Class;
use pvkit_abi::version::{Group, Version};

/// One agreement. `Display` gives one line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// A group of hypercalls.
    Group {
        /// Which.
        group: Group,
        /// Its version.
        version: Version,
        /// Its features.
        features: u64,
    },
    /// A device that the guest took.
    Device {
        /// Its number on the bus.
        device: u32,
        /// What it is.
        class: Class,
        /// Which of its class.
        instance: u16,
        /// Version of its protocol.
        version: Version,
        /// Its features.
        features: u64,
        /// Queues that the guest asked for.
        queues: u16,
        /// Depth of each queue that is open.
        depths: Vec<u32>,
    },
}

impl fmt::Display for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { group, version, features } => {
                write!(f, "group {group:?} {version} features {features:#x}")
            }
            Self::Device { device, class, instance, version, features, queues, depths } => write!(
                f,
                "device {device} {class:?}.{instance} {version} features {features:#x} queues {queues} open {depths:?}"
            ),
        }
    }
}
