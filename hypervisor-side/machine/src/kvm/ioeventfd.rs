//! Doorbells: a 32-bit port write that KVM turns into an eventfd, without an exit to user space.
//!
//! kvm-ioctls offers either a datamatch or any width; a doorbell is exactly 32 bits wide with any value, so that a write
//! of another width is seen (and counted) as the stray it is.
#![allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]

use kvm_bindings::{kvm_ioeventfd, kvm_ioeventfd_flag_nr_deassign, kvm_ioeventfd_flag_nr_pio};
use kvm_ioctls::VmFd;
use pvkit_backends::Bell;
use std::io;
use std::os::fd::AsRawFd;
use vmm_sys_util::ioctl::ioctl_with_ref;

vmm_sys_util::ioctl_iow_nr!(KVM_IOEVENTFD, kvm_bindings::KVMIO, 0x79, kvm_ioeventfd);

/// Attaches `fd` to the port.
pub fn attach(vm: &VmFd, fd: &Bell, port: u16) -> io::Result<()> {
    control(vm, fd, port, 0)
}

/// Detaches `fd` from the port.
pub fn detach(vm: &VmFd, fd: &Bell, port: u16) -> io::Result<()> {
    control(vm, fd, port, 1 << kvm_ioeventfd_flag_nr_deassign)
}

fn control(vm: &VmFd, fd: &Bell, port: u16, more: u32) -> io::Result<()> {
    let request = kvm_ioeventfd {
        addr: u64::from(port),
        len: 4,
        fd: fd.as_raw_fd(),
        flags: 1 << kvm_ioeventfd_flag_nr_pio | more,
        ..Default::default()
    };
    // SAFETY: KVM_IOEVENTFD reads one `kvm_ioeventfd` from the pointer, which is a live borrow, and keeps nothing of it;
    // the kernel takes its own reference to the eventfd.
    let result = unsafe { ioctl_with_ref(vm, KVM_IOEVENTFD(), &request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
