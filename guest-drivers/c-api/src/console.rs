//! Consoles: bytes out, bytes in, with a deadline.

use crate::edge;
use crate::error::{Error, status};
use crate::slots::Slots;
use crate::start::{Machine, with_bus};
use core::ffi::c_void;
use pvkit_abi::bus::Class;
use pvkit_guest_drivers::{Console, GrantPolicy};

static CONSOLES: Slots<Console<'static, Machine>, 4> = Slots::new();

/// Opens the console that stands at place `instance` (from 0) of the host's consoles. A handle, or an error. At most
/// four consoles are open at a time.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_console_open(instance: u16, deadline: u64) -> i32 {
    let opened = CONSOLES.open(|| {
        with_bus(|bus| {
            let device = bus.find(Class::CONSOLE, instance).ok_or(Error::NotFound)?;
            Ok(Console::open(bus, device, GrantPolicy::Extent, deadline)?)
        })
    });
    opened.unwrap_or_else(|error| error as i32)
}

/// Writes all of `text`; returns when the host has taken it.
///
/// # Safety
/// `text` is readable for `length` bytes, and nobody writes to them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_console_write(console: i32, text: *const c_void, length: usize, deadline: u64) -> i32 {
    // SAFETY: as this function's caller vouches.
    let text = unsafe { edge::readable(text, length) };
    status(text.and_then(|text| CONSOLES.with(console, |console| Ok(console.write(text, deadline)?))))
}

/// Reads what is there, at least one byte: how many, 0 at the end of input, or an error. After
/// `PVKIT_ERROR_TIMED_OUT` nothing is lost.
///
/// # Safety
/// `into` is writable for `length` bytes, and nobody else touches them during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvkit_console_read(console: i32, into: *mut c_void, length: usize, deadline: u64) -> i64 {
    // SAFETY: as this function's caller vouches.
    let into = unsafe { edge::writable(into, length) };
    let read = into.and_then(|into| CONSOLES.with(console, |console| Ok(console.read(into, deadline)?)));
    match read {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(error) => i64::from(error as i32),
    }
}

/// Has the host drain and detach the console. On an error it stays open.
#[unsafe(no_mangle)]
pub extern "C" fn pvkit_console_close(console: i32, deadline: u64) -> i32 {
    status(CONSOLES.close(console, |console| with_bus(|bus| Ok(console.close(bus, deadline)?))))
}
