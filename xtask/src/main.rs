//! `cargo xtask`: the one door for developers. `test` runs what CI runs; `check` is its first, quick minute.
//!
//! Owners: the lanes are data in `lanes`; what a lane needs of the machine is in `need.rs`; nothing else knows either.
//! Invariants: the last line alone is `N passed, N failed, N skipped`, counted in lanes; every lane has a hard limit of
//! time; no process of a lane outlives it. Exit status: 0 all passed, 1 a lane failed, 2 a mistake on the command line.

mod cache;
mod checks;
mod child;
mod choice;
mod cli;
mod execution;
mod fuzz;
mod gist;
mod install;
mod judgement;
mod lane;
mod lanes;
mod linux;
mod need;
mod session;
mod summary;
mod test_counts;
mod workspace;

use cli::{Order, Selection};
use session::Session;
use std::process::ExitCode;
use workspace::Workspace;

fn main() -> ExitCode {
    match cli::parse() {
        Order::Run(selection) => run(selection),
        Order::Linux(options) => linux::run(&options).unwrap_or_else(|mistake| refuse(&mistake)),
        Order::Patches(order) => linux::run_patches(&order).unwrap_or_else(|mistake| refuse(&mistake)),
        Order::Fuzz(options) => fuzz::run(&options).unwrap_or_else(|mistake| refuse(&mistake)),
        Order::CleanCache => report(cache::clean()),
        Order::Ledger => report(Workspace::load().and_then(|workspace| checks::unsafe_ledger::table(&workspace))),
    }
}

fn run(selection: Selection) -> ExitCode {
    match Workspace::load().and_then(|workspace| Session::new(workspace, selection)) {
        Ok(session) => session.run(),
        Err(mistake) => refuse(&mistake),
    }
}

fn report(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(mistake) => refuse(&mistake),
    }
}

fn refuse(mistake: &str) -> ExitCode {
    eprintln!("error: {mistake}");
    ExitCode::from(2)
}
