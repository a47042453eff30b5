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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeMemory;
    use zerocopy::KnownLayout;

    #[derive(Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    struct Two {
        size: u32,
        value: u32,
    }

    fn read_bytes(bytes: &[u8]) -> Result<Two, CallError> {
        let memory = FakeMemory::new(2);
        memory.name(FakeMemory::BASE, bytes.len()).unwrap().write(0, bytes).unwrap();
        read(&memory, FakeMemory::BASE)
    }

    #[test]
    fn shorter_struct_is_extended_with_zeros() {
        assert_eq!(read_bytes(&[6, 0, 0, 0, 1, 2, 9, 9]), Ok(Two { size: 6, value: 0x0201 }));
        assert_eq!(read_bytes(&[4, 0, 0, 0, 9, 9, 9, 9]), Ok(Two { size: 4, value: 0 }));
    }

    #[test]
    fn longer_struct_is_taken_if_its_tail_is_zero() {
        assert_eq!(read_bytes(&[12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]), Ok(Two { size: 12, value: 1 }));
        assert_eq!(read_bytes(&[12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7]), Err(CallError::INVALID));
    }

    #[test]
    fn size_is_bounded_on_both_ends() {
        for size in [0_u32, 3, 4097, u32::MAX] {
            assert_eq!(read_bytes(&size.to_le_bytes()), Err(CallError::INVALID));
        }
        assert!(read_bytes(&4096_u32.to_le_bytes()).is_ok());
    }

    #[test]
    fn struct_that_leaves_memory_is_a_fault() {
        let memory = FakeMemory::new(1);
        let last = FakeMemory::BASE + 4092;
        memory.name(last, 4).unwrap().write(0, &8_u32.to_le_bytes()).unwrap();
        assert_eq!(read::<Two>(&memory, last), Err(CallError::FAULT));
        assert_eq!(read::<Two>(&memory, u64::MAX - 1), Err(CallError::FAULT));
    }

    #[test]
    fn output_is_cut_to_the_room_of_the_caller() {
        let memory = FakeMemory::new(1);
        let value = Two { size: 8, value: u32::MAX };
        write(&memory, FakeMemory::BASE, 6, &value).unwrap();
        let mut bytes = [0; 8];
        memory.read(GuestAddr(FakeMemory::BASE), &mut bytes).unwrap();
        assert_eq!(bytes, [8, 0, 0, 0, 255, 255, 0, 0]);
        assert_eq!(write(&memory, 0, 0, &value), Ok(()), "no room, no access");
        assert_eq!(write(&memory, 0, 1, &value), Err(CallError::FAULT));
        assert_eq!(write(&memory, FakeMemory::BASE, u64::MAX, &value), Ok(()));
    }
}
