//! Dependencies run one way: abi <- shared memory <- ring <- { guest half | host half } <- { examples, tests }.
//! The sandbox stands apart: it depends on nothing of ours, and only the host's programs depend on it.
//!
//! The rule is about folders, so a new crate obeys it by where it lies. Development dependencies count as well: a test
//! that needs both halves belongs in `tests/`.

use crate::workspace::{Package, Workspace};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Abi,
    SharedMemory,
    Ring,
    Guest,
    Host,
    /// What gives up rights for good: only the programs know when, so only they may call it.
    Sandbox,
    /// The programs of the host half.
    Program,
    Example,
    Test,
    Tool,
}

/// Folder to layer; the longest folder that fits decides.
const LAYERS: &[(&str, Layer)] = &[
    ("abi", Layer::Abi),
    ("ring/shared-memory", Layer::SharedMemory),
    ("ring", Layer::Ring),
    ("guest-drivers", Layer::Guest),
    ("hypervisor-side", Layer::Host),
    ("hypervisor-side/sandbox", Layer::Sandbox),
    ("hypervisor-side/daemon", Layer::Program),
    ("hypervisor-side/pvkit", Layer::Program),
    ("examples", Layer::Example),
    ("tests", Layer::Test),
    ("xtask", Layer::Tool),
];

/// Edges against the rule, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The demo runs the application on the in-process machine where there is no KVM.
    ("pvkit", "unikernel-hosted"),
];

impl Layer {
    fn of(folder: &Path) -> Option<Self> {
        let fitting = LAYERS.iter().filter(|(prefix, _)| folder.starts_with(prefix));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, layer)| *layer)
    }

    fn may_depend_on(self, other: Self) -> bool {
        use Layer::*;
        match self {
            Abi | Sandbox | Tool => false,
            SharedMemory => other == Abi,
            Ring => matches!(other, Abi | SharedMemory | Ring),
            Guest => matches!(other, Abi | SharedMemory | Ring | Guest),
            Host => matches!(other, Abi | SharedMemory | Ring | Host),
            Program => matches!(other, Abi | SharedMemory | Ring | Host | Sandbox | Program),
            Example => !matches!(other, Sandbox | Test | Tool),
            Test => !matches!(other, Sandbox | Tool),
        }
    }
}

/// Judges every edge between members.
pub fn check(workspace: &Workspace) -> Result<Vec<String>, String> {
    let reasons: Vec<_> = workspace.packages.iter().flat_map(offences).collect();
    if reasons.is_empty() { Ok(vec![]) } else { Err(reasons.join("\n")) }
}

fn offences(package: &Package) -> Vec<String> {
    let Some(layer) = Layer::of(&package.folder) else {
        return vec![format!("{} lies in {}, which belongs to no layer", package.name, package.folder.display())];
    };
    let inner = package.dependencies.iter().filter_map(|edge| Some((edge, edge.folder.as_deref()?)));
    let bad = inner.filter(|(edge, folder)| {
        let allowed = Layer::of(folder).is_some_and(|other| layer.may_depend_on(other));
        !allowed && !EXCEPTIONS.contains(&(package.name.as_str(), edge.name.as_str()))
    });
    bad.map(|(edge, folder)| {
        let kind = if edge.kind == "normal" { String::new() } else { format!(" ({}-dependency)", edge.kind) };
        format!(
            "{} -> {}{kind}: {} must not depend on {}",
            package.name,
            edge.name,
            package.folder.display(),
            folder.display()
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn edge(from: (&str, &str), to: (&str, &str), kind: &str) -> Package {
        let dependency = Dependency { name: to.0.into(), kind: kind.into(), folder: Some(to.1.into()) };
        Package { name: from.0.into(), folder: from.1.into(), dependencies: vec![dependency] }
    }

    const ABI: (&str, &str) = ("pvkit-abi", "abi");
    const SHARED: (&str, &str) = ("pvkit-shared-memory", "ring/shared-memory");
    const RING: (&str, &str) = ("pvkit-ring", "ring/ring");
    const DRIVERS: (&str, &str) = ("pvkit-guest-drivers", "guest-drivers");
    const CORE: (&str, &str) = ("pvkit-core", "hypervisor-side/core");
    const BACKENDS: (&str, &str) = ("pvkit-backends", "hypervisor-side/backends");
    const BINARY: (&str, &str) = ("pvkit", "hypervisor-side/pvkit");
    const DAEMON: (&str, &str) = ("pvkit-daemon", "hypervisor-side/daemon");
    const SANDBOX: (&str, &str) = ("pvkit-sandbox", "hypervisor-side/sandbox");
    const APP: (&str, &str) = ("unikernel-app", "examples/unikernel/app");
    const HOSTED: (&str, &str) = ("unikernel-hosted", "examples/unikernel/hosted");
    const TESTS: (&str, &str) = ("pvkit-tests", "tests");

    #[test]
    fn edges_towards_the_abi_are_allowed() {
        for (from, to) in [
            (SHARED, ABI),
            (RING, SHARED),
            (DRIVERS, RING),
            (CORE, RING),
            (BACKENDS, CORE),
            (APP, DRIVERS),
            (TESTS, BINARY),
        ] {
            assert_eq!(offences(&edge(from, to, "normal")), Vec::<String>::new());
        }
    }

    #[test]
    fn edges_away_from_the_abi_are_offences() {
        for (from, to) in [(ABI, SHARED), (SHARED, RING), (RING, DRIVERS), (RING, CORE), (DRIVERS, APP), (CORE, TESTS)]
        {
            assert_eq!(offences(&edge(from, to, "normal")).len(), 1, "{from:?} -> {to:?}");
        }
    }

    #[test]
    fn the_halves_must_not_depend_on_one_another_even_in_tests() {
        assert_eq!(offences(&edge(DRIVERS, BACKENDS, "dev")).len(), 1);
        let reasons = offences(&edge(BACKENDS, DRIVERS, "dev"));
        assert_eq!(
            reasons,
            [
                "pvkit-backends -> pvkit-guest-drivers (dev-dependency): hypervisor-side/backends must not depend on guest-drivers"
            ]
        );
    }

    #[test]
    fn the_sandbox_knows_nothing_of_ours_and_only_the_programs_know_it() {
        for other in [ABI, SHARED, RING, CORE, BACKENDS, DAEMON, BINARY] {
            assert_eq!(offences(&edge(SANDBOX, other, "normal")).len(), 1, "sandbox -> {other:?}");
        }
        for other in [ABI, SHARED, RING, DRIVERS, CORE, BACKENDS, APP, TESTS] {
            assert_eq!(offences(&edge(other, SANDBOX, "dev")).len(), 1, "{other:?} -> sandbox");
        }
        for program in [DAEMON, BINARY] {
            assert_eq!(offences(&edge(program, SANDBOX, "normal")), Vec::<String>::new());
        }
    }

    #[test]
    fn only_the_demo_may_reach_for_an_example() {
        assert!(offences(&edge(BINARY, HOSTED, "normal")).is_empty());
        assert_eq!(offences(&edge(BINARY, APP, "normal")).len(), 1);
        assert_eq!(offences(&edge(CORE, HOSTED, "normal")).len(), 1);
    }

    #[test]
    fn a_crate_outside_the_house_is_an_offence() {
        assert_eq!(offences(&edge(("stray", "misc/stray"), ABI, "normal")).len(), 1);
    }

    #[test]
    fn crates_from_elsewhere_are_not_judged_here() {
        let mut package = edge(CORE, ABI, "normal");
        package.dependencies[0].folder = None;
        assert!(offences(&package).is_empty());
    }
}
