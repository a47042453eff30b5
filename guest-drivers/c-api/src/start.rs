//! Meeting the host: the platform, once; the bus, once.

use crate::edge;
use crate::error::{Error, status};
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::discovery::{BOOT_MAGIC, BootInfo};
use pvkit_guest_drivers::Bus;
use pvkit_guest_drivers::platform::fixed_offset::FixedOffsetPages;
use pvkit_guest_drivers::platform::x86::X86Calls;
use pvkit_guest_drivers::platform::{Calls, Composed};
use spin::Once;
use spin::mutex::SpinMutex;
use zerocopy::{FromZeros, IntoBytes};

/// Up to 4096 pages of the caller's pool, and the x86 call half.
pub(crate) type Machine = Composed<FixedOffsetPages<64>, X86Calls>;

static MACHINE: Once<Machine> = Once::new();
/// Somebody is in `pvkit_init`, or was and succeeded.
static TAKEN: AtomicBool = AtomicBool::new(false);
static BUS: SpinMutex<Option<Bus<'static, Machine>>> = SpinMutex::new(None);

/// Tells the library where things are. No hypercall is made; call it once, before anything else.
///
/// `boot_info` is the pointer with which the host entered the kernel. `pool` is memory for everything that the host
/// will see: rings, messages, bounce buffers; whole pages of it are used, at most 4096. One disk and one console need
/// about 64 pages. `offset` is what lies between the addresses: guest-physical = virtual - offset, for the pool and for
/// what the boot info names; 0 where memory is mapped identically.
///
/// # Safety
/// Boot info, vCPU area and pool stay mapped for ever; the pool is not touched by the caller any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_init(boot_info: *const c_void, pool: *mut c_void, length: usize, offset: u64) -> i32 {
    // ORDER: AcqRel is more than the flag needs; the machine itself is published by the `Once`.
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Error::AlreadyDone as i32;
    }
    // SAFETY: as this function's caller vouches.
    let made = unsafe { machine(boot_info, pool, length, offset) };
    let done = made.map(|machine| {
        MACHINE.call_once(|| machine);
    });
    if done.is_err() {
        TAKEN.store(false, Ordering::Release);
    }
    status(done)
}

/// # Safety
/// As for [`pvkit_init`].
unsafe fn machine(boot: *const c_void, pool: *mut c_void, length: usize, offset: u64) -> Result<Machine, Error> {
    // SAFETY: the caller vouches for the pool.
    let pool = unsafe { edge::shared(pool, length) }?;
    // SAFETY: the caller vouches for the boot info, whose first 16 bytes every version has.
    let head = unsafe { edge::shared(boot, 16) }?;
    let mut info = BootInfo::new_zeroed();
    let mut first = [0; 16];
    head.read(0, &mut first).map_err(|_| Error::NotAHost)?;
    info.as_mut_bytes().get_mut(..16).ok_or(Error::NotAHost)?.copy_from_slice(&first);
    if info.magic != BOOT_MAGIC {
        return Err(Error::NotAHost);
    }
    // An older host's may be shorter, a newer one's longer: the common part is read, the rest is zero.
    let size = (info.size as usize).clamp(16, size_of::<BootInfo>());
    // SAFETY: the host wrote `size` bytes there, which the caller vouches are mapped.
    let whole = unsafe { edge::shared(boot, size) }?;
    whole.read(0, info.as_mut_bytes().get_mut(..size).ok_or(Error::NotAHost)?).map_err(|_| Error::NotAHost)?;
    let area = core::ptr::with_exposed_provenance(info.vcpu_areas.wrapping_add(offset) as usize);
    // SAFETY: the host keeps the first vCPU's area there, one page; the caller vouches for the offset.
    let area = unsafe { edge::shared(area, PAGE_SIZE) }?;
    let calls = X86Calls::new(&info, area).map_err(|_| Error::NotAHost)?;
    Ok(Composed { pages: FixedOffsetPages::new(pool, offset), calls })
}

/// Negotiates with the host and sets up the bus: three hypercalls, once.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_connect() -> i32 {
    status(connect())
}

fn connect() -> Result<(), Error> {
    let machine = machine_in_use()?;
    let mut bus = BUS.try_lock().ok_or(Error::Busy)?;
    if bus.is_some() {
        return Err(Error::AlreadyDone);
    }
    *bus = Some(Bus::connect(machine)?);
    Ok(())
}

/// Monotonic nanoseconds since the guest's start; 0 before `pvkit_init`. Deadlines are in this time.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_now() -> u64 {
    MACHINE.get().map_or(0, |machine| machine.calls.now())
}

/// The platform, once `pvkit_init` succeeded.
pub(crate) fn machine_in_use() -> Result<&'static Machine, Error> {
    MACHINE.get().ok_or(Error::NotReady)
}

/// Does something with the bus, once `pvkit_connect` succeeded.
pub(crate) fn with_bus<R>(work: impl FnOnce(&mut Bus<'static, Machine>) -> Result<R, Error>) -> Result<R, Error> {
    let mut bus = BUS.try_lock().ok_or(Error::Busy)?;
    let bus = bus.as_mut().ok_or(Error::NotReady)?;
    // What the host said since: devices that came, went or changed.
    bus.poll()?;
    work(bus)
}
