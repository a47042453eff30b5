//! `cargo xtask linux`: stock Debian kernels as the machine and as the guest, without one being installed.
//!
//! Owners: `kernels.rs` is the table of kernels, `scenarios.rs` that of scenarios. `debian.rs`, `packages.rs`, `newest.rs`, `stock.rs` and
//! `headers.rs` bring packages into the cache; `modules.rs`, `cpio.rs`, `tree.rs`, `libraries.rs` and `system.rs` make small
//! systems of them; `driver.rs` builds modules of
//! ours, `builds.rs`, `source.rs` and `patches.rs` kernels; `payload.rs` adds what scenarios want; `emulated.rs` runs them,
//! `native.rs` the same script without a machine; `style.rs` has the kernel's own critics look at our modules; `run.rs` does so in order and counts.
//! Invariants: every machine has a hard limit and dies with this process; nothing is installed; a status that did not come
//! home is a failure.

mod builds;
mod built;
mod checkpatch;
mod cpio;
mod debian;
mod driver;
mod emulated;
mod guest;
mod headers;
mod kernels;
mod libraries;
mod modules;
mod native;
mod newest;
mod options;
mod packages;
mod patches;
mod payload;
mod probe;
mod qemu;
mod run;
mod scenario;
mod scenarios;
mod source;
mod stock;
mod stocks;
mod style;
mod system;
mod tools;
mod tree;

pub use options::{Options, command, options};
pub use patches::{PatchesOrder, patches_command, patches_order, run_patches};
pub use probe::{kernels_missing, kernels_remedy, space_missing, tools_missing};
pub use run::run;
