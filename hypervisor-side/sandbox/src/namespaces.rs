//! Namespaces of the process's own, each empty of what the host's has.
//!
//! A new user namespace gives an ordinary user the right to the others; root may have that without. In it nobody is anybody: no
//! user is mapped, so `setuid` has no target. Files are still opened as the user of before.
//!
//! *Not here.* A namespace of processes: it would be the children's, there are none, and a thread cannot be started any more by
//! a process that has asked for one (`clone` answers `EINVAL`).

use crate::HostNetwork;
use crate::lock_down::Attempt;
use nix::sched::{CloneFlags, unshare};

/// In this order: the first one brings the right to the others.
const KINDS: &[(&str, CloneFlags)] = &[
    ("user-namespace", CloneFlags::CLONE_NEWUSER),
    // No shared memory segments, semaphores or message queues of others.
    ("ipc-namespace", CloneFlags::CLONE_NEWIPC),
    ("uts-namespace", CloneFlags::CLONE_NEWUTS),
    // What is mounted later, by anybody, does not appear.
    ("mount-namespace", CloneFlags::CLONE_NEWNS),
];
const NETWORK: (&str, CloneFlags) = ("network-namespace", CloneFlags::CLONE_NEWNET);

/// Enters what the kernel allows, each for itself.
pub(crate) fn enter(network: HostNetwork) -> Vec<(&'static str, Attempt)> {
    let network = match network {
        HostNetwork::None => Some(&NETWORK),
        HostNetwork::Kept => None,
    };
    KINDS.iter().chain(network).map(|&(name, kind)| (name, attempt(kind))).collect()
}

fn attempt(kind: CloneFlags) -> Attempt {
    unshare(kind).map(|()| String::new()).map_err(|error| error.desc().to_owned())
}
