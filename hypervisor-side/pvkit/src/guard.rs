//! Processes that end with their parent. `pvkit guard` runs a foreign program in a process group of its own and ends the
//! whole group when pvkit goes away, however it goes; a guest's own process asks the kernel for the same.

use crate::cli::GuardOptions;
use crate::failure::{EXIT_RUN, Failure};
use rustix::process::{Pid, Signal, getppid, kill_current_process_group, set_parent_process_death_signal, setpgid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::{io, thread};

/// Asks the kernel to send `signal` to this process when its parent, `parent`, ends.
///
/// # Errors
/// The parent is gone already, or the kernel refuses.
pub fn die_with(parent: i32, signal: Signal) -> io::Result<()> {
    set_parent_process_death_signal(Some(signal))?;
    // The parent may have ended before the line above: then nobody would send the signal.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other("the process that started this one is gone"))
    }
}

/// A command that runs `program` under `pvkit guard`, as a child of this process.
///
/// # Errors
/// This program's own path cannot be found.
pub fn guarded(program: impl AsRef<OsStr>) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("guard").arg("--die-with").arg(std::process::id().to_string()).arg("--").arg(program);
    Ok(command)
}

/// `pvkit guard`: runs the command; its status is ours.
///
/// # Errors
/// The command cannot be started.
pub fn run(options: &GuardOptions) -> Result<ExitCode, Failure> {
    // A group of its own: what the command starts is in it, and nothing else.
    setpgid(None, None).map_err(Failure::run)?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Failure::run)?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Ends this process too.
            let _ = kill_current_process_group(Signal::KILL);
        }
    });
    die_with(options.die_with, Signal::TERM).map_err(Failure::run)?;
    let (program, arguments) = options.command.split_first().ok_or_else(|| Failure::user("nothing to run"))?;
    let status = Command::new(program).args(arguments).status().map_err(|error| {
        Failure::run(error).while_doing(format!("cannot run {}; is it installed?", program.to_string_lossy()))
    })?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(EXIT_RUN)))
}
