//! Which lanes run, which cannot, and when that is a failure.

use crate::cli::Selection;
use crate::lane::Lane;
use crate::lanes::lanes;
use crate::need::{Probes, Remedy};
use crate::workspace::Workspace;

/// What keeps a lane from running.
#[derive(Debug, PartialEq, Eq)]
pub struct Lack {
    /// Every need that is not met, in words.
    pub why: String,
    /// Whether each of them can be installed.
    pub installable: bool,
}

/// The lanes asked for, in the table's order; a name that is none is a mistake of the caller.
pub fn choose(selection: &Selection) -> Result<Vec<&'static Lane>, String> {
    let lane = |name: &str| lanes().find(|lane| lane.name == name);
    let is_need = |name: &str| lanes().flat_map(|lane| lane.needs).any(|need| need.name() == name);
    for name in &selection.only {
        let lane = lane(name).ok_or_else(|| format!("`{name}` is no lane; `cargo xtask test --list` prints them"))?;
        if lane.stage > selection.last_stage {
            return Err(format!("`{name}` is a lane of `cargo xtask test`"));
        }
    }
    if let Some(name) = selection.require.iter().find(|name| lane(name).is_none() && !is_need(name)) {
        return Err(format!("`{name}` is neither a lane nor something that a lane needs"));
    }
    let named = |lane: &Lane| selection.only.is_empty() || selection.only.iter().any(|name| name == lane.name);
    Ok(lanes().filter(|lane| lane.stage <= selection.last_stage && named(lane)).collect())
}

/// What the lane lacks on this machine, if anything.
pub fn lack(lane: &Lane, probes: &mut Probes, workspace: &Workspace) -> Option<Lack> {
    let missing = lane.needs.iter().filter_map(|need| Some((*need, probes.missing(*need, workspace)?)));
    let (needs, reasons): (Vec<_>, Vec<_>) = missing.unzip();
    let installable = needs.iter().all(|need| need.remedy(workspace) != Remedy::ByHand);
    (!needs.is_empty()).then(|| Lack { why: reasons.join("; "), installable })
}

/// Whether a lane that cannot run is a failure: named by the caller (it or any of its needs), or in CI and installable.
pub fn is_required(lane: &Lane, lack: &Lack, selection: &Selection) -> bool {
    let named = |name: &String| name == lane.name || lane.needs.iter().any(|need| need.name() == name);
    selection.require.iter().any(named) || selection.require_possible && lack.installable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::{Stage, seconds};
    use crate::need::Need;

    const KVM_LANE: Lane = Lane {
        name: "boot",
        protects: "",
        stage: Stage::Test,
        needs: &[Need::Kvm, Need::Mke2fs],
        steps: &[],
        limit: seconds(1),
        full: None,
    };

    fn requiring(name: &str) -> Selection {
        Selection { require: vec![name.into()], ..Selection::default() }
    }

    fn lacking(installable: bool) -> Lack {
        Lack { why: "none".into(), installable }
    }

    #[test]
    fn names_of_lanes_are_unique() {
        let mut names: Vec<_> = lanes().map(|lane| lane.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), lanes().count());
    }

    #[test]
    fn quick_lanes_come_first() {
        assert!(lanes().is_sorted_by_key(|lane| lane.stage));
    }

    #[test]
    fn check_runs_the_quick_lanes_and_test_runs_all() {
        let quick = choose(&Selection { last_stage: Stage::Check, ..Selection::default() }).expect("legal");
        assert!(quick.iter().all(|lane| lane.stage == Stage::Check));
        assert!(lanes().count() > quick.len() && !quick.is_empty());
        assert_eq!(choose(&Selection::default()).expect("legal").len(), lanes().count());
    }

    #[test]
    fn only_runs_the_named_lanes() {
        let lanes = choose(&Selection { only: vec!["clippy".into()], ..Selection::default() }).expect("legal");
        assert_eq!(lanes.iter().map(|lane| lane.name).collect::<Vec<_>>(), ["clippy"]);
    }

    #[test]
    fn a_name_that_is_no_lane_is_refused() {
        assert!(choose(&Selection { only: vec!["clipy".into()], ..Selection::default() }).is_err());
        assert!(choose(&requiring("kvn")).is_err());
    }

    #[test]
    fn a_lane_of_the_later_stage_is_refused_by_check() {
        let later = Selection { only: vec!["miri".into()], last_stage: Stage::Check, ..Selection::default() };
        assert!(choose(&later).is_err_and(|reason| reason.contains("cargo xtask test")));
    }

    #[test]
    fn a_lane_lacks_every_need_that_is_not_met() {
        let workspace = Workspace { root: "/".into(), target: "/".into(), packages: vec![] };
        let judged = |kvm: Option<&str>, mke2fs: Option<&str>| {
            let answers = [(Need::Kvm, kvm.map(Into::into)), (Need::Mke2fs, mke2fs.map(Into::into))];
            lack(&KVM_LANE, &mut Probes::with(answers), &workspace)
        };
        assert_eq!(judged(None, None), None);
        assert_eq!(judged(None, Some("b")), Some(Lack { why: "b".into(), installable: true }));
        assert_eq!(judged(Some("a"), Some("b")), Some(Lack { why: "a; b".into(), installable: false }));
    }

    #[test]
    fn a_lack_skips_a_lane_that_nobody_requires() {
        assert!(!is_required(&KVM_LANE, &lacking(true), &Selection::default()));
    }

    #[test]
    fn a_required_lane_or_need_must_not_be_skipped() {
        assert!(is_required(&KVM_LANE, &lacking(false), &requiring("boot")));
        assert!(is_required(&KVM_LANE, &lacking(false), &requiring("kvm")));
        assert!(!is_required(&KVM_LANE, &lacking(false), &requiring("miri")));
    }

    #[test]
    fn ci_forgives_only_what_cannot_be_installed() {
        let in_ci = Selection { require_possible: true, ..Selection::default() };
        assert!(is_required(&KVM_LANE, &lacking(true), &in_ci));
        assert!(!is_required(&KVM_LANE, &lacking(false), &in_ci));
    }
}
