//! What a domain is made of.

use pvkit_abi::bus::Offer;
use pvkit_abi::version::GroupOffer;

/// One guest, as its operator described it.
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// vCPUs that may be started, vCPU 0 included.
    pub vcpus: u32,
    /// Hypercall groups offered; the same list that the boot info shows. See
    /// [`Domain::default_groups`](crate::Domain::default_groups).
    pub groups: Vec<GroupOffer>,
    /// Devices; their numbers on the bus are 1, 2, ... in this order.
    pub devices: Vec<DeviceConfig>,
    /// Whether hypercalls from a privilege level other than 0 are served.
    pub cpl3_allowed: bool,
    /// How events reach the guest.
    pub events: EventPath,
    /// The newest epoch of the guest's life before this one, 0 if it is the first; all of this life are newer.
    pub epochs_after: u64,
}

/// How events reach a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventPath {
    /// A pending bit in the area of the vCPU that the port is bound to, and an upcall: a PV guest.
    VcpuArea,
    /// The MSI-X entry with the port's number: a guest with interrupt controllers, PV-on-HVM. Calls that deal with vCPU
    /// areas, and blocking, are `UNSUPPORTED`.
    MsiX,
}

/// One device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceConfig {
    /// What the guest is offered; versions, features and limits are checked against it.
    pub offer: Offer,
}
