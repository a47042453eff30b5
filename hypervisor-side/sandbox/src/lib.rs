//! What the backend daemon gives up before it serves a guest, so that a daemon that a guest has taken over is worth little.
//!
//! *Two steps.* [`lock_down`] is for the whole process: called once, early, on the only thread there is. [`Filters`] are for
//! threads: each enters the one of its [`Role`], the main thread before it starts the others, a worker before it looks at its
//! queue. Filters are made before the lock-down, because a thread that has entered one is in no place to make another.
//!
//! *Invariants.* Nothing here can be taken back by the process, and threads inherit all of it. What the kernel did not give is
//! in the [`Report`], never silent. In [`Mode::Strict`] what every kernel since 5.4 can give is given or is an error:
//! no-new-privileges, capabilities, limits, not dumpable, filters. Namespaces and Landlock are taken where they are to be had.
//!
//! ```no_run
//! use pvkit_sandbox::{Confinement, Filters, Mode, Rights, Role, lock_down};
//!
//! # fn main() -> Result<(), pvkit_sandbox::SandboxError> {
//! // Sockets are bound; no thread runs.
//! let filters = Filters::new(Mode::Strict, &[Role::Block])?;
//! let mut report = lock_down(&Confinement::new(Mode::Strict).allow("/srv/disk.img", Rights::ReadWrite))?;
//! report.push(filters.enter(Role::Control)?);
//! let worker = std::thread::spawn(move || filters.enter(Role::Block).map(|_part| { /* serve a queue */ }));
//! eprintln!("{report}");
//! # drop(worker);
//! # Ok(())
//! # }
//! ```
//!
//! *Not here.* The daemon; which files it needs; what an engine does. Decision page 0011 says why each thing is as it is.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod calls;
mod capabilities;
mod confinement;
mod error;
mod files;
mod filters;
mod lock_down;
mod mode;
mod namespaces;
mod process;
mod report;

pub use confinement::{AllowedPath, Confinement, HostNetwork, Rights};
pub use error::SandboxError;
pub use filters::{Filters, Role};
pub use lock_down::lock_down;
pub use mode::{Mode, UnknownMode};
pub use report::{Outcome, Part, Report};
