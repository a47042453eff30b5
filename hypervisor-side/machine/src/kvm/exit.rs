//! What KVM left in a vCPU's shared page at an exit, where kvm-ioctls does not say it all.
#![allow(unsafe_code, reason = "KVM/mmap: one of the five places named in SAFETY.md")]

use kvm_bindings::KVM_EXIT_IO_OUT;
use kvm_ioctls::VcpuFd;

/// At a port exit, the hypercall's number if it is a plain `out dx, eax`: size 4, one element, outwards, and the value is
/// EAX (a string instruction looks alike but writes memory). The general registers must be among the synchronized.
pub fn hypercall_number(fd: &mut VcpuFd) -> Option<u32> {
    let run = fd.get_kvm_run();
    // SAFETY: called on KVM_EXIT_IO, so `io` is the live member; it is plain numbers.
    let io = unsafe { run.__bindgen_anon_1.io };
    let plain = u32::from(io.direction) == KVM_EXIT_IO_OUT && io.size == 4 && io.count == 1;
    let rax = fd.sync_regs().regs.rax as u32;
    if !plain {
        return None;
    }
    let start = (&raw mut *fd.get_kvm_run()).cast::<u8>();
    // SAFETY: KVM places the data inside the vCPU's mapping at `data_offset` (API documentation, KVM_EXIT_IO).
    let data = unsafe { start.add(io.data_offset as usize) }.cast::<u32>();
    // SAFETY: `size * count` is 4 bytes, all inside the mapping; KVM does not write them before the next run.
    let data = unsafe { data.read_unaligned() };
    (data == rax).then_some(data)
}

/// At an internal error, which one.
pub fn internal_suberror(fd: &mut VcpuFd) -> u32 {
    // SAFETY: the exit reason says that `internal` is the live member; it is plain numbers.
    unsafe { fd.get_kvm_run().__bindgen_anon_1.internal }.suberror
}
