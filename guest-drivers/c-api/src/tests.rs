//! What can be said without a host: mistakes are refused by name. One test, because the library is one per program.

use super::*;
use core::ffi::{CStr, c_void};
use pvkit_abi::PAGE_SIZE;
use pvkit_abi::discovery::{BOOT_MAGIC, BootInfo, HYPERCALL_PORT, Transport};
use std::boxed::Box;
use std::string::String;
use std::vec;
use zerocopy::FromZeros;

fn words(result: i32) -> String {
    // SAFETY: the words end with a zero byte and live for ever.
    unsafe { CStr::from_ptr(pvkit_strerror(result)) }.to_string_lossy().into_owned()
}

/// Leaked, as a kernel's pool and boot info are.
fn pages(count: usize) -> *mut c_void {
    vec![0u8; count * PAGE_SIZE].leak().as_mut_ptr().cast()
}

fn init(boot: *const BootInfo, pool: *mut c_void) -> i32 {
    // SAFETY: the callers below give null, or memory that is leaked and used for nothing else.
    unsafe { pvkit_init(boot.cast(), pool, 64 * PAGE_SIZE, 0) }
}

#[test]
fn every_error_has_words_and_a_number_of_its_own() {
    for (index, error) in Error::ALL.into_iter().enumerate() {
        assert_eq!(error as i32, -1 - index as i32, "ALL lists the errors by their numbers, without a gap");
        assert!(words(error as i32).len() > 10, "{error:?}");
    }
    assert_eq!(words(0), "no error");
    assert_eq!(words(i32::MIN), "an error that this version does not know");
}

#[test]
fn mistakes_before_there_is_a_host_are_refused_by_name() {
    assert_eq!(pvkit_connect(), Error::NotReady as i32);
    assert_eq!(pvkit_now(), 0);
    assert_eq!(init(core::ptr::null(), pages(64)), Error::Invalid as i32);

    let boot = Box::leak(Box::new(BootInfo::new_zeroed()));
    assert_eq!(init(boot, core::ptr::null_mut()), Error::Invalid as i32);
    assert_eq!(init(boot, pages(64)), Error::NotAHost as i32, "no magic");
    let boot = Box::leak(Box::new(BootInfo {
        magic: BOOT_MAGIC,
        size: size_of::<BootInfo>() as u32,
        transport: Transport::PORT_REGISTERS,
        port: HYPERCALL_PORT.into(),
        vcpu_areas: pages(1).expose_provenance() as u64,
        ..BootInfo::new_zeroed()
    }));
    assert_eq!(init(boot, pages(64)), Error::NotAHost as i32, "no clock");
    boot.tsc_khz = 1_000_000;
    assert_eq!(init(boot, pages(64)), 0, "failed attempts do not count");
    assert_eq!(init(boot, pages(64)), Error::AlreadyDone as i32);
    assert!(pvkit_now() > 0);

    assert_eq!(pvkit_block_open(0, 0), Error::NotReady as i32, "not connected");
    assert_eq!(pvkit_console_open(0, 0), Error::NotReady as i32, "not connected");
    assert_eq!(pvkit_net_open(0, 0), Error::NotReady as i32, "not connected");
    for handle in [0, -1, 1, 8, 0x100, i32::MAX] {
        assert_eq!(pvkit_block_flush(handle, 0), Error::NotFound as i32, "handle {handle:#x}");
        assert_eq!(pvkit_console_close(handle, 0), Error::NotFound as i32, "handle {handle:#x}");
        assert_eq!(pvkit_net_close(handle, 0), Error::NotFound as i32, "handle {handle:#x}");
    }
    // SAFETY: null and impossible lengths are refused before anything is touched.
    unsafe {
        assert_eq!(pvkit_block_read(0x100, 0, core::ptr::null_mut(), 512, 0), Error::Invalid as i32);
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(pvkit_console_write(0x100, pages(1), usize::MAX, 0), Error::Invalid as i32);
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(pvkit_net_send(0x100, core::ptr::null(), 60, 0), Error::Invalid as i32);
    }
    // SAFETY: as above.
    unsafe {
        assert_eq!(pvkit_net_receive(0x100, pages(1), 0, 0), Error::Invalid as i32);
    }
}

#[test]
fn closed_handle_names_nothing_even_when_its_slot_is_filled_again() {
    let slots = slots::Slots::<u8, 2>::new();
    let first = slots.open(|| Ok(7)).expect("both are free");
    assert_eq!(slots.open(|| Err(Error::TimedOut)), Err(Error::TimedOut), "a failed open takes no slot");
    let second = slots.open(|| Ok(8)).expect("one is free");
    assert!(first > 0 && second > 0 && first != second);
    assert_eq!(slots.open(|| Ok(9)), Err(Error::Full));
    assert_eq!(slots.close(first, |_| Err(Error::TimedOut)), Err(Error::TimedOut));
    assert_eq!(slots.with(first, |value| Ok(*value)), Ok(7), "what did not close is open");
    assert_eq!(slots.close(first, |_| Ok(())), Ok(()));
    let third = slots.open(|| Ok(9)).expect("one is free");
    assert_eq!(slots.with(first, |value| Ok(*value)), Err(Error::NotFound));
    assert_eq!(slots.with(third, |value| Ok(*value)), Ok(9));
    assert_eq!(slots.with(third, |_| slots.with(third, |_| Ok(()))), Err(Error::Busy), "no deadlock");
}
