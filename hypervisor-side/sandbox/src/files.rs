//! Files, ports and signals by Landlock.
//!
//! The rules are about opening by path: a descriptor keeps what it could do when it was opened. Kernels since 5.13 know
//! Landlock, and later ones more of it; what is asked for is what ABI 7 has, and the report says what was had.

use crate::lock_down::Attempt;
use crate::{AllowedPath, Confinement, HostNetwork, Rights, SandboxError};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::fs;
use std::os::unix::fs::FileTypeExt;

/// The newest interface that the tests have met. A kernel that has more is asked for no more than this.
const ASKED: ABI = ABI::V7;

/// What each version can deny that earlier ones cannot (`landlock(7)`). The second one brought only that renames can be allowed.
const BROUGHT: &[(u32, &str)] =
    &[(3, "cutting"), (4, "TCP ports"), (5, "device controls"), (6, "abstract sockets and signals")];

/// Denies all paths but those listed, TCP if no network is kept, and signals and abstract sockets to the outside.
pub(crate) fn restrict(confinement: &Confinement) -> Result<Attempt, SandboxError> {
    let rules = confinement.paths.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    let enforced = enforce(rules, confinement.network);
    Ok(enforced.map_err(|error| error.to_string()).and_then(|status| describe(&status)))
}

fn enforce(rules: Vec<PathBeneath<PathFd>>, network: HostNetwork) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(ASKED))?.scope(Scope::from_all(ASKED))?;
    if network == HostNetwork::None {
        ruleset = ruleset.handle_access(AccessNet::from_all(ASKED))?;
    }
    ruleset.create()?.add_rules(rules.into_iter().map(Ok::<_, RulesetError>))?.restrict_self()
}

fn rule(allowed: &AllowedPath) -> Result<PathBeneath<PathFd>, SandboxError> {
    let failed = |reason: String| SandboxError::Path { path: allowed.path.clone(), reason };
    let kind = fs::metadata(&allowed.path).map_err(|error| failed(error.to_string()))?.file_type();
    let mut rights: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    if allowed.rights == Rights::ReadWrite {
        rights |= AccessFs::WriteFile;
        if kind.is_block_device() || kind.is_char_device() {
            rights |= AccessFs::IoctlDev;
        }
    }
    let fd = PathFd::new(&allowed.path).map_err(|error| failed(error.to_string()))?;
    Ok(PathBeneath::new(fd, rights))
}

fn describe(status: &RestrictionStatus) -> Attempt {
    let LandlockStatus::Available { effective_abi, kernel_abi } = status.landlock else {
        return Err(match status.landlock {
            LandlockStatus::NotEnabled => "built into the kernel and not enabled (lsm=...,landlock)".into(),
            _ => "the kernel has none".into(),
        });
    };
    let version = kernel_abi.map_or(effective_abi as u32, |version| version.unsigned_abs());
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(format!("the kernel has ABI {version} and enforced nothing"));
    }
    Ok(in_words(version))
}

/// A version, and what it cannot deny.
fn in_words(version: u32) -> String {
    let lacks: Vec<_> = BROUGHT.iter().filter(|(since, _)| version < *since).map(|(_, what)| *what).collect();
    if lacks.is_empty() { format!("ABI {version}") } else { format!("ABI {version}, without {}", lacks.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_landlock_is_named_with_what_it_lacks() {
        assert_eq!(in_words(2), "ABI 2, without cutting, TCP ports, device controls, abstract sockets and signals");
        assert_eq!(in_words(5), "ABI 5, without abstract sockets and signals");
        assert_eq!([in_words(6), in_words(9)], ["ABI 6", "ABI 9"]);
    }

    #[test]
    fn a_path_that_is_not_there_is_the_callers_mistake() {
        let missing = Confinement::new(crate::Mode::Strict).allow("/nowhere/disk.img", Rights::Read);
        let error = restrict(&missing).unwrap_err();
        assert!(error.to_string().starts_with("the sandbox cannot allow /nowhere/disk.img: "), "{error}");
    }
}
