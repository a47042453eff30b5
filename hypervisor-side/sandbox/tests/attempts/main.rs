//! A backend that somebody has taken over tries what it would try, in a process of its own, in every mode.
//!
//! This program is three processes: the tests (no arguments of ours), `parent`, which stands for the monitor and has what a
//! backend must not reach, and its child `backend`, which is locked down on its only thread and tries one thing. As root
//! everything is done once more as an ordinary user.
//!
//! Where a mode is `off` the same attempt must succeed, or the test could not fail.

#![forbid(unsafe_code)]

mod honest;
mod hostile;
mod kernel_log;
mod probe;
mod scene;
mod verdict;

use libtest_mimic::{Arguments, Trial};
use pvkit_sandbox::{HostNetwork, Mode, Role};
use std::io;
use std::process::ExitCode;
use verdict::{Stage, User};

/// What must become of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The process ends by `SIGSYS`.
    Killed,
    /// It fails with one of these errors, and the process goes on.
    Fails(&'static [i32]),
    /// It is done.
    Done,
    /// It is done on some kernels, and fails with one of these errors on others.
    DoneOrFails(&'static [i32]),
}

/// One attempt.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// The role of the thread that makes it.
    pub role: Role,
    /// What the process keeps of the network.
    pub network: HostNetwork,
    /// In strict mode.
    pub strict: Expect,
    /// In log mode. (In off mode it is always done.)
    pub log: Expect,
    /// The Landlock version without which strict or log mode is not as expected; 0: none.
    pub landlock: u32,
    /// Whether strict or log mode is as expected only in an empty network namespace.
    pub network_namespace: bool,
    /// Whether root is left out.
    pub ordinary: bool,
    /// Why it may fail in off mode on some machine or for some user; such a one is skipped.
    pub lacking: Option<&'static str>,
    /// The attempt.
    pub act: fn(&mut scene::Scene) -> io::Result<()>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["parent", case, mode] => scene::parent(case, mode),
        ["probe"] => probe::enter_namespaces(),
        ["backend", case, mode, ..] => scene::backend(find(case), mode.parse().unwrap(), &words[3..]),
        _ => tests(),
    }
}

fn cases() -> impl Iterator<Item = Case> {
    hostile::CASES.iter().chain(honest::CASES).copied()
}

fn find(name: &str) -> Case {
    cases().find(|case| case.name == name).unwrap()
}

fn tests() -> ExitCode {
    let stage = Stage::new().unwrap();
    let mut trials = Vec::new();
    for &user in User::all() {
        for case in cases().filter(|case| !case.ordinary || user.is_ordinary()) {
            for mode in [Mode::Strict, Mode::Log, Mode::Off] {
                let stage = stage.clone();
                let name = format!("{} {user} {mode}", case.name);
                trials.push(Trial::test(name, move || verdict::judge(&stage, &case, user, mode).map_err(Into::into)));
            }
        }
    }
    let logged = stage.clone();
    let name = "in_log_mode_the_kernels_log_names_the_call";
    trials.push(Trial::test(name, move || kernel_log::judge(&logged, &find("make_a_socket")).map_err(Into::into)));
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    drop(stage);
    conclusion.exit_code()
}
