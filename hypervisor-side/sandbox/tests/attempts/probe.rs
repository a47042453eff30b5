//! What this machine has, asked without the code under test: what is left out there is missing, not skipped.

use crate::verdict::{Stage, User};
use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope};
use nix::sched::{CloneFlags, unshare};
use std::process::{Command, ExitCode, Stdio};

/// The version of the kernel's Landlock among those that brought something that a case needs; 0 if there is none.
pub fn landlock() -> u32 {
    let strict = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let has = |ruleset: Result<Ruleset, RulesetError>| ruleset.and_then(Ruleset::create).is_ok();
    let versions = [
        (6, has(strict().scope(Scope::from_all(ABI::V6)))),
        (4, has(strict().handle_access(AccessNet::from_all(ABI::V4)))),
        (1, has(strict().handle_access(AccessFs::from_all(ABI::V1)))),
    ];
    versions.iter().find(|(_, has)| *has).map_or(0, |(version, _)| *version)
}

/// Whether this user may have a network namespace, by way of a user namespace or without.
pub fn network_namespace(stage: &Stage, user: User) -> bool {
    let mut command = Command::new(stage.program());
    command.arg("probe").stdin(Stdio::null());
    user.becomes(&mut command);
    command.status().is_ok_and(|status| status.success())
}

/// The process that tries.
pub fn enter_namespaces() -> ExitCode {
    let _ = unshare(CloneFlags::CLONE_NEWUSER);
    if unshare(CloneFlags::CLONE_NEWNET).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
