//! The session's own tests: which lanes run, which absence is a failure, and what counts as success.

use super::*;
use crate::lane::Stage;

fn kvm_lane() -> Lane {
    Lane {
        name: "boot",
        protects: "",
        stage: Stage::Test,
        needs: &[Need::Kvm],
        steps: &[],
        limit: INSTALL_LIMIT,
        full: None,
    }
}

fn requiring(name: &str) -> Selection {
    Selection { require: vec![name.into()], ..Selection::default() }
}

#[test]
fn names_of_lanes_are_unique() {
    let mut names: Vec<_> = LANES.iter().map(|lane| lane.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), LANES.len());
}

#[test]
fn check_runs_the_quick_lanes_and_test_runs_all() {
    let quick = choose(&Selection { last_stage: Stage::Check, ..Selection::default() }).expect("legal");
    assert!(quick.iter().all(|lane| lane.stage == Stage::Check));
    assert!(LANES.len() > quick.len() && !quick.is_empty());
    assert_eq!(choose(&Selection::default()).expect("legal").len(), LANES.len());
}

#[test]
fn quick_lanes_come_first() {
    assert!(LANES.is_sorted_by_key(|lane| lane.stage));
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
    let later = Selection { only: vec!["miri".into()], last_stage: Stage::Check, ..Selection::default() };
    assert!(choose(&later).is_err_and(|reason| reason.contains("cargo xtask test")));
}

#[test]
fn a_missing_need_skips_a_lane_that_nobody_requires() {
    assert!(!is_required(&kvm_lane(), true, &Selection::default()));
}

#[test]
fn a_required_lane_or_need_must_not_be_skipped() {
    assert!(is_required(&kvm_lane(), false, &requiring("boot")));
    assert!(is_required(&kvm_lane(), false, &requiring("kvm")));
    assert!(!is_required(&kvm_lane(), false, &requiring("miri")));
}

#[test]
fn ci_forgives_only_what_cannot_be_installed() {
    let in_ci = Selection { require_possible: true, ..Selection::default() };
    assert!(is_required(&kvm_lane(), true, &in_ci));
    assert!(!is_required(&kvm_lane(), false, &in_ci));
}

#[test]
fn the_first_missing_need_is_the_reason() {
    let workspace = Workspace { root: "/".into(), target: "/".into(), packages: vec![] };
    let mut probes = Probes::with([(Need::Kvm, Some("no /dev/kvm".into()))]);
    assert_eq!(missing(&kvm_lane(), &mut probes, &workspace), Some((Need::Kvm, "no /dev/kvm".into())));
    let mut probes = Probes::with([(Need::Kvm, None)]);
    assert_eq!(missing(&kvm_lane(), &mut probes, &workspace), None);
}

#[test]
fn a_test_run_without_a_test_is_a_failure() {
    let nothing = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s";
    assert!(judge(&kvm_lane(), Expect::Tests, nothing).is_err());
    assert!(judge(&kvm_lane(), Expect::Success, nothing).is_ok());
}

#[test]
fn a_test_that_lacks_what_the_probe_found_fails_the_lane() {
    for line in ["skipped: kvm: no right", "skipped: boot: why not", "skipped: something is not right"] {
        let output = format!("{line}\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        assert!(judge(&kvm_lane(), Expect::Tests, &output).is_err_and(|why| why.contains(&line[9..])), "{line}");
    }
}

#[test]
fn a_test_that_lacks_what_no_probe_looks_for_is_a_note() {
    let output = "skipped: kvm-stats: no such statistic\ntest result: ok. 3 passed; 0 failed; 0 ignored";
    let remarks = judge(&kvm_lane(), Expect::Tests, output).expect("legal");
    assert_eq!(remarks.notes, ["a test skipped itself: kvm-stats: no such statistic"]);
}

#[test]
fn the_target_folder_is_filled_into_variables() {
    let invocation =
        Invocation { line: "cargo test", environment: &[("CARGO_TARGET_DIR", "{target}/loom")], expect: Expect::Tests };
    let workspace = Workspace { root: "/".into(), target: "/w/target".into(), packages: vec![] };
    let command = command(&invocation, &workspace);
    let value = command.get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR").and_then(|(_, value)| value);
    assert_eq!(value.and_then(|value| value.to_str()), Some("/w/target/loom"));
}

#[test]
fn a_lane_does_not_see_what_cargo_told_xtask_about_itself() {
    let invocation = Invocation { line: "true", environment: &[], expect: Expect::Success };
    let workspace = Workspace { root: "/".into(), target: "/".into(), packages: vec![] };
    let command = command(&invocation, &workspace);
    assert!(command.get_envs().any(|(name, value)| name == "CARGO_MANIFEST_DIR" && value.is_none()));
}
