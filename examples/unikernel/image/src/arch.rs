//! What only an x86-64 guest can do: exception stubs, memory named by its address, calls that do not return.
#![allow(unsafe_code, reason = "guest arch: one of the five places named in SAFETY.md")]

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::NonNull;
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::discovery::{BOOT_MAGIC, BootInfo, HYPERCALL_PORT, RegionKind};
use pvkit_abi::hypercall::{Call, MAX_CRASH_MESSAGE, ShutdownReason};
use pvkit_shared_memory::SharedBytes;
use zerocopy::{FromZeros, IntoBytes};

core::arch::global_asm!(
    // 256 stubs of 16 bytes. Each pushes its vector (as raw bytes: an immediate of four bytes for every vector, so that
    // all stubs have one length) and goes to the report. The frame of the processor lies above it.
    ".section .text.exceptions, \"ax\"",
    ".balign 16",
    ".global pvkit_exception_stubs",
    "pvkit_exception_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    ".byte 0x68",
    ".long vector",
    "jmp 2f",
    ".set vector, vector + 1",
    ".endr",
    ".balign 16",
    "2:",
    "pop rdi",
    "mov rsi, rsp",
    "mov edx, {port}",
    "mov eax, {call}",
    "out dx, eax",
    "3:",
    "pause",
    "jmp 3b",
    ".text",
    port = const HYPERCALL_PORT,
    call = const Call::SCHED_EXCEPTION.0,
);

unsafe extern "C" {
    /// First of the exception stubs; the host's gates point to them.
    #[link_name = "pvkit_exception_stubs"]
    pub fn exception_stubs();
}

/// What the host handed over, copied or named.
pub struct BootMemory {
    /// The boot info.
    pub info: BootInfo,
    /// This vCPU's area.
    pub vcpu_area: SharedBytes,
    /// The largest run of free memory.
    pub ram: SharedBytes,
    /// What the host set aside to be shared, if anything.
    #[allow(dead_code, reason = "the self-test shares nothing")]
    pub window: Option<SharedBytes>,
    cmdline: &'static [u8],
}

impl BootMemory {
    /// The command line; empty if it is not UTF-8.
    pub fn cmdline(&self) -> &'static str {
        core::str::from_utf8(self.cmdline).unwrap_or_default()
    }
}

/// Names `length` bytes at a guest-physical address, which is their address here.
fn name(address: u64, length: u64) -> Result<SharedBytes, &'static str> {
    let start = NonNull::new(address as *mut u8).ok_or("the host named memory at address 0")?;
    // SAFETY: the host maps all memory of its map identically and for ever (PV entry state), and this image uses the
    // memory that it names only through the result.
    Ok(unsafe { SharedBytes::from_raw(start, length as usize) })
}

/// Reads the boot info at `address`, once.
pub fn boot_memory(address: u64) -> Result<BootMemory, &'static str> {
    let mut info = BootInfo::new_zeroed();
    let mut head = [0; 12];
    name(address, head.len() as u64)?.read(0, &mut head).map_err(|_| "boot info")?;
    // An older host's may be shorter, a newer one's longer: the common part is read, the rest is zero.
    let [_, _, _, _, _, _, _, _, a, b, c, d] = head;
    let size = (u32::from_le_bytes([a, b, c, d]) as usize).min(size_of::<BootInfo>());
    let common = info.as_mut_bytes().get_mut(..size).ok_or("boot info")?;
    name(address, size as u64)?.read(0, common).map_err(|_| "boot info")?;
    if info.magic != BOOT_MAGIC {
        return Err("the boot info has no pvkit magic");
    }
    let regions = info.regions.iter().take(info.region_count as usize);
    let free = regions.filter(|region| region.kind == RegionKind::RAM);
    let ram = free.max_by_key(|region| region.length).ok_or("the host gave no free memory")?;
    let ram = name(ram.base, ram.length)?;
    let mut regions = info.regions.iter().take(info.region_count as usize);
    let window = regions.find(|region| region.kind == RegionKind::WINDOW);
    let window = window.map(|window| name(window.base, window.length)).transpose()?;
    let vcpu_area = name(info.vcpu_areas, PAGE_SIZE as u64)?;
    let cmdline = NonNull::new(info.cmdline as *mut u8).ok_or("the command line is at address 0")?;
    // SAFETY: the host maps the command line for ever and does not change it after the start (PV entry state); nothing
    // in this image writes to the boot region.
    let cmdline = unsafe { core::slice::from_raw_parts(cmdline.as_ptr(), info.cmdline_length as usize) };
    Ok(BootMemory { info, vcpu_area, ram, window, cmdline })
}

/// One hypercall, for calls that are made before there is a platform.
pub fn call(call: Call, arguments: [u64; 3]) -> i64 {
    let [a, b, c] = arguments;
    let result: u64;
    // SAFETY: the `out` traps to the host, which changes rax alone, and memory only as the call's documentation says.
    unsafe {
        core::arch::asm!(
            "out dx, eax",
            in("dx") HYPERCALL_PORT,
            inlateout("rax") u64::from(call.0) => result,
            in("rdi") a,
            in("rsi") b,
            in("r8") c,
            options(nostack, preserves_flags),
        );
    }
    result as i64
}

/// Ends the guest with a status.
pub fn power_off(code: i32) -> ! {
    call(Call::SCHED_SHUTDOWN, [u64::from(ShutdownReason::POWER_OFF.0), u64::from(code as u8), 0]);
    crash("the host refused to power the guest off")
}

/// Ends the guest with its last words.
pub fn crash(message: &str) -> ! {
    loop {
        call(Call::SCHED_CRASH, [message.as_ptr() as u64, message.len() as u64, 0]);
        core::hint::spin_loop();
    }
}

/// A text of bounded length on the stack; what does not fit is dropped.
struct LastWords {
    bytes: [u8; MAX_CRASH_MESSAGE as usize],
    length: usize,
}

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(text.bytes()) {
            *slot = byte;
            self.length += 1;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut words = LastWords { bytes: [0; MAX_CRASH_MESSAGE as usize], length: 0 };
    let _ = write!(words, "{info}");
    crash(core::str::from_utf8(words.bytes.get(..words.length).unwrap_or_default()).unwrap_or("the guest panicked"))
}
