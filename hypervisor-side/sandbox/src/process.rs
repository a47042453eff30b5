//! What a process is by itself: its privileges to come, its limits, whether peers may look into it.

use crate::Confinement;
use crate::lock_down::Attempt;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{no_new_privs as has_no_new_privs, set_no_new_privs};

/// No program that is run gains rights by its set-uid bits or file capabilities; a condition of filters and of Landlock too.
pub(crate) fn no_new_privs() -> Attempt {
    set_no_new_privs(true).map_err(|error| error.to_string())?;
    match has_no_new_privs() {
        Ok(true) => Ok(String::new()),
        answer => Err(format!("asked again, the kernel says {answer:?}")),
    }
}

/// Limits that cannot be raised again, for that takes a capability.
pub(crate) fn limits(confinement: &Confinement) -> Attempt {
    lower(Resource::Nofile, confinement.open_files)?;
    // No image of guests' data in a file, or in the hands of a program that collects crashes.
    lower(Resource::Core, 0)?;
    // Not used, and denied to the filters' `mlock`.
    lower(Resource::Memlock, 0)?;
    let Some(bytes) = confinement.address_space else { return Ok("files, core, locked memory".into()) };
    lower(Resource::As, bytes)?;
    Ok("files, core, locked memory, address space".into())
}

/// Sets soft and hard limit to `most`, or to the hard limit of now if that is lower.
fn lower(resource: Resource, most: u64) -> Result<(), String> {
    let most = getrlimit(resource).maximum.map_or(most, |now| now.min(most));
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(resource, limit).map_err(|error| format!("{resource:?}: {error}"))
}

/// Other processes of the same user can no longer trace it, read its memory, or see its descriptors under `/proc`.
pub(crate) fn undumpable() -> Attempt {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map(|()| String::new()).map_err(|error| error.to_string())
}
