//! The `pvkit` program as a library: the command line, the demo, and what connects them to a machine.
//!
//! *Purpose.* [`main`] reads the command line and boots a guest (`run`), does the main job (`demo`), or says
//! what this machine lacks (`doctor`). A guest
//! runs in this process; the demo starts this same program again for each guest, so that it can be killed.
//!
//! *Owners.* The terminal's mode and the signals belong to this process's main job; files, locks and virtual machines
//! belong to the kernel and go with the process, however it ends.
//!
//! *Not here.* Devices (backends), hypercalls (core), KVM (machine).
#![forbid(unsafe_code)]

mod activation;
mod api;
mod backend;
mod backends;
mod cli;
mod demo;
mod devices;
mod doctor;
mod escape;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod keyboard;
#[cfg(feature = "mutants")]
mod mutant;
#[cfg(not(feature = "mutants"))]
#[path = "no_mutant.rs"]
mod mutant;
mod nets;
#[cfg(not(feature = "in-process"))]
#[path = "no_program.rs"]
mod program;
#[cfg(feature = "in-process")]
mod program;
mod run;
mod sandbox;
mod signals;
mod stats;
mod terminal;
mod tools;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, DemoOptions, Shell};
use failure::Failure;
use std::io::{self, Write};
use std::process::ExitCode;

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Run(options)) => run::run(options),
        Some(Command::Demo(options)) => demo::demo(options),
        Some(Command::Inspect(options)) => api::client::inspect(options),
        Some(Command::Backend(options)) => backend::backend(options),
        Some(Command::Ctl(options)) => api::client::ctl(options),
        Some(Command::Doctor(options)) => doctor::run(options),
        Some(Command::Completions(options)) => print_completions(options.shell),
        Some(Command::DocumentDisk(options)) => demo::document_disk(options),
        Some(Command::Guard(options)) => guard::run(options),
        None if started_by_cargo_run() => demo::demo(&DemoOptions::default()),
        None => print_help(),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("pvkit: {failure}");
        failure.exit_code()
    })
}

/// `cargo run` in the workspace is the demo; an installed program without arguments prints its help.
fn started_by_cargo_run() -> bool {
    std::env::var_os("CARGO_MANIFEST_DIR").is_some_and(|folder| folder == env!("CARGO_MANIFEST_DIR"))
}

/// Made of the command line as it is, so they never lag behind it.
fn print_completions(shell: Shell) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell.kind(), &mut Cli::command(), "pvkit", &mut text);
    io::stdout().write_all(&text).map_err(Failure::run)?;
    Ok(ExitCode::SUCCESS)
}

fn print_help() -> Result<ExitCode, Failure> {
    Cli::command().print_long_help().map_err(Failure::run)?;
    Ok(ExitCode::SUCCESS)
}
