//! What differs between the machines when an effect is carried out.

use pvkit_abi::bus::DoorbellKind;
use pvkit_backends::Bell;
use std::io;
use std::sync::Arc;

/// A doorbell that a guest can ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorbellAddress {
    pub kind: DoorbellKind,
    pub address: u64,
}

/// The machine beneath the host.
pub trait Carrier: Send + Sync {
    /// Gives the guest a doorbell that signals `fd`.
    ///
    /// # Errors
    /// If no doorbell is free, or the kernel refuses.
    fn attach(&self, fd: &Arc<Bell>) -> io::Result<DoorbellAddress>;

    /// Takes the doorbell away.
    fn detach(&self, fd: &Arc<Bell>, at: DoorbellAddress);

    /// Starts a vCPU that never ran.
    fn start_vcpu(&self, vcpu: u32, entry: u64, stack_top: u64, argument: u64);

    /// Interrupts a vCPU that runs.
    fn kick(&self, vcpu: u32);

    /// Sends the interrupt of an event port, in a machine whose guest has interrupt controllers.
    fn signal(&self, port: u32);
}
