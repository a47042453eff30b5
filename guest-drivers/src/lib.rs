//! The guest half of pvkit: the platform trait, the bus, the block and console drivers.
//!
//! *Purpose.* A guest kernel or unikernel implements [`platform::Platform`] (or puts two ready halves together) and has
//! a disk and a console: [`Bus::connect`], [`Block::open`], [`Console::open`]. No allocator is needed.
//!
//! ```
//! use pvkit_abi::bus::Class;
//! use pvkit_guest_drivers::{Block, Bus, GrantPolicy, platform::Platform};
//!
//! /// The first sector of the first disk.
//! fn first_sector<P: Platform>(platform: &P) -> Option<[u8; 512]> {
//!     let deadline = platform.now() + 1_000_000_000;
//!     let mut bus = Bus::connect(platform).ok()?;
//!     let device = bus.find(Class::BLOCK, 0)?;
//!     let mut disk: Block<'_, P> = Block::open(&mut bus, device, 32, GrantPolicy::Extent, deadline).ok()?;
//!     let mut sector = [0; 512];
//!     disk.read(0, &mut sector, deadline).ok()?;
//!     Some(sector)
//! }
//! # let platform = pvkit_guest_drivers::fake::platform(vec![pvkit_guest_drivers::fake::Device::disk(0, 4096, 512)]);
//! # assert_eq!(first_sector(&platform), Some([0; 512]));
//! ```
//!
//! *Owners.* A submitted buffer belongs to the driver until its completion gives it back. After a fault, or a deadline
//! that passed, it stays with the driver: the host may still write to it. What is never given back is leaked and
//! counted ([`platform::Platform::note_leak`]), not reused.
//!
//! *Invariants.* Nothing the host writes makes this crate panic, loop without bound or touch memory it does not own:
//! what comes from the host is copied out once, checked, and only then used. A lie is an [`error::HostFault`].
//!
//! *Doors.* Blocking calls with a deadline; submit and poll with a budget; an interrupt door on the same core; with the
//! feature `async` futures (module `asynchronous`). The features `embedded-io` and `embedded-io-async` make the console a
//! byte stream of those crates.
//!
//! *A backend that is lost.* [`block::Over`] and [`Block::recover`] do again what was in flight, [`Net::recover`] opens a card anew and
//! drops what was. The console and the services are the monitor's own and end with it: for them there is nothing to recover.
//!
//! *Not here.* The ring protocol (`pvkit-ring`) and the layouts (`pvkit-abi`).
#![no_std]
#![cfg_attr(not(any(feature = "x86", feature = "static-pool", feature = "fake")), forbid(unsafe_code))]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![warn(missing_debug_implementations)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

#[cfg(feature = "async")]
pub mod asynchronous;
pub mod block;
mod buffer;
mod bus;
pub mod console;
mod device;
mod entropy;
pub mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod negotiation;
pub mod net;
mod page_list;
pub mod platform;
pub mod services;

pub use block::Block;
pub use buffer::Buffer;
pub use bus::{Bus, BusCounters, Device, MAX_DEVICES};
pub use console::Console;
pub use device::{GrantPolicy, QueueCounters, Sealed};
pub use entropy::Entropy;
pub use negotiation::Negotiated;
pub use net::Net;
pub use services::Services;
