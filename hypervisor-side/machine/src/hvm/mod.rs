//! Fully virtualized machines for stock kernels: interrupt controllers, ACPI, PCI, a serial line, and the platform function
//! by which a driver finds the host (PV-on-HVM).
//!
//! *Reading order.* `layout.rs` says where things are; `machine.rs` makes a machine and runs it; `boot.rs` loads the kernel;
//! `vcpu.rs` goes round in circles; what a port or an address means is in `ports.rs` and `platform.rs`.
//!
//! *Not here.* What a hypercall means, queues, grants: the same [`crate::host::Host`] as for PV guests.

mod acpi;
mod boot;
mod cpu;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod layout;
mod machine;
mod pci;
mod platform;
mod ports;
mod serial;
mod vcpu;

pub use machine::run;
