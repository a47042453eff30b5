//! The guest's memory as KVM's memory slots.
#![allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]

use crate::memory::GuestRam;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use std::io;

/// Gives the guest its memory, a slot an extent.
///
/// The machine drops `vm` only after every vCPU thread has ended, and what holds `ram` with it.
pub fn give_memory(vm: &VmFd, ram: &GuestRam) -> io::Result<()> {
    for (slot, extent) in ram.extents().iter().enumerate() {
        let region = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: extent.base,
            memory_size: extent.len(),
            userspace_addr: extent.host_address(),
        };
        // SAFETY: the range is mapped for as long as `ram` lives, which is as long as vCPUs run (see above). KVM itself
        // pins what it uses by its MMU notifier.
        unsafe { vm.set_user_memory_region(region) }.map_err(io::Error::from)?;
    }
    Ok(())
}
