//! `pvkit run`: one guest, from the command line to its exit status.

use crate::cli::{ConsoleOption, MachineChoice, RunOptions, StatsFormat};
use crate::failure::{EXIT_CRASH, Failure};
use crate::nets::Published;
use crate::signals::{self, Caught};
use crate::terminal::RawMode;
use crate::{devices, guard, keyboard, nets, program, stats};
use pvkit_machine::{Control, Device, End, MachineConfig, MachineError, Program, Report};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// Runs a guest until it ends; the guest's status is ours.
///
/// # Errors
/// It could not be started, or was ended by a signal.
pub fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    if let Some(parent) = options.die_with {
        guard::die_with(parent, rustix::process::Signal::KILL).map_err(Failure::run)?;
    }
    let control = Control::new();
    let stop = Arc::clone(&control);
    let caught = signals::watch(move || stop.stop()).map_err(Failure::run)?;
    let refresh = Arc::clone(&control);
    signals::on_refresh(move || refresh.refresh_disks()).map_err(Failure::run)?;
    let report = run_on_console(options, &control)?;
    write_stats(options, &report)?;
    exit_code(&report.end, &caught)
}

/// The part of the run during which the terminal is the guest's.
fn run_on_console(options: &RunOptions, control: &Arc<Control>) -> Result<Report, Failure> {
    let program = chosen_program(options)?;
    let mut devices = devices::disks(&options.disks, options.mutant)?;
    let nets = nets::open(&options.nets, &options.publish)?;
    tell_published(options, &nets.published).map_err(Failure::run)?;
    devices.extend(nets.devices);
    // Last, so that every mistake on the command line is told on a terminal in its own mode.
    let terminal = match options.console {
        ConsoleOption::Stdio => RawMode::enter().map_err(Failure::run)?,
        ConsoleOption::Null | ConsoleOption::File(_) => None,
    };
    devices.push(console(options, terminal.is_some(), control)?);
    let config = MachineConfig {
        program,
        cmdline: options.cmdline.clone(),
        cpus: options.cpus,
        memory: options.memory.0,
        cpl: options.cpl,
        devices,
        early_console: devices::early_console(&options.console),
    };
    let report = pvkit_machine::run(config, control).map_err(machine_failure)?;
    drop(terminal);
    Ok(report)
}

/// Says where the published ports really are.
fn tell_published(options: &RunOptions, published: &[Published]) -> io::Result<()> {
    match &options.published_file {
        Some(path) => std::fs::write(path, published.iter().map(|port| format!("{port}\n")).collect::<String>()),
        None => published.iter().try_for_each(|port| writeln!(io::stderr(), "pvkit: {port}")),
    }
}

fn console(options: &RunOptions, keys: bool, control: &Arc<Control>) -> Result<Device, Failure> {
    let input = match options.console {
        ConsoleOption::Stdio => {
            let leave = Arc::clone(control);
            keyboard::listen(keys, move || leave.stop())
        }
        ConsoleOption::Null | ConsoleOption::File(_) => keyboard::nobody(),
    };
    let input = input.map_err(Failure::run)?;
    devices::console(&options.console, input)
}

fn chosen_program(options: &RunOptions) -> Result<Program, Failure> {
    match (options.machine, &options.kernel) {
        (MachineChoice::Kvm, Some(image)) if image.is_file() => Ok(Program::Image(image.clone())),
        (MachineChoice::Kvm, Some(image)) => Err(Failure::user(format!(
            "guest image {} is not there, or not a file; check the path (`pvkit demo` builds an image)",
            image.display()
        ))),
        (MachineChoice::Kvm, None) => Err(Failure::user(
            "no guest image; give one with --kernel IMAGE (`pvkit demo` builds one, --machine in-process needs none)",
        )),
        (MachineChoice::InProcess, None) => program::in_process().map_err(Failure::user),
        (MachineChoice::InProcess, Some(image)) => Err(Failure::user(format!(
            "--kernel {} needs KVM: the in-process machine has the demo application built in; leave out one of the two",
            image.display()
        ))),
    }
}

fn machine_failure(error: MachineError) -> Failure {
    if error.is_user_mistake() { Failure::user(error) } else { Failure::run(error) }
}

fn write_stats(options: &RunOptions, report: &Report) -> Result<(), Failure> {
    let Some(format) = options.stats.or(options.stats_file.as_ref().map(|_| StatsFormat::Json)) else { return Ok(()) };
    stats::write(report, format, options.stats_file.as_deref())
        .map_err(|error| Failure::run(error).while_doing("the counters could not be written"))
}

fn exit_code(end: &End, caught: &Caught) -> Result<ExitCode, Failure> {
    match end {
        End::PowerOff { code } => Ok(ExitCode::from(*code)),
        End::Reboot => {
            eprintln!("pvkit: the guest asks to be started again; run the same command once more");
            Ok(ExitCode::SUCCESS)
        }
        End::Crash { message, registers } => {
            eprintln!("pvkit: the guest crashed: {message}\n{registers}");
            Ok(ExitCode::from(EXIT_CRASH))
        }
        End::Stopped => caught.signal().map_or(Ok(ExitCode::SUCCESS), |signal| Err(Failure::signal(signal))),
    }
}
