//! Disks: blocking calls with a deadline.

use crate::edge;
use crate::error::{Error, status};
use crate::slots::Slots;
use crate::start::{Machine, with_bus};
use core::ffi::c_void;
use pvkit_abi::bus::Class;
use pvkit_guest_drivers::{Block, GrantPolicy};

/// One request at a time is in flight, and what timed out stays in its slot.
const SLOTS: usize = 8;

type Disk = Block<'static, Machine, SLOTS, 16>;

static DISKS: Slots<Disk, 8> = Slots::new();

/// A disk's properties.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size in bytes.
    pub capacity: u64,
    /// Unit of position and length in bytes: a power of two, 512 to 65536.
    pub logical_block: u32,
    /// Preferred unit in bytes.
    pub physical_block: u32,
    /// 1 if writes are refused, else 0.
    pub read_only: u32,
    /// Zero.
    pub reserved: u32,
}

/// Opens the disk that stands at place `instance` (from 0) of the host's disks. A handle, or an error. At most eight
/// disks are open at a time.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_block_open(instance: u16, deadline: u64) -> i32 {
    let opened = DISKS.open(|| {
        with_bus(|bus| {
            let device = bus.find(Class::BLOCK, instance).ok_or(Error::NotFound)?;
            Ok(Block::open(bus, device, SLOTS as u32, GrantPolicy::Extent, deadline)?)
        })
    });
    opened.unwrap_or_else(|error| error as i32)
}

/// Tells a disk's properties. A size that the host changed shows here.
///
/// # Safety
/// `into` points to room for the struct, or is null, which is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_block_geometry(disk: i32, into: *mut Geometry) -> i32 {
    let told = DISKS.with(disk, |disk| {
        with_bus(|bus| Ok(disk.refresh(bus)?))?;
        let geometry = disk.geometry();
        Ok(Geometry {
            capacity: geometry.capacity,
            logical_block: geometry.logical_block,
            physical_block: geometry.physical_block,
            read_only: geometry.read_only.into(),
            reserved: 0,
        })
    });
    // SAFETY: as this function's caller vouches.
    status(told.and_then(|geometry| unsafe { edge::put(into, geometry) }))
}

/// Reads `length` bytes at `position`; both in whole logical blocks. On an error some bytes may have been filled in.
///
/// # Safety
/// `into` is writable for `length` bytes, and nobody else touches them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_block_read(
    disk: i32,
    position: u64,
    into: *mut c_void,
    length: usize,
    deadline: u64,
) -> i32 {
    // SAFETY: as this function's caller vouches.
    let into = unsafe { edge::writable(into, length) };
    status(into.and_then(|into| DISKS.with(disk, |disk| Ok(disk.read(position, into, deadline)?))))
}

/// Writes `length` bytes at `position`; both in whole logical blocks. Durable after the next `pvkit_block_flush`. On an
/// error any part may have been written.
///
/// # Safety
/// `from` is readable for `length` bytes, and nobody writes to them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_block_write(
    disk: i32,
    position: u64,
    from: *const c_void,
    length: usize,
    deadline: u64,
) -> i32 {
    // SAFETY: as this function's caller vouches.
    let from = unsafe { edge::readable(from, length) };
    status(from.and_then(|from| DISKS.with(disk, |disk| Ok(disk.write(position, from, deadline)?))))
}

/// Makes every write that returned before durable.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_block_flush(disk: i32, deadline: u64) -> i32 {
    status(DISKS.with(disk, |disk| Ok(disk.flush(deadline)?)))
}

/// Has the host drain and detach the disk. On an error it stays open. What was written and not flushed may be lost.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_block_close(disk: i32, deadline: u64) -> i32 {
    status(DISKS.close(disk, |disk| with_bus(|bus| Ok(disk.close(bus, deadline)?))))
}
