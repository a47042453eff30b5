//! Parameter structs in guest memory: copied once, sized by their own first field.
//!
//! A struct starts with its `size` as the caller knows it. A longer one than ours must have a tail of zeros, a shorter
//! one is extended with zeros. So a newer guest works on an older host as long as it asks for nothing new.

use crate::{GuestAddr, GuestMemory};
use pvkit_abi::status::CallError;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Longest parameter struct that is looked at, in bytes.
const MAX_BYTES: usize = 4096;
/// The `size` field itself.
const SIZE_BYTES: usize = 4;

/// Copies a struct whose first field is its `size`.
///
/// `size` is read once and then the rest, so a guest that rewrites it meanwhile gets what it said first. At most
/// 4096 bytes are copied.
///
/// # Errors
/// `FAULT` if it is not all in memory; `INVALID` if `size` is below 4 or above 4096, or the tail is not zero.
pub(crate) fn read<T: FromBytes>(memory: &dyn GuestMemory, at: u64) -> Result<T, CallError> {
    let mut size = [0; SIZE_BYTES];
    memory.read(GuestAddr(at), &mut size).map_err(|_| CallError::FAULT)?;
    let length = u32::from_le_bytes(size) as usize;
    if !(SIZE_BYTES..=MAX_BYTES).contains(&length) {
        return Err(CallError::INVALID);
    }
    let mut copy = size.to_vec();
    copy.resize(length, 0);
    let rest = copy.get_mut(SIZE_BYTES..).ok_or(CallError::INVALID)?;
    if !rest.is_empty() {
        let from = at.checked_add(SIZE_BYTES as u64).ok_or(CallError::FAULT)?;
        memory.read(GuestAddr(from), rest).map_err(|_| CallError::FAULT)?;
    }
    fit(copy)
}

/// A struct from what the sender meant of it, by the same rule of tails.
///
/// # Errors
/// `INVALID` if there is something other than zeros beyond what this side knows.
pub(crate) fn fit<T: FromBytes>(mut copy: Vec<u8>) -> Result<T, CallError> {
    let known = size_of::<T>();
    if copy.iter().skip(known).any(|byte| *byte != 0) {
        return Err(CallError::INVALID);
    }
    copy.resize(known, 0);
    T::read_from_bytes(&copy).map_err(|_| CallError::INVALID)
}

/// Writes an output struct: the smaller of it and what the caller has room for.
///
/// # Errors
/// `FAULT` if that is not all in memory.
pub(crate) fn write<T: IntoBytes + Immutable>(
    memory: &dyn GuestMemory,
    at: u64,
    room: u64,
    value: &T,
) -> Result<(), CallError> {
    let bytes = value.as_bytes();
    let length = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
    match bytes.get(..length) {
        Some([]) | None => Ok(()),
        Some(part) => memory.write(GuestAddr(at), part).map_err(|_| CallError::FAULT),
    }
}
