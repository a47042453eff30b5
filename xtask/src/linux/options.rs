//! The command line of `cargo xtask linux`.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// What the developer asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Print the scenarios instead of running them.
    pub list: bool,
    /// Have the kernel's own critics look at our modules, instead of running scenarios.
    pub style: bool,
    /// Names of scenarios; empty means all of the quick part, or all with `full`.
    pub only: Vec<String>,
    /// The long part as well.
    pub full: bool,
    /// Leave the results and the machine's files where they are.
    pub keep: bool,
    /// A script of the developer's, run instead of the scenarios, with everything in the payload.
    pub script: Option<PathBuf>,
    /// Files for it.
    pub with: Vec<PathBuf>,
    /// Without the machine around it, if the developer's KVM boots stock kernels.
    pub natively: bool,
    /// Its limit of time, in seconds.
    pub limit: u64,
}

/// The subcommand.
pub fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    Command::new("linux")
        .about("Stock Debian kernels: as the machine under emulation, and as the guest")
        .arg(flag("list", "Print the scenarios and what each protects"))
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("NAME,..")
                .value_delimiter(',')
                .action(ArgAction::Append)
                .help("Run these scenarios only"),
        )
        .arg(flag("style", "Run checkpatch and sparse on the modules in C instead"))
        .arg(flag("full", "Run the long ones as well"))
        .arg(flag("keep", "Leave what a scenario brought home, also when it passed"))
        .arg(file("script", "Run this script in the machine instead, with every part in its payload"))
        .arg(flag("natively", "Run the script without the machine, if this machine's KVM boots stock kernels"))
        .arg(file("with", "A file for the script's folder, a program with its libraries").action(ArgAction::Append))
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=86_400))
                .default_value("300")
                .help("When the script is killed"),
        )
}

/// Reads the subcommand's arguments.
pub fn options(matches: &ArgMatches) -> Options {
    Options {
        list: matches.get_flag("list"),
        style: matches.get_flag("style"),
        only: matches.get_many("only").into_iter().flatten().cloned().collect(),
        full: matches.get_flag("full"),
        keep: matches.get_flag("keep"),
        script: matches.get_one("script").cloned(),
        with: matches.get_many("with").into_iter().flatten().cloned().collect(),
        natively: matches.get_flag("natively"),
        limit: matches.get_one("limit").copied().unwrap_or(300),
    }
}
