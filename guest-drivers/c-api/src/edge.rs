//! Where pointers of C become memory that Rust may touch. Each function names what its caller vouches for.

use crate::error::Error;
use core::ffi::c_void;
use core::ptr::NonNull;
use pvkit_shared_memory::SharedBytes;

/// Bytes of the caller to read from.
///
/// # Safety
/// `start` is readable for `length` bytes, and nobody writes to them while the result lives.
pub(crate) unsafe fn readable<'call>(start: *const c_void, length: usize) -> Result<&'call [u8], Error> {
    let start = run(start, length)?;
    // SAFETY: not null and at most isize::MAX bytes (`run`); readable and not written to meanwhile (this function's
    // contract); bytes need no alignment.
    Ok(unsafe { core::slice::from_raw_parts(start.as_ptr(), length) })
}

/// Bytes of the caller to write to.
///
/// # Safety
/// `start` is writable for `length` bytes, and nobody else touches them while the result lives.
pub(crate) unsafe fn writable<'call>(start: *mut c_void, length: usize) -> Result<&'call mut [u8], Error> {
    let start = run(start, length)?;
    // SAFETY: not null and at most isize::MAX bytes (`run`); writable and nobody else's meanwhile (this function's
    // contract); memory that comes from C holds bytes of some value.
    Ok(unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), length) })
}

/// Memory that the host sees too.
///
/// # Safety
/// `start` is mapped, writable if it is ever written to, for `length` bytes and for ever, and this program touches it
/// only through the result.
pub(crate) unsafe fn shared(start: *const c_void, length: usize) -> Result<SharedBytes, Error> {
    let start = run(start, length)?;
    // SAFETY: mapped for ever and reached only through the result (this function's contract).
    Ok(unsafe { SharedBytes::from_raw(start, length) })
}

/// Puts one value where the caller wants it.
///
/// # Safety
/// `into` is null, or writable and aligned for a `T`, and nobody else touches it during the call.
pub(crate) unsafe fn put<T>(into: *mut T, value: T) -> Result<(), Error> {
    let into = NonNull::new(into).ok_or(Error::Invalid)?;
    // SAFETY: not null; writable, aligned and nobody else's (this function's contract).
    unsafe { into.write(value) };
    Ok(())
}

/// A run of bytes that can exist at all.
fn run(start: *const c_void, length: usize) -> Result<NonNull<u8>, Error> {
    if length == 0 || isize::try_from(length).is_err() || start.addr().checked_add(length).is_none() {
        return Err(Error::Invalid);
    }
    NonNull::new(start.cast_mut().cast()).ok_or(Error::Invalid)
}
