//! What `pvkit backend` gives up before it serves a guest.

use crate::cli::{BackendOptions, ServedKind};
use crate::failure::Failure;
use pvkit_driver_domain::daemon::{Enter, Quotas, Worker};
use pvkit_sandbox::{Confinement, Filters, HostNetwork, Mode, Rights, Role};
use std::io::{self, Write};
use std::sync::Arc;

/// Descriptors beside those of monitors: images, witnesses, the program's own.
const OWN_DESCRIPTORS: u64 = 256;

/// Gives up what is not needed to serve what the options name, for this thread and all that it will start; what queues' threads
/// call to give up the rest.
///
/// # Errors
/// What must be given up and cannot be.
pub fn lock_down(options: &BackendOptions) -> Result<Enter, Failure> {
    let failed = |error: pvkit_sandbox::SandboxError| {
        Failure::run(error)
            .while_doing("the sandbox cannot be entered; --sandbox log or off does without, at your risk")
    };
    let serves = |kind: fn(&ServedKind) -> bool| options.nets.iter().any(|net| kind(&net.kind));
    let user = serves(|kind| matches!(kind, ServedKind::User { .. }));
    let roles: Vec<Role> = [
        (!options.disks.is_empty(), Role::Block),
        (serves(|kind| matches!(kind, ServedKind::Tap)), Role::Net),
        (user, Role::UserNet),
    ]
    .into_iter()
    .filter_map(|(is_served, role)| is_served.then_some(role))
    .collect();
    let filters = Filters::new(options.sandbox, &roles).map_err(failed)?;
    let mut confinement = Confinement::new(options.sandbox);
    let quotas = Quotas::default();
    confinement.open_files = OWN_DESCRIPTORS + quotas.descriptors() * quotas.connections as u64;
    if user {
        confinement.network = HostNetwork::Kept;
        // Whom guests' names are asked of may change while they run.
        confinement = confinement.allow("/etc", Rights::Read);
    }
    let mut report = pvkit_sandbox::lock_down(&confinement).map_err(failed)?;
    report.push(filters.enter(Role::Control).map_err(failed)?);
    if options.sandbox != Mode::Strict || !report.is_complete() {
        let _ = writeln!(io::stderr(), "pvkit backend: {report}");
    }
    Ok(Arc::new(move |worker| {
        let role = match worker {
            Worker::Disk => Role::Block,
            Worker::Tap => Role::Net,
            Worker::User => Role::UserNet,
        };
        filters.enter(role).is_ok()
    }))
}
