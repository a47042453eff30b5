//! Bytes that another party may rewrite at any time, as values that safe code can hold.
//!
//! *Purpose.* The one place with `unsafe` for shared bytes: words are relaxed, acquire or release atomics of 64 bits,
//! bulk data moves through one audited copy routine, and no `&[u8]` to shared memory ever exists.
//!
//! *Owners.* A [`SharedBytes`] or [`SharedPages`] is a name for memory, not its owner: whoever makes one vouches that
//! the memory stays mapped while the name is used. With the feature `std`, `HeapPages` owns heap memory that is safe
//! to name for ever.
//!
//! *Invariants.* Every access is inside the run that was vouched for. What is read is a copy; it may be anything.
//!
//! *Ordering.* As asked for by the caller; the reasons stand with the ring protocol.
#![no_std]
#![allow(unsafe_code, reason = "shared bytes: one of the five places named in SAFETY.md")]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod bytes;
mod copy;
#[cfg(any(test, feature = "std"))]
mod heap;
mod pages;
#[cfg(test)]
mod tests;
#[cfg(any(not(target_arch = "x86_64"), miri, test))]
mod words;

pub use bytes::{OutOfRange, SharedBytes};
#[cfg(any(test, feature = "std"))]
pub use heap::HeapPages;
pub use pages::{SharedPages, TooManyPages};
