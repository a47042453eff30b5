//! PV entry state: what a vCPU finds at its first instruction, and how a hypercall passes its arguments. x86-64.
//!
//! `abi/README.md` tells the whole story; these are its numbers.
//!
//! | register | at entry |
//! |---|---|
//! | rip | the image's ELF entry, or `VcpuStart::entry` |
//! | rsp | the boot stack's top, or `VcpuStart::stack_top`; 16-byte aligned minus 8, as after a `call` |
//! | rdi | guest-physical address of [`crate::discovery::BootInfo`] (mapped at the same virtual address) |
//! | rsi | vCPU number |
//! | rdx | `VcpuStart::argument`, 0 on vCPU 0 |
//! | rflags | [`RFLAGS_ENTRY`], with IOPL 3 at CPL 3 |
//! | others | 0 |
//!
//! A hypercall is `out dx, eax`: number in eax, port in dx, arguments in rdi rsi r8 r9 r10, result in rax; no other
//! register changes.

/// CR0 at entry: PE, MP, ET, NE, WP, AM, PG.
pub const CR0: u64 = 0x8005_0033;
/// CR4 at entry: PAE, OSFXSR, OSXMMEXCPT.
pub const CR4: u64 = 0x0000_0620;
/// EFER at entry: LME, LMA, NXE.
pub const EFER: u64 = 0x0000_0d00;
/// RFLAGS at entry: only the always-one bit; interrupts off, direction up.
pub const RFLAGS_ENTRY: u64 = 0x2;
/// I/O privilege 3, set for a CPL 3 guest so that `out` works.
pub const RFLAGS_IOPL3: u64 = 0x3000;
/// Flags that `EVENT_UPCALL_RETURN` takes from the frame: CF PF AF ZF SF DF OF AC. The rest is the host's.
pub const RFLAGS_GUEST: u64 = 0x4_0cd5;

/// Lowest address of the image. Below it lie the host's tables, which CPL 3 cannot reach, and at 0 nothing is mapped,
/// so that a null pointer faults.
pub const IMAGE_BASE_MIN: u64 = 0x20_0000;
/// Bytes of one exception stub of the image. The processor enters stub `vector` at the guest's own privilege level, on
/// a stack of its own, with the hardware's exception frame (error code where the vector has one) on top of it.
pub const EXCEPTION_STUB_BYTES: u64 = 16;
/// Bytes of the boot stack of vCPU 0 unless the note asks for more.
pub const BOOT_STACK_BYTES: u32 = 256 * 1024;
/// Bytes below the interrupted stack pointer that an upcall on the same stack would have to spare. Upcalls have a
/// stack of their own, so this is for the guest's own use. (System V AMD64 ABI, section 3.2.2.)
pub const RED_ZONE_BYTES: u64 = 128;
