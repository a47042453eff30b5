//! The command line, and what `CI=true` adds to it.

use crate::fuzz;
use crate::lane::Stage;
use crate::linux;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What the developer asked for.
pub enum Order {
    /// Run lanes.
    Run(Selection),
    /// Run stock Linux kernels.
    Linux(linux::Options),
    /// Look at the patches for a modified kernel, or apply them.
    Patches(linux::PatchesOrder),
    /// Run fuzz targets.
    Fuzz(fuzz::Options),
    /// Remove the cache of downloads.
    CleanCache,
    /// Print the unsafe ledger as the sources have it now.
    Ledger,
}

/// Which lanes to run, and how strictly.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Stop after the lanes of this stage.
    pub last_stage: Stage,
    /// Names of lanes; empty means all.
    pub only: Vec<String>,
    /// Lanes or needs whose absence is a failure.
    pub require: Vec<String>,
    /// Whatever a probe says can run, or could be installed, must pass.
    pub require_possible: bool,
    /// Install what is missing, once.
    pub install: bool,
    /// Long forms of the lanes that have one.
    pub full: bool,
    /// Print the lanes instead of running them.
    pub list: bool,
}

/// Reads the process's arguments; prints help and leaves where clap says so.
pub fn parse() -> Order {
    let matches = command().get_matches();
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    match matches.subcommand() {
        Some(("check", options)) => Order::Run(selection(options, Stage::Check, in_ci)),
        Some(("test", options)) => Order::Run(selection(options, Stage::Test, in_ci)),
        Some(("linux", options)) => Order::Linux(linux::options(options)),
        Some(("patches", options)) => Order::Patches(linux::patches_order(options)),
        Some(("fuzz", options)) => Order::Fuzz(fuzz::options(options)),
        Some(("clean-cache", _)) => Order::CleanCache,
        _ => Order::Ledger,
    }
}

fn selection(options: &ArgMatches, last_stage: Stage, in_ci: bool) -> Selection {
    let names = |option: &str| options.get_many::<String>(option).into_iter().flatten().cloned().collect();
    Selection {
        last_stage,
        only: names("only"),
        require: names("require"),
        require_possible: in_ci,
        install: options.get_flag("install") || in_ci && rustix::process::geteuid().is_root(),
        full: options.get_flag("full"),
        list: options.get_flag("list"),
    }
}

fn command() -> Command {
    Command::new("cargo xtask")
        .about("Checks and tests of pvkit; what CI runs is `test`")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_lane_options(Command::new("check").about("The quick lanes: format, lints, rules of the tree")))
        .subcommand(with_lane_options(Command::new("test").about("`check`, then every other lane")))
        .subcommand(linux::command())
        .subcommand(linux::patches_command())
        .subcommand(fuzz::command())
        .subcommand(Command::new("ledger").about("Print the unsafe ledger for SAFETY.md, counted from the sources"))
        .subcommand(Command::new("clean-cache").about("Remove $PVKIT_CACHE (default ~/.cache/pvkit)"))
}

fn with_lane_options(command: Command) -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let list = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("NAME,..").value_delimiter(',').action(ArgAction::Append).help(help)
    };
    command
        .arg(flag(
            "install",
            "Install once what the lanes lack, by the lines printed otherwise (CI=true as root implies it)",
        ))
        .arg(flag("full", "Run the long form of the lanes that have one"))
        .arg(flag("list", "Print the lanes, what each protects, and why one cannot run here"))
        .arg(list("only", "Run these lanes only"))
        .arg(list("require", "Lanes or needs (kvm, miri, ...) whose absence is a failure, not a skip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(line: &str, in_ci: bool) -> Selection {
        let matches = command().try_get_matches_from(line.split(' ')).expect("the line is legal");
        let (_, options) = matches.subcommand().expect("a subcommand is required");
        selection(options, Stage::Test, in_ci)
    }

    #[test]
    fn names_are_split_at_commas_and_collected_over_repeats() {
        let selection = selected("xtask test --require=kvm,miri --require mke2fs", false);
        assert_eq!(selection.require, ["kvm", "miri", "mke2fs"]);
    }

    #[test]
    fn ci_requires_every_lane_that_can_run() {
        assert!(selected("xtask test", true).require_possible);
        assert!(!selected("xtask test", false).require_possible);
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        command().debug_assert();
    }
}
