//! The facts on which a pvkit guest and a pvkit host agree: layouts, constants, numbers, versions.
//!
//! *Purpose.* One place that both halves read and neither half owns. There is no behaviour here beyond packing and
//! unpacking a word; every rule about *when* a field may be read or written is in `abi/README.md`.
//!
//! *Byte order.* Little endian, everywhere. *Addresses* are guest-physical and 64 bits wide.
//!
//! *Who checks.* Nothing in this crate is trusted because it has the right type: a struct read from the peer is an
//! allegation until the reader has copied it once and checked the copy.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("the pvkit ABI is little endian; a big-endian port needs conversions at every field");

#[macro_use]
mod open;

pub mod block;
pub mod bus;
pub mod console;
pub mod discovery;
pub mod entropy;
pub mod entry;
pub mod event;
pub mod grant;
pub mod hypercall;
pub mod net;
pub mod pci;
pub mod ring;
pub mod services;
pub mod status;
pub mod version;

/// Bytes in a page of shared memory. The ABI's unit of ownership: a page has one writer.
pub const PAGE_SIZE: usize = 4096;
