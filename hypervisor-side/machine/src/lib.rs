//! The machines that carry out the core's effects.
//!
//! *Purpose.* [`run`] starts a guest and stays until it ends: on `/dev/kvm` as virtual CPUs ([`Program::Image`] for PV guests,
//! [`Program::Hvm`] for stock kernels), or as a thread of this process ([`Program::InProcess`]). All use the same core, the
//! same backends and the same memory.
//!
//! *Owners.* Guest memory is mapped here and outlives every thread that names it. Device backends run on threads of
//! their own, which end before [`run`] returns.
//!
//! *Not here.* What a hypercall means (core), what a block request means (backends), what a command line means (pvkit).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod boot;
mod carrier;
mod config;
mod cpuid;
mod devices;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod host;
#[cfg(feature = "mutants")]
pub mod hostile;
mod hvm;
mod image;
mod in_process;
#[cfg(feature = "mutants")]
use hostile as lies;
mod kvm;
#[cfg(not(feature = "mutants"))]
#[path = "honest.rs"]
mod lies;
mod memory;
mod remote;
mod report;
mod run;
mod slot;
mod spending;

pub use config::{Control, Device, Hvm, MachineConfig, Program, SerialLine};
pub use error::{KvmProblem, MachineError};
pub use image::is_stock_kernel;
pub use in_process::InProcessPlatform;
pub use kvm::{kvm_capabilities, probe_kvm};
pub use report::{BackendReport, BusReport, Counters, End, Inspection, QueueReport, Report};
pub use run::run;
