//! The doorbell ports of one guest: which are taken, and the eventfds on them.

use super::ioeventfd;
use crate::carrier::DoorbellAddress;
use crate::slot::lock;
use kvm_ioctls::VmFd;
use pvkit_abi::bus::DoorbellKind;
use pvkit_abi::discovery::{DOORBELL_PORT_BASE, MAX_DOORBELLS};
use pvkit_backends::Bell;
use std::io;
use std::sync::Mutex;

/// The ports, by number.
pub struct Doorbells(Mutex<Vec<bool>>);

impl Default for Doorbells {
    fn default() -> Self {
        Self(Mutex::new(vec![false; usize::from(MAX_DOORBELLS)]))
    }
}

impl Doorbells {
    /// Puts `fd` on a free port.
    ///
    /// # Errors
    /// None is free, or the kernel refuses.
    pub fn attach(&self, vm: &VmFd, fd: &Bell) -> io::Result<DoorbellAddress> {
        let mut taken = lock(&self.0);
        let free = taken.iter_mut().enumerate().find(|(_, taken)| !**taken);
        let (index, slot) = free.ok_or_else(|| io::Error::other("no free doorbell"))?;
        let port = DOORBELL_PORT_BASE + index as u16 * 4;
        ioeventfd::attach(vm, fd, port)?;
        *slot = true;
        Ok(DoorbellAddress { kind: DoorbellKind::PORT, address: u64::from(port) })
    }

    /// Takes `fd` away.
    ///
    /// # Errors
    /// The kernel refuses; then the port stays taken: a doorbell that KVM still has must not be given to another queue.
    pub fn detach(&self, vm: &VmFd, fd: &Bell, at: DoorbellAddress) -> io::Result<()> {
        let port = at.address as u16;
        let index = usize::from(port.wrapping_sub(DOORBELL_PORT_BASE) / 4);
        let mut taken = lock(&self.0);
        ioeventfd::detach(vm, fd, port)?;
        if let Some(slot) = taken.get_mut(index) {
            *slot = false;
        }
        Ok(())
    }
}
